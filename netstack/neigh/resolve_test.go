package neigh

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/packet"
)

func TestResolveAsksOnceAndLearnsTheAnswer(t *testing.T) {
	w := newWorld(t)
	a, _ := w.add("a", 1, false), w.add("b", 2, false)
	if s := w.resolve(a, "10.0.0.2"); s != Pending {
		t.Errorf("status %v, want pending", s)
	}
	same(t, "frames", w.take(),
		"a: arp request 1>all sender 10.0.0.1@1 target 10.0.0.2@0",
		"b: arp reply 2>1 sender 10.0.0.2@2 target 10.0.0.1@1")
	if s := w.resolve(a, "2001:db8::2"); s != Pending {
		t.Errorf("status %v, want pending", s)
	}
	same(t, "frames", w.take(),
		"a: ns 1>group 2001:db8::1>ff02::1:ff00:2 target 2001:db8::2@1",
		"b: na 2>1 2001:db8::2>2001:db8::1 target 2001:db8::2@2 router solicited override")
	same(t, "told", a.told(), "resolved 10.0.0.2 2", "resolved 2001:db8::2 2")
	for _, addr := range []string{"10.0.0.2", "2001:db8::2"} {
		if m, ok := a.Lookup(1, key(addr)); !ok || m != mac(2) {
			t.Errorf("Lookup(%s) = %v, %v", addr, m, ok)
		}
		if s := w.resolve(a, addr); s != Found {
			t.Errorf("Resolve(%s) = %v, want found", addr, s)
		}
	}
	if n := len(w.take()); n != 0 {
		t.Errorf("%d frames for known neighbours", n)
	}
}

func TestBeingAskedMakesNoEntry(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a", 1, false), w.add("b", 2, false)
	w.resolve(a, "10.0.0.2")
	w.resolve(a, "2001:db8::2")
	if list := b.List(w.now); len(list) != 0 {
		t.Errorf("the one that was asked has entries: %v", list)
	}
}

func TestNobodyAnswers(t *testing.T) {
	for _, addr := range []string{"10.0.0.9", "2001:db8::9"} {
		t.Run(addr, func(t *testing.T) {
			w := newWorld(t)
			a := w.add("a", 1, false)
			w.resolve(a, addr)
			w.run(2999 * time.Millisecond)
			if n := len(w.take()); n != 3 || len(a.told()) != 0 {
				t.Errorf("%d asks within three seconds, want 3 and no verdict yet", n)
			}
			w.run(time.Millisecond)
			same(t, "told", a.told(), "unreachable "+addr)
			if s := w.resolve(a, addr); s != Failed {
				t.Errorf("status %v right after, want failed", s)
			}
			w.run(time.Second)
			if s := w.resolve(a, addr); s != Pending {
				t.Errorf("status %v a second later, want pending", s)
			}
		})
	}
}

func TestResolveRefusesWhatIsNoNeighbour(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	for _, addr := range []string{"0.0.0.0", "255.255.255.255", "10.0.0.255", "10.0.0.0", "224.0.0.1",
		"127.0.0.1", "::", "::1", "ff02::1", "10.0.0.1", "2001:db8::1"} {
		if s := w.resolve(a, addr); s != Failed {
			t.Errorf("Resolve(%s) = %v, want failed", addr, s)
		}
	}
	if _, s, _ := a.Resolve(w.now, 1, netip.Addr{}, netip.Addr{}, nil); s != Failed {
		t.Errorf("Resolve of no address = %v, want failed", s)
	}
	if _, s, _ := a.Resolve(w.now, 9, ip("10.0.0.2"), netip.Addr{}, nil); s != Failed {
		t.Errorf("Resolve on no port = %v, want failed", s)
	}
	if n := len(w.take()); n != 0 {
		t.Errorf("%d frames sent", n)
	}
}

func TestWhomANeighbourIsAskedFrom(t *testing.T) {
	tests := []struct{ target, src, want string }{
		{"10.0.0.2", "10.0.0.1", "arp request 1>all sender 10.0.0.1@1 target 10.0.0.2@0"},
		{"10.0.0.2", "10.0.0.7", "arp request VMAC>all sender 10.0.0.7@VMAC target 10.0.0.2@0"},            // held
		{"10.0.0.2", "10.0.0.8", "arp request 1>all sender 10.0.0.1@1 target 10.0.0.2@0"},                  // not ours
		{"10.9.9.9", "2001:db8::1", "arp request 1>all sender 10.0.0.1@1 target 10.9.9.9@0"},               // off the networks
		{"2001:db8::2", "::", "ns 1>group 2001:db8::1>ff02::1:ff00:2 target 2001:db8::2@1"},                //
		{"2001:db9::2", "::", "ns 1>group fe80::ff:fe00:1>ff02::1:ff00:2 target 2001:db9::2@1"},            // off the networks
		{"fe80::2", "2001:db8::1", "ns 1>group 2001:db8::1>ff02::1:ff00:2 target fe80::2@1"},               // as the caller wants
		{"fe80::2", "::", "ns 1>group fe80::ff:fe00:1>ff02::1:ff00:2 target fe80::2@1"},                    //
		{"2001:db8::2", "2001:db8::7", "ns VMAC>group 2001:db8::7>ff02::1:ff00:2 target 2001:db8::2@VMAC"}, // held
	}
	for _, tt := range tests {
		t.Run(tt.target+" from "+tt.src, func(t *testing.T) {
			w := newWorld(t)
			a := w.add("a", 1, false)
			a.SetOwn(w.now, 1, append(a.owns, vip("10.0.0.7"), vip("2001:db8::7")), nil)
			_, _, acts := a.Resolve(w.now, 1, ip(tt.target), ip(tt.src), nil)
			if len(acts) != 1 || describe(t, acts[0].Frame) != tt.want {
				t.Errorf("asked %q, want %q", describe(t, acts[0].Frame), tt.want)
			}
		})
	}
}

func TestNothingIsAskedFromAnAddressThatIsStillProbedFor(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, true)
	w.take()
	w.resolve(a, "10.0.0.2")
	if n := len(w.take()); n != 0 || a.count(AsksWithoutSource) != 1 {
		t.Errorf("%d frames, %d counted", n, a.count(AsksWithoutSource))
	}
	b := w.add("b", 2, false)
	w.run(2 * time.Second) // The probe ends, the next ask has a source.
	if m, ok := a.Lookup(1, key("10.0.0.2")); !ok || m != mac(b.n) {
		t.Errorf("not resolved after the probe: %v", a.List(w.now))
	}
}

func TestNeighbourInUseIsRefreshedByUnicast(t *testing.T) {
	for _, addr := range []string{"10.0.0.2", "2001:db8::2"} {
		t.Run(addr, func(t *testing.T) {
			w := newWorld(t)
			a := w.add("a", 1, false)
			b := w.add("b", 2, false)
			w.resolve(a, addr)
			w.take()
			a.told()
			for range 150 {
				w.run(time.Second)
				if _, ok := a.Lookup(1, key(addr)); !ok {
					t.Fatalf("lost after %v", w.now.Sub(start))
				}
			}
			n := a.count(RefreshesSent)
			if n < 2 || n > 5 || len(w.take()) != int(2*n) {
				t.Errorf("%d refreshes in 150 s, want one every 30 to 60 s, each answered", n)
			}
			b.mute = true
			for range 64 {
				w.run(time.Second)
				a.Lookup(1, key(addr))
			}
			same(t, "told", a.told(), "unreachable "+addr)
			if _, ok := a.Lookup(1, key(addr)); ok {
				t.Error("a dead neighbour is still known")
			}
		})
	}
}

func TestNeighbourOutOfUseIsForgottenWithoutAsking(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	w.resolve(a, "10.0.0.2")
	w.take()
	a.told()
	w.run(61 * time.Second)
	if l := a.List(w.now); len(l) != 1 || l[0].State != Stale {
		t.Errorf("after a minute: %+v, want it stale", l)
	}
	w.run(10 * time.Minute)
	same(t, "told", a.told(), "unreachable 10.0.0.2")
	if n := len(w.take()); n != 0 || !a.Deadline().IsZero() {
		t.Errorf("%d frames, deadline %v", n, a.Deadline())
	}
}

func TestStaleNeighbourIsProbedWhenUsedAgain(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	w.resolve(a, "10.0.0.2")
	w.run(90 * time.Second)
	w.take()
	a.Lookup(1, key("10.0.0.2"))
	w.run(5 * time.Second)
	same(t, "frames", w.take(),
		"a: arp request 1>2 sender 10.0.0.1@1 target 10.0.0.2@0",
		"b: arp reply 2>1 sender 10.0.0.2@2 target 10.0.0.1@1")
	if l := a.List(w.now); l[0].State != Reachable {
		t.Errorf("state %v, want reachable", l[0].State)
	}
}

func TestRefreshDoesNotUseAVirtualAddressGivenUp(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	w.hold(a, vip("10.0.0.7"))
	_, _, acts := a.Resolve(w.now, 1, ip("10.0.0.2"), ip("10.0.0.7"), nil)
	w.do(a, acts)
	w.release(a)
	w.take()
	for range 70 {
		a.Lookup(1, key("10.0.0.2"))
		w.run(time.Second)
	}
	for _, f := range w.take() {
		if f != "a: arp request 1>2 sender 10.0.0.1@1 target 10.0.0.2@0" && f[0] == 'a' {
			t.Errorf("sent %q after the address was given up", f)
		}
	}
	if a.count(RefreshesSent) == 0 {
		t.Error("no refresh within 70 s")
	}
}

func TestOpenQuestionsAndAsksAreBounded(t *testing.T) {
	w := newWorld(t)
	a := New(Config{Now: w.now, Probe: shortTiming, QuestionsMax: 64, AsksPerSecond: 100})
	a.AddPort(1, PortConfig{MAC: mac(1), Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	a.SetOwn(w.now, 1, []Own{{Addr: ip("10.0.0.1"), MAC: mac(1)}}, nil)
	asks, open := 0, map[netip.Addr]bool{}
	note := func(acts []Action) {
		for _, x := range acts {
			switch x.Kind {
			case Send:
				asks++
			case Unreachable:
				if !open[x.Addr] {
					t.Fatalf("unreachable for %v, which is not open", x.Addr)
				}
				delete(open, x.Addr)
			}
		}
	}
	for i := range 20000 { // Ten seconds of a scan.
		w.now = w.now.Add(500 * time.Microsecond)
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		if !a.port(1).neighbourly(addr) {
			continue
		}
		_, s, acts := a.Resolve(w.now, 1, addr, netip.Addr{}, nil)
		if s == Pending {
			open[addr] = true
		}
		note(acts)
		if d := a.Deadline(); !d.After(w.now) {
			note(a.Tick(w.now, nil))
		}
		if _, q := a.Len(1); q > 64 || len(open) > 64 {
			t.Fatalf("%d questions, %d of them open", q, len(open))
		}
	}
	if asks < 500 || asks > 100*10+50 {
		t.Errorf("%d asks in ten seconds, want at most 1050", asks)
	}
	c := a.Counts(1)
	if c[QuestionsRefused] == 0 || c[QuestionsDisplaced] == 0 || c[AsksDelayed] == 0 {
		t.Errorf("counters %v", c)
	}
	w.now = w.now.Add(10 * time.Second)
	for range 10 {
		note(a.Tick(w.now, nil))
		w.now = w.now.Add(10 * time.Second)
	}
	if n, q := a.Len(1); n != 0 || q != 0 || len(open) != 0 || !a.Deadline().IsZero() {
		t.Errorf("when it was over: %d neighbours, %d questions, %d never ended", n, q, len(open))
	}
}

func TestAScanDoesNotKeepAHostFromBeingResolved(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	w.run(time.Second)
	for i := range 600 { // One more than there is room for; all in one instant.
		w.resolve(a, fmt.Sprintf("10.7.%d.%d", i/200, i%200+1))
	}
	if s := w.resolve(a, "10.0.0.2"); s != Failed {
		t.Errorf("status %v while all room is taken", s)
	}
	w.run(time.Second)
	if s := w.resolve(a, "10.0.0.2"); s != Pending {
		t.Errorf("status %v a second later, want pending", s)
	}
	w.run(time.Second)
	if _, ok := a.Lookup(1, key("10.0.0.2")); !ok {
		t.Error("the host was not resolved during the scan")
	}
}

func TestEntriesAreBoundedAndThoseInUseStay(t *testing.T) {
	const limit = 32
	w := newWorld(t)
	a := New(Config{Now: w.now, Probe: shortTiming, EntriesMax: limit})
	a.AddPort(1, PortConfig{MAC: mac(1)})
	a.SetOwn(w.now, 1, []Own{{Addr: ip("10.0.0.1"), MAC: mac(1)}}, nil)
	lost := 0
	for i := range 200 {
		host := fmt.Sprintf("10.1.0.%d", i+2)
		a.Resolve(w.now, 1, ip(host), netip.Addr{}, nil)
		acts := a.Receive(w.now, 1, view(t, arp(2, mac(1), mac(byte(i+2)), host, mac(1), "10.0.0.1")), nil)
		for _, x := range acts {
			if x.Kind == Unreachable {
				lost++
			}
		}
		a.Lookup(1, key("10.1.0.2"))
		if n, _ := a.Len(1); n > limit {
			t.Fatalf("%d entries", n)
		}
	}
	if _, ok := a.Lookup(1, key("10.1.0.2")); !ok {
		t.Error("the neighbour in use was evicted")
	}
	if c := a.Counts(1); lost != 200-limit || c[EntriesEvicted] != uint64(lost) {
		t.Errorf("%d were told lost, %d counted, want %d", lost, c[EntriesEvicted], 200-limit)
	}
}

func TestFlushForgetsAndEndsQuestions(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	w.resolve(a, "10.0.0.2")
	w.resolve(a, "10.0.0.9")
	a.told()
	a.Flush(1)
	if _, ok := a.Lookup(1, key("10.0.0.2")); ok {
		t.Error("the neighbour is still known")
	}
	w.run(0)
	same(t, "told", a.told(), "unreachable 10.0.0.9")
	w.run(time.Second)
	if s := w.resolve(a, "10.0.0.2"); s != Pending {
		t.Errorf("status %v, want it asked for again", s)
	}
}

func TestHintHoldsForItsTime(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	until := w.now.Add(time.Second)
	a.Hint(w.now, 1, ip("10.0.0.50"), mac(50), until, nil)
	if m, ok := a.Lookup(1, key("10.0.0.50")); !ok || m != mac(50) {
		t.Errorf("Lookup = %v, %v", m, ok)
	}
	// Nobody talks it out of it.
	w.deliver(a, arp(1, broadcastMAC, mac(66), "10.0.0.50", packet.MAC{}, "10.0.0.1"))
	if m, _ := a.Lookup(1, key("10.0.0.50")); m != mac(50) {
		t.Errorf("Lookup = %v after another's claim", m)
	}
	w.run(time.Second)
	same(t, "told", a.told(), "unreachable 10.0.0.50")

	w.resolve(a, "10.0.0.51")
	w.do(a, a.Hint(w.now, 1, ip("10.0.0.51"), mac(51), w.now.Add(time.Second), nil))
	same(t, "told", a.told(), "resolved 10.0.0.51 51")
	for _, bad := range []struct {
		addr  string
		mac   packet.MAC
		until time.Time
	}{{"10.0.0.1", mac(9), w.now.Add(1)}, {"224.0.0.1", mac(9), w.now.Add(1)}, {"10.0.0.9", broadcastMAC, w.now.Add(1)}, {"10.0.0.9", mac(9), w.now}} {
		a.Hint(w.now, 1, ip(bad.addr), bad.mac, bad.until, nil)
		if _, ok := a.Lookup(1, key(bad.addr)); ok {
			t.Errorf("hint %v was taken", bad)
		}
	}
}

func TestDeleteAndList(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	a.AddPort(3, PortConfig{MAC: mac(9)})
	a.Hint(w.now, 3, ip("10.0.0.2"), mac(77), w.now.Add(20*time.Second), nil)
	w.resolve(a, "2001:db8::2")
	w.resolve(a, "10.0.0.9")
	w.resolve(a, "10.0.0.2")
	w.run(2 * time.Second)
	var got []string
	for _, n := range a.List(w.now) {
		got = append(got, fmt.Sprintf("%d %v %s %v %v", n.Port, n.Addr, macName(n.MAC), n.State, n.Age))
		if n.State == Reachable && (n.Expires < 28*time.Second || n.Expires > 58*time.Second) {
			t.Errorf("%v expires in %v", n.Addr, n.Expires)
		}
	}
	same(t, "list", got, "1 10.0.0.2 2 reachable 2s", "1 10.0.0.9 0 incomplete 2s",
		"1 2001:db8::2 2 reachable 2s", "3 10.0.0.2 77 static 2s")
	a.told()
	w.do(a, a.Delete(ip("10.0.0.2"), nil))
	same(t, "told", a.told(), "unreachable 10.0.0.2", "unreachable 10.0.0.2")
	if acts := a.Delete(ip("10.0.0.2"), nil); len(acts) != 0 {
		t.Errorf("deleted twice: %v", acts)
	}
}

func TestPortsComeAndGo(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	w.resolve(a, "10.0.0.2")
	a.AddPort(1, PortConfig{MAC: mac(1)}) // a new description keeps what is known
	if _, ok := a.Lookup(1, key("10.0.0.2")); !ok {
		t.Error("lost by a new description")
	}
	a.AddPort(1, PortConfig{MAC: mac(9)})
	if _, ok := a.Lookup(1, key("10.0.0.2")); ok {
		t.Error("kept under another MAC")
	}
	a.RemovePort(1)
	a.RemovePort(77)
	if s := w.resolve(a, "10.0.0.2"); s != Failed || !a.Deadline().IsZero() || a.Counts(1) != (Counts{}) {
		t.Errorf("a removed port answers %v", s)
	}
}
