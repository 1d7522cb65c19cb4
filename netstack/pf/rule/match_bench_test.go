package rule

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tandem/netstack/packet"
)

// estate makes n rules as a large site has them: most name a network or a host
// on one side or both, and a service; few are for everything. Most packets go
// deep into the list.
func estate(rng *rand.Rand, n int) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		r := &rules[i]
		r.ID, r.Number, r.Quick, r.Action = fmt.Sprintf("r%d", i), i+1, true, Action(rng.IntN(3))
		if rng.IntN(2) == 0 {
			r.Interfaces = []uint16{uint16(1 + rng.IntN(6))}
		}
		r.Source, r.Destination = AnyAddr(), AnyAddr()
		if rng.IntN(10) < 6 {
			r.Source = AddrMatch{Prefixes: []netip.Prefix{hostOrNet(rng)}}
		}
		if rng.IntN(10) < 9 {
			r.Destination = AddrMatch{Prefixes: []netip.Prefix{hostOrNet(rng)}}
		}
		r.Protos = [][]uint8{{packet.ProtoTCP}, {packet.ProtoUDP}, {packet.ProtoTCP, packet.ProtoUDP}, nil}[rng.IntN(4)]
		if len(r.Protos) > 0 {
			p := uint16(rng.IntN(1000))
			r.DestinationPorts = []PortRange{{p, p + uint16(rng.IntN(2)*rng.IntN(100))}}
		}
		if r.DestinationPorts == nil || r.Source.Any && r.Destination.Any {
			r.Destination = AddrMatch{Prefixes: []netip.Prefix{hostOrNet(rng)}}
		}
	}
	return rules
}

func hostOrNet(rng *rand.Rand) netip.Prefix {
	a := randomAddr(rng)
	bits := []int{16, 24, 24, 28, 32, 32}[rng.IntN(6)]
	if a.Is6() {
		bits = []int{48, 56, 64, 128}[rng.IntN(4)]
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 50, 100, 1_000, 10_000} {
		for _, kind := range []struct {
			name  string
			rules func(*rand.Rand, int) []Rule
		}{{"estate", estate}, {"mixed", func(rng *rand.Rand, n int) []Rule { return mixed(rng, n, false) }}} {
			rng := rand.New(rand.NewPCG(1, uint64(n)))
			s := mustCompile(b, kind.rules(rng, n))
			queries := make([]Query, 4096)
			for i := range queries {
				queries[i] = randomQuery(rng)
			}
			b.Run(fmt.Sprintf("%s/%d", kind.name, n), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					s.Match(&queries[i&4095])
					i++
				}
			})
			b.Run(fmt.Sprintf("%s/%d/walk", kind.name, n), func(b *testing.B) {
				i := 0
				for b.Loop() {
					k := makeKey(&queries[i&4095])
					s.walk(&k)
					i++
				}
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		rules := estate(rand.New(rand.NewPCG(1, uint64(n))), n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustCompile(b, rules)
			}
		})
	}
}
