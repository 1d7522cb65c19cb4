// Package capture lets people look at the frames that pass a node.
//
// A [Tap] is offered every frame. While nobody listens that costs one atomic
// load. A [Sub] is one listener: it has a filter expression, compiled once,
// and a bounded queue of copies; what finds no room there is counted and lost,
// so that a slow listener never slows the data path. What is taken out of the
// queue can be printed, one line a frame ([AppendText]), or written to a file
// ([Writer]).
//
// The expressions are a subset of pcap-filter(7), see [Compile]; files are
// pcapng (draft-ietf-opsawg-pcapng). Frames are shown as they cross the node:
// coalesced, and with checksums that a device was still to finish.
//
// The package reads no clock, opens nothing and starts no goroutine. Bytes
// from outside never make it panic.
//
// Invariant: the memory of a Sub is bounded by what it was made with and by
// queueBytesMax.
package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// SnapLenMax is the longest part of a frame that is kept, and what a snap
	// length of 0 means: all of any frame.
	SnapLenMax = 1 << 17
	// QueueLenDefault is what a queue length of 0 means.
	QueueLenDefault = 1024

	queueLenMax   = 1 << 16
	queueBytesMax = 32 << 20 // of copied frames waiting in one queue
	subsMax       = 16       // listeners at a time: each one costs every frame
)

// Errors of subscribing and listening.
var (
	ErrClosed  = errors.New("capture is closed")
	ErrTooMany = errors.New("too many captures at a time")
)

// Direction says which way a frame crossed its interface.
type Direction uint8

// The directions, as the node sees them.
const (
	In  Direction = 1
	Out Direction = 2
)

// String is "in" or "out".
func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	}
	return "?"
}

// Packet is a copy of one frame.
type Packet struct {
	Time  time.Time
	Iface string
	Dir   Direction
	Len   int    // of the frame as it was, in bytes
	Data  []byte // its beginning, as far as the snap length allows
}

// Tap is the place where frames are seen. Its methods may be called from any
// goroutine; a nil Tap sees nothing.
type Tap struct {
	subs atomic.Pointer[[]*Sub] // nil while nobody listens
	mu   sync.Mutex             // over changes of subs
}

// New returns a tap that nobody listens at.
func New() *Tap { return &Tap{} }

// Active says whether anybody listens, for callers to whom knowing the time or
// the name of the interface is work.
func (t *Tap) Active() bool { return t != nil && t.subs.Load() != nil }

// Offer shows frame to all who listen; it is copied where it is wanted.
func (t *Tap) Offer(now time.Time, iface string, dir Direction, frame []byte) {
	if t == nil {
		return
	}
	subs := t.subs.Load()
	if subs == nil {
		return
	}
	for _, s := range *subs {
		s.offer(now, iface, dir, frame)
	}
}

// Subscribe begins to listen, to the named interfaces or to all of them. expr
// is a filter expression, "" for every frame; snapLen is how many bytes of a
// frame are kept, and queueLen how many frames wait for the listener at most;
// 0 is the default of each. The caller must Close the Sub.
func (t *Tap) Subscribe(expr string, snapLen, queueLen int, ifaces ...string) (*Sub, error) {
	filter, err := Compile(expr)
	if err != nil {
		return nil, err
	}
	if snapLen == 0 {
		snapLen = SnapLenMax
	}
	if queueLen == 0 {
		queueLen = QueueLenDefault
	}
	if snapLen < 1 || snapLen > SnapLenMax || queueLen < 1 || queueLen > queueLenMax {
		return nil, fmt.Errorf("capture: snap length 1 to %d and queue of 1 to %d frames are possible", SnapLenMax, queueLenMax)
	}
	s := &Sub{
		tap:     t,
		filter:  filter,
		ifaces:  slices.Clone(ifaces),
		snapLen: snapLen,
		slots:   make([]Packet, queueLen),
		ready:   make(chan struct{}, 1),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var subs []*Sub
	if old := t.subs.Load(); old != nil {
		subs = slices.Clone(*old)
	}
	if len(subs) >= subsMax {
		return nil, fmt.Errorf("capture: %w: %d are possible", ErrTooMany, subsMax)
	}
	subs = append(subs, s)
	t.subs.Store(&subs)
	return s, nil
}

func (t *Tap) remove(s *Sub) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.subs.Load()
	if old == nil {
		return
	}
	subs := slices.DeleteFunc(slices.Clone(*old), func(o *Sub) bool { return o == s })
	if len(subs) == 0 {
		t.subs.Store(nil)
		return
	}
	t.subs.Store(&subs)
}

// Sub is one listener.
type Sub struct {
	tap     *Tap
	filter  *Filter
	ifaces  []string
	snapLen int
	matched atomic.Uint64
	dropped atomic.Uint64
	ready   chan struct{} // holds a token when something changed

	mu     sync.Mutex
	closed bool
	view   frame    // what the filter looks at, kept for its memory
	slots  []Packet // a ring; the slots keep their bytes for the next frame
	first  int
	count  int
	bytes  int // capacity of all slots
}

// offer queues a copy of b if the filter wants it.
func (s *Sub) offer(now time.Time, iface string, dir Direction, b []byte) {
	if len(s.ifaces) > 0 && !slices.Contains(s.ifaces, iface) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.filter.root != nil {
		s.view.decode(b, iface, dir)
		if !s.filter.root.match(&s.view) {
			return
		}
	}
	s.matched.Add(1)
	kept := b[:min(len(b), s.snapLen)]
	if s.count == len(s.slots) || !s.room((s.first+s.count)%len(s.slots), len(kept)) {
		s.dropped.Add(1)
		return
	}
	p := &s.slots[(s.first+s.count)%len(s.slots)]
	p.Time, p.Iface, p.Dir, p.Len = now, iface, dir, len(b)
	p.Data = append(p.Data[:0], kept...)
	s.count++
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// room makes slot i large enough for n bytes, if the queue's memory allows.
func (s *Sub) room(i, n int) bool {
	p := &s.slots[i]
	if cap(p.Data) >= n {
		return true
	}
	if s.bytes-cap(p.Data)+n > queueBytesMax {
		return false
	}
	s.bytes -= cap(p.Data)
	p.Data = make([]byte, 0, n)
	s.bytes += cap(p.Data)
	return true
}

// Next waits for a frame and copies it into p, whose Data is used again where
// it is long enough. The error is [ErrClosed], after the last frame, or the
// context's.
func (s *Sub) Next(ctx context.Context, p *Packet) error {
	for {
		got, closed := s.take(p)
		if got {
			return nil
		}
		if closed {
			return ErrClosed
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Poll is Next without waiting: it says whether there was a frame.
func (s *Sub) Poll(p *Packet) bool {
	got, _ := s.take(p)
	return got
}

func (s *Sub) take(p *Packet) (got, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return false, s.closed
	}
	from := &s.slots[s.first]
	data := append(p.Data[:0], from.Data...)
	*p = *from
	p.Data = data
	s.first = (s.first + 1) % len(s.slots)
	s.count--
	return true, s.closed
}

// Counts is how many frames the filter let pass, and how many of them were
// lost because the queue was full.
func (s *Sub) Counts() (matched, dropped uint64) { return s.matched.Load(), s.dropped.Load() }

// Close ends the listening; frames in the queue can still be taken. It may be
// called again.
func (s *Sub) Close() {
	s.tap.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.ready)
}
