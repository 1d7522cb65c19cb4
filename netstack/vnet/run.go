package vnet

import (
	"fmt"
	"time"
)

const (
	// realTimeSlack is how early an event may run by the wall clock. It lets
	// what belongs together, such as the hops of one frame, run in one go.
	realTimeSlack = 500 * time.Microsecond
	// settleRoundsMax bounds what can happen at one instant. Beyond it somebody
	// is talking to himself without taking time, which is a mistake in a node,
	// a loop of switches without delay, or a task whose deadline never moves on.
	settleRoundsMax = 1_000_000
)

// Run lets the world live up to and including the instant until. The zero time
// stands for ever: until Stop, or in virtual time until nothing is left that
// would happen.
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
		if !w.sleep(at, due) {
			continue
		}
		if !due {
			if limit != forever {
				w.advance(limit)
			}
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
func (w *World) sleep(at int64, due bool) bool {
	if !w.paced {
		return true
	}
	ahead := time.Duration(at) - time.Since(w.base)
	if due {
		w.stats.LateMax = max(w.stats.LateMax, -ahead)
	}
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
	slept := true
	select {
	case <-w.timer.C:
	case <-w.wake:
		slept = false
		w.timer.Stop()
	}
	w.rouse()
	return slept
}

// fire runs the events due by the instant at. Those asked for meanwhile wait
// until the world has come to rest.
func (w *World) fire(at int64) {
	w.mu.Lock()
	last := w.seq
	w.mu.Unlock()
	for {
		e := w.pop(at, last)
		if e == nil {
			return
		}
		w.stats.Events++
		if e.jack != nil {
			w.arrive(e)
		} else {
			e.fn()
		}
		if w.stirred() {
			w.settle() // What is woken one by one runs in a fixed order.
		}
	}
}

func (w *World) pop(at int64, last uint64) *event {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heap) == 0 || w.heap[0].at > at || w.heap[0].seq > last {
		return nil
	}
	e := w.heap[0]
	w.heap.remove(e)
	return e
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
