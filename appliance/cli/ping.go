package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tandem/appliance/control"
	"tandem/appliance/status"
)

// pingCount is how many echo requests `ping` sends by default: a firewall is
// asked from scripts and at night.
const pingCount = 5

// host checks that a probe is given an address.
func host(text string) (string, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return "", usage("%q is no address; names are not looked up", text)
	}
	return addr.String(), nil
}

func (a *app) pingVerb() *cobra.Command {
	var r status.PingRequest
	var interval, timeout time.Duration
	cmd := a.reads(&cobra.Command{
		Use: "ping ADDRESS", Short: "Send echo requests from the node's own stack (exit 1: none was answered)", Args: cobra.ExactArgs(1),
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			var err error
			if r.Remote, err = host(args[0]); err != nil {
				return err
			}
			if r.Count < 0 {
				return usage("-n must not be negative")
			}
			r.IntervalSeconds, r.TimeoutSeconds = interval.Seconds(), timeout.Seconds()
			return a.runPing(ctx, c, r)
		}),
	})
	probeFlags(cmd, &r.Source, &r.Interface)
	cmd.Flags().IntVarP(&r.Count, "count", "n", pingCount, "how many (0: until you interrupt)")
	cmd.Flags().DurationVarP(&interval, "interval", "i", time.Second, "from one to the next")
	cmd.Flags().DurationVarP(&timeout, "timeout", "W", time.Second, "how long each is waited for")
	cmd.Flags().IntVar(&r.TTL, "ttl", 0, "time to live, or hop limit (default 64)")
	cmd.Flags().IntVarP(&r.Size, "size", "s", 56, "bytes of data")
	return cmd
}

func probeFlags(cmd *cobra.Command, source, iface *string) {
	cmd.Flags().StringVar(source, "source", "", "from this `ADDRESS` of the node")
	cmd.Flags().StringVar(iface, "interface", "", "out of this interface (`NAME`)")
}

// tally sums a ping up. Times are milliseconds.
type tally struct {
	sent, answered        int
	least, most, together float64
}

func (t *tally) add(p *status.Probe) {
	t.sent++
	if p.Result != "reply" {
		return
	}
	if t.answered++; t.answered == 1 {
		t.least = p.RTTms
	}
	t.least, t.most = min(t.least, p.RTTms), max(t.most, p.RTTms)
	t.together += p.RTTms
}

func (t *tally) String() string {
	lost := t.sent - t.answered
	text := fmt.Sprintf("%d sent, %d answered, %d lost (%.0f %%)", t.sent, t.answered, lost, 100*float64(lost)/float64(max(t.sent, 1)))
	if t.answered > 0 {
		text += fmt.Sprintf(", round trip %.3f/%.3f/%.3f ms (least, mean, most)", t.least, t.together/float64(t.answered), t.most)
	}
	return text
}

func (a *app) runPing(ctx context.Context, c *control.Client, r status.PingRequest) error {
	var rows *array
	if a.json {
		rows = a.array()
	}
	var sum tally
	err := c.Ping(ctx, r, func(p *status.Probe) error {
		if p.Result == "" {
			return errors.New("the node tells nothing about a probe")
		}
		sum.add(p)
		if rows != nil {
			return rows.add(p)
		}
		switch p.Result {
		case "reply":
			a.out.printf("%s: seq %d, %.3f ms\n", p.From, p.Seq, p.RTTms)
		case "timeout":
			a.out.printf("%s\n", a.out.paint(bad, fmt.Sprintf("no answer: seq %d", p.Seq)))
		default:
			a.out.printf("%s\n", a.out.paint(bad, fmt.Sprintf("%s: seq %d, %s", p.From, p.Seq, p.Result)))
		}
		return a.out.flush()
	})
	switch {
	case rows != nil && (err == nil || sum.sent > 0):
		rows.end()
	case rows == nil && sum.sent > 0:
		a.out.printf("%v\n", &sum)
	}
	if err == nil && sum.answered == 0 {
		err = errUnhealthy
	}
	return err
}

func (a *app) tracerouteVerb() *cobra.Command {
	var r status.TraceRequest
	var timeout time.Duration
	cmd := a.reads(&cobra.Command{
		Use: "traceroute ADDRESS", Short: "Who forwards packets on the way to an address (exit 1: it is not reached)", Args: cobra.ExactArgs(1),
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			var err error
			if r.Remote, err = host(args[0]); err != nil {
				return err
			}
			r.TimeoutSeconds = timeout.Seconds()
			return a.runTrace(ctx, c, r)
		}),
	})
	probeFlags(cmd, &r.Source, &r.Interface)
	cmd.Flags().IntVarP(&r.HopsMax, "hops", "m", 30, "how many hops at most")
	cmd.Flags().IntVarP(&r.Probes, "probes", "q", 3, "probes for each hop")
	cmd.Flags().DurationVarP(&timeout, "timeout", "W", time.Second, "how long each is waited for")
	return cmd
}

// trace prints a line for each hop as its probes come back.
type trace struct {
	p    *printer
	hop  int
	from string
}

func (t *trace) add(p *status.Probe) {
	if p.TTL != t.hop {
		if t.hop != 0 {
			t.p.printf("\n")
		}
		t.hop, t.from = p.TTL, ""
		t.p.printf("%2d ", p.TTL)
	}
	if p.Result == "timeout" {
		t.p.printf("  *")
		return
	}
	if p.From != t.from {
		t.from = p.From
		t.p.printf("  %s", p.From)
	}
	t.p.printf("  %s ms", strconv.FormatFloat(p.RTTms, 'f', 3, 64))
	if p.Result != "reply" && p.Result != "time exceeded" {
		t.p.printf(" (%s)", p.Result)
	}
}

func (a *app) runTrace(ctx context.Context, c *control.Client, r status.TraceRequest) error {
	var rows *array
	if a.json {
		rows = a.array()
	}
	t := &trace{p: a.out}
	arrived, probes := false, 0
	err := c.Traceroute(ctx, r, func(p *status.Probe) error {
		arrived = arrived || p.Result == "reply"
		probes++
		if rows != nil {
			return rows.add(p)
		}
		t.add(p)
		return a.out.flush()
	})
	switch {
	case rows != nil && (err == nil || probes > 0):
		rows.end()
	case t.hop != 0:
		a.out.printf("\n")
	}
	if err == nil && !arrived {
		err = errUnhealthy
	}
	return err
}
