package lab

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
)

// runExample runs a topology of the examples without waiting.
func runExample(t *testing.T, name string, seed uint64) *Result {
	t.Helper()
	topology, err := LoadExample(name)
	if err != nil {
		t.Fatal(err)
	}
	return runTopology(t, topology, seed)
}

func runTopology(t *testing.T, topology *Topology, seed uint64) *Result {
	t.Helper()
	res, err := Run(context.Background(), Options{Topology: topology, Seed: seed, Virtual: true})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// wantHeld fails with the time line of a run that did not hold.
func wantHeld(t *testing.T, res *Result) {
	t.Helper()
	if res.Held {
		return
	}
	var b bytes.Buffer
	for i := range res.Timeline {
		printLine(&b, &res.Timeline[i])
	}
	res.Summary(&b)
	t.Errorf("seed %d did not hold:\n%s", res.Seed, b.String())
}

var (
	firstSeed = flag.Uint64("seed", 1, "first seed of the reference pair's runs")
	seeds     = flag.Uint64("seeds", 10, "how many runs with seeds from there on")
)

func TestReferencePairHoldsInVirtualTime(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			wantHeld(t, runExample(t, Reference, seed))
		})
	}
}

func TestRoutedPairHoldsInVirtualTime(t *testing.T) {
	for seed := range uint64(3) {
		wantHeld(t, runExample(t, "lab/routed-pair.toml", seed))
	}
}

func TestEqualSeedsGiveEqualFrames(t *testing.T) {
	first, second, other := runExample(t, Reference, 7), runExample(t, Reference, 7), runExample(t, Reference, 8)
	if first.Hash != second.Hash {
		t.Errorf("seed 7 gave %s, then %s", first.Hash, second.Hash)
	}
	if first.Hash == other.Hash {
		t.Error("seed 8 gave the frames of seed 7")
	}
	if !slices.Equal(first.Timeline, second.Timeline) {
		t.Error("the time lines differ")
	}
}
