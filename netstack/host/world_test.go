package host

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

const (
	wan = 1
	lan = 2
)

// station is a host in a bubble, with a wire on interface wan.
type station struct {
	*Host
	peer *station
	lost func(frame []byte) bool // nil: nothing is
	sent [][]byte                // datagrams that left by wan
	gso  int                     // ... of which coalesced
}

// bubble is two stations back to back, in virtual time.
type bubble struct {
	t      *testing.T
	a, b   *station
	cut    bool // the wire takes no coalesced frame and no partial checksum
	frames []*link.Frame
	ifaces []uint16
}

var prefixes = map[byte][]netip.Prefix{
	'a': {netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("fe80::1/64")},
	'b': {netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("fe80::2/64")},
}

var testRoutes = []Route{
	{netip.MustParsePrefix("10.0.0.0/24"), wan}, {netip.MustParsePrefix("2001:db8::/64"), wan},
	{netip.MustParsePrefix("172.16.0.0/24"), lan},
}

func newHost(t testing.TB, cfg Config, addrs ...netip.Prefix) *Host {
	t.Helper()
	if cfg.Interfaces == nil {
		cfg.Interfaces = []Interface{{wan, "wan", 1500}, {lan, "lan", 1500}}
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.SetAddresses(wan, addrs); err != nil {
		t.Fatal(err)
	}
	h.SetRoutes(testRoutes)
	return h
}

// inBubble runs f with two stations, which are closed after it.
func inBubble(t *testing.T, f func(t *testing.T, w *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		w := &bubble{t: t, ifaces: make([]uint16, 8)}
		for range w.ifaces {
			w.frames = append(w.frames, link.NewFrame(link.BufferBytes))
		}
		w.a = &station{Host: newHost(t, Config{}, prefixes['a']...)}
		w.b = &station{Host: newHost(t, Config{}, prefixes['b']...)}
		w.a.peer, w.b.peer = w.b, w.a
		w.a.Pump() // Before anything waits: the bubble must see the workers parked.
		w.b.Pump()
		defer w.a.Close()
		defer w.b.Close()
		w.settle()
		f(t, w)
	})
}

// settle lets everything happen that can happen now.
func (w *bubble) settle() {
	for busy := true; busy; {
		synctest.Wait()
		busy = false
		for _, s := range []*station{w.a, w.b} {
			if s.Pump() {
				busy = true
			}
			busy = w.carry(s) || busy
		}
	}
}

// run lets virtual time pass.
func (w *bubble) run(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		w.settle()
		time.Sleep(min(5*time.Millisecond, time.Until(end)))
	}
	w.settle()
}

// carry moves what a station has sent to the other one.
func (w *bubble) carry(s *station) bool {
	n := s.Read(w.frames, w.ifaces)
	for i := range n {
		f := w.frames[i]
		w.check(f)
		if w.ifaces[i] != wan || s.lost != nil && s.lost(f.Bytes()) {
			continue
		}
		s.sent = append(s.sent, bytes.Clone(f.Bytes()[ethernetHeaderLen:]))
		if f.Offload.Segment != link.SegmentNone {
			s.gso++
		}
		w.deliver(s.peer, f)
	}
	return n > 0
}

// check holds every frame to what its offloads promise.
func (w *bubble) check(f *link.Frame) {
	var v packet.View
	if why := packet.Decode(f.Bytes(), &v); why != packet.OK {
		w.t.Errorf("a frame does not decode: %v", why)
		return
	}
	if mac := f.Bytes()[:12]; !bytes.Equal(mac, make([]byte, 12)) {
		w.t.Errorf("MAC addresses %x", mac)
	}
	o := f.Offload
	switch {
	case !o.NeedsChecksum && v.L4 != 0 && !packet.VerifyL4(&v):
		w.t.Errorf("protocol %d: checksum wrong without offload", v.Proto)
	case o.NeedsChecksum && int(o.ChecksumStart) != v.L4:
		w.t.Errorf("checksum starts at %d, layer 4 at %d", o.ChecksumStart, v.L4)
	case o.Segment != link.SegmentNone && int(o.HeaderLen) != v.Payload:
		w.t.Errorf("header length %d, payload at %d", o.HeaderLen, v.Payload)
	case o.Segment == link.SegmentNone && v.End-v.L3 > 1500:
		w.t.Errorf("%d bytes in one piece", v.End-v.L3)
	}
}

func (w *bubble) deliver(to *station, f *link.Frame) {
	if !w.cut {
		to.Deliver(wan, f.Bytes()[ethernetHeaderLen:])
		return
	}
	var v packet.View
	packet.Decode(f.Bytes(), &v)
	v.PartialSum, v.SegSize = f.Offload.NeedsChecksum, int(f.Offload.SegSize)
	one := func(frame []byte) {
		var s packet.View
		if packet.Decode(frame, &s) != packet.OK || !packet.VerifyL4(&s) {
			w.t.Error("a segment cut from a coalesced frame is not sound")
		}
		to.Deliver(wan, frame[ethernetHeaderLen:])
	}
	if v.SegSize > 0 {
		packet.Segment(&v, one, make([]byte, len(v.B)))
		return
	}
	if v.PartialSum {
		packet.CompleteChecksum(&v)
	}
	one(f.Bytes())
}

// do runs f beside the wire until it returns, for so long at most.
func (w *bubble) do(limit time.Duration, f func()) {
	w.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		w.run(5 * time.Millisecond)
		select {
		case <-done:
			return
		default:
		}
	}
	w.t.Fatalf("not done within %v", limit)
}

// serveEcho accepts on l and sends back what comes, until l is closed.
func serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

func (w *bubble) listen(s *station, addr string) net.Listener {
	w.t.Helper()
	l, err := s.ListenTCP(wan, netip.MustParseAddrPort(addr))
	if err != nil {
		w.t.Fatal(err)
	}
	go serveEcho(l)
	return l
}

// dial connects within three seconds, or says why not.
func (w *bubble) dial(s *station, addr string) (c net.Conn, err error) {
	w.t.Helper()
	w.do(5*time.Second, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		c, err = s.DialTCP(ctx, netip.Addr{}, 0, netip.MustParseAddrPort(addr))
	})
	return c, err
}

// echo sends data and reads it back.
func (w *bubble) echo(c net.Conn, data []byte) {
	w.t.Helper()
	w.do(time.Minute, func() {
		go c.Write(data)
		got := make([]byte, len(data))
		if _, err := io.ReadFull(c, got); err != nil {
			w.t.Error(err)
		} else if !bytes.Equal(got, data) {
			w.t.Error("what came back is not what was sent")
		}
	})
}
