package router

import (
	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
)

// punted are the protocols that machines of the node speak themselves; the
// guest stack never sees them.
func punted(proto uint8) bool { return proto == packet.ProtoCARP || proto == packet.ProtoPfsync }

// local hands a packet that has passed to the node.
func (w *Worker) local(p *port, f *link.Frame, v *packet.View, to *packet.Tuple) {
	packet.SetTuple(v, to)
	w.deliver(p, f, v)
}

// deliver gives a packet to a protocol machine or to the guest stack. It
// verifies the latter's checksums, since that stack trusts the router.
func (w *Worker) deliver(p *port, f *link.Frame, v *packet.View) {
	if punted(v.Proto) {
		if v.L4 == 0 {
			return
		}
		w.punt = Punt{
			Iface: p.Index, Family: v.Family, Proto: v.Proto, Src: v.Src, Dst: v.Dst,
			TTL: v.TTL, Payload: v.B[v.L4:v.End], SrcMAC: link.MAC(v.B[6:12]),
		}
		w.r.env.Punt(w.now, &w.punt)
		w.punt.Payload = nil
		return
	}
	if !v.PartialSum && !f.Offload.Validated && !packet.VerifyL4(v) {
		w.r.drop(BadChecksum)
		p.stats.rxDropped.Add(1)
		return
	}
	if v.SegSize > 0 && v.Proto == packet.ProtoUDP {
		// The guest knows no coalesced datagrams.
		packet.Segment(v, func(b []byte) { w.handOver(p, b[v.L3:]) }, w.scratch())
		return
	}
	w.handOver(p, v.B[v.L3:v.End])
}

func (w *Worker) handOver(p *port, datagram []byte) {
	if !w.r.env.Deliver(p.Index, datagram) {
		w.r.drop(HostBusy)
	}
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
			if v.Family == 0 || !noteOffloads(f, v) {
				w.r.drop(BadOffload) // the guest's mistake
				continue
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

// fromSelf walks a packet of the node's own: rules out, and no translation
// but that of the answers to what was translated on its way in.
func (w *Worker) fromSelf(iface uint16, f *link.Frame, v *packet.View) {
	if k := w.snap.local(iface, v.Src).Kind; k != 0 && k != Own && k != Held {
		w.r.drop(VIPNotHeld)
		return
	}
	out, next, ok := w.wayOut(iface, v)
	if !ok {
		return
	}
	filter, d := w.r.env.Filter, &w.decision
	filter.Self(w.mono, out.Index, v, d)
	if d.Verdict != pf.Pass {
		w.refuse(nil, v, d)
		return
	}
	group := w.isGroup(out, v.Dst)
	if !group && w.tooBig(out, f, v) {
		w.r.drop(TooBig)
		w.complain(nil, v, packetTooBig, uint32(out.MTU))
		return
	}
	if d.To.Src != v.Src && !w.snap.holds(d.To.Src) {
		w.r.drop(VIPNotHeld)
		return
	}
	packet.SetTuple(v, &d.To)
	if packet.IsICMPError(v) {
		w.ownError(v)
	}
	mac := link.MAC{}
	if group {
		mac = groupMAC(v.Dst)
	} else if mac, ok = w.resolve(nil, out, f, v, &v.Tuple, next); !ok {
		return
	}
	w.finish(out, f, v, mac)
}

// wayOut finds the interface and the neighbour for a packet of the node's own.
func (w *Worker) wayOut(iface uint16, v *packet.View) (*port, packet.Addr, bool) {
	if isLinkLocal(v.Dst) || v.Dst.IsMulticast() || v.Dst.IsBroadcast() {
		out := w.snap.port(iface)
		if out == nil {
			w.r.drop(PortDown)
		}
		return out, v.Dst, out != nil
	}
	next, ok := w.lookup(v.Dst)
	if !ok {
		w.complain(nil, v, noRoute, 0)
		return nil, v.Dst, false
	}
	return w.snap.ports[next.Iface], nextAddr(next, v.Dst), true
}

// groupMAC is where a packet for a group or for everybody goes.
func groupMAC(dst packet.Addr) link.MAC {
	if !dst.IsMulticast() {
		return link.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	return link.MAC(packet.MulticastMAC(dst.Netip()))
}

// isLinkLocal says whether a is an IPv6 address that means something on its
// link only.
func isLinkLocal(a packet.Addr) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }
