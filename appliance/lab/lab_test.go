package lab

import (
	"context"
	"os"
	"testing"
)

// TestReferencePairHoldsInVirtualTime performs the lab's tests without waiting.
func TestReferencePairHoldsInVirtualTime(t *testing.T) {
	res, err := Run(context.Background(), Options{Seed: 1, Virtual: true, Report: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Held {
		t.Error("the pair did not hold")
	}
}
