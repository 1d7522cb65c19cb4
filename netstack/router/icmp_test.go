package router

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
)

// unreachable is an ICMP error of either family about the packet in frame,
// from src to where the packet came from, as it comes in by iface.
func unreachable(iface uint16, src netip.Addr, about *packet.View, port bool) []byte {
	typ, code := uint8(3), uint8(1)
	if port {
		code = 3
	}
	if about.Family == 6 {
		typ, code = 1, 3
		if port {
			code = 4
		}
	}
	return icmp(iface, src, about.Src.Netip(), typ, code, 0, about.B[about.L3:about.End])
}

// checkError checks an ICMP error as its receiver sees it: who complains, to
// whom, about what; and that the quote's own sums are right.
func checkError(t *testing.T, name string, v *packet.View, src, dst netip.Addr, about packet.Tuple) {
	t.Helper()
	var in packet.View
	if !packet.DecodeInner(v, &in) {
		t.Errorf("%s: %+v quotes nothing", name, v.Tuple)
		return
	}
	if v.Src.Netip() != src || v.Dst.Netip() != dst {
		t.Errorf("%s: from %v to %v, want from %v to %v", name, v.Src.Netip(), v.Dst.Netip(), src, dst)
	}
	if in.Tuple != about {
		t.Errorf("%s: quotes %v, want %v", name, show(in.Tuple), show(about))
	}
	var quote packet.View
	if why := packet.DecodeIP(v.B[in.L3:v.End], &quote); why != packet.OK || !packet.VerifyL4(&quote) {
		t.Errorf("%s: the quoted packet is wrong: %v", name, why)
	}
}

func show(t packet.Tuple) [2]netip.AddrPort {
	return [2]netip.AddrPort{ap(t.Src.Netip(), t.SrcPort), ap(t.Dst.Netip(), t.DstPort)}
}

// flowsOut are packets of the three kinds that have errors about them.
func flowsOut(src, dst netip.Addr) map[string][]byte {
	return map[string][]byte{
		"UDP":  udp(lan, ap(src, 33000), ap(dst, 33434), []byte("probe")),
		"TCP":  tcp(lan, ap(src, 33000), ap(dst, 80), segment{flags: packet.SYN, seq: 5}),
		"ICMP": echo(lan, src, dst, 77, 1),
	}
}

var lanRouter4, lanRouter6 = netip.MustParseAddr("192.168.1.9"), netip.MustParseAddr("2001:db8:2::9")

func TestErrorsAboutOutwardFlowsFindBack(t *testing.T) {
	for _, ends := range [][4]netip.Addr{{client4, far4, server4, lanRouter4}, {client6, far6, server6, lanRouter6}} {
		client, far, hop, inner := ends[0], ends[1], ends[2], ends[3]
		for name, b := range flowsOut(client, far) {
			l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade()})
			sent := decoded(t, b)
			l.in(lan, b)
			out := l.one(wan)
			l.in(wan, unreachable(wan, hop, out, false))
			checkError(t, name+" by a router", l.one(lan), hop, client, sent.Tuple)
			l.in(wan, unreachable(wan, far, out, true))
			checkError(t, name+" by the other end", l.one(lan), far, client, sent.Tuple)
			// An answer of the far end that does not reach the client.
			answer := answerTo(wan, out)
			l.in(wan, answer)
			back := l.one(lan)
			l.in(lan, unreachable(lan, client, back, true))
			checkError(t, name+" by the client", l.one(wan), out.Src.Netip(), far, decoded(t, answer).Tuple)
			l.in(lan, unreachable(lan, inner, back, false))
			want := inner // its private address is not shown where there is translation
			if client.Is4() {
				want = wanAddr
			}
			checkError(t, name+" by a router inside", l.one(wan), want, far, decoded(t, answer).Tuple)
			if n := l.filter.States().Stats().States; n != 1 {
				t.Errorf("%s: %d states", name, n)
			}
		}
	}
}

// answerTo is what the receiver of v, on iface, answers.
func answerTo(iface uint16, v *packet.View) []byte {
	src, dst := ap(v.Dst.Netip(), v.DstPort), ap(v.Src.Netip(), v.SrcPort)
	switch v.Proto {
	case packet.ProtoTCP:
		return tcp(iface, src, dst, segment{flags: packet.SYN | packet.ACK, seq: 900, ack: v.Seq + 1})
	case packet.ProtoUDP:
		return udp(iface, src, dst, []byte("answer"))
	}
	return echoReply(iface, v)
}

func TestErrorsAboutForwardsFindBack(t *testing.T) {
	n := nat.Config{Forwards: []nat.Forward{{ID: "web", Interfaces: []uint16{wan}, Target: inside4, TargetPort: 8080, Match: nat.Match{
		Protos: []uint8{packet.ProtoTCP, packet.ProtoUDP}, Source: rule.AnyAddr(),
		Destination: rule.AddrMatch{Prefixes: []netip.Prefix{netip.PrefixFrom(wanAddr, 32)}}, DestinationPorts: []rule.PortRange{{First: 80, Last: 80}}}}}}
	for _, b := range [][]byte{
		udp(wan, ap(far4, 4000), ap(wanAddr, 80), nil),
		tcp(wan, ap(far4, 4000), ap(wanAddr, 80), segment{flags: packet.SYN, seq: 5}),
	} {
		l := newLab(t, labConfig{Rules: everything(), NAT: n})
		sent := decoded(t, b)
		l.in(wan, b)
		in := l.one(dmz)
		l.in(dmz, unreachable(dmz, inside4, in, true))
		checkError(t, "by the target", l.one(wan), wanAddr, far4, sent.Tuple)
		l.in(dmz, unreachable(dmz, netip.MustParseAddr("172.16.0.9"), in, false))
		checkError(t, "by a router in front of it", l.one(wan), wanAddr, far4, sent.Tuple)
		answer := answerTo(dmz, in)
		l.in(dmz, answer)
		l.in(wan, unreachable(wan, server4, l.one(wan), false))
		checkError(t, "about the answer", l.one(dmz), server4, inside4, decoded(t, answer).Tuple)
	}
}

func TestErrorsAboutTheNodesOwnFlowsReachTheGuest(t *testing.T) {
	l := newLab(t, labConfig{})
	b := udp(0, ap(wanAddr, 5000), ap(far4, 53), []byte("query"))
	l.send(wan, b, link.Offload{})
	out := l.one(wan)
	l.in(wan, unreachable(wan, server4, out, false))
	got := l.takeDelivered()
	if len(got) != 1 {
		t.Fatalf("delivered %d; drops %v %v", len(got), l.router.Drops(), l.filter.Drops())
	}
	checkError(t, "about a query", got[0], server4, wanAddr, decoded(t, b).Tuple)
	// About an answer of the node.
	l = newLab(t, labConfig{Rules: everything()})
	l.in(wan, udp(wan, ap(far4, 9), ap(wanAddr, 53), nil))
	l.takeDelivered()
	l.send(wan, udp(0, ap(wanAddr, 53), ap(far4, 9), nil), link.Offload{})
	l.in(wan, unreachable(wan, far4, l.one(wan), true))
	if got := l.takeDelivered(); len(got) != 1 {
		t.Errorf("about an answer: delivered %d", len(got))
	}
}

func TestForgedErrorsGoNowhere(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade()})
	l.in(lan, tcp(lan, ap(client4, 33000), ap(far4, 80), segment{flags: packet.SYN, seq: 5}))
	out := l.one(wan)
	other := *out
	wrong := decoded(t, tcp(wan, ap(wanAddr, out.SrcPort), ap(far4, 80), segment{flags: packet.SYN, seq: 5_000_000}))
	elsewhere := decoded(t, tcp(wan, ap(wanAddr, out.SrcPort+1), ap(far4, 80), segment{flags: packet.SYN, seq: 5}))
	l.in(wan, unreachable(wan, server4, wrong, false), unreachable(wan, server4, elsewhere, false))
	l.in(dmz, unreachable(dmz, inside4, &other, false)) // by an interface that the flow does not use
	l.none()
	if n := len(l.takeDelivered()); n != 0 {
		t.Errorf("delivered %d", n)
	}
}

// What no state knows is for the rules to judge, and makes no state.
func TestUnrelatedErrorsAreJudgedByRules(t *testing.T) {
	about := decoded(t, udp(lan, ap(client6, 1), ap(far6, 2), nil))
	for _, rules := range [][]rule.Rule{nil, everything()} {
		l := newLab(t, labConfig{Rules: rules})
		l.in(wan, unreachable(wan, far6, about, true))
		if got := len(l.out(lan)); got != len(rules) {
			t.Errorf("%d rules: %d passed; drops %v %v", len(rules), got, l.router.Drops(), l.filter.Drops())
		}
		if n := l.filter.States().Stats().States; n != 0 {
			t.Errorf("%d states", n)
		}
	}
}

func TestTracerouteShowsEveryHop(t *testing.T) {
	for _, ends := range [][4]netip.Addr{{client4, far4, server4, lanAddr}, {client6, far6, server6, lanAddr6}} {
		client, far, hop, us := ends[0], ends[1], ends[2], ends[3]
		l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade()})
		b := udpWith(lan, ap(client, 33000), ap(far, 33434), 1, false, 1, []byte("probe"))
		l.in(lan, b)
		v := l.one(lan)
		checkError(t, "first hop", v, us, client, decoded(t, b).Tuple)
		if v.ICMPType != 11 && v.ICMPType != 3 || v.ICMPCode != 0 {
			t.Errorf("type %d code %d", v.ICMPType, v.ICMPCode)
		}
		if n := l.filter.States().Stats().States; n != 0 {
			t.Errorf("a packet that was not forwarded made %d states", n)
		}
		b = udpWith(lan, ap(client, 33000), ap(far, 33434), 2, false, 1, []byte("probe"))
		for range 2 {
			l.in(lan, b)
			out := l.one(wan)
			typ := map[uint8]uint8{4: 11, 6: 3}[out.Family]
			l.in(wan, icmp(wan, hop, out.Src.Netip(), typ, 0, 0, out.B[out.L3:out.End]))
			checkError(t, "second hop", l.one(lan), hop, client, decoded(t, b).Tuple)
		}
		// TTL 1 of a flow that is known.
		l.in(lan, udpWith(lan, ap(client, 33000), ap(far, 33434), 1, false, 1, []byte("probe")))
		checkError(t, "first hop again", l.one(lan), us, client, decoded(t, b).Tuple)
	}
}

func TestPathMTUReachesTheSenderThroughTranslation(t *testing.T) {
	for _, ends := range [][3]netip.Addr{{client4, far4, server4}, {client6, far6, server6}} {
		client, far, hop := ends[0], ends[1], ends[2]
		l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade()})
		b := udpWith(lan, ap(client, 33000), ap(far, 9), 64, true, 1, text(1300))
		l.in(lan, b)
		out := l.one(wan)
		typ, code := uint8(3), uint8(4)
		if client.Is6() {
			typ, code = 2, 0
		}
		l.in(wan, icmp(wan, hop, out.Src.Netip(), typ, code, 1280, out.B[out.L3:out.L3+600]))
		v := l.one(lan)
		var in packet.View
		if !packet.DecodeInner(v, &in) || in.Src.Netip() != client || v.ICMPType != typ || v.ICMPCode != code || binary.BigEndian.Uint32(v.B[v.L4+4:]) != 1280 {
			t.Errorf("type %d code %d about %v", v.ICMPType, v.ICMPCode, show(in.Tuple))
		}
	}
}

func TestErrorsGoToLinkLocalSenders(t *testing.T) {
	reject := []rule.Rule{{ID: "r", Action: rule.Reject, Quick: true, Direction: rule.In, Source: rule.AnyAddr(), Destination: rule.AnyAddr()}}
	l := newLab(t, labConfig{Rules: reject})
	peer := netip.MustParseAddr("fe80::77")
	l.in(lan, tcp(lan, ap(peer, 1), ap(lanAddr6, 80), segment{flags: packet.SYN}))
	if v := l.one(lan); v.Dst.Netip() != peer || packet.MAC(v.B[:6]) != macOf(peer) || v.TCPFlags&packet.RST == 0 {
		t.Errorf("answered %+v", v.Tuple)
	}
}
