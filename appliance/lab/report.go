package lab

import (
	"fmt"
	"io"
)

// printLine writes one line of the time line for people.
func printLine(w io.Writer, l *Line) {
	mark := " "
	if l.Who == "lab" {
		mark = "-"
	}
	fmt.Fprintf(w, "%7.3f s %s %-13s %s\n", l.Seconds, mark, l.Who, l.Text)
}

// printVerdict prints what a step showed.
func (r *run) printVerdict(v *Verdict) {
	if r.opts.Report == nil {
		return
	}
	word := "held"
	if !v.Held {
		word = "FAILED"
	}
	fmt.Fprintf(r.opts.Report, "          => %-6s %s: %d of %d pings lost, gap %.0f ms (allowed %.0f), %d of %d connections answered, master %s\n",
		word, v.Name, v.PingsLost, v.PingsSent, v.GapMS, v.AllowedMS, v.Answered, v.Opened, v.Master)
	for _, f := range v.Faults {
		fmt.Fprintf(r.opts.Report, "             %s\n", f)
	}
}

// Summary writes the verdicts as a table.
func (r *Result) Summary(w io.Writer) {
	fmt.Fprintf(w, "\n%-22s %-7s %-13s %10s %9s %9s %13s\n", "test", "verdict", "master", "pings lost", "gap", "allowed", "connections")
	for _, v := range r.Verdicts {
		word := "held"
		if !v.Held {
			word = "FAILED"
		}
		fmt.Fprintf(w, "%-22s %-7s %-13s %10d %6.0f ms %6.0f ms %7d/%d\n",
			v.Name, word, v.Master, v.PingsLost, v.GapMS, v.AllowedMS, v.Answered, v.Opened)
	}
	word := "all held"
	if !r.Held {
		word = "NOT all held"
	}
	fmt.Fprintf(w, "\n%s, %.1f s, seed %d\n", word, r.Seconds, r.Seed)
}
