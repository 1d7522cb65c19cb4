package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errorPause is how long a descriptor that reports nothing but an error is
// left out: a device that is gone says so at every poll, and its worker would
// spin.
const errorPause = 100 * time.Millisecond

// Poller is where a worker sleeps until one of its queues has a frame or
// somebody wakes it. Wait and Set belong to the worker; Wake is for everybody.
type Poller struct {
	wake    int           // an eventfd
	pending atomic.Bool   // a wake-up is on its way: no second write is needed
	polls   []unix.PollFd // the eventfd first
	fds     []int32       // the descriptor of each entry, also while it is left out
	until   []time.Time   // an entry is left out until then
	paused  int           // how many are
}

// NewPoller returns a poller without descriptors but its own.
func NewPoller() (*Poller, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make event descriptor: %w", err)
	}
	p := &Poller{wake: fd}
	p.Set(nil)
	return p, nil
}

// Set replaces the descriptors waited on; negative ones are left out.
func (p *Poller) Set(fds []int) {
	p.polls, p.fds, p.until, p.paused = p.polls[:0], p.fds[:0], p.until[:0], 0
	p.add(p.wake)
	for _, fd := range fds {
		if fd >= 0 {
			p.add(fd)
		}
	}
}

func (p *Poller) add(fd int) {
	p.polls = append(p.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	p.fds = append(p.fds, int32(fd))
	p.until = append(p.until, time.Time{})
}

// Wait returns when a descriptor is readable, after Wake, after timeout, or a
// little before. A negative timeout means never. A signal is no error.
func (p *Poller) Wait(timeout time.Duration) error {
	if p.paused > 0 {
		timeout = p.resume(time.Now(), timeout)
	}
	var ts unix.Timespec
	limit := &ts
	if timeout < 0 {
		limit = nil
	} else {
		ts = unix.NsecToTimespec(int64(timeout))
	}
	n, err := p.poll(limit)
	if err != nil {
		if errors.Is(err, unix.EINTR) {
			return nil
		}
		return fmt.Errorf("poll %d descriptors: %w", len(p.polls), err)
	}
	if n == 0 {
		return nil
	}
	if p.polls[0].Revents != 0 {
		p.drain()
	}
	p.pause()
	return nil
}

// poll is ppoll(2). Unlike a read of a device it may sleep, so the Go runtime
// is told.
func (p *Poller) poll(limit *unix.Timespec) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p.polls[0])),
		uintptr(len(p.polls)), uintptr(unsafe.Pointer(limit)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// drain takes the wake-up. The flag falls last: a Wake in between writes
// nothing, and what it is about is seen in the round that follows. The other
// way round the flag could stay up with nothing written.
func (p *Poller) drain() {
	var count [8]byte
	_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(p.wake), uintptr(unsafe.Pointer(&count[0])), 8)
	p.pending.Store(false)
}

// pause leaves out descriptors that have an error and nothing to read. The
// worker still gets this one round: a read may clear the error.
func (p *Poller) pause() {
	for i := 1; i < len(p.polls); i++ {
		r := p.polls[i].Revents
		if r&unix.POLLIN == 0 && r&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
			p.until[i] = time.Now().Add(errorPause)
			p.polls[i].Fd = -1
			p.paused++
		}
	}
}

// resume takes back descriptors whose pause is over and cuts timeout so that
// the next one is not missed.
func (p *Poller) resume(now time.Time, timeout time.Duration) time.Duration {
	for i := 1; i < len(p.polls); i++ {
		if p.polls[i].Fd >= 0 {
			continue
		}
		left := p.until[i].Sub(now)
		if left <= 0 {
			p.polls[i].Fd = p.fds[i]
			p.paused--
		} else if timeout < 0 || left < timeout {
			timeout = left
		}
	}
	return timeout
}

// Wake ends the Wait that runs, or else the next one. It never blocks.
func (p *Poller) Wake() {
	if p.pending.Swap(true) {
		return
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It can only say that the counter is full, and then the worker is woken anyhow.
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p.wake), uintptr(unsafe.Pointer(&one[0])), 8)
}

// Close gives the poller's own descriptor back. Nobody may call Wake or Wait
// after it.
func (p *Poller) Close() error {
	if err := unix.Close(p.wake); err != nil {
		return fmt.Errorf("close event descriptor: %w", err)
	}
	return nil
}
