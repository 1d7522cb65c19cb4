package router

import (
	"sync"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/norm"
)

// Limits of packets that wait for a neighbour's MAC.
const (
	heldPerHopMax = 8
	heldMax       = 512
	heldBytesMax  = 4 << 20
)

// held is a packet that waits. One in transit is kept as it came in, so that
// the error quotes what its sender sent.
type held struct {
	frame  *link.Frame
	from   uint16 // interface it came in by; 0: the node's own
	to     packet.Tuple
	whole  bool // put together out of fragments, of which joined tells
	joined norm.Datagram
}

// hold is the waiting room, by neighbour. When it is full, a packet for another
// neighbour takes the place of those that have waited longest, so that who
// scans a network does not keep the packets of others out.
type hold struct {
	mu    sync.Mutex
	count int
	bytes int
	byHop map[hopKey][]held
	order []hopKey // those of byHop, the longest waiting first; some twice or gone
}

func (h *hold) init() { h.byHop = make(map[hopKey][]held) }

// add keeps a copy of f, which p tells of; it says how many others had to go.
func (h *hold) add(key hopKey, f *link.Frame, p held) (lost int) {
	p.frame = link.NewFrame(f.Len)
	copy(p.frame.Buf[p.frame.Off:], f.Bytes())
	p.frame.Len, p.frame.Offload = f.Len, f.Offload
	h.mu.Lock()
	defer h.mu.Unlock()
	if list := h.byHop[key]; len(list) >= heldPerHopMax {
		// The newest replaces the oldest (RFC 4861, section 7.2.2).
		h.bytes -= list[0].frame.Len
		h.byHop[key] = append(list[:0], list[1:]...)
		h.count--
		lost++
	}
	for h.count >= heldMax || h.count > 0 && h.bytes+f.Len > heldBytesMax {
		lost += len(h.remove(h.order[0]))
		h.order = h.order[1:]
	}
	if _, waits := h.byHop[key]; !waits {
		h.order = append(h.order, key)
	}
	h.byHop[key] = append(h.byHop[key], p)
	h.count++
	h.bytes += f.Len
	if len(h.order) > 2*heldMax {
		h.compact()
	}
	return lost
}

// remove takes out what waits for a neighbour.
func (h *hold) remove(key hopKey) []held {
	out := h.byHop[key]
	delete(h.byHop, key)
	h.count -= len(out)
	for i := range out {
		h.bytes -= out[i].frame.Len
	}
	return out
}

// compact drops neighbours from the order that nothing waits for any more, and
// all but the first mention of the others.
func (h *hold) compact() {
	seen := make(map[hopKey]bool, len(h.byHop))
	kept := make([]hopKey, 0, len(h.byHop))
	for _, key := range h.order {
		if _, waits := h.byHop[key]; waits && !seen[key] {
			seen[key] = true
			kept = append(kept, key)
		}
	}
	h.order = kept
}

// take removes and returns what waits for a neighbour.
func (h *hold) take(key hopKey) []held {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.remove(key)
}

// keepPorts loses what waits on interfaces that are not there any more.
func (h *hold) keepPorts(there func(uint16) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, list := range h.byHop {
		gone := !there(key.iface)
		for i := range list {
			gone = gone || list[i].from != 0 && !there(list[i].from)
		}
		if gone {
			h.remove(key)
		}
	}
}
