package router

import (
	"fmt"
	"net/netip"
	"testing"

	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
)

func TestWhatIsForItsLinkOnlyIsNotForwarded(t *testing.T) {
	local := netip.MustParseAddr("fe80::1234")
	tests := []struct {
		name     string
		src, dst netip.Addr
		mac      packet.MAC
		why      string
	}{
		{"broadcast of another network", client4, netip.MustParseAddr("172.16.0.255"), packet.MAC(portMAC(lan)), "link-only-not-forwarded"},
		{"its old form", client4, netip.MustParseAddr("172.16.0.0"), packet.MAC(portMAC(lan)), "link-only-not-forwarded"},
		{"from a link-local address", local, inside6, packet.MAC(portMAC(lan)), "link-only-not-forwarded"},
		{"to a link-local address", client6, local, packet.MAC(portMAC(lan)), "link-only-not-forwarded"},
		{"from a link-local IPv4 address", netip.MustParseAddr("169.254.1.1"), inside4, packet.MAC(portMAC(lan)), "link-only-not-forwarded"},
		{"from nowhere", netip.IPv4Unspecified(), inside4, packet.MAC(portMAC(lan)), "link-only-not-forwarded"},
		{"to all at the link, to one by address", client4, inside4, packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "not-for-us"},
		{"from our own address", lanAddr, inside4, packet.MAC(portMAC(lan)), "own-address-as-source"},
		{"from our address elsewhere", wanAddr6, inside6, packet.MAC(portMAC(lan)), "own-address-as-source"},
	}
	for _, tt := range tests {
		l := newLab(t, labConfig{Rules: everything()})
		b := udp(lan, ap(tt.src, 1), ap(tt.dst, 2), nil)
		copy(b, tt.mac[:])
		l.in(lan, b)
		l.none()
		if l.dropped(tt.why) != 1 || len(l.takeDelivered()) != 0 {
			t.Errorf("%s: drops %v", tt.name, l.router.Drops())
		}
	}
}

func TestGroupsAndBroadcastsReachTheGuestIfTheRulesLetThem(t *testing.T) {
	tests := []struct{ src, dst netip.Addr }{
		{netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255")},
		{client4, netip.MustParseAddr("192.168.1.255")},
		{client4, netip.MustParseAddr("239.1.2.3")},
		{netip.MustParseAddr("fe80::7"), netip.MustParseAddr("ff02::1:2")},
	}
	for _, tt := range tests {
		for _, rules := range [][]rule.Rule{everything(), nil} {
			l := newLab(t, labConfig{Rules: rules})
			b := udp(lan, ap(tt.src, 68), ap(tt.dst, 67), []byte("x"))
			to := packet.MAC(groupMAC(packet.AddrFrom(tt.dst)))
			if tt.dst == netip.MustParseAddr("192.168.1.255") {
				to = packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
			}
			copy(b, to[:])
			l.in(lan, b)
			l.none()
			if got, want := len(l.takeDelivered()), min(1, len(rules)); got != want {
				t.Errorf("%v to %v with %d rules: delivered %d, want %d; %v", tt.src, tt.dst, len(rules), got, want, l.router.Drops())
			}
			if n := l.filter.States().Stats().States; n != 0 {
				t.Errorf("%v to %v made %d states", tt.src, tt.dst, n)
			}
		}
	}
}

func TestRejectAnswersOnce(t *testing.T) {
	reject := []rule.Rule{{ID: "r", Action: rule.Reject, Quick: true, Direction: rule.In, Source: rule.AnyAddr(), Destination: rule.AnyAddr()}}
	for _, dst := range []netip.Addr{far4, far6, wanAddr, lanAddr6} {
		src, four := client6, dst.Is4()
		if four {
			src = client4
		}
		l := newLab(t, labConfig{Rules: reject})
		l.in(lan, tcp(lan, ap(src, 1), ap(dst, 80), segment{flags: packet.SYN, seq: 100}))
		if v := l.one(lan); v.TCPFlags != packet.RST|packet.ACK || v.Ack != 101 || v.Src.Netip() != dst || v.Dst.Netip() != src {
			t.Errorf("%v: answered %+v flags %#x ack %d", dst, v.Tuple, v.TCPFlags, v.Ack)
		}
		l.in(lan, udp(lan, ap(src, 1), ap(dst, 53), nil))
		v := l.one(lan)
		if four && (v.ICMPType != 3 || v.ICMPCode != 3) || !four && (v.ICMPType != 1 || v.ICMPCode != 4) {
			t.Errorf("%v: answered type %d code %d", dst, v.ICMPType, v.ICMPCode)
		}
		// Never to a reset, an error, or a group.
		l.in(lan, tcp(lan, ap(src, 1), ap(dst, 80), segment{flags: packet.RST, seq: 100}),
			icmp(lan, src, dst, map[bool]uint8{true: 3, false: 1}[four], 0, 0, udp(lan, ap(src, 1), ap(dst, 2), nil)[14:]))
		l.none()
	}
	l := newLab(t, labConfig{Rules: reject})
	broadcast := tcp(lan, ap(client4, 1), ap(netip.MustParseAddr("192.168.1.255"), 80), segment{flags: packet.SYN})
	copy(broadcast, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	l.in(lan, broadcast)
	l.none()
}

func TestAnswersAreLimited(t *testing.T) {
	reject := []rule.Rule{{ID: "r", Action: rule.Reject, Quick: true, Direction: rule.In, Source: rule.AnyAddr(), Destination: rule.AnyAddr()}}
	l := newLab(t, labConfig{Rules: reject})
	for i := range 1000 {
		l.in(lan, tcp(lan, ap(client4, uint16(i+1)), ap(far4, 80), segment{flags: packet.SYN}))
	}
	if n := len(l.out(lan)); n != errorsBurst {
		t.Errorf("%d answers to a burst of 1000", n)
	}
}

func TestOptionsPassOnlyByARuleThatAllowsThem(t *testing.T) {
	// Record route, empty but for its pointer.
	withOptions := func(b []byte) []byte {
		out := append(append(append([]byte{}, b[:34]...), 7, 7, 4, 0, 0, 0, 0, 0), b[34:]...)
		out[14], out[17] = 0x47, out[17]+8
		out[24], out[25] = 0, 0
		c := packet.Checksum(out[14:42], 0)
		out[24], out[25] = byte(c>>8), byte(c)
		return out
	}
	plain := udp(lan, ap(client4, 1), ap(far4, 2), nil)
	for _, allow := range []bool{false, true} {
		rules := passLAN()
		rules[0].AllowOptions = allow
		l := newLab(t, labConfig{Rules: rules, NAT: masquerade()})
		l.in(lan, withOptions(plain))
		if got := len(l.out(wan)) == 1; got != allow {
			t.Errorf("allowed %v: the first packet passed %v", allow, got)
		}
		l.in(lan, plain, plain)
		if len(l.out(wan)) != 2 {
			t.Fatal("plain packets do not pass")
		}
		l.in(lan, withOptions(plain))
		if got := len(l.out(wan)) == 1; got != allow {
			t.Errorf("allowed %v: one of a state passed %v", allow, got)
		}
	}
}

func TestMovedRouteBeginsTheFlowAnew(t *testing.T) {
	n := masquerade()
	n.Outbound = append(n.Outbound, nat.Outbound{ID: "dmz", Interfaces: []uint16{dmz}, Translation: dmzAddr, Match: n.Outbound[0].Match})
	l := newLab(t, labConfig{Rules: passLAN(), NAT: n})
	query := udp(lan, ap(client4, 5), ap(far4, 53), nil)
	hello := tcp(lan, ap(client4, 5), ap(far4, 80), segment{flags: packet.SYN, seq: 1})
	data := tcp(lan, ap(client4, 5), ap(far4, 80), segment{flags: packet.ACK, seq: 2})
	l.in(lan, query, hello, query, data)
	if got := len(l.out(wan)); got != 4 {
		t.Fatalf("%d of 4 left", got)
	}
	l.router.SetRoutes(mustRoutes(t, inside4))
	l.in(lan, query, query, data)
	out := l.out(dmz)
	if len(out) != 2 || decoded(t, out[0]).Src.Netip() != dmzAddr {
		t.Errorf("%d left by the new way: %x; drops %v %v", len(out), out, l.router.Drops(), l.filter.Drops())
	}
	l.none()
}

func TestStaleConnectionIsReset(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN()})
	l.in(lan, tcp(lan, ap(client4, 5), ap(server4, 80), segment{flags: packet.SYN, seq: 1000}))
	l.out(wan)
	l.in(wan, tcp(wan, ap(server4, 80), ap(client4, 5), segment{flags: packet.SYN | packet.ACK, seq: 7, ack: 500_000_000}))
	if v := l.one(wan); v.TCPFlags != packet.RST || v.Seq != 500_000_000 || v.Src.Netip() != client4 {
		t.Errorf("answered %+v flags %#x seq %d", v.Tuple, v.TCPFlags, v.Seq)
	}
}

func TestForwardToTheNodeItself(t *testing.T) {
	n := nat.Config{Forwards: []nat.Forward{{ID: "self", Interfaces: []uint16{wan}, Target: lanAddr, TargetPort: 22, Match: nat.Match{
		Protos: []uint8{packet.ProtoTCP, packet.ProtoUDP}, Source: rule.AnyAddr(),
		Destination: rule.AddrMatch{Prefixes: []netip.Prefix{netip.PrefixFrom(wanAddr, 32)}}, DestinationPorts: []rule.PortRange{{First: 2222, Last: 2222}}}}}}
	l := newLab(t, labConfig{Rules: everything(), NAT: n})
	for range 2 {
		l.in(wan, udp(wan, ap(far4, 9), ap(wanAddr, 2222), nil))
		got := l.takeDelivered()
		if len(got) != 1 || got[0].Dst.Netip() != lanAddr || got[0].DstPort != 22 || !packet.VerifyL4(got[0]) {
			t.Fatalf("delivered %v", got)
		}
		l.send(wan, udp(0, ap(lanAddr, 22), ap(far4, 9), []byte("answer")), link.Offload{})
		if v := l.one(wan); v.Src.Netip() != wanAddr || v.SrcPort != 2222 {
			t.Errorf("answered from %+v", v.Tuple)
		}
	}
	// The guest's error about such a packet speaks of what its sender sent.
	quote := udp(0, ap(far4, 9), ap(lanAddr, 22), nil)[14:]
	l.send(wan, icmp(0, lanAddr, far4, 3, 3, 0, quote), link.Offload{})
	v := l.one(wan)
	var in packet.View
	if !packet.DecodeInner(v, &in) || in.Dst.Netip() != wanAddr || in.DstPort != 2222 || v.Src.Netip() != wanAddr {
		t.Errorf("error %+v about %+v", v.Tuple, in.Tuple)
	}
}

func TestGuestIsToldWhyItsPacketsDoNotLeave(t *testing.T) {
	l := newLab(t, labConfig{MTU: map[uint16]int{wan: 1300}, Silent: []netip.Addr{far4, server4}})
	l.send(wan, udpWith(0, ap(wanAddr, 5), ap(far4, 9), 64, true, 1, text(1400)), link.Offload{})
	l.none()
	got := l.takeDelivered()
	if len(got) != 1 || got[0].ICMPType != 3 || got[0].ICMPCode != 4 || got[0].Dst.Netip() != wanAddr {
		t.Errorf("too big: told %v", got)
	}
	l.send(wan, tcp(0, ap(wanAddr, 5), ap(server4, 9), segment{flags: packet.SYN}), link.Offload{})
	l.wait(4e9)
	got = l.takeDelivered()
	if len(got) != 1 || got[0].ICMPType != 3 || got[0].ICMPCode != 1 {
		t.Errorf("no neighbour: told %v", got)
	}
}

func TestGuestReachesItsLinks(t *testing.T) {
	local := packet.LinkLocal(packet.MAC(portMAC(lan)))
	peer := netip.MustParseAddr("fe80::77")
	tests := []struct {
		name string
		b    []byte
		mac  packet.MAC
	}{
		{"link-local neighbour", udp(0, ap(local, 546), ap(peer, 547), nil), macOf(peer)},
		{"IPv6 group", udp(0, ap(local, 546), ap(netip.MustParseAddr("ff02::1:2"), 547), nil), packet.MAC{0x33, 0x33, 0, 1, 0, 2}},
		{"IPv4 group", udp(0, ap(lanAddr, 1), ap(netip.MustParseAddr("224.0.0.251"), 5353), nil), packet.MAC{1, 0, 0x5e, 0, 0, 251}},
		{"everybody", udp(0, ap(lanAddr, 67), ap(netip.MustParseAddr("255.255.255.255"), 68), nil), packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"the network", udp(0, ap(lanAddr, 1), ap(netip.MustParseAddr("192.168.1.255"), 2), nil), packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"neighbour", udp(0, ap(lanAddr, 1), ap(client4, 2), nil), macOf(client4)},
	}
	for _, tt := range tests {
		l := newLab(t, labConfig{})
		for range 2 {
			l.send(lan, tt.b, link.Offload{})
			v := l.one(lan)
			if packet.MAC(v.B[:6]) != tt.mac || v.TTL != 64 || link.MAC(v.B[6:12]) != portMAC(lan) {
				t.Errorf("%s: sent to %x, TTL %d", tt.name, v.B[:6], v.TTL)
			}
		}
	}
}

func TestHeldPacketOfTheGuestKeepsItsTTL(t *testing.T) {
	l := newLab(t, labConfig{Silent: []netip.Addr{client4}})
	l.send(lan, udp(0, ap(lanAddr, 1), ap(client4, 2), nil), link.Offload{})
	l.none()
	acts := l.neigh.Hint(l.now, lan, client4, macOf(client4), l.now.Add(1e9), nil)
	l.router.NeighActions(l.now, acts)
	if v := l.one(lan); v.TTL != 64 || packet.MAC(v.B[:6]) != macOf(client4) {
		t.Errorf("sent with TTL %d to %x", v.TTL, v.B[:6])
	}
}

func TestSameLinkLocalAddressOnTwoInterfaces(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything()})
	twin := netip.MustParseAddr("fe80::1")
	for _, i := range []uint16{lan, dmz} {
		l.addresses.List = append(l.addresses.List, Address{packet.AddrFrom(twin), i, Own})
		l.neigh.SetOwn(l.now, i, []neigh.Own{{Addr: twin, MAC: packet.MAC(portMAC(i))}}, nil)
	}
	l.router.SetAddresses(l.addresses)
	for i, want := range map[uint16]int{lan: 1, dmz: 1, wan: 0} {
		l.in(i, echo(i, netip.MustParseAddr("fe80::99"), twin, i, 1))
		if got := len(l.takeDelivered()); got != want {
			t.Errorf("interface %d: delivered %d, want %d", i, got, want)
		}
	}
	l.none()
}

func TestPuntsReachTheirMachine(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything()})
	group := netip.MustParseAddr("224.0.0.18")
	peer := netip.MustParseAddr("198.51.100.3")
	b := packet.AppendIP(nil, macOf(peer), packet.MAC(groupMAC(packet.AddrFrom(group))), peer, group, packet.ProtoCARP, 255, 0x10, true, 1, text(36))
	l.in(wan, b)
	// Our own advert that comes back is for the machine to see, too.
	b = packet.AppendIP(nil, macOf(wanAddr), packet.MAC(groupMAC(packet.AddrFrom(group))), wanAddr, group, packet.ProtoCARP, 255, 0x10, true, 1, text(36))
	l.in(wan, b)
	if len(l.punts) != 2 || fmt.Sprint(l.punts[0].Src.Netip(), l.punts[0].TTL, l.punts[0].Iface, len(l.punts[0].Payload)) != "198.51.100.3 255 1 36" {
		t.Errorf("punted %+v; drops %v", l.punts, l.router.Drops())
	}
}
