package vnet

import (
	"cmp"
	"slices"
	"time"
)

// Task is something that runs in the world's goroutine: a node, or one loop of
// it.
type Task interface {
	// Step does what is to be done at now, and returns without waiting.
	Step(now time.Time)
	// Deadline is when Step wants to be called without being woken; zero means
	// never. It is asked after every Step.
	Deadline() time.Time
}

// Pumper is a Task with a gVisor stack of its own, whose workers are held
// paused. Pump lets them do what there is to do; it is called after a Step,
// and after timers of the clock with the task's name have fired.
type Pumper interface {
	Task
	Pump()
}

// Handle is a task's place in the world.
type Handle struct {
	w        *World
	name     string
	order    int
	task     Task
	pumper   Pumper // nil where the task is none
	clock    *Clock
	deadline *timer

	// Guarded by w.mu.
	woken, active, removed bool
}

// AddTask takes t into the world and steps it for the first time at the present
// instant. Its time is that of the clock with the task's name. Tasks that are
// to be stepped at the same instant are so in the order of their names, then
// of their adding.
func (w *World) AddTask(name string, t Task) *Handle {
	h := &Handle{w: w, name: name, order: w.nextOrder(), task: t, clock: w.Clock(name)}
	h.pumper, _ = t.(Pumper)
	h.deadline = h.clock.newTimer(h.Wake)
	if h.pumper != nil {
		h.clock.tasks = append(h.clock.tasks, h)
	}
	w.tasks = append(w.tasks, h)
	h.Wake()
	return h
}

// Wake has the task stepped as soon as possible. It may be called from any
// goroutine and does not wait.
func (h *Handle) Wake() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.woken || h.removed {
		return
	}
	h.woken = true
	h.w.woken = append(h.w.woken, h)
	h.w.signalLocked()
}

// Remove takes the task out of the world: it is not stepped again. Its devices
// are its owner's to close.
func (h *Handle) Remove() {
	h.deadline.Stop()
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.removed {
		return
	}
	h.removed = true
	h.clock.tasks = without(h.clock.tasks, h)
	h.w.tasks = without(h.w.tasks, h)
}

// activate has the task's workers pumped.
func (h *Handle) activate() {
	if !h.active && !h.removed {
		h.active = true
		h.w.active = append(h.w.active, h)
	}
}

// stepTasks steps every task that was woken, then pumps those with something
// to pump.
func (w *World) stepTasks() bool {
	w.mu.Lock()
	woken := w.woken
	w.woken = w.spare.woken[:0]
	for _, h := range woken {
		h.woken = false
	}
	w.mu.Unlock()
	slices.SortFunc(woken, byName)
	for _, h := range woken {
		h.step()
	}
	w.spare.woken = woken
	active := w.active
	w.active = w.spare.active[:0]
	slices.SortFunc(active, byName)
	for _, h := range active {
		h.active = false
		if !h.removed {
			h.pumper.Pump()
		}
	}
	w.spare.active = active
	return len(woken) > 0 || len(active) > 0
}

func (h *Handle) step() {
	if h.removed {
		return
	}
	h.w.stats.Steps++
	h.task.Step(h.clock.Now())
	if h.removed {
		return // It took itself out.
	}
	if at := h.task.Deadline(); at.IsZero() {
		h.deadline.Stop()
	} else {
		h.deadline.resetAt(at)
	}
	if h.pumper != nil {
		h.activate()
	}
}

// without returns a copy of list that lacks one of its elements; who walks the
// list at this moment is not disturbed.
func without[T comparable](list []T, one T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(other T) bool { return other == one })
}

func byName(a, b *Handle) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.order, b.order))
}

func (w *World) nextOrder() int {
	w.order++
	return w.order
}
