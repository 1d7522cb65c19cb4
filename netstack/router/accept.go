package router

import (
	"tandem/netstack/capture"
	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// accept decodes a frame that came in by p and takes what belongs to layer 2:
// tags, ARP, neighbour discovery. It returns the interface that the packet is
// on and true if there is a packet left to walk.
func (w *Worker) accept(p *port, f *link.Frame, v *packet.View) (*port, bool) {
	if len(p.children) > 0 {
		if tci, tpid, ok := link.PopTag(f); ok {
			child := p.child(tpid, tci&0x0fff)
			if child == nil {
				w.r.drop(UnknownVLAN)
				return nil, false
			}
			p = child
			p.stats.rxPackets.Add(1)
			p.stats.rxBytes.Add(uint64(f.Len))
			if w.r.env.Tap != nil {
				w.r.env.Tap.Offer(w.now, p.Name, capture.In, f.Bytes())
			}
		}
	}
	if why := packet.Decode(f.Bytes(), v); why != packet.OK {
		w.r.decoded[why].Add(1)
		p.stats.rxDropped.Add(1)
		return nil, false
	}
	if !w.forUs(p, v) {
		w.r.drop(NotForUs)
		return nil, false
	}
	v.PartialSum = f.Offload.NeedsChecksum
	if f.Offload.Segment != link.SegmentNone {
		v.SegSize = int(f.Offload.SegSize)
	}
	switch {
	case v.EtherType == packet.EtherTypeARP, isND(v):
		w.acts = w.r.env.Neigh.Receive(w.now, p.Index, v, w.acts[:0])
		w.neighActions()
		return nil, false
	case v.Family == 0:
		w.r.drop(UnknownType)
		return nil, false
	case isRouterDiscovery(v):
		// Redirects, advertisements of other routers and MLD reports say
		// nothing that this node may believe or needs.
		w.r.drop(ForeignND)
		return nil, false
	}
	return p, true
}

// forUs is the layer-2 decision: a frame for the interface's MAC, for a
// virtual MAC that is taken here now, or for a group.
func (w *Worker) forUs(p *port, v *packet.View) bool {
	dst := link.MAC(v.B[0:6])
	if dst == p.MAC || dst[0]&1 != 0 || p.layer3() {
		return true
	}
	for _, m := range w.snap.virtual[p.Index] {
		if m == dst {
			return true
		}
	}
	return false
}

// ICMPv6 types that never reach the filter (RFC 4861, 2710, 3810).
const (
	icmp6RouterSolicitation   = 133
	icmp6NeighborSolicitation = 135
	icmp6NeighborAdvert       = 136
	icmp6Redirect             = 137
	icmp6MLDQuery             = 130
	icmp6MLDDone              = 132
	icmp6MLD2Report           = 143
)

func isND(v *packet.View) bool {
	return v.Family == 6 && v.Proto == packet.ProtoICMPv6 && v.L4 != 0 &&
		(v.ICMPType == icmp6NeighborSolicitation || v.ICMPType == icmp6NeighborAdvert)
}

func isRouterDiscovery(v *packet.View) bool {
	if v.Family != 6 || v.Proto != packet.ProtoICMPv6 || v.L4 == 0 {
		return false
	}
	t := v.ICMPType
	return t >= icmp6MLDQuery && t <= icmp6MLDDone || t >= icmp6RouterSolicitation && t <= icmp6Redirect || t == icmp6MLD2Report
}
