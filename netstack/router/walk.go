package router

import (
	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/state"
	"tandem/netstack/route"
)

// walk takes one IP packet from the filter's first look to the wire or to the
// node. hit is what the state table said about it when its batch was matched.
func (w *Worker) walk(p *port, f *link.Frame, v *packet.View, hit *state.Hit) {
	if hit.Verdict == state.Pass && w.fast(p, f, v, hit) {
		return
	}
	if v.Fragment {
		if f, v = w.reassemble(p, f, v); f == nil {
			return
		}
		defer w.flush() // the frame is ours and the next datagram needs it
		hit = &w.hit
		w.r.env.Filter.States().Match(w.mono, p.Index, false, v, hit)
	} else if hit.Verdict == state.Miss && w.inserted {
		// An earlier packet of this batch may have made the state.
		hit = &w.hit
		w.r.env.Filter.States().Match(w.mono, p.Index, false, v, hit)
	}
	if !w.normal(p, v) {
		return
	}
	filter := w.r.env.Filter
	switch {
	case hit.Verdict == state.Drop:
		if hit.Reason == state.NotAllowed && hit.RuleGen != filter.Generation() {
			// The rules may let the flow go on again; this packet was not
			// followed by its state, so its sender repeats it.
			filter.Recheck(w.mono, hit)
		}
	case packet.IsICMPError(v):
		w.icmpError(p, f, v)
	case hit.Verdict == state.Pass:
		w.known(p, f, v, hit)
	default:
		w.first(p, f, v)
	}
}

// fast is the established walk: the state knows the way, and nothing about
// this packet needs more than a rewrite. It may decline; then the first walk
// is taken, which is slower and never different.
func (w *Worker) fast(p *port, f *link.Frame, v *packet.View, hit *state.Hit) bool {
	if hit.Path.Gen != w.snap.gen || v.TTL <= 1 || v.Options || v.Fragment || hit.RuleGen != w.r.env.Filter.Generation() {
		return false
	}
	h := w.r.hops.get(hit.Path.Hop)
	if h == nil {
		return false
	}
	out := w.snap.ports[hit.Path.Out]
	if w.wireLen(v) > out.MTU || !carries(out.features(), f) || w.r.env.Filter.Touches(p.Index, v) {
		return false
	}
	if !h.used.Load() {
		h.used.Store(true)
	}
	w.forward(out, f, v, &hit.To, h.mac)
	return true
}

// wireLen is the length of the longest IP packet that v becomes on a wire.
func (w *Worker) wireLen(v *packet.View) int {
	if v.SegSize > 0 {
		return v.Payload - v.L3 + v.SegSize
	}
	return v.End - v.L3
}

// carries says whether a device takes a frame as it is.
func carries(has link.Features, f *link.Frame) bool {
	switch f.Offload.Segment {
	case link.SegmentTCP4:
		return has.TCP4 && has.Checksum
	case link.SegmentTCP6:
		return has.TCP6 && has.Checksum
	case link.SegmentUDP:
		return has.UDP && has.Checksum
	}
	return has.Checksum || !f.Offload.NeedsChecksum
}

// normal applies the interface's normalisation; false: the packet is dropped.
func (w *Worker) normal(p *port, v *packet.View) bool {
	return w.r.env.Filter.Normalise(p.Index, v)
}

// known walks a packet of a flow whose way is not remembered or not current.
func (w *Worker) known(p *port, f *link.Frame, v *packet.View, hit *state.Hit) {
	filter := w.r.env.Filter
	if hit.RuleGen != filter.Generation() && !filter.Recheck(w.mono, hit) {
		return
	}
	if hit.Out == 0 {
		w.local(p, f, v, &hit.To)
		return
	}
	if kind := w.snap.locals[v.Dst].Kind; kind == NotHeld || kind == Unusable {
		w.r.drop(VIPNotHeld)
		return
	}
	next, ok := w.lookup(hit.To.Dst)
	if !ok || !w.liveTTL(p, v) {
		return
	}
	if !w.snap.holds(hit.To.Src) {
		w.r.drop(VIPNotHeld)
		return
	}
	w.route(p, f, v, &hit.To, next, hit)
}

// first walks the first packet of a flow: rules in, then the node itself or
// the route, then rules out.
func (w *Worker) first(p *port, f *link.Frame, v *packet.View) {
	switch w.snap.locals[v.Dst].Kind {
	case NotHeld, Draining:
		w.r.drop(VIPNotHeld)
		return
	case Unusable:
		w.r.drop(AddressUnusable)
		return
	}
	filter, d := w.r.env.Filter, &w.decision
	filter.In(w.mono, p.Index, v, d)
	if d.Verdict != pf.Pass {
		w.refuse(p, v, d)
		return
	}
	group := isGroup(v.Dst) || w.snap.routes.Broadcast(p.Index, v.Dst)
	switch kind := w.snap.locals[d.To.Dst].Kind; {
	case group:
		w.groupcast(p, f, v)
	case kind == Own || kind == Held:
		if filter.Local(w.mono, p.Index, v, d) {
			w.inserted = true
			w.local(p, f, v, &d.To)
		}
	case kind != 0:
		w.r.drop(VIPNotHeld)
	default:
		w.transit(p, f, v, d)
	}
}

// transit routes the first packet of a flow that does not end here.
func (w *Worker) transit(p *port, f *link.Frame, v *packet.View, d *pf.Decision) {
	next, ok := w.lookup(d.To.Dst)
	if !ok {
		w.unreachable(p, v, noRoute)
		return
	}
	if !w.liveTTL(p, v) {
		return
	}
	w.r.env.Filter.Out(w.mono, p.Index, next.Iface, v, d)
	if d.Verdict != pf.Pass {
		w.refuse(p, v, d)
		return
	}
	w.inserted = true
	hit := &w.hit
	*hit = d.Hit()
	w.route(p, f, v, &d.To, next, hit)
}

// lookup finds the route; a packet that has none is counted.
func (w *Worker) lookup(dst packet.Addr) (route.Next, bool) {
	next, ok := w.snap.routes.Lookup(dst)
	switch {
	case !ok:
		w.r.drop(NoRoute)
	case next.Kind == route.Blackhole:
		w.r.drop(Blackhole)
		return next, false
	case int(next.Iface) >= len(w.snap.ports) || w.snap.ports[next.Iface] == nil:
		w.r.drop(PortDown)
		return next, false
	}
	return next, ok
}

// liveTTL answers a packet that may not be forwarded any further.
func (w *Worker) liveTTL(p *port, v *packet.View) bool {
	if v.TTL > 1 {
		return true
	}
	w.r.drop(TTLExceeded)
	w.sendError(p, v, timeExceeded, 0)
	return false
}

// route sends a packet towards its next hop and, once the neighbour is known,
// writes the way into the flow's state.
func (w *Worker) route(p *port, f *link.Frame, v *packet.View, to *packet.Tuple, next route.Next, hit *state.Hit) {
	out := w.snap.ports[next.Iface]
	if w.tooBig(out, v) {
		w.r.drop(TooBig)
		w.sendError(p, v, tooBig, uint32(out.MTU))
		return
	}
	become := *to // to may lie in a record that the next walk reuses
	mac, ok := w.resolve(p, out, f, v, &become, next)
	if !ok {
		return
	}
	if hit.ID != 0 {
		hop := w.r.hops.put(hopKey{out.Index, nextAddr(next, become.Dst)}, mac)
		w.r.env.Filter.States().SetPath(hit.ID, hit.Dir, state.Path{Out: out.Index, Hop: hop, Gen: w.snap.gen})
	}
	w.forward(out, f, v, &become, mac)
}

// nextAddr is the neighbour that a packet goes to.
func nextAddr(next route.Next, dst packet.Addr) packet.Addr {
	if next.Kind == route.Via {
		return next.Gateway
	}
	return dst
}

// forward rewrites the packet for good and sends it by out. Whatever out
// cannot carry is done here: segments, sums, fragments.
func (w *Worker) forward(out *port, f *link.Frame, v *packet.View, to *packet.Tuple, mac link.MAC) {
	packet.SetTuple(v, to)
	packet.DecTTL(v)
	w.finish(out, f, v, mac)
}

// finish puts the Ethernet header on a packet that is otherwise ready and
// fits it to the device.
func (w *Worker) finish(out *port, f *link.Frame, v *packet.View, mac link.MAC) {
	packet.SetMACs(v, packet.MAC(mac), packet.MAC(out.MAC))
	w.r.env.Filter.Shape(out.Index, v)
	f.Len = v.End // padding of the way in is not carried along
	switch {
	case !carries(out.features(), f):
		w.adapt(out, f, v)
	case v.SegSize == 0 && v.End-v.L3 > w.partMax(out, v):
		w.fragment(out, f, v)
	default:
		w.emit(out, f)
	}
}
