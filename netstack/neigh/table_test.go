package neigh

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"tandem/netstack/packet"
)

func TestLookupDoesNotAllocate(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	w.resolve(a, "10.0.0.2")
	known, unknown := key("10.0.0.2"), key("2001:db8::77")
	if n := testing.AllocsPerRun(100, func() {
		a.Lookup(1, known)
		a.Lookup(1, unknown)
		a.Deadline()
	}); n != 0 {
		t.Errorf("%v allocations per lookup, want none", n)
	}
	acts := make([]Action, 0, 8)
	target := ip("10.0.0.2")
	if n := testing.AllocsPerRun(100, func() {
		_, _, acts = a.Resolve(w.now, 1, target, netip.Addr{}, acts[:0])
	}); n != 0 {
		t.Errorf("%v allocations to resolve what is known, want none", n)
	}
}

// TestTimersStaySorted drives the heap with random times.
func TestTimersStaySorted(t *testing.T) {
	seed := uint64(3)
	next := func() int64 { seed = seed*6364136223846793005 + 1442695040888963407; return int64(seed >> 40) }
	var h timers
	entries := make([]*entry, 200)
	for i := range entries {
		entries[i] = &entry{due: never, pos: -1}
	}
	for range 5000 {
		e := entries[next()%200]
		if next()%5 == 0 {
			h.set(e, never)
		} else {
			h.set(e, next())
		}
		for i, e := range h {
			if e.pos != i || i > 0 && h[(i-1)/2].due > e.due {
				t.Fatalf("entry %d of the heap is out of place", i)
			}
		}
	}
	last := int64(-1)
	for len(h) > 0 {
		if h.next() < last {
			t.Fatal("not in order")
		}
		last = h.next()
		h.set(h[0], never)
	}
}

// TestAllMethodsAtOnce is for the race detector: two ports, all callers.
func TestAllMethodsAtOnce(t *testing.T) {
	a := New(Config{Now: start, Probe: shortTiming, EntriesMax: 16, QuestionsMax: 8})
	cfg := PortConfig{MAC: mac(1), Networks: networks}
	a.AddPort(1, cfg)
	a.AddPort(2, cfg)
	owns := []Own{{Addr: ip("10.0.0.1"), MAC: mac(1)}, vip("10.0.0.7"), vip("2001:db8::7")}
	host := func(i int) string { return netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i%40)}).String() }
	jobs := []func(port uint16, i int, now time.Time) []Action{
		func(p uint16, i int, _ time.Time) []Action {
			a.Lookup(p, key(host(i)))
			a.Deadline()
			return nil
		},
		func(p uint16, i int, now time.Time) []Action {
			_, _, acts := a.Resolve(now, p, ip(host(i)), netip.Addr{}, nil)
			return acts
		},
		func(p uint16, i int, now time.Time) []Action {
			return a.Receive(now, p, view(t, arp(2, mac(1), mac(byte(i%200+2)), host(i), mac(1), "10.0.0.1")), nil)
		},
		func(_ uint16, _ int, now time.Time) []Action { return a.Tick(now, nil) },
		func(p uint16, i int, now time.Time) []Action {
			return a.Announce(now, p, owns, a.SetOwn(now, p, owns[:1+i%3], nil))
		},
		func(p uint16, i int, now time.Time) []Action {
			switch i % 50 {
			case 0:
				a.Flush(p)
			case 1:
				return a.Delete(ip(host(i)), nil)
			case 2:
				a.AddPort(3, cfg)
			case 3:
				a.RemovePort(3)
			}
			a.List(now)
			a.Counts(p)
			return a.Hint(now, p, ip(host(i)), mac(9), now.Add(time.Second), nil)
		},
	}
	var wg sync.WaitGroup
	for _, job := range jobs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 500 {
				for _, x := range job(uint16(1+i%2), i, start.Add(time.Duration(i)*50*time.Millisecond)) {
					if x.Kind == Send && len(x.Frame) < 42 {
						t.Errorf("frame of %d bytes", len(x.Frame))
					}
				}
			}
		}()
	}
	wg.Wait()
	for p := uint16(1); p <= 2; p++ {
		if n, q := a.Len(p); n > 16 || q > 8 {
			t.Errorf("port %d: %d neighbours, %d questions", p, n, q)
		}
	}
}

// FuzzReceive feeds frames to a node in every state and checks what must hold
// whatever comes in.
func FuzzReceive(f *testing.F) {
	f.Add(arp(2, mac(1), mac(5), "10.0.0.2", mac(1), "10.0.0.1"), uint8(0))
	f.Add(arp(1, broadcastMAC, mac(5), "10.0.0.2", packet.MAC{}, "10.0.0.7"), uint8(1))
	f.Add(arp(1, broadcastMAC, mac(5), "0.0.0.0", packet.MAC{}, "10.0.0.1"), uint8(2))
	f.Add(arp(1, broadcastMAC, mac(5), "10.0.0.7", packet.MAC{}, "10.0.0.7"), uint8(3))
	f.Add(na(mac(5), "2001:db8::2", true, true, true), uint8(4))
	f.Add(na(mac(5), "2001:db8::7", true, false, true), uint8(5))
	f.Add(ns(mac(5), "2001:db8::2"), uint8(6))
	group := packet.SolicitedNode(ip("2001:db8::1"))
	f.Add(packet.AppendNS(nil, mac(5), packet.MulticastMAC(group), netip.IPv6Unspecified(), group, ip("2001:db8::1"), false), uint8(7))
	f.Fuzz(func(t *testing.T, frame []byte, how uint8) {
		w := newWorld(t)
		a := w.add("a", 1, how&1 != 0)
		a.SetOwn(w.now, 1, append(a.owns, vip("10.0.0.7"), vip("2001:db8::7")), nil)
		if how&2 != 0 {
			w.resolve(a, "10.0.0.2")
			w.resolve(a, "2001:db8::2")
		}
		var v packet.View
		if packet.Decode(frame, &v) != packet.OK {
			return
		}
		known := len(a.List(w.now))
		for range 3 {
			checkSent(t, a, a.Receive(w.now, 1, &v, nil))
			w.now = w.now.Add(400 * time.Millisecond)
			checkSent(t, a, a.Tick(w.now, nil))
		}
		if n := len(a.List(w.now)); n > known {
			t.Errorf("an entry was made: %v", a.List(w.now))
		}
	})
}

// checkSent checks that a speaks for its own and held addresses alone, each
// with its own MAC inside and outside.
func checkSent(t *testing.T, a *node, acts []Action) {
	t.Helper()
	for _, x := range acts {
		if x.Kind != Send {
			continue
		}
		v := view(t, x.Frame)
		from := packet.MAC(x.Frame[6:12])
		said, claims := from, netip.Addr{}
		if m, ok := packet.ParseARP(v); ok {
			said, claims = m.SenderMAC, m.Sender
		} else if n, ok := packet.ParseND(v); ok {
			claims = v.Src.Netip()
			if n.Type == packet.ICMP6Advert {
				claims = n.Target
			}
			if n.HasLinkAddr {
				said = n.LinkAddr
			}
		} else {
			t.Fatalf("sent % x", x.Frame)
		}
		if said != from {
			t.Errorf("MAC %v inside, %v outside", said, from)
		}
		if claims.IsUnspecified() {
			continue
		}
		if o := a.port(1).ownByAddr[packet.AddrFrom(claims)]; o == nil || o.MAC != from || o.status != inUse {
			t.Errorf("spoke for %v from %v", claims, from)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	a := New(Config{Now: start})
	a.AddPort(1, PortConfig{MAC: mac(1)})
	keys := make([]packet.Addr, 1024)
	for i := range keys {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		keys[i] = packet.AddrFrom(addr)
		a.Hint(start, 1, addr, mac(9), start.Add(time.Hour), nil)
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			a.Lookup(1, keys[i%len(keys)])
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				a.Lookup(1, keys[i%len(keys)])
			}
		})
	})
}
