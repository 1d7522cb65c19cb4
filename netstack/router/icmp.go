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

// The errors that a router sends; prohibited is what a reject rule answers.
var (
	noRoute           = complaint{3, 0, 1, 0}
	hostUnreachable   = complaint{3, 1, 1, 3}
	tooBig            = complaint{3, 4, 2, 0}
	prohibited        = complaint{3, 13, 1, 1}
	timeExceeded      = complaint{11, 0, 3, 0}
	reassemblyTimeout = complaint{11, 1, 3, 1}
)

// unreachable tells the sender of v that its packet cannot be forwarded.
func (w *Worker) unreachable(p *port, v *packet.View, why complaint) { w.sendError(p, v, why, 0) }

// sendError answers v, which came in by p, with an ICMP error from p's own
// address. rest is the second word: the MTU where that is the matter.
func (w *Worker) sendError(p *port, v *packet.View, why complaint, rest uint32) {
	src := p.Source4
	if v.Family == 6 {
		src = p.Source6
	}
	if src.IsZero() || !packet.MayICMPError(v) || w.snap.routes.Broadcast(p.Index, v.Dst) || !w.limit.take(w.mono) {
		return
	}
	typ, code := why.of(v.Family)
	f := w.spare()
	w.sendOwn(f, packet.AppendICMPError(f.Buf[f.Off:f.Off], v, src.Netip(), typ, code, rest))
}

// refuse ends a packet that the filter did not pass, with an answer where the
// rule says reject.
func (w *Worker) refuse(p *port, v *packet.View, d *pf.Decision) {
	if d.Verdict != pf.Reject {
		return
	}
	if v.Proto != packet.ProtoTCP {
		w.sendError(p, v, prohibited, 0)
		return
	}
	if v.TCPFlags&packet.RST != 0 || isGroup(v.Dst) || !w.limit.take(w.mono) {
		return
	}
	f := w.spare()
	w.sendOwn(f, packet.AppendTCPReset(f.Buf[f.Off:f.Off], v))
}

// sendOwn routes a packet that the router itself made; it asks no rule, as
// the answer to a packet that was judged already.
func (w *Worker) sendOwn(f *link.Frame, frame []byte) {
	if len(frame) == 0 || len(frame) > len(f.Buf)-f.Off {
		w.r.drop(NoRoom)
		return
	}
	f.Len = len(frame)
	var v packet.View
	if packet.Decode(frame, &v) != packet.OK {
		return
	}
	next, ok := w.lookup(v.Dst)
	if !ok {
		return
	}
	out := w.snap.ports[next.Iface]
	if mac, ok := w.resolveNext(nil, out, f, &v, &v.Tuple, nextAddr(next, v.Dst)); ok {
		w.finish(out, f, &v, mac)
	}
}

// icmpError walks an ICMP error: it belongs to the flow that it quotes, and
// both the quote and the envelope are translated back.
func (w *Worker) icmpError(p *port, f *link.Frame, v *packet.View) {
	filter := w.r.env.Filter
	if !packet.DecodeInner(v, &w.inner) {
		w.r.decoded[packet.Short].Add(1)
		return
	}
	hit := &w.hit
	filter.States().MatchInner(w.mono, &w.inner, hit)
	if hit.Verdict != state.Pass || hit.In != p.Index {
		filter.CountUnrelatedError()
		return
	}
	if hit.RuleGen != filter.Generation() && !filter.Recheck(w.mono, hit) {
		return
	}
	outer := v.Tuple
	if outer.Src == w.inner.Dst {
		outer.Src = hit.To.Dst // the far end itself complains
	}
	outer.Dst = hit.To.Src
	if kind := w.snap.locals[v.Dst].Kind; kind == NotHeld || kind == Unusable {
		w.r.drop(VIPNotHeld)
		return
	}
	if hit.Out == 0 {
		w.translateError(v, hit, &outer)
		w.take(p, f, v)
		return
	}
	next, ok := w.lookup(outer.Dst)
	if !ok || !w.liveTTL(p, v) {
		return
	}
	w.translateError(v, hit, &outer)
	var none state.Hit
	w.route(p, f, v, &outer, next, &none)
}

// translateError rewrites quote and envelope. It comes after every check that
// could still refuse the packet.
func (w *Worker) translateError(v *packet.View, hit *state.Hit, outer *packet.Tuple) {
	packet.SetInnerTuple(v, &hit.To)
	packet.SetTuple(v, outer)
}
