// Package lab runs whole clusters in one process: nodes, switches, hosts,
// cables, and the failover tests that people do by hand, each with a verdict.
//
// The nodes are those of `appliance run`; only devices, clock and randomness
// are others (netstack/vnet). One goroutine runs everything, in real time for
// a person to watch, or in virtual time inside tests. Every verdict is counted
// from frames that the lab's hosts sent and received, never from what the
// nodes say about themselves, save who is master.
package lab

import (
	"context"
	"fmt"
	"io"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/vnet"
)

// bootTime is how long the pair gets to find its roles: the probe for its own
// addresses, then three adverts of silence.
const bootTime = 4500 * time.Millisecond

// lookBack is how much of a step's end is not judged: a probe that was sent
// there has no answer yet, and a connection is not through.
const lookBack = 400 * time.Millisecond

// Options is what a run is asked for.
type Options struct {
	Seed    uint64
	Virtual bool // time jumps from event to event
	Wait    func()
	PCAP    string // folder for a capture of each switch; empty: none
	Keep    bool   // go on after the last step until the context ends
	// Report takes the time line, one line at a time; nil: nobody reads it.
	Report io.Writer
}

// Result is what a run showed.
type Result struct {
	Seed     uint64    `json:"seed"`
	Held     bool      `json:"held"`
	Seconds  float64   `json:"seconds"`
	Verdicts []Verdict `json:"verdicts"`
	Timeline []Line    `json:"timeline"`
	Hash     string    `json:"frame_hash"`
}

// Line is one event of the time line.
type Line struct {
	Seconds float64 `json:"seconds"`
	Who     string  `json:"who"`
	Text    string  `json:"text"`
}

// run is a run under way.
type run struct {
	opts   Options
	c      *cluster
	start  time.Time
	result Result
}

// Run performs the failover tests on the reference pair. It fails where the
// lab itself cannot run; whether the cluster held is in the result.
func Run(ctx context.Context, opts Options) (*Result, error) {
	r := &run{opts: opts, result: Result{Seed: opts.Seed, Verdicts: []Verdict{}, Timeline: []Line{}}}
	c, err := newCluster(vnet.Config{Seed: opts.Seed, RealTime: !opts.Virtual, Wait: opts.Wait}, r.nodeEvent)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	defer c.close()
	r.c, r.start = c, c.world.Now()
	stop := context.AfterFunc(ctx, c.world.Stop)
	defer stop()
	done, err := r.record()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err = r.perform(); err == nil && opts.Keep {
		r.say("lab", "everything stays up; interrupt to end it")
		err = c.world.RunFor(24 * time.Hour)
	}
	if e := done(); err == nil {
		err = e
	}
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	r.finish()
	return &r.result, nil
}

// perform boots the pair and goes through the steps.
func (r *run) perform() error {
	c := r.c
	r.say("lab", "both nodes are switched on")
	for _, m := range []*machine{c.primary, c.secondary} {
		if err := m.powerOn(); err != nil {
			return err
		}
	}
	if err := c.world.RunFor(bootTime); err != nil {
		return err
	}
	if err := c.startTraffic(); err != nil {
		return err
	}
	list := append([]step{{"both nodes up", func(*cluster) error { return nil }, primaryName, 0, time.Second}}, steps()...)
	for i := range list {
		if err := r.step(&list[i]); err != nil {
			return fmt.Errorf("%s: %w", list[i].name, err)
		}
	}
	return nil
}

// step does one thing to the cluster, watches, and judges.
func (r *run) step(s *step) error {
	begin := r.c.world.Now()
	r.say("lab", s.name)
	if err := s.do(r.c); err != nil {
		return err
	}
	if err := r.c.world.RunFor(s.settle); err != nil {
		return err
	}
	v := r.c.judge(s, r.start, begin, r.c.world.Now().Add(-lookBack))
	r.result.Verdicts = append(r.result.Verdicts, v)
	r.sayVerdict(&v)
	return nil
}

// finish sums up.
func (r *run) finish() {
	r.result.Seconds = r.c.world.Now().Sub(r.start).Seconds()
	r.result.Hash = fmt.Sprintf("%016x", r.c.world.Hash())
	r.result.Held = len(r.result.Verdicts) == len(steps())+1
	for _, v := range r.result.Verdicts {
		r.result.Held = r.result.Held && v.Held
	}
}

// nodeEvent takes a line of a node's log.
func (r *run) nodeEvent(machine string, e status.Event) {
	if e.Level != "debug" {
		r.say(machine, e.Message)
	}
}

// say adds a line to the time line.
func (r *run) say(who, text string) {
	l := Line{Who: who, Text: text}
	if r.c != nil {
		l.Seconds = r.c.world.Now().Sub(r.start).Seconds()
	}
	r.result.Timeline = append(r.result.Timeline, l)
	if r.opts.Report != nil {
		printLine(r.opts.Report, &l)
	}
}
