package router

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
)

// everything passes in everywhere.
func everything() []rule.Rule {
	return []rule.Rule{{ID: "all", Action: rule.Pass, Quick: true, Direction: rule.In, Source: rule.AnyAddr(), Destination: rule.AnyAddr()}}
}

func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestCoalescedFramesCrossOrAreCut(t *testing.T) {
	big := text(8000)
	syn := tcp(lan, ap(client4, 5000), ap(far4, 80), segment{flags: packet.SYN, seq: 99, options: []byte{3, 3, 14, 0}})
	data := wireFrame{b: tcp(lan, ap(client4, 5000), ap(far4, 80), segment{flags: packet.ACK | packet.PSH, seq: 100, ack: 1, df: true, id: 7, payload: big})}
	partial(&data, 1400)
	for _, features := range []link.Features{{}, {Checksum: true}, {Checksum: true, TCP4: true}} {
		t.Run(fmt.Sprintf("%+v", features), func(t *testing.T) {
			l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade(), Features: features})
			l.in(lan, syn)
			from := l.one(wan)
			for range 2 { // the long way, then the short one
				l.wires[lan].putOffload(data.b, data.offload)
				l.step()
				frames := l.wires[wan].take()
				if features.TCP4 {
					if len(frames) != 1 || frames[0].offload != data.offload {
						t.Fatalf("%d frames, offload %+v", len(frames), frames[0].offload)
					}
					checkPartial(t, frames[0].b)
					continue
				}
				var got []byte
				for i, f := range frames {
					v := decoded(t, f.b)
					if v.Src != from.Src || v.SrcPort != from.SrcPort || v.Seq != 100+uint32(len(got)) || v.TTL != 63 || v.FragID != uint32(7+i) || f.offload != (link.Offload{}) {
						t.Fatalf("segment %d: %+v seq %d TTL %d id %d, offload %+v", i, v.Tuple, v.Seq, v.TTL, v.FragID, f.offload)
					}
					got = append(got, v.B[v.Payload:v.End]...)
				}
				if !bytes.Equal(got, big) {
					t.Errorf("%d bytes arrived, want %d", len(got), len(big))
				}
			}
		})
	}
}

// checkPartial checks that the checksum field of a frame holds the sum of its
// pseudo header.
func checkPartial(t *testing.T, b []byte) {
	t.Helper()
	var v packet.View
	if why := packet.Decode(b, &v); why != packet.OK {
		t.Fatal(why)
	}
	at, _ := sumOffset(&v)
	if got, want := binary.BigEndian.Uint16(b[v.L4+int(at):]), uint16(packet.PseudoSum(&v.Tuple, v.End-v.L4)); got != want {
		t.Errorf("unfinished sum %#x, want %#x", got, want)
	}
}

func TestUnfinishedSumsOfOthersAreFinished(t *testing.T) {
	inner := udp(lan, ap(client4, 1), ap(far4, 2), text(33))
	l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade(), Features: link.Features{Checksum: true}})
	var v packet.View
	packet.Decode(inner, &v)
	want := bytes.Clone(inner[v.L3:])
	f := wireFrame{b: inner}
	partial(&f, 0)
	// An IP packet in UDP without checksum, whose inner sum is unfinished.
	const outer = 14 + 20 + 8
	b := udp(lan, ap(client4, 7), ap(far4, 4789), f.b[v.L3:])
	b[14+20+6], b[14+20+7] = 0, 0
	for range 2 {
		l.wires[lan].putOffload(b, link.Offload{NeedsChecksum: true, ChecksumStart: outer + 20, ChecksumOffset: 6})
		l.step()
		got := l.wires[wan].take()
		if len(got) != 1 || got[0].offload.NeedsChecksum || !bytes.Equal(got[0].b[outer:], want) {
			t.Fatalf("sent %+v\nwant inner %x", got, want)
		}
	}
}

func TestOffloadFactsThatDoNotFitAreDropped(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything()})
	datagram := udp(lan, ap(client4, 1), ap(far4, 2), text(3000))
	first := cutUp(t, datagram, 1000)[0]
	for name, f := range map[string]wireFrame{
		"TCP said of UDP":      {datagram, link.Offload{Segment: link.SegmentTCP4, SegSize: 1000, HeaderLen: 54}},
		"segments of nothing":  {datagram, link.Offload{Segment: link.SegmentUDP}},
		"a sum in a fragment":  {first, link.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}},
		"a coalesced fragment": {first, link.Offload{Segment: link.SegmentUDP, SegSize: 100, HeaderLen: 42}},
		"a sum behind the end": {datagram, link.Offload{NeedsChecksum: true, ChecksumStart: 3040, ChecksumOffset: 16}},
	} {
		before := l.dropped("bad-offload")
		l.wires[lan].putOffload(f.b, f.offload)
		l.step()
		if l.dropped("bad-offload") != before+1 {
			t.Errorf("%s: drops %v", name, l.router.Drops())
		}
		l.none()
	}
}

func TestCoalescedDatagramsReachTheGuestOneByOne(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything()})
	f := wireFrame{b: udp(lan, ap(client4, 1), ap(lanAddr, 2), text(2500))}
	partial(&f, 1000)
	l.wires[lan].putOffload(f.b, f.offload)
	l.step()
	var got []byte
	for _, v := range l.takeDelivered() {
		if !packet.VerifyL4(v) {
			t.Error("wrong checksum")
		}
		got = append(got, v.B[v.Payload:v.End]...)
	}
	if !bytes.Equal(got, text(2500)) {
		t.Errorf("%d bytes arrived", len(got))
	}
}

func TestPaddingIsNotCarriedAlong(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN()})
	b := udp(lan, ap(client4, 1), ap(server4, 2), nil)
	for range 3 {
		l.in(lan, append(bytes.Clone(b), make([]byte, 18)...))
		if v := l.one(wan); len(v.B) != len(b) {
			t.Errorf("%d bytes left, want %d", len(v.B), len(b))
		}
	}
}

func TestLongPacketsAreCutOrRefused(t *testing.T) {
	tests := []struct {
		name  string
		frame []byte
		parts int
	}{
		{"may be cut", udpWith(lan, ap(client4, 1), ap(server4, 2), 64, false, 5, text(1400)), 2},
		{"may not", udpWith(lan, ap(client4, 1), ap(server4, 2), 64, true, 5, text(1400)), 0},
		{"IPv6", udp(lan, ap(client6, 1), ap(server6, 2), text(1400)), 0},
	}
	for _, tt := range tests {
		l := newLab(t, labConfig{Rules: passLAN(), MTU: map[uint16]int{wan: 1300}})
		for range 2 {
			l.in(lan, tt.frame)
			out := l.out(wan)
			if len(out) != tt.parts {
				t.Errorf("%s: %d parts, want %d; drops %v", tt.name, len(out), tt.parts, l.router.Drops())
			}
			if tt.parts > 0 {
				checkParts(t, out, 1300, text(1400))
				continue
			}
			v := l.one(lan)
			mtu := binary.BigEndian.Uint32(v.B[v.L4+4:])
			if v.Family == 4 && (v.ICMPType != 3 || v.ICMPCode != 4) || v.Family == 6 && v.ICMPType != 2 || mtu != 1300 {
				t.Errorf("%s: the sender was told type %d code %d MTU %d", tt.name, v.ICMPType, v.ICMPCode, mtu)
			}
		}
	}
}

// Whoever allows it to be cut is cut even out of a coalesced frame.
func TestLongSegmentsOfCoalescedFramesAreCutAgain(t *testing.T) {
	syn := tcp(lan, ap(client4, 5000), ap(far4, 80), segment{flags: packet.SYN, seq: 99, options: []byte{3, 3, 14, 0}})
	for _, df := range []bool{false, true} {
		data := wireFrame{b: tcp(lan, ap(client4, 5000), ap(far4, 80), segment{flags: packet.ACK, seq: 100, ack: 1, df: df, id: 7, payload: text(2000)})}
		partial(&data, 1400)
		l := newLab(t, labConfig{Rules: passLAN(), MTU: map[uint16]int{wan: 1300}, Features: link.Features{Checksum: true, TCP4: true}})
		l.in(lan, syn)
		l.one(wan)
		for range 2 {
			l.wires[lan].putOffload(data.b, data.offload)
			l.step()
			out := l.out(wan)
			if df {
				if len(out) != 0 || l.one(lan).ICMPCode != 4 {
					t.Errorf("DF, and %d frames left", len(out))
				}
				continue
			}
			if len(out) != 3 {
				t.Fatalf("%d frames left, want 3", len(out))
			}
			if v := whole(t, out[:2], 1300); v.DataLen != 1400 || v.Seq != 100 {
				t.Errorf("%d bytes from %d", v.DataLen, v.Seq)
			}
			if v := decoded(t, out[2]); v.DataLen != 600 || v.Seq != 1500 {
				t.Errorf("%d bytes from %d", v.DataLen, v.Seq)
			}
		}
	}
}

// checkParts puts fragments of a UDP datagram together again.
func checkParts(t *testing.T, frames [][]byte, mtu int, payload []byte) {
	t.Helper()
	r := norm.New(norm.Config{})
	var whole []byte
	for _, b := range frames {
		var v packet.View
		if why := packet.Decode(b, &v); why != packet.OK || v.End-v.L3 > mtu || v.End != len(b) {
			t.Fatalf("fragment %x: %v, %d bytes", b, why, v.End-v.L3)
		}
		whole, _ = r.Add(1, 1, &v)
	}
	if whole == nil {
		t.Fatal("the fragments make no datagram")
	}
	v := decoded(t, whole)
	if !bytes.Equal(v.B[v.Payload:v.End], payload) {
		t.Errorf("%d bytes arrived, want %d", v.DataLen, len(payload))
	}
}

func TestTaggedFramesBelongToTheirChild(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything(), VLANs: true, Features: link.Features{Checksum: true, TCP4: true}})
	tagged := func(b []byte, vid uint16) []byte {
		f := link.NewFrame(len(b))
		f.Set(b)
		link.PushTag(f, link.TPID8021Q, vid)
		return bytes.Clone(f.Bytes())
	}
	host10 := netip.MustParseAddr("10.10.0.50")
	host20 := netip.MustParseAddr("10.20.0.50")
	b := udp(4, ap(host10, 1), ap(host20, 2), []byte("hello"))
	for range 3 {
		l.in(dmz, tagged(b, 10))
		out := l.out(dmz)
		if len(out) != 1 || binary.BigEndian.Uint32(out[0][12:]) != 0x8100<<16|20 {
			t.Fatalf("sent %x; drops %v", out, l.router.Drops())
		}
		v := decoded(t, append(out[0][:12:12], out[0][16:]...))
		if link.MAC(v.B[6:12]) != portMAC(5) || packet.MAC(v.B[:6]) != macOf(host20) {
			t.Errorf("from %x to %x", v.B[6:12], v.B[:6])
		}
	}
	l.in(dmz, udp(dmz, ap(inside4, 1), ap(host20, 2), nil), tagged(udp(dmz, ap(inside4, 1), ap(host20, 2), nil), 0))
	if out := l.out(dmz); len(out) != 2 {
		t.Errorf("untagged and priority-tagged frames of the trunk: %d crossed", len(out))
	}
	l.in(dmz, tagged(b, 30))
	if l.dropped("unknown-vlan") != 1 {
		t.Errorf("drops %v", l.router.Drops())
	}
	for i, want := range map[uint16][2]uint64{4: {3, 0}, 5: {0, 5}, dmz: {6, 5}} {
		s, _ := l.router.PortStats(i)
		if i == dmz { // ARP of the children and its own is in there, too
			want[0], want[1] = s.RxPackets, s.TxPackets
			if s.RxPackets < 6 || s.TxPackets < 5 {
				t.Errorf("trunk: %+v", s)
			}
		}
		if s.RxPackets < want[0] || s.TxPackets < want[1] {
			t.Errorf("interface %d: received %d, sent %d, want %v", i, s.RxPackets, s.TxPackets, want)
		}
	}
	// A coalesced frame keeps its offload facts on both tags.
	l.in(dmz, tagged(tcp(4, ap(host10, 9), ap(host20, 80), segment{flags: packet.SYN, options: []byte{3, 3, 14, 0}}), 10))
	l.out(dmz)
	f := wireFrame{b: tcp(4, ap(host10, 9), ap(host20, 80), segment{flags: packet.ACK, seq: 1, payload: text(5000), df: true})}
	partial(&f, 1400)
	fr := link.NewFrame(len(f.b))
	fr.Set(f.b)
	fr.Offload = f.offload
	link.PushTag(fr, link.TPID8021Q, 10)
	for range 2 {
		l.wires[dmz].putOffload(fr.Bytes(), fr.Offload)
		l.step()
		if got := l.wires[dmz].take(); len(got) != 1 || got[0].offload != fr.Offload {
			t.Fatalf("%d frames; drops %v", len(got), l.router.Drops())
		}
	}
}

func TestTunnelHasNoNeighbours(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything(), NAT: masquerade(), Layer3: wan})
	for i := range 3 {
		l.in(lan, udp(lan, ap(client4, 1), ap(far4, 2), nil))
		v := l.one(wan)
		if v.Src.Netip() != wanAddr || packet.MAC(v.B[:6]) != (packet.MAC{}) {
			t.Errorf("sent %x", v.B)
		}
		// What comes in has no addresses of Ethernet.
		answer := udp(wan, ap(far4, 2), netip.AddrPortFrom(wanAddr, v.SrcPort), []byte{byte(i)})
		clear(answer[:12])
		l.in(wan, answer)
		if v := l.one(lan); v.Dst.Netip() != client4 || v.DstPort != 1 {
			t.Errorf("answer %+v", v.Tuple)
		}
	}
	if n := l.router.snap.Load().hops.next; n != 3 {
		t.Errorf("%d hops, want one for the tunnel and one for the client", n-1)
	}
}

func TestFiltersOfDevicesAreProgrammed(t *testing.T) {
	mac := link.MAC{0, 0, 0x5e, 0, 1, 7}
	l := newLab(t, labConfig{VIPs: []Address{{packet.AddrFrom(vipAddr), wan, Held}}, MACs: map[uint16][]link.MAC{wan: {mac}}})
	has := func(i uint16, m link.MAC) bool {
		for _, a := range l.wires[i].accept {
			if a == m {
				return true
			}
		}
		return false
	}
	solicited := link.MAC(packet.MulticastMAC(packet.SolicitedNode(wanAddr6)))
	if !has(wan, mac) || has(lan, mac) || !has(wan, portMAC(wan)) || !has(wan, solicited) {
		t.Errorf("WAN takes %v, LAN %v", l.wires[wan].accept, l.wires[lan].accept)
	}
}
