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
	filter := w.r.env.Filter
	if hit.Verdict == state.Miss && w.inserted {
		// An earlier packet of this batch may have made the state.
		hit = &w.hit
		filter.States().Match(w.mono, p.Index, false, v, hit)
	}
	if !filter.Sane(v) || !filter.Scrub(p.Index, v) {
		return
	}
	if hit.Verdict == state.Drop && hit.Reason == state.NotAllowed && hit.RuleGen != w.policy.Gen && filter.Recheck(w.mono, hit) {
		// The rules let the flow go on again.
		filter.States().Match(w.mono, p.Index, false, v, hit)
	}
	switch {
	case hit.Verdict == state.Pass:
		w.known(p, f, v, hit)
	case hit.Verdict == state.Drop:
		if hit.Reset {
			w.reset(p, v) // so that the sender forgets an older connection
		}
	case packet.IsICMPError(v) && w.icmpError(p, f, v):
	default:
		w.first(p, f, v)
	}
}

// fast is the established walk: the state knows the way, and nothing about
// this packet needs more than a rewrite. It may decline; then the first walk
// is taken, which is slower and never different.
func (w *Worker) fast(p *port, f *link.Frame, v *packet.View, hit *state.Hit) bool {
	if hit.Path.Gen != w.snap.gen || hit.RuleGen != w.policy.Gen || v.TTL <= 1 || v.Options {
		return false
	}
	h := w.snap.hops.get(hit.Path.Hop)
	if h == nil {
		return false
	}
	out := w.snap.ports[hit.Path.Out]
	if wireLen(v) > out.MTU {
		return false
	}
	w.tally.count(w.policy, hit.Rule, v)
	if w.policy.Touches(p.Index, v) {
		w.r.env.Filter.Scrub(p.Index, v)
	}
	if !h.used.Load() {
		h.used.Store(true)
	}
	w.forward(out, f, v, &hit.To, h.mac)
	return true
}

// known walks a packet of a flow whose way is not remembered or not current.
func (w *Worker) known(p *port, f *link.Frame, v *packet.View, hit *state.Hit) {
	if !w.allowed(v, hit) || !w.mayFollow(p, v, hit, hit.To.Src) {
		return
	}
	if hit.Out == 0 {
		w.local(p, f, v, &hit.To)
		return
	}
	next, ok := w.lookup(hit.To.Dst)
	switch {
	case !ok:
		w.unroutable(p, v, next)
	case next.Iface != hit.Out && hit.Dir == state.Forward:
		w.moved(p, f, v, hit, next)
	case w.liveTTL(p, v):
		w.route(p, f, v, &hit.To, next, hit)
	}
}

// moved walks a packet of a flow whose route has moved to another interface:
// answers would come in where its state does not expect them, so the flow
// begins anew, unless an earlier packet of the batch has seen to that.
func (w *Worker) moved(p *port, f *link.Frame, v *packet.View, old *state.Hit, next route.Next) {
	states, hit := w.r.env.Filter.States(), &w.hit
	states.Remove(old.ID)
	states.Match(w.mono, p.Index, false, v, hit)
	switch {
	case hit.Verdict == state.Miss:
		w.first(p, f, v)
	case hit.Verdict == state.Pass && w.liveTTL(p, v):
		w.route(p, f, v, &hit.To, next, hit)
	}
}

// allowed says whether the rules let a packet follow its state, and counts it
// for the one that does.
func (w *Worker) allowed(v *packet.View, hit *state.Hit) bool {
	filter := w.r.env.Filter
	if hit.RuleGen != w.policy.Gen && !filter.Recheck(w.mono, hit) || v.Options && !filter.OptionsPass(hit) {
		return false
	}
	if hit.RuleGen == w.policy.Gen { // else the rules have changed since the step began
		w.tally.count(w.policy, hit.Rule, v)
	}
	return true
}

// mayFollow says whether a packet may follow its state as far as the node's
// addresses go: those it was sent to, and the one that it would be sent from.
func (w *Worker) mayFollow(p *port, v *packet.View, hit *state.Hit, src packet.Addr) bool {
	switch kind := w.snap.local(p.Index, v.Dst).Kind; {
	case kind == Unusable:
		w.r.drop(AddressUnusable)
	case kind == NotHeld, kind == Draining && hit.Out == 0, hit.Out != 0 && !w.snap.holds(src):
		w.r.drop(VIPNotHeld)
	default:
		return true
	}
	return false
}

// first walks the first packet of a flow: rules in, then the node itself or
// the route, then rules out.
func (w *Worker) first(p *port, f *link.Frame, v *packet.View) {
	kind := w.snap.local(p.Index, v.Dst).Kind
	switch kind {
	case NotHeld, Draining:
		w.r.drop(VIPNotHeld)
		return
	case Unusable:
		w.r.drop(AddressUnusable)
		return
	}
	if k := w.snap.local(p.Index, v.Src).Kind; (k == Own || k == Held) && !punted(v.Proto) {
		w.r.drop(OwnSource) // an echo, or a forger (RFC 1812, section 5.3.7)
		return
	}
	filter, d := w.r.env.Filter, &w.decision
	filter.In(w.mono, p.Index, v, d)
	if d.Verdict != pf.Pass {
		w.refuse(p, v, d)
		return
	}
	if d.To.Dst != v.Dst {
		kind = w.snap.local(p.Index, d.To.Dst).Kind
	}
	switch {
	case w.isGroup(p, v.Dst):
		// Never forwarded, and no state: the answers come from others.
		w.deliver(p, f, v)
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
	if staysOnLink(v.Src) || staysOnLink(d.To.Dst) || d.To.Dst.IsMulticast() {
		w.r.drop(NotForwarded)
		return
	}
	next, ok := w.lookup(d.To.Dst)
	switch {
	case !ok:
		w.unroutable(p, v, next)
		return
	case d.To.Dst.Is4() && w.snap.routes.Broadcast(next.Iface, d.To.Dst):
		w.r.drop(NotForwarded)
		return
	case !w.liveTTL(p, v):
		return
	}
	w.r.env.Filter.Out(w.mono, p.Index, next.Iface, v, d)
	if d.Verdict != pf.Pass {
		w.refuse(p, v, d)
		return
	}
	w.inserted = true
	w.hit = d.Hit()
	w.route(p, f, v, &w.hit.To, next, &w.hit)
}

// staysOnLink says whether a packet from or to a is for its link only:
// link-local addresses (RFC 4291, section 2.5.6; RFC 3927, section 7) and
// none (RFC 1812, section 5.3.7).
func staysOnLink(a packet.Addr) bool {
	if a.Is4() {
		return a[12] == 169 && a[13] == 254 || a[12] == 0
	}
	return isLinkLocal(a) || a.IsZero()
}

// lookup finds the route of a packet; one that has none is counted.
func (w *Worker) lookup(dst packet.Addr) (route.Next, bool) {
	next, ok := w.snap.routes.Lookup(dst)
	switch {
	case !ok:
		w.r.drop(NoRoute)
	case next.Kind == route.Blackhole:
		w.r.drop(Blackhole)
		return next, false
	case w.snap.port(next.Iface) == nil:
		w.r.drop(PortDown)
		return next, false
	}
	return next, ok
}

// unroutable tells a sender that its packet cannot be forwarded, unless a
// blackhole is meant to be silent.
func (w *Worker) unroutable(p *port, v *packet.View, next route.Next) {
	if next.Kind != route.Blackhole {
		w.complain(p, v, noRoute, 0)
	}
}

// liveTTL answers a packet that may not be forwarded any further.
func (w *Worker) liveTTL(p *port, v *packet.View) bool {
	if v.TTL > 1 {
		return true
	}
	w.r.drop(TTLExceeded)
	w.complain(p, v, timeExceeded, 0)
	return false
}

// route sends a packet towards its next hop and, once the neighbour is known,
// writes the way into the flow's state, where there is one. to must stay as it
// is until then.
func (w *Worker) route(p *port, f *link.Frame, v *packet.View, to *packet.Tuple, next route.Next, hit *state.Hit) {
	out := w.snap.ports[next.Iface]
	if w.tooBig(out, f, v) {
		w.r.drop(TooBig)
		w.complain(p, v, packetTooBig, uint32(out.MTU))
		return
	}
	become := *to // what to points at may be used by errors on the way
	addr := nextAddr(next, become.Dst)
	mac, ok := w.resolve(p, out, f, v, &become, addr)
	if !ok {
		return
	}
	if hit != nil && hit.ID != 0 {
		w.note(hit, out, addr, mac)
	}
	w.forward(out, f, v, &become, mac)
}

// note writes the way of a packet into its flow's state.
func (w *Worker) note(hit *state.Hit, out *port, addr packet.Addr, mac link.MAC) {
	hop := w.snap.hops.put(hopKeyOf(out, addr), mac)
	if hop == 0 {
		w.r.renewHops(w.snap.hops)
		return
	}
	w.r.env.Filter.States().SetPath(hit.ID, hit.Dir, state.Path{Out: out.Index, Hop: hop, Gen: w.snap.gen})
}

// forward rewrites the packet for good and sends it by out.
func (w *Worker) forward(out *port, f *link.Frame, v *packet.View, to *packet.Tuple, mac link.MAC) {
	packet.SetTuple(v, to)
	packet.DecTTL(v)
	w.finish(out, f, v, mac)
}
