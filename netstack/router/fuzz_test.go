package router

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/norm"
)

// fuzzLab is a router that translates on both ports and lets nearly all pass,
// so that frames come far.
func fuzzLab(t testing.TB) *lab {
	n := trafficNAT()
	n.Outbound = append(n.Outbound, n.Outbound[0])
	n.Outbound[1].ID, n.Outbound[1].Interfaces, n.Outbound[1].Translation = "in", []uint16{lan}, lanAddr
	n.Outbound[1].Source.Any = true
	rules := everything()
	rules[0].AllowOptions = true
	scrub := norm.Policy{AllowOptions: true, NoDF: true, RandomID: true, MSS: 1200}
	return newLab(t, labConfig{Rules: rules, NAT: n, States: 200, VLANs: true, Features: link.Features{Checksum: true, TCP4: true},
		Norm: []norm.Policy{{}, {AllowOptions: true}, {AllowOptions: true}, scrub, scrub, scrub}, MTU: map[uint16]int{wan: 1280},
		Frags: norm.Config{MaxFragments: 50, MaxBytes: 200_000, MaxPerSource: 20},
		VIPs:  []Address{{packet.AddrFrom(vipAddr), wan, Held}}, MACs: heldMAC()})
}

// seedFrames are frames of every kind that the router looks into, with the
// interface that they are for.
func seedFrames(t testing.TB) (out [][]byte, at []uint16) {
	add := func(iface uint16, frames ...[]byte) {
		for _, b := range frames {
			out, at = append(out, b), append(at, iface)
		}
	}
	for i, e := range [][2]netip.Addr{{client4, far4}, {client6, far6}} {
		client, far := e[0], e[1]
		node := []netip.Addr{wanAddr, wanAddr6}[i]
		syn := tcp(lan, ap(client, 5), ap(far, 80), segment{flags: packet.SYN, seq: 5, options: []byte{2, 4, 5, 0xb4, 3, 3, 7, 0}})
		add(lan, syn, udp(lan, ap(client, 5), ap(far, 53), text(50)), echo(lan, client, far, 3, 1))
		add(lan, cutUp(t, udp(lan, ap(client, 6), ap(far, 53), text(3000)), 1000)...)
		add(wan, udp(wan, ap(far, 9), ap(node, 80), nil), echo(wan, far, node, 1, 1))
		about := decoded(t, udp(lan, ap(node, 1024), ap(far, 53), text(20)))
		add(wan, unreachable(wan, far, about, true))
	}
	add(lan, packet.AppendARP(nil, packet.ARPRequest, macOf(client4), packet.MAC(portMAC(lan)), macOf(client4), client4, packet.MAC{}, lanAddr),
		packet.AppendNS(nil, macOf(client6), packet.MAC(portMAC(lan)), client6, lanAddr6, lanAddr6, true),
		packet.AppendIGMPReport(nil, macOf(client4), client4, packet.Join, []netip.Addr{netip.MustParseAddr("224.0.0.18")}),
		packet.AppendMLDReport(nil, macOf(client6), netip.MustParseAddr("fe80::1"), packet.Join, []netip.Addr{netip.MustParseAddr("ff02::12")}))
	f := link.NewFrame(2000)
	f.Set(udp(4, ap(netip.MustParseAddr("10.10.0.50"), 1), ap(far4, 2), text(30)))
	link.PushTag(f, link.TPID8021Q, 10)
	add(dmz, bytes.Clone(f.Bytes()))
	return out, at
}

// repair makes a frame one that is taken: addressed to the interface, its IPv4
// header sum right.
func repair(iface uint16, b []byte) {
	if len(b) < 34 {
		return
	}
	m := portMAC(iface)
	copy(b, m[:])
	if hlen := int(b[14]&15) * 4; binary.BigEndian.Uint16(b[12:]) == packet.EtherTypeIPv4 && hlen >= 20 && 14+hlen <= len(b) {
		binary.BigEndian.PutUint16(b[24:], 0)
		binary.BigEndian.PutUint16(b[24:], packet.Checksum(b[14:14+hlen], 0))
	}
}

// offloadOf makes offload facts of a byte: mostly none, some that fit and some
// that do not.
func offloadOf(how byte, b []byte) (o link.Offload) {
	if len(b) < 60 || how&0x80 == 0 {
		return o
	}
	if how&0x40 != 0 {
		o.NeedsChecksum, o.ChecksumStart, o.ChecksumOffset = true, 34+uint16(how&1)*20, 6+uint16(how>>1&1)*10
	}
	o.Segment = link.Segmentation(how >> 3 & 3)
	if o.Segment != link.SegmentNone {
		o.HeaderLen, o.SegSize = 54, uint16(how&7)*3
	}
	return o
}

// checkBounds makes sure that nothing grows without end.
func checkBounds(t *testing.T, l *lab) {
	t.Helper()
	frags := l.filter.FragmentStats()
	if s := l.filter.States().Stats(); s.States > 200 || l.router.hold.count > heldMax || frags.Fragments > 50 || frags.Bytes > 200_000 {
		t.Fatalf("%d states, %d packets wait, %+v", s.States, l.router.hold.count, frags)
	}
	known, asked := 0, 0
	for i := uint16(1); i <= 5; i++ {
		k, a := l.neigh.Len(i)
		known, asked = known+k, asked+a
	}
	if known > 5*8192 || asked > 5*512 {
		t.Fatalf("%d neighbours known, %d asked for", known, asked)
	}
}

// FuzzWalk reads a list of frames: a byte for the interface and what to do
// with the frame, a byte of offload facts, two of length, the frame.
func FuzzWalk(f *testing.F) {
	frames, at := seedFrames(f)
	var all []byte
	for i, b := range frames {
		one := append([]byte{byte(at[i] - 1), 0}, byte(len(b)>>8), byte(len(b)))
		one = append(one, b...)
		f.Add(one)
		one[0] |= 0x80
		one[1] = 0xc8 + byte(i)
		f.Add(one)
		all = append(all, one...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, in []byte) {
		l := fuzzLab(t)
		for len(in) >= 4 {
			iface, how := uint16(in[0]&0x7f%dmz)+1, in[1]
			n := min(int(binary.BigEndian.Uint16(in[2:])), len(in)-4)
			b := bytes.Clone(in[4 : 4+n])
			if in[0]&0x80 != 0 {
				repair(iface, b)
			}
			l.wires[iface].putOffload(b, offloadOf(how, b))
			in = in[4+n:]
		}
		l.step()
		l.wait(1e9)
		checkBounds(t, l)
	})
}

// Frames that nobody sends, thousands of them, leave a router that works.
func TestRandomFramesDoNoHarm(t *testing.T) {
	rnd := rand.New(rand.NewPCG(*seed, 5))
	frames, at := seedFrames(t)
	l := fuzzLab(t)
	before := runtime.NumGoroutine()
	for i := range 150_000 {
		k := rnd.IntN(len(frames))
		b := bytes.Clone(frames[k])
		for range rnd.IntN(6) {
			b[14+rnd.IntN(len(b)-14)] = byte(rnd.Uint32())
		}
		switch rnd.IntN(10) {
		case 0:
			b = b[:rnd.IntN(len(b)+1)]
		case 1:
			for j := range b {
				b[j] = byte(rnd.Uint32())
			}
		case 2:
			b = append(b, make([]byte, rnd.IntN(3000))...)
		}
		if rnd.IntN(8) > 0 {
			repair(at[k], b)
		}
		l.wires[at[k]].putOffload(b, offloadOf(byte(rnd.Uint32()&(rnd.Uint32()>>8)), b))
		if i%20 == 0 {
			l.step()
			l.now = l.now.Add(1e7)
			for j := 1; j <= dmz; j++ {
				l.wires[j].take()
			}
			l.delivered, l.punts, l.events = nil, nil, nil
		}
	}
	l.step()
	checkBounds(t, l)
	t.Log(l.router.Drops(), l.filter.Drops(), l.filter.States().Stats().Inserts)
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	for i := 1; i <= dmz; i++ {
		l.wires[i].take()
	}
	l.wait(300e9)
	l.out(wan)
	l.in(lan, udp(lan, ap(client4, 60000), ap(far4, 53), text(10)))
	l.wait(3e9)
	if out := l.out(wan); len(out) == 0 {
		t.Errorf("nothing crosses any more; drops %v %v", l.router.Drops(), l.filter.Drops())
	}
}
