package vnet

import (
	"cmp"
	"runtime"
	"runtime/metrics"
	"slices"
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

// stirred says whether goroutines may have been woken.
func (w *World) stirred() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.posted) > 0 || len(w.touched) > 0
}

func (w *World) runPosted() bool {
	w.mu.Lock()
	posted := w.posted
	w.posted = nil
	w.mu.Unlock()
	for _, fn := range posted {
		fn()
	}
	return len(posted) > 0
}

// serveHosts lets the TCP workers of every host that was touched run, and then
// what they woke, until no host has anything left to do.
func (w *World) serveHosts() bool {
	served := false
	for {
		w.mu.Lock()
		hosts := w.touched
		w.touched = nil
		for _, h := range hosts {
			h.touched = false
		}
		w.mu.Unlock()
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
	w.sending = nil
	w.mu.Unlock()
	slices.SortFunc(devices, func(a, b *Device) int { return cmp.Compare(a.rank(), b.rank()) })
	for _, d := range devices {
		d.flush()
	}
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
		for quiet := 0; quiet < 2; {
			runtime.Gosched()
			metrics.Read(samples)
			if samples[0].Value.Uint64() == 0 && samples[1].Value.Uint64() <= 1 {
				quiet++
			} else {
				quiet = 0
			}
		}
	}
}
