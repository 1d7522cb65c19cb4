package router

import (
	"sync"
	"sync/atomic"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// hopsMax bounds the table of next hops; beyond it flows take the long way.
const hopsMax = 65536

// hopKey is a neighbour on an interface.
type hopKey struct {
	iface uint16
	addr  packet.Addr
}

// hop is a next hop as a frame needs it. States point to its number, so a
// neighbour that changes its MAC costs one store and no generation.
type hop struct {
	key   hopKey
	mac   link.MAC
	known bool
	used  *atomic.Bool // set by the walk, cleared by the tick that tells neigh
}

// hops is the table of next hops in use. Numbers start at 1.
type hops struct {
	mu    sync.Mutex
	byKey map[hopKey]uint32
	table [hopsMax]atomic.Pointer[hop]
	next  uint32
}

func (h *hops) init() { h.byKey, h.next = make(map[hopKey]uint32), 1 }

// get returns hop n if its MAC is known.
func (h *hops) get(n uint32) *hop {
	if n == 0 || n >= hopsMax {
		return nil
	}
	p := h.table[n].Load()
	if p == nil || !p.known {
		return nil
	}
	return p
}

// put records a neighbour's MAC and returns its number, or 0 when the table is full.
func (h *hops) put(key hopKey, mac link.MAC) uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.byKey[key]
	if !ok {
		if h.next >= hopsMax {
			return 0
		}
		n = h.next
		h.next++
		h.byKey[key] = n
	}
	if old := h.table[n].Load(); old != nil && old.known && old.mac == mac {
		return n
	}
	h.table[n].Store(&hop{key: key, mac: mac, known: true, used: new(atomic.Bool)})
	return n
}

// change stores a new MAC for a neighbour that has a number; others are none of our business.
func (h *hops) change(key hopKey, mac link.MAC) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, ok := h.byKey[key]; ok {
		h.table[n].Store(&hop{key: key, mac: mac, known: true, used: new(atomic.Bool)})
	}
}

// forget makes a neighbour's flows take the long way until it is resolved again.
func (h *hops) forget(key hopKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, ok := h.byKey[key]; ok {
		h.table[n].Store(&hop{key: key})
	}
}

// forgetPort does so for all neighbours of an interface.
func (h *hops) forgetPort(iface uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, n := range h.byKey {
		if key.iface == iface {
			h.table[n].Store(&hop{key: key})
		}
	}
}

// clear empties the table; the caller has bumped the generation, so that no
// state looks at an old number.
func (h *hops) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.byKey)
	for n := range h.next {
		h.table[n].Store(nil)
	}
	h.next = 1
}

// inUse calls f for each hop that the walk used since the last call.
func (h *hops) inUse(f func(hopKey)) {
	h.mu.Lock()
	top := h.next
	h.mu.Unlock()
	for n := uint32(1); n < top; n++ {
		if p := h.table[n].Load(); p != nil && p.known && p.used.Swap(false) {
			f(p.key)
		}
	}
}
