package nat

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"tandem/netstack/packet"
	"tandem/netstack/pf/rule"
)

// ranges of all kinds of edges.
var ranges = []portRange{{1024, 65535}, {0, 65535}, {1, 65534}, {2000, 2009}, {63, 64}, {64, 127}, {255, 257}, {65535, 65535}, {100, 900}, {0, 0}}

func TestBlocksAreSharedOutExactly(t *testing.T) {
	for _, r := range ranges {
		for share := range shares {
			var got []uint16
			own := r.own(share)
			for i := range own {
				p := r.ownAt(share, i)
				if int(p)/blockPorts%shares != share {
					t.Fatalf("%v: own port %d of share %d", r, p, share)
				}
				got = append(got, p)
			}
			for i := range r.size() - own {
				p := r.otherAt(share, i)
				if int(p)/blockPorts%shares == share {
					t.Fatalf("%v: other port %d of share %d", r, p, share)
				}
				got = append(got, p)
			}
			slices.Sort(got)
			for i, p := range got {
				if int(p) != int(r.low)+i {
					t.Fatalf("%v: port %d is at place %d", r, p, i)
				}
			}
			if len(got) != r.size() {
				t.Fatalf("%v: %d ports, want %d", r, len(got), r.size())
			}
		}
	}
}

// book is the ports in use, by the whole tuple.
type book struct {
	used  map[packet.Tuple]bool
	asked int
}

func (b *book) inUse(t *packet.Tuple) bool {
	b.asked++
	return b.used[*t]
}

// gate is a node with one outbound translation.
type gate struct {
	*Set
	book
	env Ports
}

func newGate(t testing.TB, hostID uint32, change func(*Outbound)) *gate {
	o := Outbound{ID: "o", Match: anywhere(), Translation: netip.MustParseAddr("198.51.100.200")}
	if change != nil {
		change(&o)
	}
	g := &gate{Set: compile(t, Config{Outbound: []Outbound{o}}), book: book{used: make(map[packet.Tuple]bool)}}
	g.env = Ports{InUse: g.inUse, Rand: rand.New(rand.NewPCG(1, 2)).Uint64, HostID: hostID}
	return g
}

// open begins a connection and keeps its port in use.
func (g *gate) open(q rule.Query) (uint16, Outcome) {
	a, port, _, outcome := g.Source(&q, wan, &g.env)
	if outcome == Translated {
		q.Src, q.SrcPort = a, port
		if q.Proto == packet.ProtoICMP {
			q.DstPort = port
		}
		g.used[q.Tuple] = true
	}
	return port, outcome
}

func TestPortsAreSpreadOverTheOwnBlocks(t *testing.T) {
	g := newGate(t, 6, nil) // 6 modulo 4 is 2
	q := query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443")
	const draws = 1 << 18
	count := make(map[uint16]int)
	for range draws {
		_, port, _, outcome := g.Source(&q, wan, &g.env)
		if outcome != Translated || port/blockPorts%shares != 2 || port < 1024 {
			t.Fatalf("port %d: %v", port, outcome)
		}
		count[port]++
	}
	own := portRange{1024, 65535}.own(2)
	mean := float64(draws) / float64(own)
	var chi float64
	for i := range own {
		d := float64(count[portRange{1024, 65535}.ownAt(2, i)]) - mean
		chi += d * d / mean
	}
	// For a fair draw chi is about own, give or take its square root of two.
	if chi > float64(own)*1.1 || chi < float64(own)*0.9 {
		t.Errorf("chi square %.0f for %d ports", chi, own)
	}
}

func TestTwoMastersDoNotChooseTheSame(t *testing.T) {
	a, b := newGate(t, 1, nil), newGate(t, 2, nil)
	q := query(lan, packet.ProtoUDP, "192.168.1.5:5000", "203.0.113.1:53")
	seen := make(map[uint16]bool)
	for range 10_000 {
		p, _ := a.open(q)
		seen[p] = true
	}
	for range 10_000 {
		if p, outcome := b.open(q); seen[p] || outcome != Translated {
			t.Fatalf("port %d is chosen by both", p)
		}
	}
}

func TestOtherBlocksOnlyWhenTheOwnAreFull(t *testing.T) {
	g := newGate(t, 1, func(o *Outbound) { o.PortLow, o.PortHigh = 1024, 1024+2*stripe-1 })
	q := query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443")
	seen := make(map[uint16]bool)
	for i := range 2 * stripe {
		port, outcome := g.open(q)
		if outcome != Translated || seen[port] {
			t.Fatalf("connection %d: port %d, %v", i, port, outcome)
		}
		seen[port] = true
		if own := port/blockPorts%shares == 1; own != (i < 2*blockPorts) {
			t.Errorf("connection %d has port %d", i, port)
		}
	}
	g.asked = 0
	if port, outcome := g.open(q); outcome != PortsFull || g.asked != 2*stripe {
		t.Errorf("full range: port %d, %v after %d questions", port, outcome, g.asked)
	}
	// The same ports serve towards another host, another port, another protocol.
	for _, q := range []rule.Query{
		query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.2:443"),
		query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:80"),
		query(lan, packet.ProtoUDP, "192.168.1.5:5000", "203.0.113.1:443"),
	} {
		if port, outcome := g.open(q); outcome != Translated || port/blockPorts%shares != 1 {
			t.Errorf("to %v:%d: port %d, %v", q.Dst.Netip(), q.DstPort, port, outcome)
		}
	}
}

func TestFullRangeFailsFast(t *testing.T) {
	g := newGate(t, 1, nil)
	asked := make(map[uint16]int)
	g.env.InUse = func(t *packet.Tuple) bool { asked[t.SrcPort]++; return true }
	q := query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443")
	if _, outcome := g.open(q); outcome != PortsFull || len(asked) != ownTriesMax+otherTriesMax {
		t.Errorf("%v after %d ports, want %d", outcome, len(asked), ownTriesMax+otherTriesMax)
	}
	for p, n := range asked {
		if n > 1 {
			t.Errorf("port %d is tried %d times", p, n)
		}
	}
}

func TestCrowdedRangeStillHasPorts(t *testing.T) {
	g := newGate(t, 1, nil)
	// Of 64 ports one is free.
	g.env.InUse = func(t *packet.Tuple) bool { return t.SrcPort%64 != 17 }
	q := query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443")
	for range 200 {
		if port, outcome := g.open(q); outcome != Translated || port%64 != 17 {
			t.Fatalf("port %d, %v", port, outcome)
		}
	}
}

func TestIdentifiersOfPings(t *testing.T) {
	g := newGate(t, 0, func(o *Outbound) { o.PortLow, o.PortHigh = 2000, 2009 }) // which are ports only
	q := query(lan, packet.ProtoICMP, "192.168.1.5:77", "203.0.113.1:77")
	for range 3000 {
		if id, outcome := g.open(q); outcome != Translated || id/blockPorts%shares != 0 {
			t.Fatalf("identifier %d, %v", id, outcome)
		}
	}
	for tuple := range g.used {
		if tuple.SrcPort != tuple.DstPort {
			t.Fatalf("asked for %+v", tuple)
		}
	}
	for _, iq := range []struct {
		family, proto, typ uint8
		want               bool
	}{{4, packet.ProtoICMP, packet.ICMP4Timestamp, true}, {4, packet.ProtoICMP, packet.ICMP4Unreachable, false},
		{6, packet.ProtoICMPv6, packet.ICMP6Echo, true}, {6, packet.ProtoICMPv6, packet.ICMP6TooBig, false},
		{4, packet.ProtoTCP, packet.ICMP4Echo, false}} {
		q := rule.Query{ICMPType: iq.typ}
		q.Family, q.Proto = iq.family, iq.proto
		if isQuery(&q) != iq.want {
			t.Errorf("isQuery(%+v) = %v", iq, !iq.want)
		}
	}
}

func TestWhatMustStayCollides(t *testing.T) {
	static := newGate(t, 1, func(o *Outbound) { o.StaticPort = true })
	plain := newGate(t, 1, nil)
	fragment := query(lan, packet.ProtoUDP, "192.168.1.5:0", "203.0.113.1:0")
	fragment.Fragment = true
	tests := []struct {
		name string
		g    *gate
		q    rule.Query
	}{
		{"static port", static, query(lan, packet.ProtoUDP, "192.168.1.5:500", "203.0.113.1:500")},
		{"identifier with static port", static, query(lan, packet.ProtoICMP, "192.168.1.5:7", "203.0.113.1:7")},
		{"GRE", plain, query(lan, packet.ProtoGRE, "192.168.1.5:0", "203.0.113.1:0")},
		{"ESP", plain, query(lan, packet.ProtoESP, "192.168.1.5:0", "203.0.113.1:0")},
		{"later fragment", plain, fragment},
	}
	for _, tt := range tests {
		port, outcome := tt.g.open(tt.q)
		if outcome != Translated || port != tt.q.SrcPort {
			t.Errorf("%s: port %d, %v", tt.name, port, outcome)
		}
		second := tt.q
		second.Src = addr("192.168.1.6")
		if _, outcome := tt.g.open(second); outcome != Collision {
			t.Errorf("%s, a second host: %v, want %v", tt.name, outcome, Collision)
		}
		second.Dst = addr("203.0.113.2")
		if _, outcome := tt.g.open(second); outcome != Translated {
			t.Errorf("%s, to another server: %v", tt.name, outcome)
		}
	}
}

func TestChoosingDoesNotAllocate(t *testing.T) {
	s := compile(t, office())
	rng := rand.New(rand.NewPCG(1, 1))
	env := &Ports{InUse: func(t *packet.Tuple) bool { return t.SrcPort%2 == 0 }, Rand: rng.Uint64,
		Held: func(packet.Addr) bool { return true }}
	in := query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.94:25")
	out := query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443")
	if n := testing.AllocsPerRun(1000, func() {
		s.Destination(&in)
		s.Source(&out, wan, env)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzPortChoice tries ranges, host numbers and occupations: a port that comes
// out is in the range and free, and none comes out only if all that were tried
// are taken.
func FuzzPortChoice(f *testing.F) {
	f.Add(uint16(1024), uint16(65535), uint32(1), uint64(3), uint16(2))
	f.Add(uint16(7), uint16(7), uint32(4_000_000_000), uint64(9), uint16(1))
	f.Fuzz(func(t *testing.T, low, high uint16, host uint32, seed uint64, every uint16) {
		if low > high {
			low, high = high, low
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		free := func(p uint16) bool { return every != 0 && p%every == 0 }
		asked := 0
		env := &Ports{HostID: host, Rand: rng.Uint64, InUse: func(t *packet.Tuple) bool { asked++; return !free(t.SrcPort) }}
		q := query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443")
		port, outcome := portRange{low, high}.choose(&q, false, env)
		switch {
		case outcome == Translated && (port < low || port > high || !free(port)):
			t.Errorf("port %d of %d-%d", port, low, high)
		case outcome == PortsFull && asked < min(int(high)-int(low)+1, ownTriesMax):
			t.Errorf("full after %d questions", asked)
		case asked > 2*otherTriesMax:
			t.Errorf("%d questions", asked)
		}
	})
}

func BenchmarkSource(b *testing.B) {
	s := compile(b, office())
	rng := rand.New(rand.NewPCG(1, 1))
	env := &Ports{InUse: func(t *packet.Tuple) bool { return false }, Rand: rng.Uint64, HostID: 1}
	q := query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443")
	b.ReportAllocs()
	for b.Loop() {
		s.Source(&q, wan, env)
	}
}

// BenchmarkSourceOwnBlocksFull is a destination that has used up the node's own
// share of the ports.
func BenchmarkSourceOwnBlocksFull(b *testing.B) {
	s := compile(b, office())
	rng := rand.New(rand.NewPCG(1, 1))
	env := &Ports{Rand: rng.Uint64, HostID: 1,
		InUse: func(t *packet.Tuple) bool { return t.SrcPort/blockPorts%shares == 1 }}
	q := query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443")
	b.ReportAllocs()
	for b.Loop() {
		s.Source(&q, wan, env)
	}
}
