package vnet

import (
	"cmp"
	"runtime"
	"runtime/metrics"
	"slices"
	"time"
)

const (
	// idleLooksMax is how often waitIdle looks in a row before it sleeps for
	// idleSleep.
	idleLooksMax = 200
	idleSleep    = 20 * time.Microsecond
)

// settle does all that can be done at this instant: posted functions, tasks
// that were woken, hosts with something to do, then the frames they sent. What
// comes of it as an event, even one at the same instant, is not done here.
func (w *World) settle() {
	for rounds := 0; ; rounds++ {
		if rounds > settleRoundsMax {
			panic("vnet: the world does not come to rest")
		}
		busy := w.runPosted()
		busy = w.stepTasks() || busy
		busy = w.serveHosts() || busy
		if w.wait != nil {
			w.wait()
		}
		// Frames last: everyone who will send at this instant has done so.
		if !busy && !w.pending() && !w.flush() {
			return
		}
	}
}

// pending says whether anything but a queued frame waits to be dealt with.
func (w *World) pending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pendingLocked()
}

func (w *World) pendingLocked() bool {
	return len(w.posted) > 0 || len(w.woken) > 0 || len(w.touched) > 0
}

// stirred says whether goroutines may have been woken. Tasks are none, so they
// are stepped when all events of an instant have run.
func (w *World) stirred() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.posted) > 0 || len(w.touched) > 0
}

func (w *World) runPosted() bool {
	w.mu.Lock()
	posted := w.posted
	w.posted = w.spare.posted[:0]
	w.mu.Unlock()
	for _, fn := range posted {
		fn()
	}
	clear(posted)
	w.spare.posted = posted
	return len(posted) > 0
}

// serveHosts lets the TCP workers of every host that was touched run, and then
// what they woke, until no host has anything left to do.
func (w *World) serveHosts() bool {
	served := false
	for {
		w.mu.Lock()
		hosts := w.touched
		w.touched = w.spare.touched[:0]
		for _, h := range hosts {
			h.touched = false
		}
		w.mu.Unlock()
		w.spare.touched = hosts
		if len(hosts) == 0 {
			return served
		}
		served = true
		slices.SortFunc(hosts, func(a, b *Host) int { return cmp.Compare(a.order, b.order) })
		for _, h := range hosts {
			h.serve()
		}
	}
}

// flush puts the frames that were sent on their cables, in the order of the jacks.
func (w *World) flush() bool {
	w.mu.Lock()
	devices := w.sending
	w.sending = w.spare.sending[:0]
	w.mu.Unlock()
	slices.SortFunc(devices, func(a, b *Device) int { return cmp.Compare(a.rank(), b.rank()) })
	for _, d := range devices {
		d.flush()
	}
	w.spare.sending = devices
	return len(devices) > 0
}

// waitIdle returns a function that waits until no goroutine of the process but
// the caller's can run.
func waitIdle() func() {
	samples := []metrics.Sample{
		{Name: "/sched/goroutines/runnable:goroutines"},
		{Name: "/sched/goroutines/running:goroutines"},
	}
	return func() {
		// Seen twice: a goroutine on its way from one list to the other is in neither.
		for quiet, looks := 0, 1; quiet < 2; looks++ {
			if looks%idleLooksMax == 0 {
				time.Sleep(idleSleep) // Whom we wait for may need our processor.
			} else {
				runtime.Gosched()
			}
			metrics.Read(samples)
			if samples[0].Value.Uint64() == 0 && samples[1].Value.Uint64() <= 1 {
				quiet++
			} else {
				quiet = 0
			}
		}
	}
}
