package rule

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func mustCompile(t testing.TB, rules []Rule) *Set {
	t.Helper()
	s, err := Compile(rules)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return s
}

// walked is the answer that every other way of finding it must give.
func walked(s *Set, q Query) (int, Query) {
	k := makeKey(&q)
	i := s.walk(&k)
	return i, q
}

func TestLookUpAgreesWithWalk(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 7))
		n := []int{51, 64, 200, 1000, 3000, 5000}[seed%6]
		s := mustCompile(t, mixed(rng, n, seed >= 6))
		hits := 0
		for range 2000 {
			q := randomQuery(rng)
			want, wantQ := walked(s, q)
			got, ok := s.Match(&q)
			if got != want || ok != (want >= 0) || q != wantQ {
				t.Fatalf("seed %d, %d rules: Match(%+v) = %d, %v, want %d", seed, n, q, got, ok, want)
			}
			if ok {
				hits++
			}
		}
		if hits < 200 {
			t.Errorf("seed %d: only %d packets met a rule, the test is worth little", seed, hits)
		}
	}
}

// TestLookUpOfManyInOneGroup has sets of several summary words.
func TestLookUpOfManyInOneGroup(t *testing.T) {
	const n = 9000
	rules := make([]Rule, n)
	for i := range rules {
		rules[i] = pass(func(r *Rule) {
			p := uint16(i)
			r.Number, r.DestinationPorts = i+1, []PortRange{{p, p}}
			if i%2 == 0 {
				r.Destination = prefixes("192.0.2.0/24")
			}
		})
	}
	s := mustCompile(t, rules)
	for _, port := range []uint16{0, 1, 63, 64, 4095, 4096, 4097, 8191, 8192, 8998, 8999} {
		q := tcp("10.0.0.1:1", "192.0.2.1:1")
		q.DstPort = port
		if i, ok := s.Match(&q); !ok || i != int(port) {
			t.Errorf("port %d: Match = %d, %v", port, i, ok)
		}
	}
	q := tcp("10.0.0.1:1", "192.0.2.1:9000")
	if i, ok := s.Match(&q); ok {
		t.Errorf("port 9000: Match = %d", i)
	}
}

// TestLargeAliasIsKeptOnce would take minutes and gigabytes otherwise.
func TestLargeAliasIsKeptOnce(t *testing.T) {
	var alias AddrMatch
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		alias.Ranges = append(alias.Ranges, [2]netip.Addr{a, a})
	}
	set := compiled(t, alias)
	rules := make([]Rule, 500)
	for i := range rules {
		rules[i] = pass(func(r *Rule) {
			r.Source, r.DestinationPorts = AddrMatch{Sets: []*AddrSet{set}}, []PortRange{{uint16(i), uint16(i)}}
		})
	}
	s := mustCompile(t, rules)
	for _, tt := range []struct {
		src  string
		want bool
	}{{"10.1.2.1:1", true}, {"10.1.2.2:1", false}} {
		q := tcp(tt.src, "192.0.2.1:321")
		if i, ok := s.Match(&q); ok != tt.want || ok && i != 321 {
			t.Errorf("from %s: Match = %d, %v", tt.src, i, ok)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	for _, n := range []int{10, 1000} {
		rng := rand.New(rand.NewPCG(1, 1))
		s := mustCompile(t, mixed(rng, n, true))
		queries := make([]Query, 256)
		for i := range queries {
			queries[i] = randomQuery(rng)
		}
		i := 0
		if got := testing.AllocsPerRun(1000, func() {
			s.Match(&queries[i&255])
			i++
		}); got != 0 {
			t.Errorf("%d rules: %v allocations", n, got)
		}
	}
}

func TestSameRulesCompileTheSame(t *testing.T) {
	rules := mixed(rand.New(rand.NewPCG(1, 1)), 500, true)
	a, b := mustCompile(t, rules), mustCompile(t, rules)
	for dir := range a.quick {
		for fam := range a.quick[dir] {
			if !slices.Equal(a.quick[dir][fam].sets, b.quick[dir][fam].sets) {
				t.Errorf("direction %d, family %d: the order of a map shows", dir, fam)
			}
		}
	}
}

// FuzzMatch makes rules and packets from a seed, and each packet must meet the
// same rule by look-up and by walk.
func FuzzMatch(f *testing.F) {
	f.Add(uint64(1), uint16(60), false)
	f.Add(uint64(2), uint16(700), true)
	f.Fuzz(func(t *testing.T, seed uint64, n uint16, slow bool) {
		rng := rand.New(rand.NewPCG(seed, 1))
		rules := mixed(rng, linearMax+1+int(n%1000), slow)
		for i := range rules {
			if slow && rng.IntN(20) == 0 {
				rules[i].Action, rules[i].Log, rules[i].Tag = Match, rng.IntN(2) == 0, []string{"", "x", "y"}[rng.IntN(3)]
			}
		}
		s := mustCompile(t, rules)
		for range 200 {
			q := randomQuery(rng)
			want, wantQ := walked(s, q)
			if got, _ := s.Match(&q); got != want || q != wantQ {
				t.Fatalf("Match(%+v) = %d, want %d", q, got, want)
			}
		}
	})
}
