package router

import (
	"net/netip"
	"testing"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
)

var virtualMAC = link.MAC{0, 0, 0x5e, 0, 1, 7}

// held says that the virtual MAC is taken on the WAN.
func heldMAC() map[uint16][]link.MAC { return map[uint16][]link.MAC{wan: {virtualMAC}} }

// vipLab is a node whose LAN goes out by a WAN VIP, which also forwards to a
// server in the DMZ.
func vipLab(t testing.TB, kind AddressKind) *lab {
	n := nat.Config{
		Forwards: []nat.Forward{{ID: "web", Interfaces: []uint16{wan}, Target: inside4, TargetPort: 8080, Match: nat.Match{
			Protos: []uint8{packet.ProtoTCP, packet.ProtoUDP}, Source: rule.AnyAddr(),
			Destination: rule.AddrMatch{Prefixes: []netip.Prefix{netip.PrefixFrom(vipAddr, 32)}}, DestinationPorts: []rule.PortRange{{First: 80, Last: 80}}}}},
		Outbound: []nat.Outbound{{ID: "out", Interfaces: []uint16{wan}, Translation: vipAddr, Match: nat.Match{
			Source: rule.AddrMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}}, Destination: rule.AnyAddr()}}},
	}
	cfg := labConfig{Rules: everything(), NAT: n, VIPs: []Address{{packet.AddrFrom(vipAddr), wan, kind}}}
	if kind == Held {
		cfg.MACs = heldMAC()
	}
	return newLab(t, cfg)
}

// toVirtual readdresses a frame to the virtual MAC.
func toVirtual(b []byte) []byte {
	copy(b, virtualMAC[:])
	return b
}

func TestOnlyTheHolderTakesFramesForTheVirtualMAC(t *testing.T) {
	l := vipLab(t, NotHeld)
	frame := toVirtual(udp(wan, ap(far4, 9), ap(client4, 9), nil))
	l.in(wan, frame)
	l.none()
	if l.dropped("not-for-us") != 1 {
		t.Errorf("drops %v", l.router.Drops())
	}
	l.setVIP(vipAddr, Held, heldMAC())
	l.in(wan, frame)
	if v := l.one(lan); v.Dst.Netip() != client4 {
		t.Errorf("forwarded to %v", v.Dst.Netip())
	}
}

func TestPacketsForAVIPAreTakenOnlyWhileItIsHeld(t *testing.T) {
	l := vipLab(t, NotHeld)
	ping := echo(wan, far4, vipAddr, 1, 1)
	web := udp(wan, ap(far4, 9), ap(vipAddr, 80), nil)
	l.in(wan, ping, web)
	l.none()
	if n := l.dropped("vip-not-held"); n != 2 || len(l.takeDelivered()) != 0 {
		t.Errorf("dropped %d; %v", n, l.router.Drops())
	}
	l.setVIP(vipAddr, Held, heldMAC())
	l.in(wan, toVirtual(ping), toVirtual(web))
	if got := l.takeDelivered(); len(got) != 1 || got[0].Dst.Netip() != vipAddr {
		t.Errorf("delivered %d", len(got))
	}
	if v := l.one(dmz); v.Dst.Netip() != inside4 || v.DstPort != 8080 {
		t.Errorf("forwarded %+v", v.Tuple)
	}
}

func TestNoNewFlowLeavesFromAVIPThatIsNotHeld(t *testing.T) {
	l := vipLab(t, NotHeld)
	l.in(lan, udp(lan, ap(client4, 5), ap(far4, 53), nil))
	l.none()
	if l.dropped("translation-not-held") != 1 {
		t.Errorf("drops %v %v", l.router.Drops(), l.filter.Drops())
	}
}

func TestStatesFollowTheRole(t *testing.T) {
	l := vipLab(t, Held)
	query := udp(lan, ap(client4, 5), ap(far4, 53), nil)
	ping := echo(wan, far4, vipAddr, 1, 1)
	l.in(lan, query, query)
	from := netip.AddrPortFrom(vipAddr, decoded(t, l.out(wan)[1]).SrcPort)
	answer := toVirtual(udp(wan, ap(far4, 53), from, nil))
	l.in(wan, answer, answer)
	if n := len(l.out(lan)); n != 2 {
		t.Fatalf("%d answers", n)
	}
	l.in(wan, toVirtual(ping))
	l.takeDelivered()
	fresh := udp(lan, ap(client4, 6), ap(far4, 53), nil)
	for _, tt := range []struct {
		name                            string
		kind                            AddressKind
		macs                            map[uint16][]link.MAC
		forwards, answers, begins, back bool
	}{
		{"draining", Draining, heldMAC(), true, false, false, true},
		{"not held", NotHeld, nil, false, false, false, false},
		{"held again", Held, heldMAC(), true, true, true, true},
	} {
		l.setVIP(vipAddr, tt.kind, tt.macs)
		for range 2 {
			l.in(lan, query)
			if got := len(l.out(wan)) == 1; got != tt.forwards {
				t.Errorf("%s: forwards %v; drops %v", tt.name, got, l.router.Drops())
			}
			l.in(wan, answer)
			if got := len(l.out(lan)) == 1; got != tt.back {
				t.Errorf("%s: answers come back %v", tt.name, got)
			}
			l.in(wan, toVirtual(ping))
			if got := len(l.takeDelivered()) == 1; got != tt.answers {
				t.Errorf("%s: the node takes pings %v", tt.name, got)
			}
		}
		l.in(lan, fresh)
		if got := len(l.out(wan)) == 1; got != tt.begins {
			t.Errorf("%s: new flows %v", tt.name, got)
		}
		// Addressed to the node's own MAC it is no different.
		own := portMAC(wan)
		copy(answer, own[:])
		l.in(wan, answer)
		if got := len(l.out(lan)) == 1; got != tt.back {
			t.Errorf("%s: answers to the own MAC come back %v", tt.name, got)
		}
		toVirtual(answer)
	}
}

func TestTheNodeSpeaksFromHeldAddressesOnly(t *testing.T) {
	for kind, want := range map[AddressKind]int{Own: 1, Held: 1, Draining: 0, NotHeld: 0, Unusable: 0} {
		l := vipLab(t, kind)
		l.send(wan, udp(0, ap(vipAddr, 53), ap(far4, 9), nil), link.Offload{})
		if got := len(l.out(wan)); got != want {
			t.Errorf("kind %d: sent %d, want %d", kind, got, want)
		}
	}
}

func TestUnusableAddressIsSilent(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything()})
	l.in(wan, echo(wan, far4, wanAddr, 1, 1))
	if len(l.takeDelivered()) != 1 {
		t.Fatal("not delivered")
	}
	for i := range l.addresses.List {
		if l.addresses.List[i].Addr == packet.AddrFrom(wanAddr) {
			l.addresses.List[i].Kind = Unusable
		}
	}
	l.router.SetAddresses(l.addresses)
	l.in(wan, echo(wan, far4, wanAddr, 1, 2), echo(wan, far4, wanAddr, 2, 1))
	if len(l.takeDelivered()) != 0 || l.dropped("address-unusable") != 2 {
		t.Errorf("drops %v", l.router.Drops())
	}
	// Nor are errors sent from it: another address of the node speaks.
	l.in(wan, summed(wan, far4, client4, packet.ProtoUDP, 1, false, 1, make([]byte, 8), 6))
	for _, b := range l.out(wan) {
		if v := decoded(t, b); v.Src.Netip() == wanAddr {
			t.Errorf("sent from an address that another host has: %x", b)
		}
	}
}
