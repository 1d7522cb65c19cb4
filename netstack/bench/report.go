package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// report is the outcome of a run, as -json prints it.
type report struct {
	Machine  string      `json:"machine"`
	CPUs     int         `json:"cpus"`
	Kernel   string      `json:"kernel"`
	Rounds   int         `json:"rounds"`
	Seconds  float64     `json:"seconds"`
	Raised   int         `json:"nice"`
	Foreign  *spread     `json:"foreign_cpus,omitempty"` // processors that other programs used
	Rows     []reportRow `json:"rows"`
	Problems []string    `json:"problems"`
}

type reportRow struct {
	ID       string            `json:"id"`
	Title    string            `json:"title"`
	Unit     string            `json:"unit"`
	Worlds   map[string]spread `json:"worlds"`
	ToKernel *float64          `json:"ours_to_kernel,omitempty"`
	Kernel   string            `json:"ours_to_kernel_target,omitempty"`
	ToCopier *float64          `json:"ours_to_copier,omitempty"`
	Copier   string            `json:"ours_to_copier_target,omitempty"`
	Remark   string            `json:"remark,omitempty"`
}

// report sums the run up.
func (b *bench) report() report {
	r := report{
		Machine: cpuModel(), CPUs: runtime.NumCPU(), Kernel: kernelRelease(),
		Rounds: b.opts.rounds, Seconds: b.opts.seconds.Seconds(), Raised: b.opts.nice,
		Rows: []reportRow{}, Problems: append([]string{}, b.problems...),
	}
	if len(b.foreign) > 0 {
		s := spreadOf(b.foreign)
		r.Foreign = &s
	}
	all := rows()
	s := b.samples.summary().borrowed(all)
	for _, row := range all {
		if len(s[row.id]) == 0 {
			continue
		}
		line := reportRow{ID: row.id, Title: row.title, Unit: row.unit, Worlds: s[row.id]}
		if v := s.ratio(row.id, "kernel"); !math.IsNaN(v) {
			line.ToKernel, line.Kernel = &v, row.toKernel.String()
		}
		if v := s.ratio(row.id, "copier"); !math.IsNaN(v) {
			line.ToCopier, line.Copier = &v, row.toCopier.String()
		}
		if row.remark != nil {
			line.Remark = row.remark(s)
		}
		r.Rows = append(r.Rows, line)
	}
	return r
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeText prints the table for people.
func (r *report) writeText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, %d CPUs, Linux %s; medians of %d rounds of %g s (min-max)\n\n", r.Machine, r.CPUs, r.Kernel, r.Rounds, r.Seconds)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tunit\tkernel\tours\tcopier\tours/kernel\ttarget\tours/copier\ttarget")
	for _, row := range r.Rows {
		cells := []string{row.Title, row.Unit}
		for _, world := range []string{"kernel", "ours", "copier"} {
			cells = append(cells, spreadText(row.Worlds, world))
		}
		cells = append(cells, ratioText(row.ToKernel), row.Kernel, ratioText(row.ToCopier), row.Copier)
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	trimLines(&b)
	fmt.Fprintln(&b)
	for _, row := range r.Rows {
		if row.Remark != "" {
			fmt.Fprintf(&b, "%s: %s\n", strings.TrimSpace(row.Title), row.Remark)
		}
	}
	if r.Foreign != nil {
		fmt.Fprintf(&b, "other programs used %.2f CPUs meanwhile (%.2f-%.2f)\n", r.Foreign.Median, r.Foreign.Min, r.Foreign.Max)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// trimLines takes the blanks from the line ends that empty cells leave.
func trimLines(b *bytes.Buffer) {
	lines := bytes.Split(bytes.Clone(b.Bytes()), []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimRight(lines[i], " ")
	}
	b.Reset()
	b.Write(bytes.Join(lines, []byte("\n")))
}

func spreadText(worlds map[string]spread, world string) string {
	s, ok := worlds[world]
	switch {
	case !ok:
		return "-"
	case len(s.Samples) == 1:
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", number(s.Median), number(s.Min), number(s.Max))
}

func ratioText(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v)
}

// number prints three digits that matter.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "of unknown release"
	}
	end := max(0, slices.Index(u.Release[:], 0))
	return string(u.Release[:end])
}
