package rule

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 50, 100, 1_000, 10_000} {
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		s := mustCompile(b, mixed(rng, n, false))
		queries := make([]Query, 4096)
		for i := range queries {
			queries[i] = randomQuery(rng)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Match(&queries[i&4095])
				i++
			}
		})
		b.Run(fmt.Sprint(n, "/linear"), func(b *testing.B) {
			i := 0
			for b.Loop() {
				k := makeKey(&queries[i&4095])
				s.walk(&k)
				i++
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		rules := mixed(rand.New(rand.NewPCG(1, uint64(n))), n, false)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustCompile(b, rules)
			}
		})
	}
}
