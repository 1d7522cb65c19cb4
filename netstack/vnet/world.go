package vnet

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrStopped says that a run ended because [World.Stop] was called.
var ErrStopped = errors.New("vnet: stopped")

const (
	// realTimeSlack is how early an event may run by the wall clock. It lets
	// what belongs together, such as the hops of one frame, run in one go.
	realTimeSlack = 500 * time.Microsecond
	// settleRoundsMax bounds what can happen at one instant. Beyond it somebody
	// is talking to himself without taking time, which is a mistake in a node,
	// a loop of switches without delay, or a task whose deadline never moves on.
	settleRoundsMax = 1_000_000
	// forever is later than any event, in nanoseconds since the start.
	forever = int64(1)<<62 - 1
)

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
// code; it is not promised to stay the same across versions.
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

// Run lets the world live up to and including the instant until; the zero time
// stands for ever.
func (w *World) Run(until time.Time) error {
	limit := forever
	if !until.IsZero() {
		limit = int64(until.Sub(w.cfg.Start))
	}
	_, err := w.run(limit, nil)
	return err
}

// RunFor lets the world live for d.
func (w *World) RunFor(d time.Duration) error { return w.Run(w.Now().Add(d)) }

// RunUntil lets the world live until cond holds, for limit at most, and says
// whether it came to hold. It asks whenever the world has come to rest at an
// instant.
func (w *World) RunUntil(cond func() bool, limit time.Duration) bool {
	held, err := w.run(int64(w.Now().Add(limit).Sub(w.cfg.Start)), cond)
	return held && err == nil
}

// Settle does all that can be done without time passing.
func (w *World) Settle() {
	w.enter()
	defer w.leave()
	w.settle()
}

func (w *World) run(limit int64, cond func() bool) (held bool, err error) {
	w.enter()
	defer w.leave()
	instant, rounds := int64(-1), 0
	for {
		w.settle()
		if w.takeStop() {
			return false, ErrStopped
		}
		if cond != nil && cond() {
			return true, nil
		}
		at, due := w.next(limit)
		if !w.sleep(at) {
			continue
		}
		if !due {
			w.advance(limit)
			return false, nil
		}
		if at != instant {
			instant, rounds = at, 0
		} else if rounds++; rounds > settleRoundsMax {
			panic(fmt.Sprintf("vnet: the world does not come to rest at %v", w.Now()))
		}
		w.advance(at)
		w.fire(at)
	}
}

// enter marks the world as being worked on; it is not to be entered twice.
func (w *World) enter() {
	if w.running {
		panic("vnet: a world cannot be run from within")
	}
	if w.closed {
		panic("vnet: the world is closed")
	}
	w.running = true
	w.rouse()
}

func (w *World) leave() {
	w.running = false
	w.rest()
}

func (w *World) rouse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nowLocked()
	w.atRest = false
}

func (w *World) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.atRest = true
}

func (w *World) takeStop() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	stopped := w.stopped
	w.stopped = false
	return stopped
}

// next is the instant of the next event, or limit where none is due by then.
func (w *World) next(limit int64) (at int64, due bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heap) == 0 || w.heap[0].at > limit {
		return limit, false
	}
	return w.heap[0].at, true
}

func (w *World) advance(at int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = max(w.now, at)
}

// sleep waits for the instant at to come; false says that something came in
// before. In virtual time there is nothing to wait for.
func (w *World) sleep(at int64) bool {
	if !w.paced {
		return true
	}
	ahead := time.Duration(at) - time.Since(w.base)
	w.stats.LateMax = max(w.stats.LateMax, -ahead)
	if w.cfg.RealTime {
		ahead -= realTimeSlack
	}
	if ahead <= 0 {
		return true
	}
	w.mu.Lock()
	if w.pendingLocked() || len(w.sending) > 0 || w.stopped {
		w.mu.Unlock()
		return false
	}
	w.atRest = true
	w.mu.Unlock()

	w.timer.Reset(ahead)
	due := true
	select {
	case <-w.timer.C:
	case <-w.wake:
		due = false
		w.timer.Stop()
	}
	w.rouse()
	return due
}

// fire runs the events due by the instant at, each once.
func (w *World) fire(at int64) {
	for {
		e := w.pop(at)
		if e == nil {
			return
		}
		w.stats.Events++
		if e.jack != nil {
			w.arrive(e)
		} else {
			e.fn()
		}
		if w.wait != nil && w.stirred() {
			w.settle() // Goroutines woken one by one run in a fixed order.
		}
	}
}

func (w *World) pop(at int64) *event {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heap) == 0 || w.heap[0].at > at {
		return nil
	}
	e := w.heap[0]
	w.heap.remove(e)
	return e
}

// arrive lets a frame that was on a cable come out of it.
func (w *World) arrive(e *event) {
	j, epoch, data, toSwitch := e.jack, e.epoch, e.data, e.toSwitch
	*e = event{slot: slotNone}
	w.mu.Lock()
	w.free = append(w.free, e)
	w.mu.Unlock()
	switch {
	case epoch != j.epoch:
		j.stats.NoLink++ // The cable was pulled while the frame was in it.
	case toSwitch:
		j.sw.forward(j, data)
	default:
		j.deliver(data)
	}
}

// carry puts a frame on j's cable, to come out at the instant at.
func (w *World) carry(j *Jack, at int64, data []byte, toSwitch bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var e *event
	if n := len(w.free); n > 0 {
		e, w.free = w.free[n-1], w.free[:n-1]
	} else {
		e = &event{slot: slotNone}
	}
	e.jack, e.epoch, e.data, e.toSwitch = j, j.epoch, data, toSwitch
	w.scheduleLocked(e, at)
}

func (w *World) scheduleLocked(e *event, at int64) {
	w.seq++
	e.at, e.seq = max(at, w.now), w.seq
	w.heap.push(e)
	if e.slot == 0 {
		w.signalLocked() // The world may be asleep until something later.
	}
}

func (w *World) cancelLocked(e *event) bool {
	if e.slot == slotNone {
		return false
	}
	w.heap.remove(e)
	return true
}

// signalLocked wakes the world if it sleeps.
func (w *World) signalLocked() {
	if !w.atRest {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close takes the world down: tasks are removed, hosts closed. It returns when
// every goroutine of theirs has ended, and may be called more than once.
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
