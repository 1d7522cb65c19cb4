package main

import (
	"fmt"
	"math"
	"slices"
)

// target is what a ratio of medians should be. The benchmark prints it and
// judges nothing.
type target struct {
	AtMost bool // lower is better
	Value  float64
}

func (t *target) String() string {
	switch {
	case t == nil:
		return ""
	case t.AtMost:
		return fmt.Sprintf("<= %.2f", t.Value)
	}
	return fmt.Sprintf(">= %.2f", t.Value)
}

func atLeast(v float64) *target { return &target{Value: v} }
func atMost(v float64) *target  { return &target{AtMost: true, Value: v} }

// row is a line of the table.
type row struct {
	id, title, unit string
	toKernel        *target // of ours / kernel
	toCopier        *target // of ours / copier
	// borrow is the row that ours is taken from, where it has no value of its own.
	borrow string
	// remark says more about the medians of the row and of others.
	remark func(summary) string
}

// rows are the lines of the table in order. The targets are the realistic
// ones of the design; docs/performance.md says where they come from.
func rows() []row {
	return []row{
		{id: "tcp-1-up", title: "TCP, 1 stream up", unit: "Gbit/s", toKernel: atLeast(0.55), toCopier: atLeast(0.85)},
		{id: "tcp-1-down", title: "TCP, 1 stream down", unit: "Gbit/s", toKernel: atLeast(0.55), toCopier: atLeast(0.85)},
		{id: "tcp-4-up", title: "TCP, 4 streams up", unit: "Gbit/s", toKernel: atLeast(0.55), toCopier: atLeast(0.85)},
		{id: "tcp-4-down", title: "TCP, 4 streams down", unit: "Gbit/s", toKernel: atLeast(0.55), toCopier: atLeast(0.85)},
		{id: "packets", title: "60-byte packets, 10,000 flows", unit: "kpps", toCopier: atLeast(0.75)},
		{id: "packets-2", title: "  the kernel with 2 generators", unit: "kpps", toKernel: atLeast(0.85), borrow: "packets"},
		{id: "packets-many", title: "  1,000,000 flows", unit: "kpps", remark: ofFewFlows},
		{id: "packet-cpu", title: "  CPU time of the process", unit: "ns/packet", remark: ownCode},
		{id: "connections-1", title: "New connections, 1 thread", unit: "1000/s", toKernel: atLeast(1)},
		{id: "connections-8", title: "New connections, 8 threads", unit: "1000/s", toKernel: atLeast(1)},
		{id: "latency-50", title: "Round trip, p50", unit: "us", toCopier: atMost(1.15)},
		{id: "latency-99", title: "Round trip, p99", unit: "us"},
		{id: "cpu-device", title: "CPU per GB, the process", unit: "s/GB"},
		{id: "cpu-all", title: "CPU per GB, with both ends", unit: "s/GB"},
		{id: "plain-tcp-1-up", title: "TCP, 1 stream up, 1500-byte ends", unit: "Gbit/s", toKernel: atLeast(0.55)},
		{id: "plain-tcp-4-up", title: "TCP, 4 streams up, 1500-byte ends", unit: "Gbit/s", toKernel: atLeast(0.55)},
	}
}

// ofFewFlows compares a million flows with ten thousand.
func ofFewFlows(s summary) string {
	many, few := s.median("packets-many", "ours"), s.median("packets", "ours")
	if many == 0 || few == 0 {
		return ""
	}
	return fmt.Sprintf("ours %.2f of its rate with 10,000 flows (target >= 0.75)", many/few)
}

// ownCode is what the node adds to the work of copying.
func ownCode(s summary) string {
	ours, copier := s.median("packet-cpu", "ours"), s.median("packet-cpu", "copier")
	if ours == 0 || copier == 0 {
		return ""
	}
	return fmt.Sprintf("own code: %.0f ns more than the copier (target <= 600)", ours-copier)
}

// spread is what the rounds of one cell gave.
type spread struct {
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

// spreadOf sums up samples, of which there is at least one.
func spreadOf(samples []float64) spread {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1], Samples: samples}
}

// summary is the spread by row and world.
type summary map[string]map[string]spread

func (s samples) summary() summary {
	all := summary{}
	for id, worlds := range s {
		all[id] = map[string]spread{}
		for world, v := range worlds {
			all[id][world] = spreadOf(v)
		}
	}
	return all
}

// borrowed fills in what rows take from other rows.
func (s summary) borrowed(rows []row) summary {
	for _, r := range rows {
		if r.borrow == "" || s[r.id] == nil {
			continue
		}
		if v, ok := s[r.borrow]["ours"]; ok {
			s[r.id]["ours"] = v
		}
	}
	return s
}

// median is zero where nothing was measured.
func (s summary) median(id, world string) float64 { return s[id][world].Median }

// ratio is ours over another world's median; NaN where one is missing.
func (s summary) ratio(id, world string) float64 {
	ours, other := s.median(id, "ours"), s.median(id, world)
	if ours == 0 || other == 0 {
		return math.NaN()
	}
	return ours / other
}
