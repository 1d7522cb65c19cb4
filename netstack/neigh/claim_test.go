package neigh

import (
	"fmt"
	"testing"
	"time"

	"tandem/netstack/packet"
)

// na builds an advertisement to node 1.
func na(m packet.MAC, target string, linkAddr bool, solicited, override bool) []byte {
	f := packet.AppendNA(nil, m, mac(1), ip(target), ip("2001:db8::1"), ip(target), m, false, solicited, override)
	if linkAddr {
		return f
	}
	return withoutOption(f)
}

// withoutOption cuts the target link-layer address option off an advertisement.
func withoutOption(f []byte) []byte {
	f = f[:len(f)-8]
	f[14+5] -= 8
	v := new(packet.View)
	packet.Decode(f, v)
	f[v.L4+2], f[v.L4+3] = 0, 0
	sum := packet.Checksum(f[v.L4:], packet.PseudoSum(&v.Tuple, len(f)-v.L4))
	f[v.L4+2], f[v.L4+3] = byte(sum>>8), byte(sum)
	return f
}

func ns(m packet.MAC, src string) []byte {
	return packet.AppendNS(nil, m, mac(1), ip(src), ip("2001:db8::1"), ip("2001:db8::1"), true)
}

func TestWhatIsBelievedAboutANeighbour(t *testing.T) {
	const four, six = "10.0.0.2", "2001:db8::2"
	everybody := packet.MAC{}
	tests := []struct {
		name  string
		addr  string
		state State // of the entry before; Incomplete: asked for; 0: none
		frame []byte
		want  string // the state and MAC after
	}{
		{"arp answer", four, Incomplete, arp(2, mac(1), mac(5), four, mac(1), "10.0.0.1"), "reachable 5"},
		{"arp answer after all", four, NoAnswer, arp(2, mac(1), mac(5), four, mac(1), "10.0.0.1"), "reachable 5"},
		{"arp answer sent to all", four, Incomplete, arp(2, broadcastMAC, mac(5), four, mac(1), "10.0.0.1"), "reachable 5"},
		{"arp answer to another", four, Incomplete, arp(2, broadcastMAC, mac(5), four, mac(8), "10.0.0.8"), "incomplete 0"},
		{"arp answer from a group address", four, Incomplete, arp(2, mac(1), broadcastMAC, four, mac(1), "10.0.0.1"), "incomplete 0"},
		{"arp answer from our own MAC", four, Incomplete, arp(2, mac(1), mac(1), four, mac(1), "10.0.0.1"), "incomplete 0"},
		{"arp answer nobody asked for", four, 0, arp(2, mac(1), mac(5), four, mac(1), "10.0.0.1"), ""},
		{"arp request to us", four, 0, arp(1, broadcastMAC, mac(5), four, everybody, "10.0.0.1"), ""},
		{"arp request while asked for", four, Incomplete, arp(1, broadcastMAC, mac(5), four, everybody, "10.0.0.1"), "incomplete 0"},
		{"gratuitous arp", four, 0, arp(1, broadcastMAC, mac(5), four, everybody, four), ""},
		{"gratuitous arp while asked for", four, Incomplete, arp(1, broadcastMAC, mac(5), four, everybody, four), "incomplete 0"},
		{"gratuitous arp, same MAC", four, Stale, arp(1, broadcastMAC, mac(2), four, everybody, four), "reachable 2"},
		{"gratuitous arp, new MAC", four, Reachable, arp(1, broadcastMAC, mac(5), four, everybody, four), "stale 5"},
		{"arp answer to a refresh", four, Probing, arp(2, mac(1), mac(2), four, mac(1), "10.0.0.1"), "reachable 2"},
		{"arp answer to a refresh, new MAC", four, Probing, arp(2, mac(1), mac(5), four, mac(1), "10.0.0.1"), "reachable 5"},
		{"arp answer to no refresh, new MAC", four, Reachable, arp(2, mac(1), mac(5), four, mac(1), "10.0.0.1"), "stale 5"},
		{"arp sender is the broadcast address", "10.0.0.255", 0, arp(1, broadcastMAC, mac(5), "10.0.0.255", everybody, "10.0.0.1"), ""},

		{"na answer", six, Incomplete, na(mac(5), six, true, true, true), "reachable 5"},
		{"na answer, no override", six, Incomplete, na(mac(5), six, true, true, false), "reachable 5"},
		{"na answer without address", six, Incomplete, na(mac(5), six, false, true, true), "incomplete 0"},
		{"na unsolicited while asked for", six, Incomplete, na(mac(5), six, true, false, true), "incomplete 0"},
		{"na nobody asked for", six, 0, na(mac(5), six, true, true, true), ""},
		{"ns to us", six, 0, ns(mac(5), six), ""},
		{"ns to us, new MAC", six, Reachable, ns(mac(5), six), "stale 5"},
		{"ns to us, same MAC", six, Stale, ns(mac(2), six), "stale 2"},
		{"ns while asked for", six, Incomplete, ns(mac(5), six), "incomplete 0"},
		{"na answer to a refresh", six, Probing, na(mac(2), six, true, true, false), "reachable 2"},
		{"na answer to a refresh without address", six, Probing, na(mac(2), six, false, true, false), "reachable 2"},
		{"na unsolicited override, new MAC", six, Reachable, na(mac(5), six, true, false, true), "stale 5"},
		{"na unsolicited, new MAC, no override", six, Reachable, na(mac(5), six, true, false, false), "stale 2"},
		{"na new MAC, no override, when stale", six, Stale, na(mac(5), six, true, false, false), "stale 2"},
		{"na unsolicited, same MAC", six, Stale, na(mac(2), six, true, false, true), "stale 2"},
		{"na from a group address", six, Incomplete, na(broadcastMAC, six, true, true, true), "incomplete 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.add("a", 1, false)
			prepare(w, a, tt.addr, tt.state)
			w.deliver(a, tt.frame)
			got := ""
			for _, n := range a.List(w.now) {
				got += fmt.Sprintf("%v %s", n.State, macName(n.MAC))
			}
			if got != tt.want {
				t.Errorf("afterwards %q, want %q", got, tt.want)
			}
		})
	}
}

// prepare brings a's entry of addr into a state, with MAC mac(2).
func prepare(w *world, a *node, addr string, state State) {
	if state == 0 {
		return
	}
	w.resolve(a, addr)
	switch state {
	case Incomplete:
		return
	case NoAnswer:
		w.run(3 * time.Second)
	default:
		if ip(addr).Is4() {
			w.deliver(a, arp(2, mac(1), mac(2), addr, mac(1), "10.0.0.1"))
		} else {
			w.deliver(a, na(mac(2), addr, true, true, true))
		}
		w.run(2 * time.Second) // a change is allowed again
	}
	switch state {
	case Stale:
		w.run(61 * time.Second)
	case Probing:
		for a.count(RefreshesSent) == 0 {
			a.Lookup(1, packet.AddrFrom(ip(addr)))
			w.run(time.Second)
		}
	}
	if got := a.List(w.now)[0].State; got != state {
		w.t.Fatalf("prepared %v, want %v", got, state)
	}
	a.told()
	w.take()
}

func TestChangesAreLimitedAndSettleOnWhoAnswers(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("b", 2, false)
	prepare(w, a, "10.0.0.2", Reachable)
	for i := range 300 { // Three seconds of two stations that quarrel.
		w.deliver(a, arp(1, broadcastMAC, mac(byte(60+i%2)), "10.0.0.2", packet.MAC{}, "10.0.0.2"))
		a.Lookup(1, key("10.0.0.2"))
		w.run(10 * time.Millisecond)
	}
	changed := 0
	for _, s := range a.told() {
		if s[:7] == "changed" {
			changed++
		}
	}
	if changed < 1 || changed > 4 || a.count(ChangesLimited) < 100 {
		t.Errorf("%d changes told, %d limited", changed, a.count(ChangesLimited))
	}
	// They fall silent and b is still there: neither of them answers.
	for range 10 {
		w.run(time.Second)
		if _, ok := a.Lookup(1, key("10.0.0.2")); !ok {
			w.resolve(a, "10.0.0.2")
		}
	}
	if m, _ := a.Lookup(1, key("10.0.0.2")); m != mac(2) {
		t.Errorf("settled on %v, want b", m)
	}
}

func TestGatewayThatMovesToAnotherMACIsFollowedAtOnce(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	w.add("gateway", 2, false)
	prepare(w, a, "10.0.0.2", Reachable)
	w.deliver(a, arp(1, broadcastMAC, mac(3), "10.0.0.2", packet.MAC{}, "10.0.0.2"))
	same(t, "told", a.told(), "changed 10.0.0.2 3")
	if m, _ := a.Lookup(1, key("10.0.0.2")); m != mac(3) {
		t.Errorf("Lookup = %v", m)
	}
}

func TestMessagesThatAreNotBelievedAreCounted(t *testing.T) {
	w := newWorld(t)
	a := w.add("a", 1, false)
	icmp6 := func(typ byte) []byte {
		f := na(mac(5), "2001:db8::5", true, false, true)
		f[14+40] = typ
		return f
	}
	farAway := na(mac(5), "2001:db8::5", true, true, true)
	farAway[14+7] = 254
	mapped := packet.AppendNS(nil, mac(5), mac(1), ip("2001:db8::5"), ip("2001:db8::1"), ip("2001:db8::1"), true)
	copy(mapped[14+40+8:], ip("::ffff:10.0.0.1").AsSlice())
	reverse := arp(1, broadcastMAC, mac(5), "10.0.0.5", packet.MAC{}, "10.0.0.1")
	reverse[14+7] = 3
	tests := []struct {
		name  string
		frame []byte
		want  Counter
	}{
		{"redirect", icmp6(137), RedirectsIgnored},
		{"router advertisement", icmp6(134), RouterAdvertsIgnored},
		{"hop limit 254", farAway, NDMalformed},
		{"mapped target", mapped, NDMalformed},
		{"reverse arp", reverse, ARPMalformed},
		{"sender is a group", arp(1, broadcastMAC, mac(5), "224.0.0.1", packet.MAC{}, "10.0.0.1"), BadSender},
		{"sender has no MAC", arp(1, broadcastMAC, packet.MAC{}, "10.0.0.5", packet.MAC{}, "10.0.0.1"), BadSender},
	}
	for _, tt := range tests {
		before := a.Counts(1)
		w.deliver(a, tt.frame)
		after := a.Counts(1)
		for c := range after {
			if d := after[c] - before[c]; (d != 0) != (Counter(c) == tt.want) {
				t.Errorf("%s: %v rose by %d", tt.name, Counter(c), d)
			}
		}
	}
	if n := len(w.take()); n != 0 || len(a.acts) != 0 {
		t.Errorf("%d frames, told %v", n, a.told())
	}
}

func TestNamesAreThereAndStable(t *testing.T) {
	seen := map[string]bool{}
	for c := Counter(0); c < counters; c++ {
		if s := c.String(); s == "none" || seen[s] {
			t.Errorf("counter %d is called %q", c, s)
		}
		seen[c.String()] = true
	}
	for i := 1; i <= 6; i++ {
		if Kind(i).String() == "none" || State(i).String() == "none" {
			t.Errorf("kind or state %d has no name", i)
		}
	}
	if Kind(0).String() != "none" || State(99).String() != "none" || Status(4).String() != "none" || Pending.String() != "pending" {
		t.Error("what does not exist has a name")
	}
}
