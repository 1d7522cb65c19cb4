package host

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// wire carries what one host sends to another, in real time.
type wire struct {
	from, to *Host
	wake     chan struct{}
	done     chan struct{}
}

func newWire() *wire { return &wire{wake: make(chan struct{}, 1), done: make(chan struct{})} }

// poke is a Config.Wake.
func (w *wire) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wire) run(stop <-chan struct{}) {
	defer close(w.done)
	var frames []*link.Frame
	for range 16 {
		frames = append(frames, link.NewFrame(link.BufferBytes))
	}
	ifaces := make([]uint16, len(frames))
	for {
		select {
		case <-stop:
			return
		case <-w.wake:
		}
		for n := len(frames); n == len(frames); {
			n = w.from.Read(frames, ifaces)
			for _, f := range frames[:n] {
				w.to.Deliver(wan, f.Bytes()[ethernetHeaderLen:])
			}
		}
	}
}

// newRealPair connects two hosts, until the test ends.
func newRealPair(t testing.TB) (a, b *Host) {
	ab, ba := newWire(), newWire()
	a = newHost(t, Config{Wake: ab.poke}, prefixes['a']...)
	b = newHost(t, Config{Wake: ba.poke}, prefixes['b']...)
	ab.from, ab.to, ba.from, ba.to = a, b, b, a
	stop := make(chan struct{})
	go ab.run(stop)
	go ba.run(stop)
	t.Cleanup(func() {
		a.Close()
		b.Close()
		close(stop)
		<-ab.done
		<-ba.done
	})
	return a, b
}

func TestRealTimeWithoutPump(t *testing.T) {
	a, b := newRealPair(t)
	for _, addr := range []string{"10.0.0.2:80", "[2001:db8::2]:80"} {
		at := netip.MustParseAddrPort(addr)
		l, err := b.ListenTCP(wan, at)
		must(t, err)
		go serveEcho(l)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c, err := a.DialTCP(ctx, netip.Addr{}, 0, at)
		must(t, err)
		data, got := megabyte(), make([]byte, 1<<20)
		go c.Write(data)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v, equal %v", addr, err, bytes.Equal(got, data))
		}
	}
	if r, err := a.Ping(context.Background(), PingConfig{Remote: netip.MustParseAddr("10.0.0.2"), Timeout: 5 * time.Second}); err != nil || r.RTT <= 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// Role changes come while traffic flows; the race detector watches.
func TestAddressesChangeUnderTraffic(t *testing.T) {
	a, b := newRealPair(t)
	vip := netip.MustParseAddrPort("10.0.0.200:80")
	l, err := b.ListenTCP(wan, netip.MustParseAddrPort("10.0.0.2:80"))
	must(t, err)
	go serveEcho(l)
	c, err := a.DialTCP(context.Background(), netip.Addr{}, 0, netip.MustParseAddrPort("10.0.0.2:80"))
	must(t, err)
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			with := append(slices.Clone(prefixes['b']), netip.PrefixFrom(vip.Addr(), 24))
			b.SetAddresses(wan, with)
			b.SetAddresses(wan, prefixes['b'])
			b.SetRoutes(testRoutes)
			if l, err := b.ListenTCP(wan, vip); err == nil {
				l.Close()
			}
			b.Stats()
		}
	})
	data, got := megabyte()[:300<<10], make([]byte, 300<<10)
	go c.Write(data)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%v", err)
	}
	close(stop)
	group.Wait()
}

// handClock moves when it is told to.
type handClock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*handTimer
}

type handTimer struct {
	clock *handClock
	at    time.Time // zero: stopped
	f     func()
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) AfterFunc(d time.Duration, f func()) Timer {
	t := &handTimer{clock: c, f: f}
	c.mu.Lock()
	c.timers = append(c.timers, t)
	c.mu.Unlock()
	t.Reset(d)
	return t
}

func (t *handTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := !t.at.IsZero()
	t.at = time.Time{}
	return was
}

func (t *handTimer) Reset(d time.Duration) {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	t.at = t.clock.now.Add(d)
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []func()
	for _, t := range c.timers {
		if !t.at.IsZero() && !t.at.After(c.now) {
			t.at = time.Time{}
			due = append(due, t.f)
		}
	}
	c.mu.Unlock()
	for _, f := range due {
		f()
	}
}

func TestGuestFollowsTheGivenClock(t *testing.T) {
	clock, wake := &handClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, newWire()
	h := newHost(t, Config{Clock: clock, Wake: wake.poke}, prefixes['a']...)
	defer h.Close()
	go h.DialTCP(context.Background(), netip.Addr{}, 0, netip.MustParseAddrPort("10.0.0.2:80"))
	frames, ifaces := []*link.Frame{link.NewFrame(2000)}, make([]uint16, 1)
	for attempt := range 3 {
		select {
		case <-wake.wake:
		case <-time.After(10 * time.Second):
			t.Fatalf("SYN %d did not come", attempt)
		}
		if n := h.Read(frames, ifaces); n != 1 {
			t.Fatalf("%d frames", n)
		}
		var v packet.View
		if packet.Decode(frames[0].Bytes(), &v); v.TCPFlags&packet.SYN == 0 {
			t.Fatal("no SYN")
		}
		if n := h.Read(frames, ifaces); n != 0 {
			t.Fatal("the clock stands still, but something is sent")
		}
		clock.advance(4 * time.Second)
	}
}

func TestRandomnessComesFromOutside(t *testing.T) {
	syn := func(seed uint64) (out []byte) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			h := newHost(t, Config{Rand: r.Uint64}, prefixes['a']...)
			defer h.Close()
			h.Pump()
			ctx, cancel := context.WithCancel(context.Background())
			go h.DialTCP(ctx, netip.Addr{}, 0, netip.MustParseAddrPort("10.0.0.2:80"))
			synctest.Wait()
			frames := []*link.Frame{link.NewFrame(2000)}
			if n := h.Read(frames, make([]uint16, 1)); n != 1 {
				t.Fatalf("%d frames", n)
			}
			out = bytes.Clone(frames[0].Bytes())
			cancel()
			synctest.Wait()
		})
		return out
	}
	ports := func(frame []byte) []byte { return frame[34:42] } // ports and sequence number
	if one, two := syn(1), syn(1); !bytes.Equal(ports(one), ports(two)) {
		t.Errorf("the same seed gives %x and %x", ports(one), ports(two))
	}
	if one, two := syn(1), syn(2); bytes.Equal(ports(one), ports(two)) {
		t.Error("another seed gives the same")
	}
}

// FuzzDeliver gives the guest datagrams as they may come past the router.
func FuzzDeliver(f *testing.F) {
	a, b := prefixes['a'], prefixes['b']
	for i := range a {
		f.Add(echoRequest(b[i].Addr(), a[i].Addr(), &PingConfig{ID: 1})[ethernetHeaderLen:])
		frame := packet.AppendUDP(nil, packet.MAC{}, packet.MAC{}, &packet.Tuple{
			Src: packet.AddrFrom(b[i].Addr()), Dst: packet.AddrFrom(a[i].Addr()), SrcPort: 9, DstPort: 53,
			Proto: packet.ProtoUDP, Family: map[bool]uint8{true: 4, false: 6}[a[i].Addr().Is4()],
		}, 64, []byte("question"))
		f.Add(frame[ethernetHeaderLen:])
	}
	h, err := New(Config{Interfaces: []Interface{{wan, "wan", 1500}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(h.Close)
	h.SetAddresses(wan, a)
	if _, err := h.ListenTCP(wan, netip.MustParseAddrPort("10.0.0.1:80")); err != nil {
		f.Fatal(err)
	}
	frames, ifaces := []*link.Frame{link.NewFrame(link.BufferBytes)}, make([]uint16, 1)
	f.Fuzz(func(t *testing.T, datagram []byte) {
		h.pings.add(pingKey{b[0].Addr(), 1, 0}, time.Time{})
		h.Deliver(wan, datagram)
		for h.Read(frames, ifaces) > 0 {
		}
	})
}

func BenchmarkTCP(b *testing.B) {
	x, y := newRealPair(b)
	at := netip.MustParseAddrPort("10.0.0.2:80")
	l, err := y.ListenTCP(wan, at)
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(io.Discard, c)
		}
	}()
	c, err := x.DialTCP(context.Background(), netip.Addr{}, 0, at)
	if err != nil {
		b.Fatal(err)
	}
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		c.Write(chunk)
	}
}
