package rule

import (
	"math/rand/v2"
	"testing"
)

func TestExplainSaysWhatMatchDoes(t *testing.T) {
	for _, n := range []int{12, 400} {
		rng := rand.New(rand.NewPCG(5, uint64(n)))
		s := mustCompile(t, mixed(rng, n, true))
		for range 500 {
			q := randomQuery(rng)
			asked := q
			next, decides := 0, -1
			got, ok, tag, log := s.Explain(&asked, func(st Step) {
				if st.Index != next || st.Rule != s.Rule(next) {
					t.Fatalf("step %d is about rule %d", next, st.Index)
				}
				next++
				if st.Decides {
					decides = st.Index
					if st.Differs != Same {
						t.Errorf("rule %d decides and differs by %v", st.Index, st.Differs)
					}
				}
			})
			if asked != q {
				t.Fatal("Explain changed the query")
			}
			want, wantOK := s.Match(&q)
			if got != want || ok != wantOK || decides != want || tag != q.Tag || log != q.Log {
				t.Fatalf("Explain = %d (decides %d), Match = %d", got, decides, want)
			}
			if quick := ok && s.Rule(got).Quick; quick && next != got+1 || !quick && next != n {
				t.Fatalf("%d steps for rule %d of %d", next, got, n)
			}
		}
	}
}

func TestExplainCountsNothing(t *testing.T) {
	s := mustCompile(t, []Rule{pass(func(*Rule) {})})
	q := tcp("10.0.0.1:1", "10.0.0.2:2")
	s.Explain(&q, func(Step) {})
	if c := s.Counters()[0]; c != (Counters{}) {
		t.Errorf("counters = %+v", c)
	}
}

func TestCriteriaHaveTheNamesOfTheKeys(t *testing.T) {
	for c := ByDirection; c <= ByRole; c++ {
		if c.String() == "" || c.String() == "unknown" {
			t.Errorf("criterion %d has no name", c)
		}
	}
	if Criterion(99).String() != "unknown" {
		t.Error("a criterion that is none has a name")
	}
}
