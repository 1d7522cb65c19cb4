//go:build interop

package tuntap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
	"tandem/netstack/link/sandbox"
)

const patience = 20 * time.Second

// deviceName carries the process's number.
func deviceName(suffix string) string { return "t" + strconv.Itoa(os.Getpid()) + suffix }

func openIn(t *testing.T, ns *sandbox.Namespace, open func() (*Device, error)) *Device {
	t.Helper()
	var d *Device
	if err := ns.Do(func() (err error) { d, err = open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ask(); {
		if time.Now().After(end) {
			t.Fatalf("waited %v: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// seen counts the kinds of frames a copier carried.
type seen struct{ kinds [4]atomic.Int64 }

// copyFrames is a wire between two devices until the test ends.
func copyFrames(t *testing.T, a, b *Device) *seen {
	t.Helper()
	s := &seen{}
	stop, done := make(chan struct{}), make(chan struct{})
	poller, err := link.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	poller.Set([]int{a.Queue(0).FD(), b.Queue(0).FD()})
	frames := make([]*link.Frame, 16)
	for i := range frames {
		frames[i] = link.NewFrame(link.BufferBytes)
	}
	carry := func(from, to *Device) {
		n, err := from.Queue(0).Read(frames)
		if err != nil {
			t.Errorf("read: %v", err)
		}
		for _, f := range frames[:n] {
			s.kinds[f.Offload.Segment].Add(1)
			if to.Info().Layer3 != from.Info().Layer3 {
				t.Error("devices of two kinds")
			}
		}
		// The kernel refuses nothing it sent itself.
		if _, err := to.Queue(0).Write(frames[:n]); err != nil {
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
			carry(a, b)
			carry(b, a)
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
	return s
}

// pair is two kernels with a wire of ours between two devices.
type pair struct {
	left, right *sandbox.Namespace
	seen        *seen
	leftName    string
	rightName   string
}

func newPair(t *testing.T, layer3, offload bool) *pair {
	p := &pair{left: sandbox.New(t), right: sandbox.New(t), leftName: deviceName("l"), rightName: deviceName("r")}
	open := func(name string) func() (*Device, error) {
		return func() (*Device, error) {
			if layer3 {
				return OpenTUN(TUNConfig{Device: name, Offload: offload})
			}
			return OpenTAP(TAPConfig{Device: name, Offload: offload})
		}
	}
	a, b := openIn(t, p.left, open(p.leftName)), openIn(t, p.right, open(p.rightName))
	p.seen = copyFrames(t, a, b)
	p.left.Run(t, "ip addr add 10.9.0.1/24 dev "+p.leftName+"\n ip addr add fd09::1/64 nodad dev "+p.leftName)
	p.right.Run(t, "ip addr add 10.9.0.2/24 dev "+p.rightName+"\n ip addr add fd09::2/64 nodad dev "+p.rightName)
	return p
}

func TestInteropKernelTCPCrossesCoalesced(t *testing.T) {
	for _, layer3 := range []bool{false, true} {
		name := map[bool]string{false: "tap", true: "tun"}[layer3]
		t.Run(name, func(t *testing.T) {
			p := newPair(t, layer3, true)
			sandbox.Transfer(t, p.left, p.right, "10.9.0.2", 8<<20)
			sandbox.Transfer(t, p.left, p.right, "fd09::2", 8<<20)
			if p.seen.kinds[link.SegmentTCP4].Load() == 0 || p.seen.kinds[link.SegmentTCP6].Load() == 0 {
				t.Errorf("coalesced frames: TCP over IPv4 %d, over IPv6 %d, want some of both",
					p.seen.kinds[link.SegmentTCP4].Load(), p.seen.kinds[link.SegmentTCP6].Load())
			}
		})
	}
}

func TestInteropWithoutOffloadFramesAreWhole(t *testing.T) {
	p := newPair(t, false, false)
	sandbox.Transfer(t, p.left, p.right, "10.9.0.2", 1<<20)
	for kind := link.SegmentTCP4; kind <= link.SegmentUDP; kind++ {
		if n := p.seen.kinds[kind].Load(); n != 0 {
			t.Errorf("%d coalesced frames of kind %d, want none", n, kind)
		}
	}
}

func TestInteropKernelUDPCrossesCoalesced(t *testing.T) {
	p := newPair(t, false, true)
	const datagram, count = 1000, 20
	var in, out *net.UDPConn
	if err := p.right.Do(func() (err error) {
		in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.9.0.2:0")))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := p.left.Do(func() (err error) {
		out, err = net.DialUDP("udp", nil, in.LocalAddr().(*net.UDPAddr))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, datagram)
	}), err); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write(make([]byte, datagram*count)); err != nil {
		t.Fatal(err)
	}
	_ = in.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 65536)
	for i := range count {
		n, err := in.Read(buf)
		if err != nil || n != datagram {
			t.Fatalf("datagram %d: %d bytes, %v; want %d", i, n, err, datagram)
		}
	}
	if p.seen.kinds[link.SegmentUDP].Load() == 0 {
		t.Error("no coalesced UDP frame")
	}
}

func TestInteropARPRequestIsAnswered(t *testing.T) {
	ns, name := sandbox.New(t), deviceName("a")
	d := openIn(t, ns, func() (*Device, error) { return OpenTAP(TAPConfig{Device: name, Offload: true, MTU: 1400}) })
	if got := d.Info(); got.MTU != 1400 || got.MAC != (link.MAC{}) || got.Driver != "tap" || got.Queues != 1 {
		t.Errorf("Info() = %+v", got)
	}
	ns.Run(t, "ip addr add 10.9.0.1/24 dev "+name)
	// Who has 10.9.0.1? Tell 10.9.0.2 at 02:00:00:00:00:02.
	request := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1}
	f := link.NewFrame(link.BufferBytes)
	f.Set(request)
	if n, err := d.Queue(0).Write([]*link.Frame{f}); n != 1 || err != nil {
		t.Fatalf("Write() = %d, %v", n, err)
	}
	eventually(t, "an ARP reply", func() bool {
		n, err := d.Queue(0).Read([]*link.Frame{f})
		if err != nil {
			t.Fatal(err)
		}
		return n == 1 && binary.BigEndian.Uint16(f.Bytes()[12:]) == 0x0806 && f.Bytes()[21] == 2
	})
}

func TestInteropLinkFollowsTheDevice(t *testing.T) {
	ns, name := sandbox.New(t), deviceName("u")
	d := openIn(t, ns, func() (*Device, error) { return OpenTAP(TAPConfig{Device: name}) })
	if !d.Up() {
		t.Fatal("down after opening")
	}
	f := link.NewFrame(1514)
	f.Set(make([]byte, 60))
	ns.Run(t, "ip link set "+name+" down")
	if d.Up() {
		t.Error("up while the device is down")
	}
	if _, err := d.Queue(0).Write([]*link.Frame{f}); err != link.ErrDown {
		t.Errorf("Write() while down = %v, want ErrDown", err)
	}
	if n, err := d.Queue(0).Read([]*link.Frame{f}); n != 0 || err != nil {
		t.Errorf("Read() while down = %d, %v, want none", n, err)
	}
	ns.Run(t, "ip link set "+name+" up")
	if !d.Up() {
		t.Error("down while the device is up")
	}

	ns.Run(t, "ip link del "+name)
	f.Set(make([]byte, 60))
	if _, err := d.Queue(0).Write([]*link.Frame{f}); err != link.ErrGone {
		t.Errorf("Write() while gone = %v, want ErrGone", err)
	}
	if _, err := d.Queue(0).Read([]*link.Frame{f}); err != link.ErrGone {
		t.Errorf("Read() while gone = %v, want ErrGone", err)
	}
	fd := d.Queue(0).FD()
	eventually(t, "a device of ours is made again", d.Up)
	if d.Queue(0).FD() != fd {
		t.Error("the descriptor to poll changed")
	}
	if n, err := d.Queue(0).Write([]*link.Frame{f}); n != 1 || err != nil {
		t.Errorf("Write() after return = %d, %v", n, err)
	}
}

func TestInteropDeviceOfOthersIsLeftAsFound(t *testing.T) {
	ns, name := sandbox.New(t), deviceName("p")
	bridge := deviceName("b")
	ns.Run(t, "ip tuntap add "+name+" mode tap\n ip link add "+bridge+" type bridge")
	d := openIn(t, ns, func() (*Device, error) { return OpenTAP(TAPConfig{Device: name, Offload: true, Bridge: bridge}) })
	if !d.Up() {
		t.Error("down after joining")
	}
	if out := ns.Run(t, "ip -o link show "+name); !bytes.Contains([]byte(out), []byte("master "+bridge)) {
		t.Errorf("not a port of the bridge: %s", out)
	}
	ns.Run(t, "ip link del "+name)
	for range 3 {
		if d.Up() {
			t.Fatal("up without a device")
		}
	}
	ns.Run(t, "ip tuntap add "+name+" mode tap")
	eventually(t, "the device of others is joined again", d.Up)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	out := []byte(ns.Run(t, "ip -o link show "+name))
	if bytes.Contains(out, []byte("master")) || bytes.Contains(out, []byte("UP")) {
		t.Errorf("not as it was: %s", out)
	}
}

func TestInteropQueuesAndBridge(t *testing.T) {
	ns, name, bridge := sandbox.New(t), deviceName("q"), deviceName("b")
	ns.Run(t, "ip link add "+bridge+" type bridge")
	d := openIn(t, ns, func() (*Device, error) {
		return OpenTAP(TAPConfig{Device: name, Queues: 4, Offload: true, Bridge: bridge})
	})
	if d.Info().Queues != 4 || !d.Up() {
		t.Errorf("Info() = %+v, up %v", d.Info(), d.Up())
	}
	if err := ns.Do(func() error { _, err := OpenTAP(TAPConfig{Device: name, Bridge: "none"}); return err }); err == nil {
		t.Error("a bridge that is not there was joined")
	}
	ns.Run(t, "ip link del "+name)
	eventually(t, "all queues are back", d.Up)
	for i := range 4 {
		if _, err := d.Queue(i).Read(nil); err != nil {
			t.Errorf("queue %d: %v", i, err)
		}
	}
	if out := ns.Run(t, "ip -o link show "+name); !bytes.Contains([]byte(out), []byte("master "+bridge)) {
		t.Errorf("not a port of the bridge after its return: %s", out)
	}
}

func TestInteropDeviceMovedToAnotherNamespace(t *testing.T) {
	ns, other, name := sandbox.New(t), sandbox.New(t), deviceName("m")
	d := openIn(t, ns, func() (*Device, error) { return OpenTAP(TAPConfig{Device: name}) })
	ns.Run(t, "ip link set "+name+" netns "+other.Path())
	if d.Up() {
		t.Error("up, though moving brings it down")
	}
	other.Run(t, "ip link set "+name+" up")
	if !d.Up() {
		t.Error("down, though up where it is now")
	}
	other.Run(t, "ip link set "+name+" down")
	if d.Up() {
		t.Error("up, though down where it is now")
	}
}

// dropCapabilities takes all rights from the calling thread, which ends soon.
func dropCapabilities() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&head, &none[0])
}

func TestInteropDeviceOfTheUserNeedsNoPrivilege(t *testing.T) {
	ns, name, bridge := sandbox.New(t), deviceName("o"), deviceName("b")
	ns.Run(t, "ip link add "+bridge+" type bridge\n ip tuntap add "+name+" mode tap user "+strconv.Itoa(os.Geteuid())+
		"\n ip link set "+name+" master "+bridge+" up")
	d := openIn(t, ns, func() (*Device, error) {
		if err := dropCapabilities(); err != nil {
			return nil, err
		}
		return OpenTAP(TAPConfig{Device: name, Offload: true, Bridge: bridge})
	})
	if want := (link.Features{Checksum: true, TCP4: true, TCP6: true, UDP: true}); d.Info().Features != want {
		t.Errorf("Features = %+v, want all", d.Info().Features)
	}
	if !d.Up() {
		t.Error("down")
	}
	if err := ns.Do(func() error {
		if err := dropCapabilities(); err != nil {
			return err
		}
		_, err := OpenTAP(TAPConfig{Device: deviceName("x")})
		return err
	}); !errors.Is(err, unix.EPERM) {
		t.Errorf("making a device without the right = %v, want EPERM", err)
	}
}
