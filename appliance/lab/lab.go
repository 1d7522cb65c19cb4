// Package lab runs whole clusters in one process: nodes, switches, hosts,
// cables, what happens to them, and a verdict on each thing that must hold. A
// [Topology] says all of it; the failover tests that people do by hand, on the
// reference pair, are one.
//
// The nodes are those of `appliance run`; only devices, clock and randomness
// are others (netstack/vnet). One goroutine runs everything, in real time for
// a person to watch, or in virtual time inside tests. Every verdict is counted
// from frames that the lab's hosts sent and received, never from what the
// nodes say about themselves, save who is master and what alarms it shows.
package lab

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"tandem/appliance/node"
	"tandem/appliance/status"
	"tandem/netstack/vnet"
)

// keepMax is how long a kept world stays: for practical purposes, for ever.
const keepMax = 365 * 24 * time.Hour

// Options is what a run is asked for.
type Options struct {
	// Topology is what is run; nil: the reference pair.
	Topology *Topology
	Seed     uint64
	Virtual  bool // time jumps from event to event
	// Wait makes goroutines with standard timers take part in virtual time, as
	// vnet.Config.Wait.
	Wait func()
	PCAP string // folder for a capture of each switch; empty: none
	Keep bool   // go on after the last event until the context ends
	// Stay is called when everything is over and goes on nevertheless (Keep),
	// with the nodes that are on, by name; they may be asked from any goroutine
	// until Run returns. May be nil.
	Stay func(nodes map[string]*node.Node)
	// Report takes the time line, one line at a time; nil: nobody reads it.
	Report io.Writer
}

// Result is what a run showed.
type Result struct {
	Title    string    `json:"title"`
	Seed     uint64    `json:"seed"`
	Held     bool      `json:"held"`
	Seconds  float64   `json:"seconds"`
	Verdicts []Verdict `json:"verdicts"`
	Timeline []Line    `json:"timeline"`
	// Hash is a digest of every frame: equal for equal seeds in virtual time.
	Hash string `json:"frame_hash"`
}

// Line is one event of the time line.
type Line struct {
	Seconds float64 `json:"seconds"`
	Who     string  `json:"who"` // an appliance, or "lab"
	Text    string  `json:"text"`
}

// run is a run under way.
type run struct {
	opts     Options
	topology *Topology
	c        *cluster
	start    time.Time
	result   Result
}

// Run performs a topology. It fails where the lab itself cannot run; whether
// all that was expected held is in the result.
func Run(ctx context.Context, opts Options) (*Result, error) {
	t := opts.Topology
	if t == nil {
		var err error
		if t, err = LoadExample(Reference); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	r := &run{opts: opts, topology: t, result: Result{Title: t.Title, Seed: opts.Seed, Verdicts: []Verdict{}, Timeline: []Line{}}}
	c, err := newCluster(t, vnet.Config{Seed: opts.Seed, RealTime: !opts.Virtual, Wait: opts.Wait}, r.nodeEvent)
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
	err = r.perform()
	r.finish()
	if err == nil && opts.Keep {
		err = r.keep()
	}
	if e := done(); err == nil {
		err = e
	}
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return &r.result, nil
}

// entry is one thing of a topology and its time.
type entry struct {
	at time.Duration
	do func() error
}

// schedule is everything of the topology in its order. What is expected up to
// a moment is judged before anything is done at that moment.
func (r *run) schedule() []entry {
	var list []entry
	for n := range r.topology.Expect {
		e := &r.topology.Expect[n]
		list = append(list, entry{e.To.Duration, func() error { r.judge(e); return nil }})
	}
	for n := range r.topology.Appliances {
		if m := &r.topology.Appliances[n]; !m.Off {
			list = append(list, entry{0, func() error { return r.announce(m.Name+" is switched on", func() error { return r.c.powerOn(m.Name) }) }})
		}
	}
	for n := range r.topology.Traffic {
		t := &r.topology.Traffic[n]
		list = append(list, entry{t.Start.Duration, func() error { return r.c.begin(t) }})
	}
	for n := range r.topology.Events {
		e := &r.topology.Events[n]
		d, _ := e.asked()
		list = append(list, entry{e.At.Duration, func() error { return r.announce(e.text(), func() error { return d.do(r.c) }) }})
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
	return list
}

// perform goes through the topology.
func (r *run) perform() error {
	for _, e := range r.schedule() {
		if err := r.c.world.Run(r.start.Add(e.at)); err != nil {
			return err
		}
		if err := e.do(); err != nil {
			return err
		}
	}
	return nil
}

// announce says what is done, and does it.
func (r *run) announce(text string, do func() error) error {
	r.say("lab", text)
	return do()
}

// judge adds the verdict on one expectation.
func (r *run) judge(e *topologyExpected) {
	v := r.c.judge(e, r.start)
	r.result.Verdicts = append(r.result.Verdicts, v)
	r.printVerdict(&v)
}

// keep lets the world go on until somebody stops it.
func (r *run) keep() error {
	nodes := make(map[string]*node.Node)
	for _, m := range r.c.machines {
		if m.node != nil {
			nodes[m.name] = m.node
		}
	}
	r.say("lab", "everything stays up; interrupt (Ctrl-C) to end it")
	if r.opts.Stay != nil {
		r.opts.Stay(nodes)
	}
	return r.c.world.RunFor(keepMax)
}

// finish sums up.
func (r *run) finish() {
	r.result.Seconds = r.c.world.Now().Sub(r.start).Seconds()
	r.result.Hash = fmt.Sprintf("%016x", r.c.world.Hash())
	r.result.Held = len(r.result.Verdicts) == len(r.topology.Expect)
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
