package vnet

import (
	"math"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Timer is a call that is due at some time.
type Timer = interface {
	// Stop takes the call back; false says that it was made or taken back before.
	Stop() bool
	// Reset makes the timer due d from now, whether or not it was still running.
	Reset(d time.Duration)
}

// Clock is one participant's idea of time: the world's, shifted by an offset
// and running at a rate of its own. Its methods may be called from any
// goroutine; the functions of its timers are called by the world.
type Clock struct {
	w *World

	// Guarded by w.mu. Local time, without the offset, was local when the
	// world's was origin; it has run at rate since.
	origin, local int64
	rate          float64
	offset        int64

	// Owned by the world's goroutine: who is to be looked after when a timer
	// has fired.
	host  *Host
	tasks []*Handle
}

// Clock returns the clock of that name; it is the same one for the same name,
// and shows the world's time until it is skewed.
func (w *World) Clock(name string) *Clock {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.clocks[name]
	if !ok {
		c = &Clock{w: w, rate: 1}
		w.clocks[name] = c
	}
	return c
}

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.timeLocked(c.w.nowLocked())
}

// Elapsed is how long the clock has run since the world began, by its own rate
// and untouched by changes of its offset.
func (c *Clock) Elapsed() time.Duration {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return time.Duration(c.localLocked(c.w.nowLocked()))
}

// SetOffset sets by how much the clock is ahead of the world, beside what its
// rate has gained. Timers keep their durations; tasks keep their deadlines.
func (c *Clock) SetOffset(d time.Duration) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.offset = int64(d)
}

// SetDrift lets the clock run fast by partsPerMillion from now on, or slow
// where that is negative. It panics for a clock that would stand still.
func (c *Clock) SetDrift(partsPerMillion float64) {
	rate := 1 + partsPerMillion/1e6
	if !(rate > 0) {
		panic("vnet: a clock must go forward")
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	now := c.w.nowLocked()
	c.local = c.localLocked(now)
	c.origin, c.rate = now, rate
	for _, e := range c.w.heap {
		if e.clock == c {
			e.at = c.worldLocked(e.due)
		}
	}
	c.w.heap.rebuild()
}

// AfterFunc lets the world call f when d has passed on the clock.
func (c *Clock) AfterFunc(d time.Duration, f func()) Timer { return c.afterFunc(d, f) }

func (c *Clock) afterFunc(d time.Duration, f func()) *timer {
	t := c.newTimer(f)
	t.Reset(d)
	return t
}

// newTimer returns a timer that is not running.
func (c *Clock) newTimer(f func()) *timer {
	t := &timer{fn: f}
	t.ev = event{slot: slotNone, clock: c, fn: t.fire}
	return t
}

// localLocked is the clock's time without offset when the world's is at.
func (c *Clock) localLocked(at int64) int64 {
	if c.rate == 1 {
		return c.local + at - c.origin
	}
	return c.local + int64(math.Floor(float64(at-c.origin)*c.rate))
}

// worldLocked is the first instant of the world at which the clock shows local.
func (c *Clock) worldLocked(local int64) int64 {
	if c.rate == 1 {
		return c.origin + local - c.local
	}
	const exact = 1 << 53 // Beyond that a float64 skips integers.
	if local-c.local > exact {
		return forever
	}
	at := c.origin + int64(float64(local-c.local)/c.rate)
	for c.localLocked(at) < local {
		at++
	}
	return at
}

func (c *Clock) timeLocked(at int64) time.Time {
	return c.w.cfg.Start.Add(time.Duration(c.localLocked(at) + c.offset))
}

// timer is a Timer of a clock. Its event lives in it, so that arming it again
// allocates nothing.
type timer struct {
	ev event
	fn func()
}

func (t *timer) fire() {
	c := t.ev.clock
	if c.host != nil {
		c.host.touch(true)
	}
	for _, h := range c.tasks {
		h.activate()
	}
	t.fn()
}

func (t *timer) Stop() bool {
	w := t.ev.clock.w
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cancelLocked(&t.ev)
}

func (t *timer) Reset(d time.Duration) {
	c := t.ev.clock
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.cancelLocked(&t.ev)
	now := c.localLocked(c.w.nowLocked())
	t.ev.due = now + min(max(int64(d), 0), forever-now)
	c.w.scheduleLocked(&t.ev, c.worldLocked(t.ev.due))
}

// resetAt makes the timer due when the clock shows at.
func (t *timer) resetAt(at time.Time) {
	c := t.ev.clock
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	due := min(int64(at.Sub(c.w.cfg.Start)), forever) - c.offset
	if t.ev.slot != slotNone && t.ev.due == due {
		return
	}
	c.w.cancelLocked(&t.ev)
	t.ev.due = due
	c.w.scheduleLocked(&t.ev, c.worldLocked(t.ev.due))
}

// stackClock is a Clock as gVisor wants it.
type stackClock struct{ c *Clock }

func (s stackClock) Now() time.Time { return s.c.Now() }

func (s stackClock) NowMonotonic() tcpip.MonotonicTime {
	// Zero means "never" to parts of gVisor, so its time does not begin there.
	return tcpip.MonotonicTime{}.Add(s.c.Elapsed() + time.Hour)
}

func (s stackClock) AfterFunc(d time.Duration, f func()) tcpip.Timer { return s.c.afterFunc(d, f) }
