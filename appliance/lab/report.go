package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"tandem/netstack/capture"
	"tandem/netstack/vnet"
)

// printLine writes one line of the time line for people.
func printLine(w io.Writer, l *Line) {
	mark := " "
	if l.Who == "lab" {
		mark = "-"
	}
	fmt.Fprintf(w, "%7.3f s %s %-13s %s\n", l.Seconds, mark, l.Who, l.Text)
}

// sayVerdict prints what a step showed.
func (r *run) sayVerdict(v *Verdict) {
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

// connections counts one connector's connections of a time.
func (c *cluster) connections(out bool) func(from, to time.Time) (opened, answered, retried, refused, failed int) {
	connector := c.in
	if out {
		connector = c.out
	}
	return func(from, to time.Time) (opened, answered, retried, refused, failed int) {
		rep := connector.Report(from, to)
		for _, f := range rep.Failures {
			if f.Outcome == vnet.Refused {
				refused++
			}
		}
		return rep.Opened, rep.Answered, rep.Retried, refused, rep.Failed
	}
}

// record captures every switch into a folder, if one is asked for. The
// function returned ends it.
func (r *run) record() (func() error, error) {
	if r.opts.PCAP == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(r.opts.PCAP, 0o755); err != nil {
		return nil, err
	}
	var ends []func() error
	for _, sw := range r.c.switches {
		end, err := recordSwitch(sw, filepath.Join(r.opts.PCAP, sw.Name()+".pcapng"))
		if err != nil {
			return nil, err
		}
		ends = append(ends, end)
	}
	return func() error {
		for _, end := range ends {
			if err := end(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// recordSwitch captures what enters one switch.
func recordSwitch(sw *vnet.Switch, path string) (func() error, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	w, err := capture.NewWriter(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var failed error
	sw.Tap(func(now time.Time, port string, dir vnet.Direction, frame []byte) {
		if dir == vnet.Sent && failed == nil {
			failed = w.Write(&capture.Packet{Time: now, Iface: port, Dir: capture.In, Len: len(frame), Data: frame})
		}
	})
	return func() error {
		if err := w.Flush(); failed == nil {
			failed = err
		}
		if err := f.Close(); failed == nil {
			failed = err
		}
		if failed != nil {
			return fmt.Errorf("%s: %w", path, failed)
		}
		return nil
	}, nil
}
