package router

import (
	"sync"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/route"
)

// Limits of packets that wait for a neighbour's MAC.
const (
	heldPerHopMax = 8
	heldMax       = 512
)

// held is a packet that waits. It is kept as it came in, so that the error
// quotes what its sender sent.
type held struct {
	frame *link.Frame
	from  uint16 // interface it came in by; 0: the node's own
	to    packet.Tuple
	own   bool // finished but for its Ethernet header
}

// hold is the waiting room, by neighbour.
type hold struct {
	mu    sync.Mutex
	count int
	byHop map[hopKey][]held
}

func (h *hold) init() { h.byHop = make(map[hopKey][]held) }

// add keeps a copy of f; false: there is no room.
func (h *hold) add(key hopKey, f *link.Frame, from uint16, to *packet.Tuple, own bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count >= heldMax || len(h.byHop[key]) >= heldPerHopMax {
		return false
	}
	c := link.NewFrame(f.Len)
	copy(c.Buf[c.Off:], f.Bytes())
	c.Len, c.Offload = f.Len, f.Offload
	h.byHop[key] = append(h.byHop[key], held{c, from, *to, own})
	h.count++
	return true
}

// take removes and returns what waits for a neighbour.
func (h *hold) take(key hopKey) []held {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.byHop[key]
	delete(h.byHop, key)
	h.count -= len(out)
	return out
}

// resolve finds the MAC of the next hop of a packet in transit.
func (w *Worker) resolve(p, out *port, f *link.Frame, v *packet.View, to *packet.Tuple, next route.Next) (link.MAC, bool) {
	return w.resolveNext(p, out, f, v, to, nextAddr(next, to.Dst))
}

// resolveNext finds a neighbour's MAC, or keeps the packet and asks. from is
// nil for a packet of the node's own.
func (w *Worker) resolveNext(from, out *port, f *link.Frame, v *packet.View, to *packet.Tuple, addr packet.Addr) (link.MAC, bool) {
	if out.layer3() {
		return link.MAC{}, true
	}
	if mac, ok := w.r.env.Neigh.Lookup(out.Index, addr); ok {
		return link.MAC(mac), true
	}
	src := out.Source4
	if v.Family == 6 {
		src = out.Source6
	}
	mac, status, acts := w.r.env.Neigh.Resolve(w.now, out.Index, addr.Netip(), src.Netip(), w.acts[:0])
	w.acts = acts
	var in uint16
	if from != nil {
		in = from.Index
	}
	switch status {
	case neigh.Found:
		w.neighActions()
		return link.MAC(mac), true
	case neigh.Pending:
		if !w.r.hold.add(hopKey{out.Index, addr}, f, in, to, from == nil) {
			w.r.drop(HoldFull)
		}
	default:
		w.r.drop(NoNeighbour)
		if from != nil {
			w.sendError(from, v, hostUnreachable, 0)
		}
	}
	w.neighActions()
	return link.MAC{}, false
}

// neighActions does what the neighbour machine asked for in w.acts.
func (w *Worker) neighActions() {
	acts := w.acts
	w.acts = nil // releasing a packet may resolve another
	for i := range acts {
		a := &acts[i]
		key := hopKey{a.Port, packet.AddrFrom(a.Addr)}
		switch a.Kind {
		case neigh.Send:
			w.sendFrame(a.Port, a.Frame)
		case neigh.Resolved, neigh.Changed:
			w.r.hops.change(key, link.MAC(a.MAC))
			w.release(key, link.MAC(a.MAC))
		case neigh.Unreachable:
			w.r.hops.forget(key)
			w.giveUp(key)
		default:
			w.r.env.NeighEvent(w.now, a)
		}
	}
	w.acts = acts[:0]
}

// sendFrame queues a whole frame for an interface.
func (w *Worker) sendFrame(iface uint16, frame []byte) {
	if int(iface) >= len(w.snap.ports) || w.snap.ports[iface] == nil {
		w.r.drop(PortDown)
		return
	}
	f := w.spare()
	if len(frame) > len(f.Buf)-f.Off {
		w.r.drop(NoRoom)
		return
	}
	f.Len = copy(f.Buf[f.Off:], frame)
	w.emit(w.snap.ports[iface], f)
}

// release sends what waited for a neighbour that has answered.
func (w *Worker) release(key hopKey, mac link.MAC) {
	if int(key.iface) >= len(w.snap.ports) || w.snap.ports[key.iface] == nil {
		return
	}
	out := w.snap.ports[key.iface]
	for _, h := range w.r.hold.take(key) {
		var v packet.View
		if !decodeHeld(h.frame, &v) {
			continue
		}
		if h.own {
			w.finish(out, h.frame, &v, mac)
			continue
		}
		w.forward(out, h.frame, &v, &h.to, mac)
	}
}

// giveUp tells the senders of what waited that the neighbour does not answer.
func (w *Worker) giveUp(key hopKey) {
	for _, h := range w.r.hold.take(key) {
		w.r.drop(NoNeighbour)
		var v packet.View
		if h.own || !decodeHeld(h.frame, &v) || w.snap.ports[h.from] == nil {
			continue
		}
		w.sendError(w.snap.ports[h.from], &v, hostUnreachable, 0)
	}
}

func decodeHeld(f *link.Frame, v *packet.View) bool {
	if packet.Decode(f.Bytes(), v) != packet.OK {
		return false
	}
	v.PartialSum = f.Offload.NeedsChecksum
	if f.Offload.Segment != link.SegmentNone {
		v.SegSize = int(f.Offload.SegSize)
	}
	return true
}

// Send puts a finished frame on an interface, for machines that build their
// own (CARP). It may be called from any goroutine and says whether the device
// took the frame.
func (r *Router) Send(now time.Time, iface uint16, frame []byte) bool {
	w := r.pool.Get().(*Worker)
	defer r.pool.Put(w)
	w.begin(now)
	if int(iface) >= len(w.snap.ports) || w.snap.ports[iface] == nil {
		r.drop(PortDown)
		return false
	}
	stats := w.snap.ports[iface].stats
	errs := stats.txErrors.Load()
	w.sendFrame(iface, frame)
	w.flush()
	return stats.txErrors.Load() == errs
}

// NeighActions does what a call of the neighbour machine asked for, when the
// call was made by others (addresses set, announcements begun).
func (r *Router) NeighActions(now time.Time, acts []neigh.Action) {
	w := r.pool.Get().(*Worker)
	defer r.pool.Put(w)
	w.begin(now)
	w.acts = acts
	w.neighActions()
	w.flush()
}

// LinkDown forgets the neighbours of an interface that has lost its link.
func (r *Router) LinkDown(iface uint16) {
	r.env.Neigh.Flush(iface)
	r.hops.forgetPort(iface)
}
