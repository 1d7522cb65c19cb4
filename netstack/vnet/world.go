package vnet

import (
	"errors"
	"sync"
	"time"
)

// ErrStopped says that a run ended because [World.Stop] was called.
var ErrStopped = errors.New("vnet: stopped")

// forever is later than any event, in nanoseconds since the start.
const forever = int64(1)<<62 - 1

// Config is what a world is made from.
type Config struct {
	// Seed fixes every random draw of the world.
	Seed uint64
	// Start is the world's first instant; zero stands for 2030-01-01 UTC, in
	// real time and in a bubble for the present.
	Start time.Time
	// RealTime lets events happen by the wall clock.
	RealTime bool
	// Wait returns when every other goroutine that takes part is at rest: in a
	// testing/synctest bubble synctest.Wait. The world then moves the bubble's
	// clock along with its own. Hosts as they come start no goroutine that would
	// need it; connections from [Host.Dial] and [Host.Listen] do.
	Wait func()
	// Idle serves the same end in a program without a bubble: the world waits
	// until no other goroutine of the process can run. Time jumps, so goroutines
	// that take part must have their timers from a [Clock].
	Idle bool
}

// World is a virtual Ethernet with a clock. The methods Now, Rand, Clock, Post
// and Stop may be called from any goroutine.
type World struct {
	cfg   Config
	wait  func() // for goroutines to come to rest; nil where none takes part
	paced bool   // time follows a clock outside: the wall's or a bubble's
	base  time.Time
	wake  chan struct{}
	timer *time.Timer

	mu      sync.Mutex // guards the fields down to stopped
	heap    eventHeap
	seq     uint64
	now     int64 // nanoseconds since cfg.Start
	atRest  bool  // no instant is being worked on
	posted  []func()
	woken   []*Handle
	sending []*Device
	touched []*Host
	streams map[string]func() uint64
	clocks  map[string]*Clock
	free    []*event // spent arrivals, to be used again
	stopped bool

	// Owned by the goroutine that runs the world.
	spare struct { // the lists of the same names as they were used last, for their memory
		posted        []func()
		woken, active []*Handle
		sending       []*Device
		touched       []*Host
	}
	root     *Clock
	running  bool
	closed   bool
	order    int // of jacks, tasks and hosts: the canonical one is that of creation
	active   []*Handle
	switches map[string]*Switch
	tasks    []*Handle
	hosts    []*Host
	hash     uint64
	stats    Stats
}

// Stats counts what a world has done.
type Stats struct {
	Events  uint64        // run
	Steps   uint64        // of tasks
	Frames  uint64        // sent on all jacks
	LateMax time.Duration // by which an event ran behind the clock outside
}

// NewWorld returns a world in which nothing is yet. In a bubble it has to be
// called inside. Call Close when done.
func NewWorld(cfg Config) *World {
	w := &World{
		cfg:      cfg,
		wait:     cfg.Wait,
		paced:    cfg.RealTime || cfg.Wait != nil,
		wake:     make(chan struct{}, 1),
		atRest:   true,
		streams:  make(map[string]func() uint64),
		clocks:   make(map[string]*Clock),
		switches: make(map[string]*Switch),
	}
	switch {
	case cfg.RealTime:
		w.wait = nil
	case cfg.Wait == nil && cfg.Idle:
		w.wait = waitIdle()
	}
	if w.paced {
		w.base = time.Now()
		w.timer = time.NewTimer(time.Hour)
		w.timer.Stop()
	}
	if w.cfg.Start.IsZero() {
		w.cfg.Start = time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC)
		if w.paced {
			w.cfg.Start = w.base
		}
	}
	w.cfg.Start = w.cfg.Start.Round(0) // Without the monotonic reading: it is ours to say.
	w.root = &Clock{w: w, rate: 1}
	return w
}

// Now is the world's time: that of the event being run, else the clock's
// outside, though never past an event that has yet to run.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cfg.Start.Add(time.Duration(w.nowLocked()))
}

func (w *World) nowLocked() int64 {
	if w.atRest && w.paced {
		now := int64(time.Since(w.base))
		if len(w.heap) > 0 {
			now = min(now, w.heap[0].at)
		}
		w.now = max(w.now, now)
	}
	return w.now
}

// Stats returns the counters so far.
func (w *World) Stats() Stats { return w.stats }

// Hash is a digest of every frame sent so far: when, on which jack, which
// bytes. Equal seeds and equal deeds give equal hashes on one version of the
// code, with TCP where GOMAXPROCS was 1 when the hosts were made: a stack has as
// many TCP workers, and several would share its random numbers in any order.
func (w *World) Hash() uint64 { return w.hash }

// At lets fn run at the instant t, or now where that is past.
func (w *World) At(t time.Time, fn func()) Timer {
	timer := w.root.newTimer(fn)
	timer.resetAt(t)
	return timer
}

// After lets fn run when d has passed.
func (w *World) After(d time.Duration, fn func()) Timer { return w.root.afterFunc(d, fn) }

// Post lets fn run in the world as soon as possible. It may be called from any
// goroutine and does not wait.
func (w *World) Post(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.posted = append(w.posted, fn)
	w.signalLocked()
}

// Stop ends the run under way, or the next one, with [ErrStopped]. It may be
// called from any goroutine.
func (w *World) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.signalLocked()
}

// Close takes the world down: tasks are removed, hosts closed. It returns when
// every goroutine of theirs has ended, and may be called more than once, though
// not while the world runs.
func (w *World) Close() {
	if w.closed {
		return
	}
	w.closed = true
	for _, h := range w.tasks {
		h.Remove()
	}
	for _, h := range w.hosts {
		h.destroy()
	}
	if w.timer != nil {
		w.timer.Stop()
	}
}
