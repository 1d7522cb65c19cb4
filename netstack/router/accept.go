package router

import (
	"tandem/netstack/capture"
	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// accept decodes a frame that came in by p and takes what belongs to the link:
// tags, ARP, neighbour discovery, group membership. It returns the interface
// that the packet is on and true if there is a packet left to walk.
func (w *Worker) accept(p *port, f *link.Frame, v *packet.View) (*port, bool) {
	if len(p.children) > 0 {
		if p = w.untag(p, f); p == nil {
			return nil, false
		}
	}
	if why := packet.Decode(f.Bytes(), v); why != packet.OK {
		w.r.decoded[why].Add(1)
		p.stats.rxDropped.Add(1)
		return nil, false
	}
	switch {
	case !w.forUs(p, v):
		w.r.drop(NotForUs)
		return nil, false
	case !noteOffloads(f, v):
		w.r.drop(BadOffload)
		p.stats.rxDropped.Add(1)
		return nil, false
	case v.Family == 0:
		if v.EtherType != packet.EtherTypeARP {
			w.r.drop(UnknownType)
			return nil, false
		}
		w.acts = w.r.env.Neigh.Receive(w.now, p.Index, v, w.acts[:0])
		w.neighActions()
		return nil, false
	case v.Proto == packet.ProtoICMPv6 && w.linkICMP(p, v):
		return nil, false
	case v.Proto == packet.ProtoIGMP && v.Family == 4 && v.L4 != 0:
		w.igmp(p, v)
		return nil, false
	}
	// What makes no sense begins no flow, so only in the flags of TCP can it
	// be about one that is there; then the state must not see it. All else is
	// judged later, and only where a state does not know the packet.
	return p, v.Proto != packet.ProtoTCP || v.TCPFlags&packet.ACK != 0 || w.r.env.Filter.Sane(v)
}

// untag finds the interface of a frame on a trunk: the child whose tag it
// bears, or the trunk itself for one without a tag, or with a tag that says
// only a priority (IEEE 802.1Q, section 6.9.1). Nil: there is none.
func (w *Worker) untag(p *port, f *link.Frame) *port {
	tci, tpid, ok := link.PopTag(f)
	if !ok {
		return p
	}
	vid := tci & 0x0fff
	if vid == 0 && tpid == link.TPID8021Q {
		return p
	}
	child := p.child(tpid, vid)
	if child == nil {
		w.r.drop(UnknownVLAN)
		return nil
	}
	child.stats.rxPackets.Add(1)
	child.stats.rxBytes.Add(uint64(f.Len))
	if w.tapped {
		w.r.env.Tap.Offer(w.now, child.Name, capture.In, f.Bytes())
	}
	return child
}

// forUs is the layer-2 decision: a frame for the interface's MAC, for a
// virtual MAC that is taken here now, or for a group; of the last only what is
// for a group by its IP address too (RFC 1812, section 5.3.4).
func (w *Worker) forUs(p *port, v *packet.View) bool {
	dst := link.MAC(v.B[0:6])
	if dst == p.MAC || p.layer3() {
		return true
	}
	if dst[0]&1 != 0 {
		return v.Family == 0 || w.isGroup(p, v.Dst)
	}
	for _, m := range w.snap.virtual[p.Index] {
		if m == dst {
			return true
		}
	}
	return false
}

// isGroup says whether dst means more than one host on p: a multicast group,
// or a broadcast address of one of its networks.
func (w *Worker) isGroup(p *port, dst packet.Addr) bool {
	return dst.IsMulticast() || dst.Is4() && w.snap.routes.Broadcast(p.Index, dst)
}

// ICMPv6 types that never reach the filter (RFC 4861, 2710, 3810).
const (
	icmp6MLDQuery  = 130
	icmp6MLDReport = 131
	icmp6MLDDone   = 132
)

// linkICMP takes the ICMPv6 messages that are between neighbours.
func (w *Worker) linkICMP(p *port, v *packet.View) bool {
	switch {
	case !isLinkICMP(v):
		return false
	case v.ICMPType == packet.ICMP6Solicit || v.ICMPType == packet.ICMP6Advert:
		w.acts = w.r.env.Neigh.Receive(w.now, p.Index, v, w.acts[:0])
		w.neighActions()
	case v.ICMPType == icmp6MLDQuery:
		w.mldQuery(p, v)
	default:
		// What routers and listeners say is nothing that this node may
		// believe or needs.
		w.r.drop(ForeignND)
	}
	return true
}

// isLinkICMP says whether v is an ICMPv6 message between neighbours, which
// never reaches the filter.
func isLinkICMP(v *packet.View) bool {
	if v.Family != 6 || v.Proto != packet.ProtoICMPv6 || v.L4 == 0 {
		return false
	}
	switch v.ICMPType {
	case packet.ICMP6Solicit, packet.ICMP6Advert,
		packet.ICMP6RouterSolicit, packet.ICMP6RouterAdvert, packet.ICMP6Redirect,
		icmp6MLDQuery, icmp6MLDReport, icmp6MLDDone, packet.ICMP6MLD2Report:
		return true
	}
	return false
}
