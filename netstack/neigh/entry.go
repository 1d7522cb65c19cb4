package neigh

import (
	"net/netip"
	"sync/atomic"

	"tandem/netstack/packet"
)

// Bits of entry.used: Lookup sets both, two readers clear one each.
const (
	usedForRefresh = 1 << iota
	usedForRoom
	usedAll = usedForRefresh | usedForRoom
)

// entry is a neighbour, known or being asked for. What Lookup reads is atomic
// or never changes; the rest is guarded by the port's lock.
type entry struct {
	addr  packet.Addr           // never changes
	chain atomic.Pointer[entry] // next of the same bucket
	mac   atomic.Uint64         // see packMAC; 0: not known
	used  atomic.Uint32

	state   State
	src     netip.Addr // whom the last Resolve wanted to ask from
	granted bool       // the rate allows the next ask
	tries   int        // asks since state was entered
	since   int64      // when it was asked for, or last confirmed or told
	changed int64      // when mac last changed
	due     int64      // when the timer fires; never: it does not
	pos     int        // in the port's heap; -1: not in it

	prev, next *entry // in questions or neighbours
	in         *list
}

// use marks e as in use and returns its MAC, if it is known.
func (e *entry) use() (packet.MAC, bool) {
	m := e.mac.Load()
	if m == 0 {
		return packet.MAC{}, false
	}
	if e.used.Load() != usedAll { // Do not fight for the cache line on every packet.
		e.used.Store(usedAll)
	}
	return unpackMAC(m), true
}

// wasUsed says whether e was in use since the last call with that bit.
func (e *entry) wasUsed(bit uint32) bool { return e.used.And(^bit)&bit != 0 }

// open says whether e is a question without an answer.
func (e *entry) open() bool { return e.state == Incomplete || e.state == NoAnswer }

// packMAC and unpackMAC keep a MAC in the low 48 bits of a word. The zero MAC
// is no station's, so it can mean none.
func packMAC(m packet.MAC) uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
}

func unpackMAC(v uint64) packet.MAC {
	return packet.MAC{byte(v >> 40), byte(v >> 32), byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
}

// list is a queue of entries, each of which is in one list at most.
type list struct {
	front, back *entry
	len         int
}

func (l *list) push(e *entry) {
	e.in, e.prev, e.next = l, l.back, nil
	if l.back != nil {
		l.back.next = e
	} else {
		l.front = e
	}
	l.back = e
	l.len++
}

func (l *list) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.front = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.back = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
	l.len--
}

// timers is a heap of entries, the first due on top. Every entry knows its
// place, so that a timer is moved, never left behind.
type timers []*entry

// set makes e due at the given time; never takes it out.
func (h *timers) set(e *entry, due int64) {
	switch {
	case due == never && e.pos >= 0:
		h.remove(e)
	case due == never:
	case e.pos < 0:
		e.due, e.pos = due, len(*h)
		*h = append(*h, e)
		h.up(e.pos)
	default:
		e.due = due
		h.down(h.up(e.pos))
	}
}

// next is when the first entry is due.
func (h timers) next() int64 {
	if len(h) == 0 {
		return never
	}
	return h[0].due
}

func (h *timers) remove(e *entry) {
	i, last := e.pos, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	if i < last {
		h.down(h.up(i))
	}
	e.due, e.pos = never, -1
}

func (h timers) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h timers) up(i int) int {
	for i > 0 && h[i].due < h[(i-1)/2].due {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	return i
}

func (h timers) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if h[c].due < h[least].due {
				least = c
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
