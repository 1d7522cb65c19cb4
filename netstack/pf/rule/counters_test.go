package rule

import (
	"math/rand/v2"
	"testing"
)

// TestEvaluationsCountWhatCameThisFar walks the rules by hand and counts each
// rule that is reached in its direction.
func TestEvaluationsCountWhatCameThisFar(t *testing.T) {
	for _, n := range []int{10, 300} {
		rng := rand.New(rand.NewPCG(3, uint64(n)))
		s := mustCompile(t, mixed(rng, n, true))
		want, decided := make([]uint64, n), make([]uint64, n)
		for range 3000 {
			q := randomQuery(rng)
			k := makeKey(&q)
			for i := range s.matchers {
				m := &s.matchers[i]
				if m.dirs&(1<<q.Direction) != 0 {
					want[i]++
				}
				if m.quick && m.differs(&k) == Same {
					break
				}
			}
			if i, ok := s.Match(&q); ok {
				decided[i]++
			}
			q.Dry = true
			s.Match(&q)
		}
		for i, c := range s.Counters() {
			if c.Evaluations != want[i] || s.Decided(i) != decided[i] {
				t.Errorf("%d rules: rule %d evaluated %d times and decided %d, want %d and %d",
					n, i, c.Evaluations, s.Decided(i), want[i], decided[i])
			}
		}
	}
}

func TestCountersFollowTheIdentifier(t *testing.T) {
	rules := func(ids ...string) (rules []Rule) {
		for _, id := range ids {
			rules = append(rules, pass(func(r *Rule) { r.ID, r.Quick = id, false }))
		}
		return rules
	}
	old := mustCompile(t, rules("a", "b", ""))
	q := tcp("10.0.0.1:1", "10.0.0.2:2")
	for range 5 {
		old.Match(&q)
	}
	old.AddPackets(1, 7, 700)
	next := mustCompile(t, rules("new", "b", "a", ""))
	next.Carry(nil)
	next.Carry(old)
	old.AddPackets(1, 2, 20) // the old set is still in use somewhere
	next.AddPackets(1, 1, 100)
	next.Match(&q)
	want := []Counters{{Evaluations: 1}, {Evaluations: 6, Packets: 10, Bytes: 820}, {Evaluations: 6}, {Evaluations: 1}}
	for i, c := range next.Counters() {
		if c != want[i] {
			t.Errorf("rule %d: %+v, want %+v", i, c, want[i])
		}
	}
	if i, ok := next.ByID("a"); !ok || i != 2 {
		t.Errorf("ByID(a) = %d, %v", i, ok)
	}
	if _, ok := next.ByID(""); ok {
		t.Error("ByID finds a rule without an identifier")
	}
}
