//go:build interop

package nic

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
	"tandem/netstack/link/sandbox"
)

const patience = 20 * time.Second

// deviceName carries the process's number.
func deviceName(suffix string) string { return "v" + strconv.Itoa(os.Getpid()) + suffix }

// veth makes a pair with one end in each namespace, both up.
func veth(t *testing.T, a *sandbox.Namespace, nameA string, b *sandbox.Namespace, nameB string) {
	t.Helper()
	a.Run(t, "ip link add "+nameA+" type veth peer name "+nameB+" netns "+b.Path())
	a.Run(t, "ip link set "+nameA+" up")
	b.Run(t, "ip link set "+nameB+" up")
}

func openIn(t *testing.T, ns *sandbox.Namespace, cfg Config) *Device {
	t.Helper()
	var d *Device
	if err := ns.Do(func() (err error) { d, err = Open(cfg); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ask(); {
		if time.Now().After(end) {
			t.Fatalf("waited %v: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func buffers(n int) []*link.Frame {
	frames := make([]*link.Frame, n)
	for i := range frames {
		frames[i] = link.NewFrame(link.BufferBytes)
	}
	return frames
}

// copyFrames is a wire between two devices, on all their queues, until the
// test ends; it counts the frames of each kind.
func copyFrames(t *testing.T, a, b *Device) *[4]atomic.Int64 {
	t.Helper()
	kinds := &[4]atomic.Int64{}
	stop, done := make(chan struct{}), make(chan struct{})
	poller, err := link.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	for i := range a.Info().Queues {
		fds = append(fds, a.Queue(i).FD(), b.Queue(i).FD())
	}
	poller.Set(fds)
	frames := buffers(32)
	carry := func(from, to link.Queue) {
		n, err := from.Read(frames)
		if err != nil {
			t.Errorf("read: %v", err)
		}
		for _, f := range frames[:n] {
			kinds[f.Offload.Segment].Add(1)
		}
		if _, err := to.Write(frames[:n]); err != nil && err != link.ErrFull {
			t.Errorf("write: %v", err)
		}
	}
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for i := range a.Info().Queues {
				carry(a.Queue(i), b.Queue(i))
				carry(b.Queue(i), a.Queue(i))
			}
			if err := poller.Wait(time.Second); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		poller.Wake()
		<-done
		_ = poller.Close()
	})
	return kinds
}

func TestInteropKernelTCPCrossesCoalesced(t *testing.T) {
	for _, queues := range []int{1, 3} {
		t.Run(strconv.Itoa(queues), func(t *testing.T) {
			left, middle, right := sandbox.New(t), sandbox.New(t), sandbox.New(t)
			veth(t, left, deviceName("l"), middle, deviceName("a"))
			veth(t, right, deviceName("r"), middle, deviceName("b"))
			a := openIn(t, middle, Config{Device: deviceName("a"), Queues: queues, TakeOver: true})
			b := openIn(t, middle, Config{Device: deviceName("b"), Queues: queues, TakeOver: true})
			kinds := copyFrames(t, a, b)
			left.Run(t, "ip addr add 10.9.0.1/24 dev "+deviceName("l")+"\n ip addr add fd09::1/64 nodad dev "+deviceName("l"))
			right.Run(t, "ip addr add 10.9.0.2/24 dev "+deviceName("r")+"\n ip addr add fd09::2/64 nodad dev "+deviceName("r"))
			sandbox.Transfer(t, left, right, "10.9.0.2", 8<<20)
			sandbox.Transfer(t, right, left, "fd09::1", 8<<20)
			if kinds[link.SegmentTCP4].Load() == 0 || kinds[link.SegmentTCP6].Load() == 0 {
				t.Errorf("coalesced frames: TCP over IPv4 %d, over IPv6 %d, want some of both",
					kinds[link.SegmentTCP4].Load(), kinds[link.SegmentTCP6].Load())
			}
			if d := a.Drops(); d.Header+d.Truncated+d.Short != 0 {
				t.Errorf("Drops() = %+v", d)
			}
		})
	}
}

// rawFrame sends b out of an interface as it is.
func rawFrame(t *testing.T, ns *sandbox.Namespace, name string, b []byte) {
	t.Helper()
	if err := ns.Do(func() error {
		iface, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: iface.Index})
	}); err != nil {
		t.Fatal(err)
	}
}

// await reads until a frame satisfies want.
func await(t *testing.T, d *Device, what string, want func(b []byte) bool) {
	t.Helper()
	frames := buffers(8)
	eventually(t, what, func() bool {
		n, err := d.Queue(0).Read(frames)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames[:n] {
			if want(f.Bytes()) {
				return true
			}
		}
		return false
	})
}

func TestInteropTagsTheKernelStripsAreRestored(t *testing.T) {
	ours, peer := sandbox.New(t), sandbox.New(t)
	veth(t, ours, deviceName("a"), peer, deviceName("p"))
	d := openIn(t, ours, Config{Device: deviceName("a")})
	for _, tagged := range [][]byte{
		append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x81, 0, 0x20, 0x64, 0x12, 0x34}, make([]byte, 50)...),
		append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x12, 0x34}, make([]byte, 50)...),
	} {
		rawFrame(t, peer, deviceName("p"), tagged)
		await(t, d, "the frame with its tag", func(b []byte) bool { return bytes.Equal(b, tagged) })
	}
	// And out again, tag and all: the peer's own device sees it whole.
	p := openIn(t, peer, Config{Device: deviceName("p")})
	out := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 8, 0x81, 0, 0, 9, 0x12, 0x34}, make([]byte, 50)...)
	f := link.NewFrame(link.BufferBytes)
	f.Set(out)
	if n, err := d.Queue(0).Write([]*link.Frame{f}); n != 1 || err != nil {
		t.Fatalf("Write() = %d, %v", n, err)
	}
	await(t, p, "the frame sent with a tag", func(b []byte) bool { return bytes.Equal(b, out) })
}

func TestInteropOwnFramesAreNotHeard(t *testing.T) {
	ours, peer := sandbox.New(t), sandbox.New(t)
	veth(t, ours, deviceName("a"), peer, deviceName("p"))
	for _, queues := range []int{1, 2} {
		d := openIn(t, ours, Config{Device: deviceName("a"), Queues: queues, TakeOver: true})
		mine := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 0x12, 0x34}, make([]byte, 50)...)
		f := link.NewFrame(link.BufferBytes)
		f.Set(mine)
		if n, err := d.Queue(0).Write([]*link.Frame{f}); n != 1 || err != nil {
			t.Fatalf("Write() = %d, %v", n, err)
		}
		theirs := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 6, 0x12, 0x34}, make([]byte, 50)...)
		rawFrame(t, peer, deviceName("p"), theirs)
		frames := buffers(8)
		eventually(t, "the peer's frame", func() bool {
			for i := range queues {
				n, err := d.Queue(i).Read(frames)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range frames[:n] {
					if bytes.Equal(f.Bytes(), mine) {
						t.Fatal("heard ourselves")
					}
					if bytes.Equal(f.Bytes(), theirs) {
						return true
					}
				}
			}
			return false
		})
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// configuration is all the kernel has on a device, as it prints it, without
// what changes by itself.
func configuration(t *testing.T, ns *sandbox.Namespace, name string) string {
	t.Helper()
	// A tentative address becomes a usable one: wait until none is.
	eventually(t, "addresses checked", func() bool { return !strings.Contains(ns.Run(t, "ip -6 addr show tentative dev "+name), "inet6") })
	out := ns.Run(t, "ip -o addr show dev "+name+`
		ip route show table all dev `+name+`
		ip -6 route show table all dev `+name+`
		ip -d -o link show dev `+name)
	return out
}

func TestInteropTakeOverSilencesAndGivesBack(t *testing.T) {
	ours, peer := sandbox.New(t), sandbox.New(t)
	name, peerName := deviceName("a"), deviceName("p")
	veth(t, ours, name, peer, peerName)
	peer.Run(t, "ip addr add 10.9.0.2/24 dev "+peerName+"\n ip addr add fd09::2/64 nodad dev "+peerName)
	ours.Run(t, `ip addr add 10.9.0.1/24 brd + dev `+name+`
		ip addr add 10.9.0.11/24 dev `+name+`
		ip addr add 10.8.0.1 peer 10.8.0.2 dev `+name+`
		ip addr add fd09::1/64 nodad dev `+name+`
		ip route add default via 10.9.0.2 metric 100 dev `+name+`
		ip route add 10.7.0.0/16 via 10.9.0.2 src 10.9.0.11 mtu 1400 dev `+name+`
		ip route add 10.6.0.0/24 scope link dev `+name+`
		ip route add 10.5.0.0/24 via 10.6.0.1 table 77 dev `+name+`
		ip -6 route add default via fd09::2 dev `+name+`
		ip -6 route add fd05::/64 metric 7 dev `+name)
	before := configuration(t, ours, name)

	d := openIn(t, ours, Config{Device: name, TakeOver: true})
	if err := d.Incomplete(); err != nil {
		t.Errorf("Incomplete() = %v", err)
	}
	found := d.Found()
	for _, want := range []string{"10.9.0.1/24", "10.9.0.11/24", "fd09::1/64"} {
		if !containsPrefix(found.Addresses, want) {
			t.Errorf("Found() = %v, without %s", found, want)
		}
	}
	if len(found.Gateways) != 2 {
		t.Errorf("Found().Gateways = %v, want one of each family", found.Gateways)
	}
	if out := ours.Run(t, "ip -o addr show dev "+name); strings.Contains(out, "inet") {
		t.Errorf("addresses are left: %s", out)
	}
	for line := range strings.Lines(ours.Run(t, "ip route show table all dev "+name)) {
		if !strings.HasPrefix(line, "multicast ff00::/8 ") { // The kernel's own, while IPv6 is up.
			t.Errorf("a route is left: %s", line)
		}
	}
	if out := ours.Run(t, "nft list tables"); !strings.Contains(out, "netdev "+tableName(name)) {
		t.Errorf("no drop chain: %q", out)
	}
	// The kernel behind us stays silent, and the frame is ours.
	answers := ours.Run(t, "cat /proc/net/snmp")
	arp := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
		2, 0, 0, 0, 0, 2, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1}, make([]byte, 18)...)
	rawFrame(t, peer, peerName, arp)
	await(t, d, "the request the kernel must not answer", func(b []byte) bool { return bytes.Equal(b, arp) })
	if after := ours.Run(t, "cat /proc/net/snmp"); after != answers {
		t.Errorf("the kernel counted something:\n%s\n%s", answers, after)
	}

	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if after := configuration(t, ours, name); after != before {
		t.Errorf("given back:\n%s\nwas:\n%s", after, before)
	}
	if out := ours.Run(t, "nft list tables"); strings.Contains(out, "tandem") {
		t.Errorf("tables are left: %s", out)
	}
}

func containsPrefix(all []netip.Prefix, want string) bool {
	for _, p := range all {
		if p.String() == want {
			return true
		}
	}
	return false
}

func TestInteropTableOfAKilledProcessIsReplaced(t *testing.T) {
	ours, peer := sandbox.New(t), sandbox.New(t)
	name := deviceName("a")
	veth(t, ours, name, peer, deviceName("p"))
	ours.Run(t, "nft add table netdev "+tableName(name))
	d := openIn(t, ours, Config{Device: name, TakeOver: true})
	if err := d.Incomplete(); err != nil {
		t.Error(err)
	}
}

func TestInteropDeviceThatWasDownIsDownAgain(t *testing.T) {
	ours, peer := sandbox.New(t), sandbox.New(t)
	name := deviceName("a")
	veth(t, ours, name, peer, deviceName("p"))
	ours.Run(t, "ip link set "+name+" down")
	d := openIn(t, ours, Config{Device: name, TakeOver: true})
	eventually(t, "up", d.Up)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if out := ours.Run(t, "ip -o link show dev "+name); strings.Contains(out, ",UP") {
		t.Errorf("left up: %s", out)
	}
}

// comesBack makes the device again, with an address, and sees that it is taken.
func comesBack(t *testing.T, d *Device, ours, peer *sandbox.Namespace, name, peerName string) {
	t.Helper()
	fd := d.Queue(0).FD()
	veth(t, ours, name, peer, peerName)
	ours.Run(t, "ip addr add 10.9.0.1/24 dev "+name)
	if d.Up() {
		t.Error("taken from another namespace")
	}
	eventually(t, "back", func() bool {
		var up bool
		_ = ours.Do(func() error { up = d.Up(); return nil })
		return up
	})
	if d.Queue(0).FD() != fd {
		t.Error("the descriptor to poll changed")
	}
	if out := ours.Run(t, "ip -o addr show dev "+name); strings.Contains(out, "inet") {
		t.Errorf("not taken over again: %s", out)
	}
	if out := ours.Run(t, "ip maddr show dev "+name); !strings.Contains(out, "01:00:5e:00:00:12") {
		t.Errorf("not a member again: %s", out)
	}
	hello := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 6, 0x12, 0x34}, make([]byte, 50)...)
	rawFrame(t, peer, peerName, hello)
	frames := buffers(4)
	eventually(t, "a frame after the return", func() bool {
		for i := range d.Info().Queues {
			n, _ := d.Queue(i).Read(frames)
			for _, f := range frames[:n] {
				if bytes.Equal(f.Bytes(), hello) {
					return true
				}
			}
		}
		return false
	})
}

func TestInteropLinkFollowsCarrierAndDevice(t *testing.T) {
	ours, peer := sandbox.New(t), sandbox.New(t)
	name, peerName := deviceName("a"), deviceName("p")
	for _, queues := range []int{1, 2} {
		veth(t, ours, name, peer, peerName)
		d := openIn(t, ours, Config{Device: name, Queues: queues, TakeOver: true})
		if err := d.SetAddresses([]link.MAC{{1, 0, 0x5e, 0, 0, 0x12}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "up", d.Up)
		peer.Run(t, "ip link set "+peerName+" down")
		eventually(t, "down without carrier", func() bool { return !d.Up() })
		f := link.NewFrame(100)
		f.Set(make([]byte, 60))
		peer.Run(t, "ip link set "+peerName+" up")
		eventually(t, "up with carrier", d.Up)
		ours.Run(t, "ip link set "+name+" down")
		if _, err := d.Queue(0).Write([]*link.Frame{f}); err != link.ErrDown {
			t.Errorf("Write() while down = %v", err)
		}
		if _, err := d.Queue(0).Read([]*link.Frame{f}); err != nil {
			t.Errorf("Read() while down = %v", err)
		}

		ours.Run(t, "ip link del "+name)
		if d.Up() {
			t.Error("up without a device")
		}
		if _, err := d.Queue(0).Write([]*link.Frame{f}); err != link.ErrGone {
			t.Errorf("Write() while gone = %v", err)
		}
		comesBack(t, d, ours, peer, name, peerName)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if out := ours.Run(t, "ip -o addr show dev "+name); !strings.Contains(out, "10.9.0.1/24") {
			t.Errorf("not given back: %s", out)
		}
		ours.Run(t, "ip link del "+name)
	}
}

func TestInteropAddressesAreJoinedAndLeft(t *testing.T) {
	ours, peer := sandbox.New(t), sandbox.New(t)
	name := deviceName("a")
	veth(t, ours, name, peer, deviceName("p"))
	d := openIn(t, ours, Config{Device: name})
	group, other, virtual := link.MAC{1, 0, 0x5e, 0, 0, 0x12}, link.MAC{0x33, 0x33, 0, 0, 0, 0x12}, link.MAC{0, 0, 0x5e, 0, 1, 7}
	for _, step := range []struct {
		set       []link.MAC
		has, lost string
	}{
		{[]link.MAC{group, virtual, group}, "01:00:5e:00:00:12", "33:33:00:00:00:12"},
		{[]link.MAC{other, virtual}, "33:33:00:00:00:12", "01:00:5e:00:00:12"},
		{nil, "", "33:33:00:00:00:12"},
	} {
		if err := d.SetAddresses(step.set); err != nil {
			t.Fatal(err)
		}
		out := ours.Run(t, "ip maddr show dev "+name)
		if !strings.Contains(out, step.has) || strings.Contains(out, step.lost) {
			t.Errorf("after SetAddresses(%x): %s", step.set, out)
		}
	}
}

func TestInteropWhatIsNoEthernetIsRefused(t *testing.T) {
	ns := sandbox.New(t)
	ns.Run(t, "ip tuntap add t0 mode tun")
	for _, cfg := range []Config{{Device: "t0"}, {Device: "gone"}, {}, {Device: "lo", Queues: -1}} {
		if err := ns.Do(func() error { _, err := Open(cfg); return err }); err == nil {
			t.Errorf("Open(%+v) worked", cfg)
		}
	}
}
