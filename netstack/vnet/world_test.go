package vnet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/netstack/host"
)

func TestEventsRunInOrderOfTimeThenOfAsking(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	var got []string
	note := func(s string) func() { return func() { got = append(got, s) } }
	w.After(2*time.Second, note("c"))
	w.After(time.Second, note("a"))
	cancelled := w.After(time.Second, note("never"))
	w.After(time.Second, note("b"))
	moved := w.After(time.Second, note("d"))
	moved.Reset(3 * time.Second)
	w.At(w.Now().Add(-time.Hour), note("past"))
	if !cancelled.Stop() || cancelled.Stop() {
		t.Error("Stop: want true for a running timer, then false")
	}
	start := w.Now()
	if err := w.RunFor(3 * time.Second); err != nil {
		t.Fatal(err)
	}
	if want := "past a b c d"; strings.Join(got, " ") != want {
		t.Errorf("events %v, want %v", got, want)
	}
	if d := w.Now().Sub(start); d != 3*time.Second {
		t.Errorf("the run took %v", d)
	}
}

func TestRunUntilStopsWhenTheConditionHolds(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	start, done := w.Now(), false
	w.After(time.Minute, func() { done = true })
	if !w.RunUntil(func() bool { return done }, time.Hour) || w.Now().Sub(start) != time.Minute {
		t.Errorf("stopped after %v", w.Now().Sub(start))
	}
	if w.RunUntil(func() bool { return false }, time.Hour) || w.Now().Sub(start) != time.Hour+time.Minute {
		t.Errorf("gave up after %v", w.Now().Sub(start))
	}
}

func TestStopEndsARun(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	w.After(time.Second, w.Stop)
	if err := w.Run(time.Time{}); !errors.Is(err, ErrStopped) {
		t.Errorf("Run = %v", err)
	}
	w.After(time.Second, func() {})
	now := w.Now()
	if err := w.Run(time.Time{}); err != nil || w.Now().Sub(now) != time.Second {
		t.Errorf("Run = %v after %v, want it to end with the last event", err, w.Now().Sub(now))
	}
	if err := w.RunFor(time.Second); err != nil {
		t.Errorf("the run after it: %v", err)
	}
}

func TestPostRunsInTheWorldInOrder(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	var got []int
	var posters sync.WaitGroup
	posters.Go(func() {
		for i := range 100 {
			w.Post(func() { got = append(got, i) })
		}
	})
	posters.Wait()
	w.Settle()
	if len(got) != 100 || !slices.IsSorted(got) {
		t.Errorf("ran %v", got)
	}
}

func TestAWorldThatNeverRestsIsNamed(t *testing.T) {
	w := NewWorld(Config{})
	var again func()
	again = func() { w.After(0, again) }
	again()
	defer func() {
		if r := fmt.Sprint(recover()); !strings.Contains(r, "does not come to rest") {
			t.Errorf("panic %v", r)
		}
	}()
	_ = w.RunFor(time.Second)
}

func TestRandomStreamsAreSeededByName(t *testing.T) {
	draw := func(seed uint64, name string) [3]uint64 {
		w := NewWorld(Config{Seed: seed})
		defer w.Close()
		r := w.Rand(name)
		return [3]uint64{r(), r(), w.Rand(name)()}
	}
	a := draw(1, "a")
	if a != draw(1, "a") {
		t.Error("the same seed and name gave another stream")
	}
	if a == draw(2, "a") || a == draw(1, "b") {
		t.Error("another seed or name gave the same stream")
	}
	if a[1] == a[2] {
		t.Error("asking again began the stream anew")
	}
}

var _ host.Clock = (*Clock)(nil) // A node's guest lives by it.

// ticker is a task that notes when it is stepped, and wants to be so each
// interval.
type ticker struct {
	name     string
	interval time.Duration
	next     time.Time
	steps    []time.Time
	log      *[]string
	pumps    int
}

func (k *ticker) Step(now time.Time) {
	k.steps = append(k.steps, now)
	if k.log != nil {
		*k.log = append(*k.log, k.name)
	}
	if k.interval > 0 {
		k.next = now.Add(k.interval)
	}
}

func (k *ticker) Deadline() time.Time { return k.next }
func (k *ticker) Pump()               { k.pumps++ }

func TestTasksAreSteppedByNameAtTheirDeadlines(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	var log []string
	start := w.Now()
	b := &ticker{name: "b", interval: time.Second, log: &log}
	a := &ticker{name: "a", interval: time.Second, log: &log}
	w.AddTask("b", b)
	w.AddTask("a", a)
	_ = w.RunFor(2 * time.Second)
	if got := strings.Join(log, ""); got != "ababab" {
		t.Errorf("steps %s", got)
	}
	for i, at := range a.steps {
		if want := start.Add(time.Duration(i) * time.Second); !at.Equal(want) {
			t.Errorf("step %d at %v, want %v", i, at, want)
		}
	}
	if a.pumps != len(a.steps) {
		t.Errorf("%d pumps for %d steps", a.pumps, len(a.steps))
	}
}

func TestAWokenTaskIsSteppedOnceAndARemovedOneNever(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	k := &ticker{}
	h := w.AddTask("k", k)
	h.Wake()
	w.Settle()
	if len(k.steps) != 1 {
		t.Errorf("%d steps, want 1", len(k.steps))
	}
	k.interval = time.Second
	h.Wake()
	w.Settle()
	h.Remove()
	h.Wake()
	_ = w.RunFor(time.Minute)
	if len(k.steps) != 2 {
		t.Errorf("%d steps, want 2", len(k.steps))
	}
}

func TestTimersOfATasksClockPumpIt(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	k := &ticker{}
	w.AddTask("k", k)
	w.Settle()
	fired := 0
	w.Clock("k").AfterFunc(time.Second, func() { fired++ })
	_ = w.RunFor(time.Minute)
	if fired != 1 || k.pumps != 2 || len(k.steps) != 1 {
		t.Errorf("fired %d, pumps %d, steps %d; want 1, 2, 1", fired, k.pumps, len(k.steps))
	}
}

func TestClocksDriftAndAreSetApart(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	start := w.Now()
	fast := w.Clock("fast")
	fast.SetOffset(time.Hour)
	var atWorld time.Duration
	fast.AfterFunc(100*time.Second, func() { atWorld = w.Now().Sub(start) })
	_ = w.RunFor(50 * time.Second)
	fast.SetDrift(250_000) // A quarter fast from here on: 50 s of its own take 40 s.
	if d := fast.Now().Sub(w.Now()); d != time.Hour {
		t.Errorf("ahead by %v", d)
	}
	_ = w.RunFor(50 * time.Second)
	if atWorld != 90*time.Second {
		t.Errorf("the timer fired after %v of the world, want 90s", atWorld)
	}
	if d := fast.Elapsed(); d != 50*time.Second+62500*time.Millisecond {
		t.Errorf("elapsed %v", d)
	}
}

func TestATaskLivesByItsOwnClock(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	w.Clock("k").SetDrift(-500_000)
	k := &ticker{interval: time.Second}
	w.AddTask("k", k)
	_ = w.RunFor(10 * time.Second)
	if len(k.steps) != 6 {
		t.Errorf("%d steps in 10 s at half speed, want 6", len(k.steps))
	}
}

func TestTimersMayBeFarAway(t *testing.T) {
	w := NewWorld(Config{})
	defer w.Close()
	w.Clock("odd").SetDrift(333)
	w.Clock("odd").AfterFunc(1<<63-1, func() { t.Error("fired") })
	w.After(1<<63-1, func() { t.Error("fired") })
	_ = w.RunFor(1000 * time.Hour)
}

func TestRealTimeKeepsPaceAndTakesPosts(t *testing.T) {
	w := NewWorld(Config{RealTime: true})
	defer w.Close()
	began, start := time.Now(), w.Now()
	var at []time.Duration
	for i := range 5 {
		w.After(time.Duration(i)*10*time.Millisecond, func() { at = append(at, w.Now().Sub(start)) })
	}
	posted := false
	w.After(5*time.Millisecond, func() {
		go w.Post(func() { posted = true })
	})
	if err := w.RunFor(60 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 55*time.Millisecond {
		t.Errorf("60 ms took %v", took)
	}
	if len(at) != 5 || !slices.IsSorted(at) {
		t.Errorf("events at %v", at)
	}
	if !w.RunUntil(func() bool { return posted }, 5*time.Second) {
		t.Error("the posted function did not run")
	}
}

func TestRealTimeStallDoesNotChangeTheOrder(t *testing.T) {
	w := NewWorld(Config{RealTime: true})
	defer w.Close()
	// A beat each 10 ms keeps a watchdog of 30 ms from barking, though the
	// process as a whole stands still for 60 ms.
	barked := false
	dog := w.After(30*time.Millisecond, func() { barked = true })
	var beat func()
	beat = func() {
		dog.Reset(30 * time.Millisecond)
		w.After(10*time.Millisecond, beat)
	}
	beat()
	w.After(25*time.Millisecond, func() { burn(60 * time.Millisecond) })
	if err := w.RunFor(120 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if barked {
		t.Error("the watchdog barked")
	}
	if late := w.Stats().LateMax; late < 40*time.Millisecond {
		t.Errorf("late by %v at most, want about 50 ms", late)
	}
}

// burn stands for a process that does not get the processor.
func burn(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}

func BenchmarkTaskSteps(b *testing.B) {
	w := NewWorld(Config{})
	defer w.Close()
	k := &idler{}
	w.AddTask("k", k)
	b.ReportAllocs()
	for b.Loop() {
		_ = w.RunFor(time.Millisecond)
	}
	b.ReportMetric(float64(k.steps)/b.Elapsed().Seconds(), "steps/s")
}

// idler is a task with ten deadlines each millisecond.
type idler struct {
	next  time.Time
	steps int
}

func (k *idler) Step(now time.Time) {
	k.steps++
	k.next = now.Add(100 * time.Microsecond)
}

func (k *idler) Deadline() time.Time { return k.next }
