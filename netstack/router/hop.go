package router

import (
	"sync"
	"sync/atomic"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// hopsMax bounds a table of next hops. A full one is replaced by an empty one
// under a new generation.
const hopsMax = 1 << 14

// hopKey is a neighbour on an interface; without an address it is whoever is
// at the other end of a layer-3 one.
type hopKey struct {
	iface uint16
	addr  packet.Addr
}

// hop is a next hop as a frame needs it. States point to its number, so a
// neighbour that changes its MAC costs one store and no generation.
type hop struct {
	key  hopKey
	mac  link.MAC
	used atomic.Bool // set by the walk, cleared by the tick that tells neigh
}

// hops is the table of next hops in use. Numbers start at 1 and are never
// given to another neighbour: whoever wants the table emptied takes a new one
// into the next snapshot, where the generation tells states of before apart.
type hops struct {
	find func(hopKey) (link.MAC, bool) // the neighbour table's word

	table [hopsMax]atomic.Pointer[hop] // nil: the MAC is not known
	mu    sync.Mutex                   // guards what follows
	byKey map[hopKey]uint32
	next  uint32
}

func newHops(find func(hopKey) (link.MAC, bool)) *hops {
	return &hops{find: find, byKey: make(map[hopKey]uint32), next: 1}
}

// get returns hop n if its MAC is known.
func (h *hops) get(n uint32) *hop {
	if n >= hopsMax {
		return nil
	}
	return h.table[n].Load()
}

// put returns the number of a neighbour that was at mac a moment ago, 0 when
// the table is full.
func (h *hops) put(key hopKey, mac link.MAC) uint32 {
	h.mu.Lock()
	n, ok := h.byKey[key]
	if !ok && h.next < hopsMax {
		n = h.next
		h.next++
		h.byKey[key] = n
	}
	h.mu.Unlock()
	if n == 0 {
		return 0
	}
	if p := h.table[n].Load(); p == nil || p.mac != mac {
		h.update(n, key)
	}
	return n
}

// refresh makes the table say of a neighbour what the neighbour table says
// now. It is called after every change of that; neighbours without a number
// are none of the table's business.
func (h *hops) refresh(key hopKey) {
	h.mu.Lock()
	n, ok := h.byKey[key]
	h.mu.Unlock()
	if ok {
		h.update(n, key)
	}
}

// update stores the MAC of hop n. Another worker may store an older answer
// meanwhile, so each that stores asks again afterwards: the last one to store
// has then seen the last change.
func (h *hops) update(n uint32, key hopKey) {
	for {
		mac, known := h.find(key)
		switch old := h.table[n].Load(); {
		case !known:
			h.table[n].Store(nil)
		case old == nil || old.mac != mac:
			h.table[n].Store(&hop{key: key, mac: mac})
		}
		if again, still := h.find(key); again == mac && still == known {
			return
		}
	}
}

// refreshPort does so for all neighbours of an interface.
func (h *hops) refreshPort(iface uint16) {
	h.mu.Lock()
	var keys []hopKey
	for key := range h.byKey {
		if key.iface == iface {
			keys = append(keys, key)
		}
	}
	h.mu.Unlock()
	for _, key := range keys {
		h.refresh(key)
	}
}

// touch asks for each hop that the walk used since the last call, by which the
// neighbour table learns that it is in use.
func (h *hops) touch() {
	h.mu.Lock()
	top := h.next
	h.mu.Unlock()
	for n := uint32(1); n < top; n++ {
		if p := h.table[n].Load(); p != nil && p.used.Swap(false) {
			h.find(p.key)
		}
	}
}
