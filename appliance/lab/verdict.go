package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/vnet"
)

const (
	// lookBack is how much of a time's end is not judged: a probe that was
	// sent there has no answer yet, and a connection is not through.
	lookBack = 400 * time.Millisecond
	// caughtMargin is how long around a change a handshake may be caught half
	// open: its state is on the node that is not master any more.
	caughtMargin = 200 * time.Millisecond
)

// Verdict is what one expectation showed, counted from frames of the lab's
// hosts.
type Verdict struct {
	Name        string   `json:"name"`
	AtSeconds   float64  `json:"at_seconds"`
	Held        bool     `json:"held"`
	Faults      []string `json:"faults"`
	Master      string   `json:"master"`
	PingsSent   int      `json:"pings_sent"`
	PingsLost   int      `json:"pings_lost"`
	GapMS       float64  `json:"gap_ms"` // the longest time without an answer
	AllowedMS   float64  `json:"allowed_ms"`
	Opened      int      `json:"connections_opened"`
	Answered    int      `json:"connections_answered"`
	Retried     int      `json:"connections_retried"`     // needed more than one SYN
	Interrupted int      `json:"connections_interrupted"` // failed
	Refused     int      `json:"connections_refused"`
}

func (v *Verdict) fault(format string, args ...any) {
	v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
}

// holder says which node holds every address now; a text that is no node's
// name says what is wrong instead.
func (c *cluster) holder() string {
	who := ""
	for _, m := range c.machines {
		if m.node == nil {
			continue
		}
		switch m.node.Status().Role {
		case status.RoleMaster, status.RoleStandalone:
			if who != "" {
				return "several nodes"
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

// judge says whether an expectation holds, at the end of its time.
func (c *cluster) judge(e *topologyExpected, start time.Time) Verdict {
	from, to := start.Add(e.From.Duration), start.Add(e.To.Duration-lookBack)
	v := Verdict{Name: e.Name, AtSeconds: e.From.Seconds(), Master: c.holder(), AllowedMS: ms(e.GapMax.Duration), Faults: []string{}}
	if e.Master != "" && v.Master != e.Master {
		v.fault("%s holds the addresses, should be %s", v.Master, e.Master)
	}
	recovered := from
	for n := range c.traffic {
		if t := &c.traffic[n]; t.ping != nil {
			if at := t.judgePings(&v, e.GapMax.Duration, from, to); at.After(recovered) {
				recovered = at
			}
		}
	}
	for n := range c.traffic {
		if t := &c.traffic[n]; t.connect != nil {
			t.judgeConnections(&v, from, recovered, to)
		}
	}
	for _, a := range e.Alarms {
		if m := c.machine(a.Appliance); m.node == nil || !slices.ContainsFunc(m.node.Status().Alarms, func(s status.Alarm) bool {
			return strings.Contains(s.Message, a.Text)
		}) {
			v.fault("%s shows no alarm with %q", a.Appliance, a.Text)
		}
	}
	v.Held = len(v.Faults) == 0
	return v
}

// judgePings adds what became of pings, and says since when they are answered
// again.
func (t *traffic) judgePings(v *Verdict, allowed time.Duration, from, to time.Time) (recovered time.Time) {
	p := t.ping.Report(from, to)
	v.PingsSent, v.PingsLost = v.PingsSent+p.Sent, v.PingsLost+p.Lost+p.Pending // no answer within lookBack is none
	gap := p.Longest.Length()
	v.GapMS = max(v.GapMS, ms(gap))
	if gap > allowed {
		v.fault("%s was interrupted for %.0f ms, allowed are %.0f", t.spec.Name, ms(gap), ms(allowed))
	}
	if p.Longest.Open {
		v.fault("%s does not come back", t.spec.Name)
	}
	if p.Sent == 0 {
		v.fault("%s sent nothing", t.spec.Name)
	}
	for _, g := range p.Gaps {
		recovered = g.End
	}
	return recovered
}

// judgeConnections adds what became of connections.
func (t *traffic) judgeConnections(v *Verdict, from, recovered, to time.Time) {
	r := t.connect.Report(from, to)
	v.Opened, v.Answered, v.Retried, v.Interrupted = v.Opened+r.Opened, v.Answered+r.Answered, v.Retried+r.Retried, v.Interrupted+r.Failed
	if refused := countRefused(r.Failures); refused > 0 {
		v.Refused += refused
		v.fault("%d connections %s were refused", refused, t.spec.Name)
	}
	if late := t.connect.Report(recovered.Add(caughtMargin), to); late.Answered < late.Opened {
		v.fault("%d of %d connections %s opened after the recovery were not answered", late.Opened-late.Answered, late.Opened, t.spec.Name)
	}
	if want := t.spec.SeenAs.Addr; want.IsValid() {
		for _, c := range t.connect.Connections(from, to) {
			if c.SeenAs.IsValid() && c.SeenAs.Addr() != want {
				v.fault("the server saw %v as client of a connection %s, should be %v", c.SeenAs.Addr(), t.spec.Name, want)
				return
			}
		}
	}
}

// countRefused counts connections that a reset ended.
func countRefused(failures []vnet.Connection) (n int) {
	for _, f := range failures {
		if f.Outcome == vnet.Refused {
			n++
		}
	}
	return n
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
