package router

import (
	"time"

	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/route"
)

// nextAddr is the neighbour that a packet goes to.
func nextAddr(next route.Next, dst packet.Addr) packet.Addr {
	if next.Kind == route.Via {
		return next.Gateway
	}
	return dst
}

// hopKeyOf is the neighbour addr on out. All that leaves by a layer-3 interface
// goes to the same one.
func hopKeyOf(out *port, addr packet.Addr) hopKey {
	if out.layer3() {
		return hopKey{iface: out.Index}
	}
	return hopKey{out.Index, addr}
}

// findHop is the neighbour table's word on a next hop.
func (r *Router) findHop(key hopKey) (link.MAC, bool) {
	if key.addr.IsZero() {
		return link.MAC{}, true
	}
	mac, ok := r.env.Neigh.Lookup(key.iface, key.addr)
	return link.MAC(mac), ok
}

// resolve finds a neighbour's MAC, or keeps the packet and asks. from is nil
// for a packet of the node's own, which needs no more than its Ethernet header.
func (w *Worker) resolve(from, out *port, f *link.Frame, v *packet.View, to *packet.Tuple, addr packet.Addr) (link.MAC, bool) {
	key := hopKeyOf(out, addr)
	if mac, ok := w.r.findHop(key); ok {
		return mac, true
	}
	mac, status := w.ask(out, key)
	switch status {
	case neigh.Found:
		return mac, true
	case neigh.Pending:
		h := held{to: *to}
		if from != nil {
			h.from = from.Index
		}
		if h.whole = w.rejoined(f); h.whole {
			h.joined = w.joined
		}
		w.r.drops[HoldFull].Add(uint64(w.r.hold.add(key, f, h)))
		w.settle(out, key)
	default:
		w.r.drop(NoNeighbour)
		w.complain(from, v, hostUnreachable, 0)
	}
	return link.MAC{}, false
}

// ask has the neighbour machine look for a neighbour.
func (w *Worker) ask(out *port, key hopKey) (link.MAC, neigh.Status) {
	src := out.Source4
	if !key.addr.Is4() {
		src = out.Source6
	}
	mac, status, acts := w.r.env.Neigh.Resolve(w.now, key.iface, key.addr.Netip(), src.Netip(), w.acts[:0])
	w.acts = acts
	w.neighActions()
	return link.MAC(mac), status
}

// settle asks once more after a packet was put aside: another worker may have
// been told the answer, or that there is none, between the question and then,
// and nobody else would come back for the packet.
func (w *Worker) settle(out *port, key hopKey) {
	switch mac, status := w.ask(out, key); status {
	case neigh.Found:
		w.release(key, mac)
	case neigh.Failed:
		w.giveUp(key)
	}
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
			w.r.snap.Load().hops.refresh(key)
			w.release(key, link.MAC(a.MAC))
		case neigh.Unreachable:
			w.r.snap.Load().hops.refresh(key)
			w.giveUp(key)
		default:
			w.r.env.NeighEvent(w.now, a)
		}
	}
	clear(acts) // their frames are not ours to keep
	w.acts = acts[:0]
}

// sendFrame queues a whole frame for an interface; false: there is none, or
// the frame is longer than any of our own.
func (w *Worker) sendFrame(iface uint16, frame []byte) bool {
	out := w.snap.port(iface)
	if out == nil {
		w.r.drop(PortDown)
		return false
	}
	f := w.spare()
	if len(frame) > len(f.Buf)-f.Off {
		w.r.drop(NoRoom)
		return false
	}
	f.Len = copy(f.Buf[f.Off:], frame)
	w.emit(out, f)
	return true
}

// release sends what waited for a neighbour that has answered.
func (w *Worker) release(key hopKey, mac link.MAC) {
	out := w.snap.port(key.iface)
	if out == nil {
		return // what waits goes with the interface
	}
	for _, h := range w.r.hold.take(key) {
		var v packet.View
		if packet.Decode(h.frame.Bytes(), &v) != packet.OK {
			continue
		}
		noteOffloads(h.frame, &v)
		whole, joined := w.whole, w.joined
		if h.whole {
			w.whole, w.joined = h.frame, h.joined
		}
		if h.from == 0 {
			w.finish(out, h.frame, &v, mac)
		} else {
			w.forward(out, h.frame, &v, &h.to, mac)
		}
		w.whole, w.joined = whole, joined
	}
}

// giveUp tells the senders of what waited that the neighbour does not answer.
func (w *Worker) giveUp(key hopKey) {
	for _, h := range w.r.hold.take(key) {
		w.r.drop(NoNeighbour)
		var v packet.View
		from := w.snap.port(h.from)
		if packet.Decode(h.frame.Bytes(), &v) == packet.OK && (from != nil || h.from == 0) {
			w.complain(from, &v, hostUnreachable, 0)
		}
	}
}

// Send puts a finished frame on an interface, for machines that build their
// own (CARP). It may be called from any goroutine and says whether the device
// took the frame.
func (r *Router) Send(now time.Time, iface uint16, frame []byte) bool {
	w := r.pool.Get().(*Worker)
	defer r.pool.Put(w)
	w.begin(now)
	return w.sendFrame(iface, frame) && w.flush() == 0
}

// NeighActions does what a call of the neighbour machine asked for, when the
// call was made by others (addresses set, announcements begun). The slice must
// not be used any more afterwards.
func (r *Router) NeighActions(now time.Time, acts []neigh.Action) {
	w := r.pool.Get().(*Worker)
	defer r.pool.Put(w)
	w.begin(now)
	w.acts = acts
	w.neighActions()
	w.acts = nil
	w.flush()
}

// LinkDown forgets the neighbours of an interface that has lost its link. Once
// it has it back, the switch there is told which groups to send.
func (r *Router) LinkDown(iface uint16) {
	r.groups.again(iface)
	r.env.Neigh.Flush(iface)
	r.snap.Load().hops.refreshPort(iface)
}
