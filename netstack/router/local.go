package router

import (
	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
)

// punted are the protocols that machines of the node speak themselves; the
// guest stack never sees them.
func punted(proto uint8) bool { return proto == packet.ProtoCARP || proto == packet.ProtoPfsync }

// local hands a packet that has passed to the node: to a protocol machine or
// to the guest stack, whose checksums it verifies, since that stack trusts it.
func (w *Worker) local(p *port, f *link.Frame, v *packet.View, to *packet.Tuple) {
	packet.SetTuple(v, to)
	w.take(p, f, v)
}

func (w *Worker) take(p *port, f *link.Frame, v *packet.View) {
	if punted(v.Proto) {
		w.r.env.Punt(w.now, &Punt{
			Iface: p.Index, Family: v.Family, Proto: v.Proto, Src: v.Src, Dst: v.Dst,
			TTL: v.TTL, Payload: v.B[v.L4:v.End], SrcMAC: link.MAC(v.B[6:12]),
		})
		return
	}
	if !v.PartialSum && !f.Offload.Validated && !packet.VerifyL4(v) {
		w.r.drop(BadChecksum)
		p.stats.rxDropped.Add(1)
		return
	}
	if !w.r.env.Deliver(p.Index, v.B[v.L3:v.End]) {
		w.r.drop(HostBusy)
	}
}

// groupcast delivers a packet for a multicast group or broadcast address,
// which is never forwarded and makes no state: its answers come from others.
func (w *Worker) groupcast(p *port, f *link.Frame, v *packet.View) { w.take(p, f, v) }

// isGroup says whether dst is a multicast address or 255.255.255.255.
func isGroup(dst packet.Addr) bool {
	if dst.Is4() {
		return dst[12]&0xf0 == 0xe0 || [4]byte(dst[12:]) == [4]byte{255, 255, 255, 255}
	}
	return dst[0] == 0xff
}

// fromHost sends what the node's own stack has queued.
func (w *Worker) fromHost() bool {
	worked := false
	for {
		n := w.r.env.HostRead(w.frames, w.ifaces)
		for i := range n {
			f, v := w.frames[i], &w.views[i]
			if why := packet.Decode(f.Bytes(), v); why != packet.OK {
				w.r.decoded[why].Add(1)
				continue
			}
			v.PartialSum = f.Offload.NeedsChecksum
			if f.Offload.Segment != link.SegmentNone {
				v.SegSize = int(f.Offload.SegSize)
			}
			w.fromSelf(w.ifaces[i], f, v)
		}
		w.flush()
		worked = worked || n > 0
		if n < len(w.frames) {
			return worked
		}
	}
}

// fromSelf walks a packet of the node's own: rules out, no translation.
func (w *Worker) fromSelf(iface uint16, f *link.Frame, v *packet.View) {
	if a, ok := w.snap.locals[v.Src]; ok && a.Kind != Own && a.Kind != Held {
		w.r.drop(VIPNotHeld)
		return
	}
	out, gateway, ok := w.wayOut(iface, v)
	if !ok {
		return
	}
	filter, d := w.r.env.Filter, &w.decision
	filter.Self(w.mono, out.Index, v, d)
	if d.Verdict != pf.Pass {
		return
	}
	var mac link.MAC
	if isGroup(v.Dst) || w.snap.routes.Broadcast(out.Index, v.Dst) {
		mac = groupMAC(v.Dst)
	} else if mac, ok = w.resolveNext(nil, out, f, v, &d.To, gateway); !ok {
		return
	}
	w.finish(out, f, v, mac)
}

// wayOut finds the interface and the neighbour for a packet of the node's own.
func (w *Worker) wayOut(iface uint16, v *packet.View) (*port, packet.Addr, bool) {
	linkLocal := v.Dst[0] == 0xfe && v.Dst[1]&0xc0 == 0x80
	if isGroup(v.Dst) || linkLocal {
		if int(iface) < len(w.snap.ports) && w.snap.ports[iface] != nil {
			return w.snap.ports[iface], v.Dst, true
		}
		w.r.drop(PortDown)
		return nil, v.Dst, false
	}
	next, ok := w.lookup(v.Dst)
	if !ok {
		return nil, v.Dst, false
	}
	return w.snap.ports[next.Iface], nextAddr(next, v.Dst), true
}

func groupMAC(dst packet.Addr) link.MAC {
	if dst.Is4() && dst[12]&0xf0 != 0xe0 {
		return link.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	return link.MAC(packet.MulticastMAC(dst.Netip()))
}
