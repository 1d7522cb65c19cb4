package router

import (
	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/state"
)

// complaint is an ICMP error in both families' numbers (RFC 792, RFC 4443).
type complaint struct{ type4, code4, type6, code6 uint8 }

func (c complaint) of(family uint8) (typ, code uint8) {
	if family == 4 {
		return c.type4, c.code4
	}
	return c.type6, c.code6
}

// The errors that a router sends; refused is what a reject rule answers
// to all but TCP: port unreachable, as pf does (pf.conf(5), "return"), so that
// a client sees a refused connection and not a network fault.
var (
	noRoute           = complaint{3, 0, 1, 0}
	hostUnreachable   = complaint{3, 1, 1, 3}
	packetTooBig      = complaint{3, 4, 2, 0}
	refused           = complaint{3, 3, 1, 4}
	timeExceeded      = complaint{11, 0, 3, 0}
	reassemblyTimeout = complaint{11, 1, 3, 1}
)

// complain answers v, which came in by p, with an ICMP error from p's own
// address; where p is nil the packet is the guest stack's, which is told as if
// by itself. rest is the second word: the MTU where that is the matter.
func (w *Worker) complain(p *port, v *packet.View, why complaint, rest uint32) {
	if !packet.MayICMPError(v) || v.Proto == packet.ProtoTCP && v.TCPFlags&packet.RST != 0 {
		return
	}
	src := v.Src
	if p != nil {
		if w.isGroup(p, v.Dst) {
			return
		}
		src = w.snap.speaker(p, v.Family)
	}
	if src.IsZero() || !w.r.limit.take(w.mono) {
		return
	}
	typ, code := why.of(v.Family)
	f := w.spare()
	w.answer(p, f, packet.AppendICMPError(f.Buf[f.Off:f.Off], v, src.Netip(), typ, code, rest))
}

// speaker is the address that errors about packets from p are sent from: p's
// own, or where p has none, that another interface has. Zero: there is none.
func (s *snapshot) speaker(p *port, family uint8) packet.Addr {
	own, other := p.Source4, s.own4
	if family == 6 {
		own, other = p.Source6, s.own6
	}
	if !own.IsZero() && s.local(p.Index, own).Kind == Own {
		return own
	}
	return other
}

// refuse ends a packet that the filter did not pass, with an answer where the
// rule says reject.
func (w *Worker) refuse(p *port, v *packet.View, d *pf.Decision) {
	switch {
	case d.Verdict != pf.Reject:
	case v.Proto == packet.ProtoTCP:
		w.reset(p, v)
	default:
		w.complain(p, v, refused, 0)
	}
}

// reset answers v, a TCP segment, with an RST.
func (w *Worker) reset(p *port, v *packet.View) {
	if v.TCPFlags&packet.RST != 0 || p != nil && w.isGroup(p, v.Dst) || !w.r.limit.take(w.mono) {
		return
	}
	f := w.spare()
	w.answer(p, f, packet.AppendTCPReset(f.Buf[f.Off:f.Off], v))
}

// answer sends frame, which the router itself made in f's buffer, to whom p
// leads, or to the guest stack. It asks no rule: what it answers was judged.
func (w *Worker) answer(p *port, f *link.Frame, frame []byte) {
	var v packet.View
	if len(frame) == 0 || len(frame) > len(f.Buf)-f.Off || packet.Decode(frame, &v) != packet.OK {
		w.r.drop(NoRoom)
		return
	}
	if p == nil {
		w.r.env.Deliver(w.snap.local(0, v.Dst).Iface, frame[v.L3:])
		return
	}
	f.Len = len(frame)
	out, next := p, v.Dst
	if !isLinkLocal(v.Dst) {
		way, ok := w.lookup(v.Dst)
		if !ok {
			return
		}
		out, next = w.snap.ports[way.Iface], nextAddr(way, v.Dst)
	}
	if mac, ok := w.resolve(nil, out, f, &v, &v.Tuple, next); ok {
		w.finish(out, f, &v, mac)
	}
}

// icmpError walks an ICMP error about a flow: both the quote and the envelope
// are translated back. False: it quotes nothing that a state knows, and the
// rules must decide.
func (w *Worker) icmpError(p *port, f *link.Frame, v *packet.View) bool {
	filter, hit := w.r.env.Filter, &w.hit
	if !packet.DecodeInner(v, &w.inner) {
		w.r.decoded[packet.Short].Add(1)
		return true
	}
	filter.States().MatchInner(w.mono, &w.inner, hit)
	switch {
	case hit.Verdict == state.Miss:
		return false
	case hit.Verdict != state.Pass || hit.In != p.Index:
		filter.CountUnrelatedError()
		return true
	case !w.allowed(v, hit):
		return true
	}
	outer := w.envelope(v, hit)
	if !w.mayFollow(p, v, hit, outer.Src) {
		return true
	}
	if hit.Out == 0 {
		w.translateError(v, hit, &outer)
		w.deliver(p, f, v)
		return true
	}
	next, ok := w.lookup(outer.Dst)
	if !ok || !w.liveTTL(p, v) {
		return true
	}
	w.translateError(v, hit, &outer)
	w.inner.Tuple = outer
	w.route(p, f, v, &w.inner.Tuple, next, nil)
	return true
}

// envelope is the tuple that an error about hit's flow must have. Whoever
// complains about a packet whose destination was translated sits behind that
// translation and is not named on this side of it, as in pf.
func (w *Worker) envelope(v *packet.View, hit *state.Hit) packet.Tuple {
	outer := v.Tuple
	if hit.To.Dst != w.inner.Dst {
		outer.Src = hit.To.Dst
	}
	outer.Dst = hit.To.Src
	return outer
}

// translateError rewrites quote and envelope. It comes after every check that
// could still refuse the packet.
func (w *Worker) translateError(v *packet.View, hit *state.Hit, outer *packet.Tuple) {
	packet.SetInnerTuple(v, &hit.To)
	packet.SetTuple(v, outer)
}

// ownError does so for an error of the node's own about a packet that was
// translated on its way to the node.
func (w *Worker) ownError(v *packet.View) {
	if !packet.DecodeInner(v, &w.inner) {
		return
	}
	hit := &w.hit
	w.r.env.Filter.States().MatchInner(w.mono, &w.inner, hit)
	if hit.Verdict != state.Pass || hit.In != 0 {
		return
	}
	outer := w.envelope(v, hit)
	w.translateError(v, hit, &outer)
}
