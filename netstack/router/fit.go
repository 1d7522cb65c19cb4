package router

import (
	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// adapt does in software what the device of out cannot: a coalesced frame is
// re-cut, an unfinished checksum completed.
func (w *Worker) adapt(out *port, f *link.Frame, v *packet.View) {
	if v.SegSize == 0 {
		packet.CompleteChecksum(v)
		f.Offload = link.Offload{}
		if v.End-v.L3 > w.partMax(out, v) {
			w.fragment(out, f, v)
			return
		}
		w.emit(out, f)
		return
	}
	w.ensureCut()
	packet.Segment(v, func(b []byte) { w.emitCopy(out, b) }, w.cut)
}

// fragment sends a packet that is longer than out's MTU in parts. One that was
// put together here leaves in parts no longer than those that came, whatever
// it says about fragmenting; other IPv6 packets never come here.
func (w *Worker) fragment(out *port, f *link.Frame, v *packet.View) {
	if v.PartialSum {
		packet.CompleteChecksum(v)
		f.Offload = link.Offload{}
	}
	w.ensureCut()
	emit := func(b []byte) { w.emitCopy(out, b) }
	mtu, ok := w.partMax(out, v), false
	if v.Family == 6 {
		ok = packet.FragmentIPv6(v, mtu, w.joined.ID, emit, w.cut)
	} else {
		ok = packet.FragmentIPv4(v, mtu, emit, w.cut)
	}
	if !ok {
		w.r.drop(TooBig)
	}
}

// ensureCut makes the scratch for cutting; most workers never need it.
func (w *Worker) ensureCut() {
	if w.cut == nil {
		w.cut = make([]byte, link.FrameBytesMax)
	}
}

// emitCopy queues a copy of b, in a frame of our own.
func (w *Worker) emitCopy(out *port, b []byte) {
	f := w.spare()
	if len(b) > len(f.Buf)-f.Off {
		f = link.NewFrame(len(b)) // an interface with jumbo frames
	}
	f.Len = copy(f.Buf[f.Off:], b)
	w.emit(out, f)
}

// reassemble keeps a fragment until its datagram is whole and returns that,
// or nil while parts are missing.
func (w *Worker) reassemble(p *port, f *link.Frame, v *packet.View) (*link.Frame, *packet.View) {
	if v.PartialSum {
		packet.CompleteChecksum(v)
	}
	if w.large == nil {
		w.large = link.NewFrame(link.FrameBytesMax)
	}
	l := w.large
	l.Off, l.Offload = link.HeadRoom, link.Offload{}
	whole, joined := w.r.env.Filter.Reassemble(w.mono, p.Index, v, l.Buf[l.Off:l.Off])
	if len(whole) == 0 {
		return nil, nil
	}
	if len(whole) > len(l.Buf)-l.Off {
		w.r.drop(TooBig)
		return nil, nil
	}
	l.Len, w.joined = len(whole), joined
	wv := &w.wholeView
	if why := packet.Decode(w.large.Bytes(), wv); why != packet.OK {
		w.r.decoded[why].Add(1)
		return nil, nil
	}
	return w.large, wv
}

// rejoined says whether v was put together here, and so may be taken apart
// again.
func (w *Worker) rejoined(v *packet.View) bool {
	return w.large != nil && &v.B[0] == &w.large.Buf[w.large.Off]
}

// partMax is the longest IP packet that v may leave by out as.
func (w *Worker) partMax(out *port, v *packet.View) int {
	if w.rejoined(v) {
		return min(out.MTU, w.joined.Largest)
	}
	return out.MTU
}

// tooBig says whether v must not be cut although out cannot carry it. A
// coalesced packet is judged by its segments; its sender said don't-fragment,
// as TCP does.
func (w *Worker) tooBig(out *port, v *packet.View) bool {
	if w.rejoined(v) {
		return w.joined.Largest > out.MTU && (v.Family == 6 || w.joined.DontFrag)
	}
	return w.wireLen(v) > out.MTU && (v.DontFrag || v.SegSize > 0)
}
