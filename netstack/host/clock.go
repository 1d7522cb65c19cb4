package host

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Timer is a call that a [Clock] will make.
type Timer = interface {
	// Stop takes the call back; false says that it was made or taken back before.
	Stop() bool
	// Reset makes the timer due d from now.
	Reset(d time.Duration)
}

// Clock is where the guest has its time from. Its methods may be called from
// any goroutine.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f, in a goroutine of its own or of the clock's, d from now.
	AfterFunc(d time.Duration, f func()) Timer
}

// realTime is the clock of the machine.
type realTime struct{ std tcpip.Clock }

func (c realTime) Now() time.Time { return c.std.Now() }

func (c realTime) AfterFunc(d time.Duration, f func()) Timer { return c.std.AfterFunc(d, f) }

// guestClock is a Clock as gVisor wants it. Its monotonic time is that of the
// clock's Now, counted from the host's start.
type guestClock struct {
	clock Clock
	base  time.Time
}

func (c *guestClock) Now() time.Time { return c.clock.Now() }

func (c *guestClock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(c.clock.Now().Sub(c.base))
}

func (c *guestClock) AfterFunc(d time.Duration, f func()) tcpip.Timer { return c.clock.AfterFunc(d, f) }

// randomness serves gVisor's two sources from one function; it is locked,
// since gVisor draws from many goroutines.
type randomness struct {
	mu   sync.Mutex
	draw func() uint64
}

// Uint64 draws a number.
func (r *randomness) Uint64() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draw()
}

// Int63 and Seed are what math/rand.Source asks for; seeding is the owner's.
func (r *randomness) Int63() int64 { return int64(r.Uint64() >> 1) }

func (r *randomness) Seed(int64) {}

// Read fills b. It never fails.
func (r *randomness) Read(b []byte) (int, error) {
	var word [8]byte
	for n := 0; n < len(b); n += len(word) {
		binary.NativeEndian.PutUint64(word[:], r.Uint64())
		copy(b[n:], word[:])
	}
	return len(b), nil
}

// systemRandom draws from the operating system, whose reader ends the process
// rather than fail.
func systemRandom() uint64 {
	var word [8]byte
	io.ReadFull(rand.Reader, word[:])
	return binary.NativeEndian.Uint64(word[:])
}
