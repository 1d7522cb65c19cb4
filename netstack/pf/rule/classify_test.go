package rule

import (
	"math/rand/v2"
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
