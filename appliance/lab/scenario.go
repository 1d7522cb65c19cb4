package lab

import (
	"fmt"
	"time"

	"tandem/appliance/status"
)

// step is one thing that is done to the cluster, and what must follow.
type step struct {
	name string
	do   func(c *cluster) error
	// master is who must hold every address in the end.
	master string
	// gap is the longest interruption of the ping that is allowed.
	gap time.Duration
	// settle is how long the step is watched.
	settle time.Duration
}

// What a takeover may take. A backup waits three adverts and its own skew,
// 3.39 s with advskew 100, from the last advert it heard; after its master
// demoted itself it waits for one advert on the dead segment.
const (
	gapCrash   = 3700 * time.Millisecond
	gapCable   = 2 * time.Second
	gapPlanned = 250 * time.Millisecond
	watchPlan  = 2 * time.Second
	watchBack  = 3500 * time.Millisecond
)

// caughtMargin is how long around the change a handshake may be caught half
// open: its state is on the node that is not master any more.
const caughtMargin = 200 * time.Millisecond

const (
	primaryName   = "fw-primary"
	secondaryName = "fw-secondary"
)

// steps are the failover tests that people do by hand, in their order.
func steps() []step {
	back := func(do func(c *cluster) error) step {
		return step{name: "primary back", do: do, master: primaryName, gap: gapPlanned, settle: watchBack}
	}
	boot := func(c *cluster) error { return c.primary.powerOn() }
	return []step{
		{"primary shut down", func(c *cluster) error { c.primary.shutDown(); return nil }, secondaryName, gapPlanned, watchPlan},
		back(boot),
		{"primary crashed", func(c *cluster) error { c.primary.cut(); return nil }, secondaryName, gapCrash, 5 * time.Second},
		back(boot),
		{"WAN cable pulled", func(c *cluster) error { c.primary.jacks["wan"].Pull(); return nil }, secondaryName, gapCable, 3500 * time.Millisecond},
		back(func(c *cluster) error { c.primary.jacks["wan"].Push(); return nil }),
		{"LAN cable pulled", func(c *cluster) error { c.primary.jacks["lan"].Pull(); return nil }, secondaryName, gapCable, 3500 * time.Millisecond},
		back(func(c *cluster) error { c.primary.jacks["lan"].Push(); return nil }),
		{"CARP disabled", func(c *cluster) error { c.primary.node.SetEnabled(false); return nil }, secondaryName, gapPlanned, watchPlan},
		back(func(c *cluster) error { c.primary.node.SetEnabled(true); return nil }),
		{"maintenance mode on", func(c *cluster) error { return c.primary.node.SetMaintenance(true) }, secondaryName, gapPlanned, watchPlan},
		{"maintenance mode off", func(c *cluster) error { return c.primary.node.SetMaintenance(false) }, primaryName, gapPlanned, watchPlan},
	}
}

// Verdict is what one step showed, counted from frames of the lab's hosts.
type Verdict struct {
	Name        string        `json:"name"`
	At          time.Duration `json:"-"`
	AtSeconds   float64       `json:"at_seconds"`
	Held        bool          `json:"held"`
	Faults      []string      `json:"faults"`
	Master      string        `json:"master"`
	PingsSent   int           `json:"pings_sent"`
	PingsLost   int           `json:"pings_lost"`
	GapMS       float64       `json:"gap_ms"`
	AllowedMS   float64       `json:"allowed_ms"`
	Opened      int           `json:"connections_opened"`
	Answered    int           `json:"connections_answered"`
	Retried     int           `json:"connections_retried"`
	Interrupted int           `json:"connections_interrupted"`
	Refused     int           `json:"connections_refused"`
}

// holder says which node holds every address now; a text that is no node's
// name says what is wrong instead.
func (c *cluster) holder() string {
	who := ""
	for _, m := range []*machine{c.primary, c.secondary} {
		if m.node == nil {
			continue
		}
		switch m.node.Status().Role {
		case status.RoleMaster:
			if who != "" {
				return "both nodes"
			}
			who = m.name
		case status.RoleMixed:
			return m.name + " is MIXED"
		}
	}
	if who == "" {
		return "no node"
	}
	return who
}

// judge counts what happened from begin to end of a step.
func (c *cluster) judge(s *step, start, begin, end time.Time) Verdict {
	v := Verdict{Name: s.name, At: begin.Sub(start), AtSeconds: begin.Sub(start).Seconds(),
		Master: c.holder(), AllowedMS: ms(s.gap), Faults: []string{}}
	fault := func(format string, args ...any) { v.Faults = append(v.Faults, fmt.Sprintf(format, args...)) }
	p := c.ping.Report(begin, end)
	v.PingsSent, v.PingsLost, v.GapMS = p.Sent, p.Lost, ms(p.Longest.Length())
	recovered := begin
	for _, g := range p.Gaps {
		recovered = g.End
	}
	if v.Master != s.master {
		fault("%s holds the addresses, should be %s", v.Master, s.master)
	}
	if p.Longest.Length() > s.gap {
		fault("the ping was interrupted for %.0f ms, allowed are %.0f", v.GapMS, v.AllowedMS)
	}
	if p.Longest.Open {
		fault("the ping does not come back")
	}
	for _, r := range []struct {
		what string
		from func(from, to time.Time) (opened, answered, retried, refused, failed int)
	}{{"out of the LAN", c.connections(true)}, {"to the port forward", c.connections(false)}} {
		opened, answered, retried, refused, failed := r.from(begin, end)
		v.Opened, v.Answered, v.Retried = v.Opened+opened, v.Answered+answered, v.Retried+retried
		v.Refused += refused
		v.Interrupted += failed
		if refused > 0 {
			fault("%d connections %s were refused", refused, r.what)
		}
		if opened, answered, _, _, _ := r.from(recovered.Add(caughtMargin), end); answered < opened {
			fault("%d of %d connections %s opened after the recovery were not answered", opened-answered, opened, r.what)
		}
	}
	for _, visit := range c.web.Visits() {
		if !visit.At.Before(begin) && visit.At.Before(end) && visit.Client.Addr() != wanVIP {
			fault("the server saw %v as client, not the WAN VIP", visit.Client.Addr())
			break
		}
	}
	v.Held = len(v.Faults) == 0
	return v
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
