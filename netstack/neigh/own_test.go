package neigh

import (
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/packet"
)

func TestVirtualAddressMovesWithItsHolder(t *testing.T) {
	w := newWorld(t)
	a, b, host := w.add("a", 1, false), w.add("b", 2, false), w.add("host", 9, false)
	vips := []Own{vip("10.0.0.7"), vip("2001:db8::7")}
	w.hold(a, vips...)
	same(t, "announcements", w.take(),
		"a: arp request VMAC>all sender 10.0.0.7@VMAC target 10.0.0.7@0",
		"a: na VMAC>group 2001:db8::7>ff02::1 target 2001:db8::7@VMAC router override")
	for _, v := range []string{"10.0.0.7", "2001:db8::7"} {
		w.resolve(host, v)
	}
	same(t, "answers", w.take(),
		"host: arp request 9>all sender 10.0.0.9@9 target 10.0.0.7@0",
		"a: arp reply VMAC>9 sender 10.0.0.7@VMAC target 10.0.0.9@9",
		"host: ns 9>group 2001:db8::9>ff02::1:ff00:7 target 2001:db8::7@9",
		"a: na VMAC>9 2001:db8::7>2001:db8::9 target 2001:db8::7@VMAC router solicited override")
	same(t, "host told", host.told(), "resolved 10.0.0.7 VMAC", "resolved 2001:db8::7 VMAC")
	if _, ok := b.Lookup(1, key("10.0.0.7")); ok || b.count(AnswersSent) != 0 {
		t.Error("the backup answered, or learned from an announcement")
	}

	// b resolves the address as a neighbour, then takes it over.
	w.resolve(b, "10.0.0.7")
	w.run(3 * time.Second)
	b.told()
	w.take()
	w.release(a)
	w.hold(b, vips...)
	same(t, "b told", b.told(), "unreachable 10.0.0.7")
	w.resolve(host, "10.0.0.7")
	w.deliver(a, arp(1, broadcastMAC, mac(9), "10.0.0.9", packet.MAC{}, "10.0.0.7"))
	for _, f := range w.take() {
		if f[0] == 'a' {
			t.Errorf("the former holder sent %q", f)
		}
	}
	for _, m := range []*node{a, b, host} {
		if c := m.Counts(1); c[Conflicts]+c[SecondMaster]+c[NeighboursChanged] != 0 {
			t.Errorf("%s saw a conflict in a planned takeover: %v", m.name, c)
		}
	}
}

func TestAnnouncementsAreRepeatedAndCancelled(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.take()
	w.hold(a, vip("10.0.0.7"))
	var at []time.Duration
	for range 3 {
		at = append(at, a.Deadline().Sub(w.now))
		w.now = a.Deadline()
		w.do(a, a.Tick(w.now, nil))
	}
	if len(w.take()) != 4 || at[0] != 50*time.Millisecond || at[1] != 150*time.Millisecond || at[2] != 800*time.Millisecond {
		t.Errorf("repeated after %v each", at)
	}
	if !a.Deadline().IsZero() {
		t.Error("there is more")
	}
	w.hold(a, vip("10.0.0.7"), vip("10.0.0.8"))
	w.run(60 * time.Millisecond)
	w.take()
	w.do(a, a.SetOwn(w.now, 1, append(a.owns, vip("10.0.0.8")), nil))
	w.run(10 * time.Second)
	same(t, "after one was taken away", w.take(),
		"a: arp request VMAC>all sender 10.0.0.8@VMAC target 10.0.0.8@0",
		"a: arp request VMAC>all sender 10.0.0.8@VMAC target 10.0.0.8@0")
}

func TestNothingIsAnnouncedThatIsNotHeld(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, true)
	w.take()
	w.do(a, a.Announce(w.now, 1, []Own{vip("10.0.0.7"), {Addr: ip("10.0.0.1"), MAC: mac(1)}, {}}, nil))
	if n := len(w.take()); n != 0 || a.count(AnnouncementsNotAllowed) != 3 {
		t.Errorf("%d frames, %d refused", n, a.count(AnnouncementsNotAllowed))
	}
}

func TestOwnAddressIsProbedForThenAnnounced(t *testing.T) {
	w := newWorld(t)
	host := w.add("host", 9, false)
	a := w.add("a", 1, true)
	w.resolve(host, "10.0.0.1") // Not answered yet.
	w.run(700 * time.Millisecond)
	same(t, "frames", w.take(),
		"a: arp request 1>all sender 0.0.0.0@1 target 10.0.0.1@0",
		"a: ns 1>group ::>ff02::1:ff00:1 target 2001:db8::1",
		"a: ns 1>group ::>ff02::1:ff00:1 target fe80::ff:fe00:1",
		"host: arp request 9>all sender 10.0.0.9@9 target 10.0.0.1@0",
		"a: arp request 1>all sender 0.0.0.0@1 target 10.0.0.1@0",
		"a: arp request 1>all sender 0.0.0.0@1 target 10.0.0.1@0",
		"a: na 1>group 2001:db8::1>ff02::1 target 2001:db8::1@1 router override",
		"a: na 1>group fe80::ff:fe00:1>ff02::1 target fe80::ff:fe00:1@1 router override",
		"a: arp request 1>all sender 10.0.0.1@1 target 10.0.0.1@0")
	same(t, "told", a.told(), "probe-done 2001:db8::1 1 ok=true", "probe-done fe80::ff:fe00:1 1 ok=true", "probe-done 10.0.0.1 1 ok=true")
	w.run(time.Second)
	if _, ok := host.Lookup(1, key("10.0.0.1")); !ok {
		t.Error("in use, but not answered for")
	}
}

func TestProbeTimesAreThoseOfTheRFC(t *testing.T) {
	seed := uint64(1)
	a := New(Config{Now: start, Rand: func() uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return seed >> 13 }})
	a.AddPort(1, PortConfig{MAC: mac(1)})
	a.SetOwn(start, 1, []Own{{Addr: ip("10.0.0.1"), MAC: mac(1), Probe: true}}, nil)
	last := start
	limits := [][2]time.Duration{{0, time.Second}, {time.Second, 2 * time.Second}, {time.Second, 2 * time.Second}, {2 * time.Second, 2 * time.Second}}
	for i, l := range limits {
		now := a.Deadline()
		if d := now.Sub(last); d < l[0] || d > l[1] {
			t.Errorf("step %d after %v, want %v to %v", i, d, l[0], l[1])
		}
		acts := a.Tick(now, nil)
		if done := acts[0].Kind == ProbeDone; done != (i == 3) {
			t.Errorf("step %d: %v", i, acts[0].Kind)
		}
		last = now
	}
}

func TestTwoNodesWithTheSameAddress(t *testing.T) {
	for _, which := range []int{0, 1} {
		w := newWorld(t)
		first, second := w.add("first", 1, true), w.add("second", 2, false)
		addr := first.owns[which].Addr
		w.run(3 * time.Second)
		first.told()
		// The second node comes up with the first one's address.
		second.owns = []Own{{Addr: addr, MAC: mac(2), Probe: true}}
		w.do(second, second.SetOwn(w.now, 1, second.owns, nil))
		same(t, "second told", second.told(), "conflict "+addr.String()+" 1", "probe-done "+addr.String()+" 1 ok=false")
		w.run(5 * time.Second)
		if len(first.told()) != 0 || first.count(Conflicts) != 0 {
			t.Error("the first was disturbed")
		}
		w.take()
		w.deliver(second, arp(1, broadcastMAC, mac(9), "10.0.0.9", packet.MAC{}, "10.0.0.1"))
		if n := len(w.take()); n != 0 {
			t.Error("the second answers for the address")
		}
		w.run(time.Minute)
		same(t, "second told on the next try", second.told(), "conflict "+addr.String()+" 1")
		first.mute = true
		w.run(time.Minute)
		same(t, "second told when the first has gone", second.told(), "probe-done "+addr.String()+" 2 ok=true")
	}
}

func TestTwoNodesThatProbeAtOnceBothRefuse(t *testing.T) {
	for _, addr := range []string{"10.0.0.200", "2001:db8::200"} {
		w := newWorld(t)
		a, b := w.add("a", 1, false), w.add("b", 2, false)
		a.owns = []Own{{Addr: ip(addr), MAC: mac(1), Probe: true}}
		b.owns = []Own{{Addr: ip(addr), MAC: mac(2), Probe: true}}
		acts := a.SetOwn(w.now, 1, a.owns, nil)
		w.do(b, b.SetOwn(w.now, 1, b.owns, nil))
		w.do(a, acts)
		same(t, "a told", a.told(), "conflict "+addr+" 2", "probe-done "+addr+" 2 ok=false")
		same(t, "b told", b.told(), "conflict "+addr+" 1", "probe-done "+addr+" 1 ok=false")
	}
}

func TestClaimOnAnAddressInUseIsDefendedOnceASecond(t *testing.T) {
	claims := map[string]func(addr netip.Addr) []byte{
		"arp request": func(a netip.Addr) []byte { return arp(1, broadcastMAC, mac(66), a.String(), packet.MAC{}, "10.0.0.77") },
		"gratuitous":  func(a netip.Addr) []byte { return arp(1, broadcastMAC, mac(66), a.String(), packet.MAC{}, a.String()) },
		"arp reply":   func(a netip.Addr) []byte { return arp(2, mac(1), mac(66), a.String(), mac(1), "10.0.0.1") },
		"na": func(a netip.Addr) []byte {
			return packet.AppendNA(nil, mac(66), packet.MulticastMAC(allNodes), a, allNodes, a, mac(66), false, false, true)
		},
		"ns": func(a netip.Addr) []byte {
			return packet.AppendNS(nil, mac(66), mac(1), a, ip("2001:db8::1"), ip("2001:db8::1"), true)
		},
	}
	defences := map[string]string{
		"10.0.0.1":    "a: arp request 1>all sender 10.0.0.1@1 target 10.0.0.1@0",
		"10.0.0.7":    "a: arp request VMAC>all sender 10.0.0.7@VMAC target 10.0.0.7@0",
		"2001:db8::1": "a: na 1>group 2001:db8::1>ff02::1 target 2001:db8::1@1 router override",
		"2001:db8::7": "a: na VMAC>group 2001:db8::7>ff02::1 target 2001:db8::7@VMAC router override",
	}
	for how, claim := range claims {
		for addr, defence := range defences {
			if ip(addr).Is4() != (how[0] != 'n') {
				continue
			}
			t.Run(how+" "+addr, func(t *testing.T) {
				w := newWorld(t)
				a := w.add("a", 1, false)
				a.SetOwn(w.now, 1, append(a.owns, vip("10.0.0.7"), vip("2001:db8::7")), nil)
				for range 100 {
					w.deliver(a, claim(ip(addr)))
					w.run(15 * time.Millisecond)
				}
				same(t, "defences in 1.5 s", w.take(), defence, defence)
				same(t, "told", a.told(), "conflict "+addr+" 66", "conflict "+addr+" 66")
				if n := a.count(Conflicts); n != 100 {
					t.Errorf("%d conflicts counted, want 100", n)
				}
			})
		}
	}
}

func TestSecondMasterIsReportedAndNotFought(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	a.SetOwn(w.now, 1, append(a.owns, vip("10.0.0.7"), vip("2001:db8::7")), nil)
	// As FreeBSD does it: its own MAC outside, the virtual one inside.
	other4 := packet.AppendARP(nil, 1, mac(66), broadcastMAC, vmac, ip("10.0.0.7"), packet.MAC{}, ip("10.0.0.7"))
	other6 := packet.AppendNA(nil, vmac, packet.MulticastMAC(allNodes), ip("2001:db8::7"), allNodes, ip("2001:db8::7"), vmac, false, false, true)
	for range 10 {
		w.deliver(a, other4)
		w.deliver(a, other6)
	}
	if n := len(w.take()); n != 0 || a.count(SecondMaster) != 20 || a.count(Conflicts) != 0 {
		t.Errorf("%d frames sent, counted %d", n, a.count(SecondMaster))
	}
	if len(a.acts) != 2 || a.acts[0].From != mac(66) {
		t.Errorf("told %+v, want the station behind the first", a.acts)
	}
	same(t, "told", a.told(), "conflict 10.0.0.7 VMAC", "conflict 2001:db8::7 VMAC")
}

func TestOwnFramesThatComeBackAreNoConflict(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, true)
	echo := func() {
		for _, acts := range [][]Action{
			a.Announce(w.now, 1, a.owns, nil),
			a.SetOwn(w.now, 1, a.owns, nil),
		} {
			for _, x := range acts {
				if x.Kind == Send {
					w.deliver(a, x.Frame)
				}
			}
		}
	}
	b := newWorld(t).add("b", 1, true) // the same addresses and MAC, for its frames
	for range 4 {
		for _, x := range b.Tick(b.Deadline(), b.SetOwn(w.now, 1, nil, nil)) {
			w.deliver(a, x.Frame)
		}
		for _, x := range b.SetOwn(w.now, 1, b.owns, nil) {
			w.deliver(a, x.Frame)
		}
		w.run(200 * time.Millisecond)
		echo()
	}
	w.run(time.Second)
	echo()
	for _, s := range a.told() {
		if s[:10] != "probe-done" || s[len(s)-4:] != "true" {
			t.Errorf("told %q", s)
		}
	}
	if a.count(Conflicts) != 0 || a.count(Echoes) == 0 {
		t.Errorf("counted %d conflicts, %d echoes", a.count(Conflicts), a.count(Echoes))
	}
}

func TestDuplicateAddressDetectionByOthersIsAnswered(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	a.SetOwn(w.now, 1, append(a.owns, vip("2001:db8::7"), vip("10.0.0.7")), nil)
	dad := func(addr string) []byte {
		group := packet.SolicitedNode(ip(addr))
		return packet.AppendNS(nil, mac(66), packet.MulticastMAC(group), netip.IPv6Unspecified(), group, ip(addr), false)
	}
	w.deliver(a, dad("2001:db8::1"))
	w.deliver(a, dad("2001:db8::7"))
	w.deliver(a, dad("2001:db8::8"))
	w.deliver(a, arp(1, broadcastMAC, mac(66), "0.0.0.0", packet.MAC{}, "10.0.0.1"))
	w.deliver(a, arp(1, broadcastMAC, mac(66), "0.0.0.0", packet.MAC{}, "10.0.0.7"))
	w.deliver(a, arp(1, broadcastMAC, mac(66), "0.0.0.0", packet.MAC{}, "10.0.0.8"))
	same(t, "answers", w.take(),
		"a: na 1>group 2001:db8::1>ff02::1 target 2001:db8::1@1 router override",
		"a: na VMAC>group 2001:db8::7>ff02::1 target 2001:db8::7@VMAC router override",
		"a: arp reply 1>66 sender 10.0.0.1@1 target 0.0.0.0@66",
		"a: arp reply VMAC>66 sender 10.0.0.7@VMAC target 0.0.0.0@66")
	if len(a.told()) != 0 {
		t.Error("a question is no conflict")
	}
}

func TestSetOwnKeepsWhatStays(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, true)
	w.run(300 * time.Millisecond)
	w.take()
	// A role change in the middle of the probe does not begin it anew.
	w.hold(a, vip("10.0.0.7"))
	w.run(700 * time.Millisecond)
	if n := a.count(ProbesSent); n != 5 {
		t.Errorf("%d probes, want three for IPv4 and two for IPv6", n)
	}
	if len(a.told()) != 3 {
		t.Error("the probes did not end")
	}
	w.release(a)
	w.run(time.Minute)
	if n := a.count(ProbesSent); n != 5 {
		t.Errorf("%d probes after an address was given up", n)
	}
}
