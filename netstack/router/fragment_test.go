package router

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
)

// cutUp is a frame as fragments of at most mtu bytes of IP.
func cutUp(t testing.TB, frame []byte, mtu int) (out [][]byte) {
	t.Helper()
	var v packet.View
	if why := packet.Decode(frame, &v); why != packet.OK {
		t.Fatal(why)
	}
	emit := func(b []byte) { out = append(out, bytes.Clone(b)) }
	ok := false
	if v.Family == 4 {
		ok = packet.FragmentIPv4(&v, mtu, emit, make([]byte, len(frame)))
	} else {
		ok = packet.FragmentIPv6(&v, mtu, 0x1234, emit, make([]byte, len(frame)+8))
	}
	if !ok {
		t.Fatalf("frame of %d bytes cannot be cut to %d", len(frame), mtu)
	}
	return out
}

// whole puts fragments together and returns the datagram.
func whole(t *testing.T, frames [][]byte, mtu int) *packet.View {
	t.Helper()
	r := norm.New(norm.Config{})
	var b []byte
	for _, f := range frames {
		var v packet.View
		if why := packet.Decode(f, &v); why != packet.OK || v.End-v.L3 > mtu {
			t.Fatalf("fragment %x: %v, %d bytes", f, why, v.End-v.L3)
		}
		if v.TTL != 63 {
			t.Errorf("fragment with TTL %d", v.TTL)
		}
		b, _ = r.Add(1, 1, &v)
	}
	if b == nil {
		t.Fatalf("%d frames make no datagram", len(frames))
	}
	return decoded(t, bytes.Clone(b))
}

func reversed(frames [][]byte) [][]byte {
	out := make([][]byte, len(frames))
	for i := range frames {
		out[len(frames)-1-i] = frames[i]
	}
	return out
}

func TestFragmentsCrossInBothDirections(t *testing.T) {
	payload := text(5000)
	for _, ends := range [][3]netip.Addr{{client4, far4, wanAddr}, {client6, far6, client6}} {
		client, far, outside := ends[0], ends[1], ends[2]
		for _, features := range []link.Features{{}, {Checksum: true, TCP4: true, TCP6: true, UDP: true}} {
			l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade(), Features: features})
			var from netip.AddrPort
			for i, order := range []func([][]byte) [][]byte{func(f [][]byte) [][]byte { return f }, reversed} {
				l.in(lan, order(cutUp(t, udp(lan, ap(client, 5000), ap(far, 53), payload), 1300))...)
				v := whole(t, l.out(wan), 1300)
				from = ap(v.Src.Netip(), v.SrcPort)
				if from.Addr() != outside || v.Dst.Netip() != far || !bytes.Equal(v.B[v.Payload:v.End], payload) {
					t.Errorf("order %d: %v, %d bytes", i, show(v.Tuple), v.DataLen)
				}
				l.in(wan, order(cutUp(t, udp(wan, ap(far, 53), from, payload), 1300))...)
				v = whole(t, l.out(lan), 1300)
				if v.Dst.Netip() != client || v.DstPort != 5000 || !bytes.Equal(v.B[v.Payload:v.End], payload) {
					t.Errorf("answer, order %d: %v, %d bytes", i, show(v.Tuple), v.DataLen)
				}
			}
			// The state counted whole datagrams, each once.
			f := flowsOf(l)
			size := uint64(5000 + 8 + map[bool]int{true: 20, false: 40}[client.Is4()])
			if len(f) != 1 || f[0].Packets != [2]uint64{2, 2} || f[0].Bytes != [2]uint64{2 * size, 2 * size} {
				t.Errorf("%d states, %+v", len(f), f)
			}
		}
	}
}

func TestFragmentsMixWithOtherPackets(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN(), NAT: masquerade()})
	a, b := ap(client4, 5000), ap(far4, 53)
	var frames [][]byte
	for i := range 4 {
		parts := cutUp(t, udpWith(lan, a, b, 64, false, uint16(i), text(3000+i)), 1300)
		frames = append(frames, parts[0], udp(lan, a, b, []byte{byte(i)}), parts[1], parts[2])
	}
	l.in(lan, frames...)
	out := l.out(wan)
	if len(out) != 4*(1+3) {
		t.Fatalf("%d frames left, want 16", len(out))
	}
	for i := range 4 {
		if v := decoded(t, out[4*i]); v.DataLen != 1 || v.B[v.Payload] != byte(i) {
			t.Errorf("%d: the small datagram is out of order", i)
		}
		if v := whole(t, out[4*i+1:4*i+4], 1300); v.DataLen != 3000+i {
			t.Errorf("%d: %d bytes", i, v.DataLen)
		}
	}
}

func TestFragmentsForTheNodeArriveWhole(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything()})
	l.in(wan, cutUp(t, udp(wan, ap(far4, 1), ap(wanAddr, 2), text(4000)), 1200)...)
	if got := l.takeDelivered(); len(got) != 1 || got[0].DataLen != 4000 || !packet.VerifyL4(got[0]) {
		t.Errorf("delivered %v", got)
	}
	// A wrong sum shows only in the whole.
	b := udp(wan, ap(far4, 1), ap(wanAddr, 2), text(4000))
	b[2000] ^= 1
	l.in(wan, cutUp(t, b, 1200)...)
	if got := l.takeDelivered(); len(got) != 0 || l.dropped("bad-checksum") != 1 {
		t.Errorf("delivered %v; drops %v", got, l.router.Drops())
	}
}

func TestLargeFragmentsAreRefusedWhereTheyDoNotFit(t *testing.T) {
	for _, ends := range [][2]netip.Addr{{client4, far4}, {client6, far6}} {
		l := newLab(t, labConfig{Rules: passLAN(), MTU: map[uint16]int{wan: 1280}})
		frames := cutUp(t, udp(lan, ap(ends[0], 1), ap(ends[1], 2), text(4000)), 1500)
		if ends[0].Is4() {
			// Without DF the parts may become smaller.
			l.in(lan, frames...)
			whole(t, l.out(wan), 1280)
			for i := range frames {
				frames[i][20] |= 0x40 // DF
				repair(lan, frames[i])
				frames[i][19]++ // another datagram
				repair(lan, frames[i])
			}
		}
		l.in(lan, frames...)
		if out := l.out(wan); len(out) != 0 {
			t.Errorf("%v: %d frames left", ends[0], len(out))
		}
		if v := l.one(lan); v.ICMPCode != map[uint8]uint8{4: 4, 6: 0}[v.Family] {
			t.Errorf("told type %d code %d", v.ICMPType, v.ICMPCode)
		}
	}
}

// A datagram that waits for its neighbour is still one that was cut, with its
// own parts' length and identification.
func TestHeldDatagramIsCutAsItCame(t *testing.T) {
	for _, ends := range [][3]netip.Addr{{client4, server4, {}}, {client6, server6, {}}} {
		l := newLab(t, labConfig{Rules: passLAN(), Silent: []netip.Addr{ends[1]}})
		l.in(lan, cutUp(t, udp(lan, ap(ends[0], 1), ap(ends[1], 2), text(4000)), 1200)...)
		l.none()
		// Another one, cut otherwise, comes before the answer does.
		l.in(lan, cutUp(t, udp(lan, ap(ends[0], 1), ap(dmzOf(ends[0]), 2), text(4000)), 1400)...)
		whole(t, l.out(dmz), 1400)
		l.router.NeighActions(l.now, l.neigh.Hint(l.now, wan, ends[1], macOf(ends[1]), l.now.Add(time.Minute), nil))
		out := l.out(wan)
		v := whole(t, out, 1200)
		var first packet.View
		packet.Decode(out[0], &first)
		if !bytes.Equal(v.B[v.Payload:v.End], text(4000)) || first.FragID != map[uint8]uint32{4: 7, 6: 0x1234}[v.Family] {
			t.Errorf("%v: %d bytes, identification %#x", ends[0], v.DataLen, first.FragID)
		}
	}
}

func dmzOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return inside4
	}
	return inside6
}

func TestFragmentFloodIsBounded(t *testing.T) {
	l := newLab(t, labConfig{Rules: passLAN(), Frags: norm.Config{MaxFragments: 100, MaxPerSource: 10}})
	for i := range 5000 {
		b := udpWith(lan, ap(netip.AddrFrom4([4]byte{192, 168, 1, byte(i)}), 1), ap(far4, 2), 64, false, uint16(i), text(2000))
		l.in(lan, cutUp(t, b, 1000)[0])
	}
	if s := l.filter.FragmentStats(); s.Fragments > 100 || s.Datagrams > 100 || s.Evicted == 0 {
		t.Errorf("%+v", s)
	}
	l.in(lan, cutUp(t, udp(lan, ap(client4, 1), ap(far4, 2), text(2000)), 1000)...)
	whole(t, l.out(wan), 1000)
	if n := l.filter.States().Stats().States; n != 1 {
		t.Errorf("%d states", n)
	}
}

func TestSenderIsToldThatPartsAreMissing(t *testing.T) {
	silent := []rule.Rule{}
	for _, ends := range [][2]netip.Addr{{client4, far4}, {client6, far6}} {
		for _, rules := range [][]rule.Rule{passLAN(), silent} {
			l := newLab(t, labConfig{Rules: rules, Frags: norm.Config{Timeout: 2 * time.Second}})
			frames := cutUp(t, udp(lan, ap(ends[0], 1), ap(ends[1], 2), text(4000)), 1400)
			l.in(lan, frames[0], frames[1])
			l.in(lan, cutUp(t, udp(lan, ap(ends[0], 3), ap(dmzOf(ends[1]), 2), text(4000)), 1300)[1]) // the first never comes
			l.wait(5 * time.Second)
			out := l.out(lan)
			if len(rules) == 0 {
				// Nothing of the sender's passes: it is not told that there is a firewall.
				if len(out) != 0 {
					t.Errorf("told %x", out)
				}
				continue
			}
			if len(out) != 1 {
				t.Fatalf("%v: told %d times", ends[0], len(out))
			}
			v := decoded(t, out[0])
			if typ := map[uint8]uint8{4: 11, 6: 3}[v.Family]; v.ICMPType != typ || v.ICMPCode != 1 {
				t.Errorf("told type %d code %d", v.ICMPType, v.ICMPCode)
			}
			if s := l.filter.FragmentStats(); s.Fragments != 0 {
				t.Errorf("%+v", s)
			}
		}
	}
}

func TestNeighbourDiscoveryInFragmentsIsIgnored(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything()})
	local := netip.MustParseAddr("fe80::77")
	b := packet.AppendNS(nil, macOf(local), packet.MAC(portMAC(lan)), local, lanAddr6, lanAddr6, true)
	l.in(lan, b)
	if len(l.out(lan)) != 1 {
		t.Fatal("a whole solicitation is not answered")
	}
	for _, frames := range [][][]byte{cutUp(t, b, 64), reversed(cutUp(t, b, 64))} { // RFC 6980
		l.in(lan, frames...)
		l.none()
		if n := len(l.takeDelivered()); n != 0 {
			t.Errorf("delivered %d", n)
		}
	}
}
