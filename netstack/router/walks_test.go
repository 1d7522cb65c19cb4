package router

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
)

var seed = flag.Uint64("seed", 1, "of random traffic")

// The short walk and the long one must give equal frames. Three routers are
// given the same random traffic: one walks as it does, one has forgotten every
// way before each packet, one reads packets in batches.
func TestBothWalksGiveEqualFrames(t *testing.T) {
	all := norm.Policy{AllowOptions: true}
	scrub := norm.Policy{AllowOptions: true, NoDF: true, RandomID: true, MSS: 1200}
	for _, features := range []link.Features{{}, {Checksum: true}, {Checksum: true, TCP4: true, TCP6: true, UDP: true}} {
		for i, norms := range [][]norm.Policy{{all, all, all, all}, {all, scrub, all, scrub}} {
			t.Run(fmt.Sprintf("%+v/%d", features, i), func(t *testing.T) {
				x := newTriplet(t, labConfig{Rules: trafficRules(), NAT: trafficNAT(), Norm: norms, Features: features,
					MTU: map[uint16]int{dmz: 1400}}, *seed+uint64(i))
				for range 1500 {
					x.act()
				}
				x.compareBatch()
				x.checkWays()
			})
		}
	}
}

func trafficRules() []rule.Rule {
	rules := passLAN()
	rules[0].AllowOptions = true
	any := rule.AnyAddr()
	return append(rules,
		rule.Rule{ID: "dmz", Action: rule.Pass, Quick: true, Direction: rule.In, Interfaces: []uint16{dmz}, Source: any, Destination: any},
		rule.Rule{ID: "web", Action: rule.Pass, Quick: true, Direction: rule.In, Interfaces: []uint16{wan}, Source: any,
			Destination: rule.AddrMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/24"), netip.MustParsePrefix("2001:db8:3::/64")}}},
		rule.Rule{ID: "node", Action: rule.Pass, Quick: true, Direction: rule.In, Source: any,
			Destination: rule.AddrMatch{Prefixes: []netip.Prefix{netip.PrefixFrom(wanAddr, 32), netip.PrefixFrom(lanAddr6, 128)}}},
	)
}

// trafficNAT translates the LAN, forwards a port and an address to the DMZ.
func trafficNAT() nat.Config {
	n := masquerade()
	n.Forwards = []nat.Forward{{ID: "web", Interfaces: []uint16{wan}, Target: inside4, TargetPort: 8080, Match: nat.Match{
		Protos: []uint8{packet.ProtoTCP, packet.ProtoUDP}, Source: rule.AnyAddr(),
		Destination: rule.AddrMatch{Prefixes: []netip.Prefix{netip.PrefixFrom(wanAddr, 32)}}, DestinationPorts: []rule.PortRange{{First: 80, Last: 80}}}}}
	n.OneToOne = []nat.OneToOne{{ID: "host", Interfaces: []uint16{wan}, External: netip.MustParsePrefix("198.51.100.44/32"),
		Internal: netip.MustParsePrefix("172.16.0.44/32"), Peers: rule.AnyAddr()}}
	return n
}

// triplet is three routers and the flows between the hosts around them.
type triplet struct {
	t                   *testing.T
	rnd                 *rand.Rand
	fast, slow, batched *lab
	flows               []*flow
	// what the batched router has not been given, or has not been compared
	pending     []wireFrame
	pendingAt   uint16
	wantBatched [dmz + 1][]wireFrame
	wantGuest   [][]byte
}

// flow is a conversation: at either end the interface, and the addresses as
// packets from there bear them.
type flow struct {
	proto    uint8
	at       [2]uint16
	src, dst [2]netip.AddrPort
	known    bool // the far end is: a packet of the flow has come through
	seq      [2]uint32
	synced   bool // the far end has answered the SYN
	echoID   uint16
}

func newTriplet(t *testing.T, cfg labConfig, seed uint64) *triplet {
	x := &triplet{t: t, rnd: rand.New(rand.NewPCG(seed, 77)), fast: newLab(t, cfg), slow: newLab(t, cfg), batched: newLab(t, cfg)}
	for _, l := range x.labs() {
		for iface, hosts := range [][]netip.Addr{wan: {server4, server6}, lan: {client4, client6}, dmz: {inside4, inside6, netip.MustParseAddr("172.16.0.44")}} {
			for _, h := range hosts {
				l.router.NeighActions(l.now, l.neigh.Hint(l.now, uint16(iface), h, macOf(h), l.now.Add(1e15), nil))
			}
		}
	}
	return x
}

func (x *triplet) labs() []*lab { return []*lab{x.fast, x.slow, x.batched} }

// act does one random thing.
func (x *triplet) act() {
	switch n := x.rnd.IntN(100); {
	case n < 12 || len(x.flows) == 0:
		x.begin()
	case n < 14:
		x.guest()
	case n < 15:
		x.compareBatch()
		for _, l := range x.labs() {
			l.now = l.now.Add(1e9)
		}
	default:
		f := x.flows[x.rnd.IntN(len(x.flows))]
		end := 0
		if f.known && x.rnd.IntN(2) == 0 {
			end = 1
		}
		x.packet(f, end)
	}
}

// begin adds a flow.
func (x *triplet) begin() {
	port := uint16(1024 + x.rnd.IntN(60000))
	f := &flow{proto: []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP}[x.rnd.IntN(3)], echoID: port}
	ends := [][2]netip.Addr{{client4, far4}, {client6, far6}, {client4, inside4}, {far4, wanAddr}, {far6, inside6}, {inside4, far4},
		{far4, netip.MustParseAddr("198.51.100.44")}, {netip.MustParseAddr("172.16.0.44"), far4}, {client6, lanAddr6}}
	e := ends[x.rnd.IntN(len(ends))]
	f.src[0], f.dst[0] = ap(e[0], port), ap(e[1], []uint16{80, 443, 53}[x.rnd.IntN(3)])
	f.at[0] = map[netip.Addr]uint16{client4: lan, client6: lan, far4: wan, far6: wan}[e[0]]
	if f.at[0] == 0 {
		f.at[0] = dmz
	}
	f.seq = [2]uint32{x.rnd.Uint32(), x.rnd.Uint32()}
	x.flows = append(x.flows, f)
	if len(x.flows) > 40 {
		x.flows = x.flows[1:]
	}
	x.packet(f, 0)
}

// packet sends one of f's packets from an end.
func (x *triplet) packet(f *flow, end int) {
	frame := x.craft(f, end)
	switch x.rnd.IntN(12) {
	case 0:
		frame.b = withTTL(frame.b, uint8(1+x.rnd.IntN(2)))
	case 1:
		if frame.offload == (link.Offload{}) {
			frame.b = append(frame.b, make([]byte, x.rnd.IntN(20))...) // padding
		}
	case 2:
		if frame.offload == (link.Offload{}) {
			frame.b[len(frame.b)-1] ^= 0x40 // a wrong checksum is not the router's business
		}
	}
	at := f.at[end]
	if x.rnd.IntN(15) == 0 && frame.offload == (link.Offload{}) && len(frame.b) > 200 {
		for _, part := range cutUp(x.t, withDF(frame.b), 100+8*x.rnd.IntN(60)) {
			x.in(f, end, at, wireFrame{b: part})
		}
		return
	}
	x.in(f, end, at, frame)
}

// craft makes the next packet of an end.
func (x *triplet) craft(f *flow, end int) wireFrame {
	src, dst, at := f.src[end], f.dst[end], f.at[end]
	payload := text(x.rnd.IntN(1300))
	big := x.rnd.IntN(6) == 0
	out := wireFrame{}
	switch f.proto {
	case packet.ProtoICMP:
		typ := uint8(8)
		if src.Addr().Is6() {
			typ = 128
		}
		if end == 1 {
			typ = map[uint8]uint8{8: 0, 128: 129}[typ]
		}
		return wireFrame{b: icmp(at, src.Addr(), dst.Addr(), typ, 0, uint32(f.echoID)<<16|uint32(x.rnd.IntN(9)), payload)}
	case packet.ProtoUDP:
		if big {
			payload = text(1 + x.rnd.IntN(9000))
		}
		out.b = udpWith(at, src, dst, 64, x.rnd.IntN(2) == 0, uint16(x.rnd.Uint32()), payload)
	default:
		s := segment{flags: packet.ACK, seq: f.seq[end], ack: f.seq[1-end], df: x.rnd.IntN(2) == 0, id: uint16(x.rnd.Uint32())}
		switch {
		case !f.synced:
			s.flags, s.options, payload, big = packet.SYN, []byte{2, 4, 5, 0xb4, 3, 3, 14, 0}, nil, false
			if end == 1 { // A SYN that is sent again has the same number.
				s.flags |= packet.ACK
				s.ack++
				f.seq[0], f.seq[1], f.synced = f.seq[0]+1, f.seq[1]+1, true
			}
		case big:
			payload = text(1 + x.rnd.IntN(20000))
			fallthrough
		default:
			f.seq[end] += uint32(len(payload))
		}
		s.payload = payload
		out.b = tcp(at, src, dst, s)
	}
	if big || x.rnd.IntN(4) == 0 {
		partial(&out, 200+x.rnd.IntN(1000))
	}
	return out
}

// in gives a frame to the routers and compares what the first two send. What
// comes out tells the flow its other end.
func (x *triplet) in(f *flow, end int, at uint16, frame wireFrame) {
	x.t.Helper()
	if x.pendingAt != at || len(x.pending) >= 40 {
		x.compareBatch()
	}
	x.pending, x.pendingAt = append(x.pending, frame), at
	x.slow.router.Bump()
	for _, l := range []*lab{x.fast, x.slow} {
		l.wires[at].putOffload(frame.b, frame.offload)
		l.step()
	}
	x.compare(f, end, at, frame)
}

func (x *triplet) compare(f *flow, end int, at uint16, frame wireFrame) {
	x.t.Helper()
	var sent [dmz + 1][]wireFrame
	for i := 1; i <= dmz; i++ {
		a, b := x.fast.wires[i].take(), x.slow.wires[i].take()
		if why := differ(a, b); why != "" {
			x.t.Fatalf("%d of %d flows: interface %d given %x sends by %d: %s", end, len(x.flows), at, frame.b[:min(len(frame.b), 80)], i, why)
		}
		x.wantBatched[i] = append(x.wantBatched[i], a...)
		if f != nil && end == 0 && !f.known && len(a) > 0 && uint16(i) != at {
			x.learn(f, uint16(i), a[0].b)
		}
		sent[i] = a
	}
	a, b := x.fast.takeDelivered(), x.slow.takeDelivered()
	if len(a) != len(b) {
		x.t.Fatalf("the guests were given %d and %d packets", len(a), len(b))
	}
	for i := range a {
		if !bytes.Equal(a[i].B, b[i].B) {
			x.t.Fatalf("the guests were given\n%x\n%x", a[i].B, b[i].B)
		}
		x.wantGuest = append(x.wantGuest, a[i].B)
	}
	for i := range sent {
		x.errorAbout(uint16(i), sent[i])
	}
}

// learn notes what the far end of a flow sees of it.
func (x *triplet) learn(f *flow, at uint16, b []byte) {
	var v packet.View
	if packet.Decode(b, &v) != packet.OK || v.Proto != f.proto && !(v.Family == 6 && f.proto == packet.ProtoICMP) {
		return
	}
	f.known, f.at[1] = true, at
	f.src[1], f.dst[1] = ap(v.Dst.Netip(), v.DstPort), ap(v.Src.Netip(), v.SrcPort)
	if f.proto == packet.ProtoICMP {
		f.echoID = v.SrcPort // the answer's; queries go on with another one
	}
}

// errorAbout has somebody complain about what was sent, now and then.
func (x *triplet) errorAbout(at uint16, sent []wireFrame) {
	if len(sent) == 0 || x.rnd.IntN(12) != 0 {
		return
	}
	var v packet.View
	if packet.Decode(sent[0].b, &v) != packet.OK || v.Fragment || v.Family == 0 || packet.IsICMPError(&v) || v.End-v.L3 > 1200 {
		return
	}
	by := map[[2]uint8]netip.Addr{{wan, 4}: server4, {wan, 6}: server6, {lan, 4}: lanRouter4, {lan, 6}: lanRouter6, {dmz, 4}: inside4, {dmz, 6}: inside6}
	b := unreachable(at, by[[2]uint8{uint8(at), v.Family}], &v, false)
	x.in(nil, 0, at, wireFrame{b: b})
}

// guest has the node itself say something.
func (x *triplet) guest() {
	x.compareBatch()
	src, dst := ap(wanAddr, uint16(1+x.rnd.IntN(5))), ap(far4, 53)
	if x.rnd.IntN(2) == 0 {
		src, dst = ap(wanAddr6, 7), ap(far6, 53)
	}
	b := udp(0, src, dst, text(x.rnd.IntN(2000)))
	x.slow.router.Bump()
	for _, l := range x.labs() {
		l.send(wan, b, link.Offload{})
	}
	x.compare(nil, 0, 0, wireFrame{b: b})
	x.compareBatch()
}

// compareBatch gives the third router what the others have had and compares.
func (x *triplet) compareBatch() {
	x.t.Helper()
	for _, f := range x.pending {
		x.batched.wires[x.pendingAt].putOffload(f.b, f.offload)
	}
	x.pending = x.pending[:0]
	x.batched.step()
	for i := 1; i <= dmz; i++ {
		if why := differ(x.wantBatched[i], x.batched.wires[i].take()); why != "" {
			x.t.Fatalf("interface %d, in batches: %s", i, why)
		}
		x.wantBatched[i] = nil
	}
	got := x.batched.takeDelivered()
	if len(got) != len(x.wantGuest) {
		x.t.Fatalf("in batches the guest is given %d packets, not %d", len(got), len(x.wantGuest))
	}
	x.wantGuest = nil
}

// differ says how two lists of frames do; "": not at all.
func differ(a, b []wireFrame) string {
	if len(a) != len(b) {
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || !bytes.Equal(a[i].b, b[i].b) {
				rest := append(a[min(i, len(a)):len(a):len(a)], b[min(i, len(b)):]...)
				return fmt.Sprintf("%d frames and %d frames, first other %x", len(a), len(b), rest[0].b[:min(len(rest[0].b), 120)])
			}
		}
	}
	for i := range a {
		if !bytes.Equal(a[i].b, b[i].b) || a[i].offload != b[i].offload {
			return fmt.Sprintf("frame %d\n%x %+v\n%x %+v", i, a[i].b, a[i].offload, b[i].b, b[i].offload)
		}
	}
	return ""
}

// checkWays makes sure that the comparison was one.
func (x *triplet) checkWays() {
	x.t.Helper()
	ways := 0
	gen := x.fast.router.snap.Load().gen
	x.fast.filter.States().List(func(f *state.Flow) bool {
		for _, p := range f.Path {
			if p.Gen == gen {
				ways++
			}
		}
		return true
	})
	if ways < 50 {
		x.t.Errorf("only %d ways were ever noted", ways)
	}
	if a, b := fmt.Sprint(x.fast.router.Drops(), x.fast.filter.Drops()), fmt.Sprint(x.slow.router.Drops(), x.slow.filter.Drops()); a != b {
		x.t.Errorf("drops differ:\n%s\n%s", a, b)
	} else {
		x.t.Log(ways, "ways;", a)
	}
}

// withTTL is a frame with another time to live.
func withTTL(b []byte, ttl uint8) []byte {
	var v packet.View
	packet.Decode(b, &v)
	for v.TTL > ttl {
		packet.DecTTL(&v)
	}
	return b
}

// withDF is a frame that may be cut.
func withDF(b []byte) []byte {
	var v packet.View
	packet.Decode(b, &v)
	packet.ClearDF(&v)
	return b[:v.End]
}
