package link

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newPoller(t *testing.T) *Poller {
	t.Helper()
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// pipe returns the two ends of one; they are closed with the test.
func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	return fds[0], fds[1]
}

func TestWakeEndsWait(t *testing.T) {
	p := newPoller(t)
	for range 3 {
		p.Wake() // before: ends the next one
		p.Wake() // and is worth no second round
		if err := p.Wait(-1); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() { done <- p.Wait(-1) }()
	p.Wake()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitEndsWithAReadableDescriptor(t *testing.T) {
	p := newPoller(t)
	r, w := pipe(t)
	defer unix.Close(w)
	p.Set([]int{-1, r})
	if _, err := unix.Write(w, []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(-1); err != nil {
		t.Error(err)
	}
}

func TestWaitEndsAfterItsTime(t *testing.T) {
	p := newPoller(t)
	begin := time.Now()
	if err := p.Wait(3 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 3*time.Millisecond {
		t.Errorf("came back after %v", d)
	}
}

func TestADescriptorInErrorDoesNotMakeTheWorkerSpin(t *testing.T) {
	p := newPoller(t)
	r, w := pipe(t)
	_ = unix.Close(w) // From now on r says nothing but POLLHUP.
	p.Set([]int{r})
	if err := p.Wait(-1); err != nil { // It is told once.
		t.Fatal(err)
	}
	begin := time.Now()
	if err := p.Wait(5 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 5*time.Millisecond {
		t.Errorf("the second Wait came back after %v", d)
	}
	begin = time.Now()
	if err := p.Wait(-1); err != nil { // And asked again after a while.
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 10*errorPause {
		t.Errorf("asked again after %v", d)
	}
}

func TestWaitDoesNotAllocate(t *testing.T) {
	p := newPoller(t)
	r, w := pipe(t)
	defer unix.Close(w)
	p.Set([]int{r})
	if n := testing.AllocsPerRun(100, func() {
		p.Wake()
		if p.Wait(time.Second) != nil || p.Wait(0) != nil {
			t.Error("Wait() failed")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
