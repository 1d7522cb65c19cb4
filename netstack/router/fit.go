package router

import (
	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/state"
)

// finish puts the Ethernet header on a packet that is otherwise ready and
// fits it to the device: whatever that cannot carry is done here, segments,
// sums, fragments.
func (w *Worker) finish(out *port, f *link.Frame, v *packet.View, mac link.MAC) {
	packet.SetMACs(v, packet.MAC(mac), packet.MAC(out.MAC))
	if v.Proto == packet.ProtoTCP && v.TCPFlags&packet.SYN != 0 {
		w.r.env.Filter.Shape(out.Index, v)
	}
	f.Len = v.End // padding of the way in is not carried along
	switch {
	case !carries(out.features, f), v.SegSize > 0 && wireLen(v) > out.MTU:
		w.adapt(out, f, v)
	case v.SegSize == 0 && v.End-v.L3 > w.partMax(out, f):
		w.fragment(out, f, v)
	default:
		w.emit(out, f)
	}
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

// wireLen is the length of the longest IP packet that v becomes on a wire.
func wireLen(v *packet.View) int {
	if v.SegSize > 0 {
		return v.Payload - v.L3 + v.SegSize
	}
	return v.End - v.L3
}

// adapt does in software what the device of out cannot: a coalesced frame is
// re-cut, an unfinished checksum completed.
func (w *Worker) adapt(out *port, f *link.Frame, v *packet.View) {
	if v.SegSize > 0 {
		packet.Segment(v, func(b []byte) { w.emitSegment(out, v, b) }, w.scratch())
		return
	}
	packet.CompleteChecksum(v)
	f.Offload = link.Offload{}
	if v.End-v.L3 > w.partMax(out, f) {
		w.fragment(out, f, v)
		return
	}
	w.emit(out, f)
}

// emitSegment sends b, a segment of v, in parts if it is too long as well.
func (w *Worker) emitSegment(out *port, v *packet.View, b []byte) {
	if len(b)-v.L3 <= out.MTU {
		w.emitCopy(out, b)
		return
	}
	var part packet.View
	if packet.Decode(b, &part) != packet.OK ||
		!packet.FragmentIPv4(&part, out.MTU, func(b []byte) { w.emitCopy(out, b) }, make([]byte, len(b))) {
		w.r.drop(TooBig)
	}
}

// fragment sends a packet that is longer than out's MTU in parts. One that was
// put together here leaves in parts no longer than those that came, whatever
// it says about fragmenting; other IPv6 packets never come here.
func (w *Worker) fragment(out *port, f *link.Frame, v *packet.View) {
	emit := func(b []byte) { w.emitCopy(out, b) }
	mtu, ok := w.partMax(out, f), false
	if v.Family == 4 {
		ok = packet.FragmentIPv4(v, mtu, emit, w.scratch())
	} else if w.rejoined(f) {
		ok = packet.FragmentIPv6(v, mtu, w.joined.ID, emit, w.scratch())
	}
	if !ok {
		w.r.drop(TooBig)
	}
}

// scratch is where frames are cut; most workers never need it.
func (w *Worker) scratch() []byte {
	if w.cut == nil {
		w.cut = make([]byte, link.FrameBytesMax)
	}
	return w.cut
}

// emitCopy queues a copy of b, in a frame of our own.
func (w *Worker) emitCopy(out *port, b []byte) {
	f := w.spare()
	if len(b) > len(f.Buf)-f.Off { // An interface with jumbo frames; the buffer stays for the next.
		f.Buf = make([]byte, link.HeadRoom+len(b))
	}
	f.Len = copy(f.Buf[f.Off:], b)
	w.emit(out, f)
}

// reassemble walks a fragment: it is kept until its datagram is whole, and
// that is walked instead.
func (w *Worker) reassemble(p *port, v *packet.View) {
	if w.large == nil {
		w.large = link.NewFrame(link.FrameBytesMax)
	}
	l, filter := w.large, w.r.env.Filter
	l.Off, l.Offload = link.HeadRoom, link.Offload{}
	b, joined := filter.Reassemble(w.mono, p.Index, v, l.Buf[l.Off:l.Off])
	if len(b) == 0 {
		return
	}
	l.Len = len(b)
	whole := &w.wholeView
	if why := packet.Decode(l.Bytes(), whole); why != packet.OK {
		w.r.decoded[why].Add(1)
		return
	}
	w.whole, w.joined = l, joined
	filter.States().Match(w.mono, p.Index, false, whole, &w.hit)
	w.hit.Path = state.Path{} // it takes the long way: the parts may be too long for the short one
	w.walk(p, l, whole, &w.hit)
	w.tally.settle(w.policy)
	w.flush() // the next datagram needs the frame
	w.whole = nil
}

// expired tells the sender of a datagram whose parts did not all come in time,
// if its packets may come here at all.
func (w *Worker) expired(e *pf.Expired) {
	var v packet.View
	if p := w.snap.port(e.Iface); p != nil && packet.Decode(e.Frame, &v) == packet.OK && w.r.env.Filter.Allows(e.Iface, &v) {
		w.complain(p, &v, reassemblyTimeout, 0)
	}
}

// rejoined says whether f is a datagram that was put together here, and so may
// be taken apart again.
func (w *Worker) rejoined(f *link.Frame) bool { return f == w.whole }

// partMax is the longest IP packet that f may leave by out as.
func (w *Worker) partMax(out *port, f *link.Frame) int {
	if w.rejoined(f) {
		return min(out.MTU, w.joined.Largest)
	}
	return out.MTU
}

// tooBig says whether v must not be cut although out cannot carry it. A
// coalesced packet is judged by its segments.
func (w *Worker) tooBig(out *port, f *link.Frame, v *packet.View) bool {
	if w.rejoined(f) {
		return w.joined.Largest > out.MTU && (v.Family == 6 || w.joined.DontFrag)
	}
	return wireLen(v) > out.MTU && v.DontFrag
}
