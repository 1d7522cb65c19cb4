package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sampleBench is a run of two rounds in which the copier's last cell failed.
func sampleBench() *bench {
	b := &bench{opts: options{rounds: 2, seconds: time.Second, nice: -11}, samples: samples{}, foreign: []float64{0.1, 0.4, 0.2}}
	for _, s := range []struct {
		row, world string
		v          []float64
	}{
		{"tcp-1-up", "kernel", []float64{30, 34}},
		{"tcp-1-up", "ours", []float64{20, 19}},
		{"tcp-1-up", "copier", []float64{22, 22.5}},
		{"packets", "kernel", []float64{200, 210}},
		{"packets", "ours", []float64{400, 380}},
		{"packets", "copier", []float64{450, 470}},
		{"packets-2", "kernel", []float64{380, 390}},
		{"packets-many", "ours", []float64{300, 330}},
		{"packet-cpu", "ours", []float64{2500, 2540}},
		{"packet-cpu", "copier", []float64{1950, 2000}},
		{"latency-50", "kernel", []float64{20, 80}},
		{"latency-50", "ours", []float64{110, 112.26}},
		{"latency-50", "copier", []float64{105}},
	} {
		for _, v := range s.v {
			b.samples.add(s.row, s.world, v)
		}
	}
	b.problems = []string{"round 2, latency, copier: connection lost"}
	return b
}

func TestReportAsTextAndJSON(t *testing.T) {
	r := sampleBench().report()
	r.Machine, r.CPUs, r.Kernel = "a machine", 2, "6.1"
	var text, document bytes.Buffer
	if err := r.writeText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.writeJSON(&document); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(document.Bytes()) {
		t.Error("the document is no JSON")
	}
	golden(t, "report.txt", text.Bytes())
	golden(t, "report.json", document.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is now\n%s\nand was\n%s", name, got, want)
	}
}

func TestReportOfNothingIsEmpty(t *testing.T) {
	r := (&bench{opts: options{rounds: 1}, samples: samples{}}).report()
	var b bytes.Buffer
	if err := r.writeText(&b); err != nil || len(r.Rows) != 0 || r.Foreign != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSpreadOfRounds(t *testing.T) {
	for _, tt := range []struct {
		samples          []float64
		median, min, max float64
	}{
		{[]float64{3}, 3, 3, 3},
		{[]float64{5, 1}, 3, 1, 5},
		{[]float64{9, 1, 2}, 2, 1, 9},
		{[]float64{4, 1, 3, 2}, 2.5, 1, 4},
	} {
		if s := spreadOf(tt.samples); s.Median != tt.median || s.Min != tt.min || s.Max != tt.max {
			t.Errorf("spreadOf(%v) = %+v", tt.samples, s)
		}
	}
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.284: "0.28", 9.994: "9.99", 9.996: "10.0", 47.12: "47.1", 99.96: "100", 815.4: "815"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

// Each cell shows a row that the table has, and each row that is not derived
// from another one comes from some cell.
func TestCellsAndRowsBelongTogether(t *testing.T) {
	var ids []string
	for _, r := range rows() {
		ids = append(ids, r.id)
	}
	for _, c := range cells(true) {
		shown := c.name
		if c.row != "" {
			shown = c.row
		}
		if !slices.Contains(ids, shown) {
			t.Errorf("cell %s shows %s, which is no row", c.name, shown)
		}
	}
	if few, many := len(cells(false)), len(cells(true)); few >= many {
		t.Errorf("%d cells, %d with -more", few, many)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	o, err := parse([]string{"-rounds", "1", "-seconds", "0.5", "-cells", "^tcp", "-nice", "0"})
	if err != nil || o.rounds != 1 || o.seconds != 500*time.Millisecond || !o.only.MatchString("tcp-1-up") {
		t.Errorf("parse() = %+v, %v", o, err)
	}
	for _, bad := range [][]string{{"-rounds", "0"}, {"-seconds", "0"}, {"-seconds", "1e9"}, {"-cells", "("}, {"bin/appliance"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("parse(%q): no error", bad)
		}
	}
}
