package neigh

import (
	"net/netip"
	"time"

	"tandem/netstack/packet"
)

// ICMPv6 types that are counted here and never believed.
const (
	icmp6RouterAdvert = 134
	icmp6Redirect     = 137
)

// Receive takes an ARP frame, or one with an ICMPv6 message of neighbour
// discovery, that came in on port id; v is its decoded view, from the Ethernet
// header. Frames of any other kind are ignored, so the caller may be generous.
func (t *Table) Receive(now time.Time, id uint16, v *packet.View, acts []Action) []Action {
	p := t.port(id)
	if p == nil || v.L3 < 14 || len(v.B) < v.L3 {
		return acts
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.settle()
	at := t.since(now)
	switch {
	case v.EtherType == packet.EtherTypeARP:
		return p.receiveARP(at, v, acts)
	case v.Family != 6 || v.Proto != packet.ProtoICMPv6 || v.L4 == 0:
		return acts
	}
	switch v.ICMPType {
	case packet.ICMP6Solicit, packet.ICMP6Advert:
		return p.receiveND(at, v, acts)
	case icmp6RouterAdvert:
		p.counts[RouterAdvertsIgnored]++
	case icmp6Redirect:
		p.counts[RedirectsIgnored]++
	}
	return acts
}

// receiveARP follows RFC 826 with the checks of RFC 5227, section 2.
func (p *port) receiveARP(now int64, v *packet.View, acts []Action) []Action {
	a, ok := packet.ParseARP(v)
	if !ok {
		p.counts[ARPMalformed]++
		return acts
	}
	from := packet.MAC(v.B[6:12])
	if !station(a.SenderMAC) || !a.Sender.IsUnspecified() && !p.neighbourly(a.Sender) {
		p.counts[BadSender]++
		return acts
	}
	target := p.ownByAddr[packet.AddrFrom(a.Target)]
	if a.Sender.IsUnspecified() {
		return p.probed(now, target, a.SenderMAC, from, a.Op == packet.ARPRequest, acts)
	}
	sender := packet.AddrFrom(a.Sender)
	if o := p.ownByAddr[sender]; o != nil {
		return p.claimed(now, o, a.SenderMAC, from, acts)
	}
	if a.SenderMAC == p.cfg.MAC {
		p.counts[Echoes]++
		return acts
	}
	e := p.index.find(sender)
	switch {
	case e == nil && a.Op == packet.ARPReply:
		p.counts[UnaskedIgnored]++
	case e == nil:
	case a.Op == packet.ARPReply && (target != nil || p.answers(packet.MAC(v.B[0:6]))) && e.asked():
		p.counts[AnswersReceived]++
		acts = p.confirm(now, e, a.SenderMAC, acts)
	case !e.open() && e.mac.Load() == packMAC(a.SenderMAC):
		acts = p.confirm(now, e, a.SenderMAC, acts)
	default:
		acts = p.claim(now, e, a.SenderMAC, acts)
	}
	if a.Op == packet.ARPRequest && target != nil && target.status == inUse {
		acts = p.replyARP(target, a.SenderMAC, a.Sender, acts)
	}
	return acts
}

// probed handles an ARP probe (RFC 5227, section 2.1.1): somebody wants to
// know whether target is free.
func (p *port) probed(now int64, target *own, mac, from packet.MAC, request bool, acts []Action) []Action {
	switch {
	case target == nil || !request:
		return acts
	case mac == target.MAC || mac == p.cfg.MAC:
		p.counts[Echoes]++
		return acts
	case target.status != inUse: // Two stations probe for one address: neither may have it.
		return p.refuse(now, target, mac, from, acts)
	}
	return p.replyARP(target, mac, netip.IPv4Unspecified(), acts)
}

// replyARP says where o is.
func (p *port) replyARP(o *own, to packet.MAC, asker netip.Addr, acts []Action) []Action {
	p.counts[AnswersSent]++
	a := p.action(Send, o.Addr, packet.MAC{})
	a.Frame = packet.AppendARP(frame(), packet.ARPReply, o.MAC, to, o.MAC, o.Addr, to, asker)
	return append(acts, a)
}

// answers says whether mac is one that this port is reached at.
func (p *port) answers(mac packet.MAC) bool {
	if mac == p.cfg.MAC {
		return true
	}
	for _, o := range p.owns {
		if o.MAC == mac {
			return true
		}
	}
	return false
}

// asked says whether an answer about e can be one to an ask of ours.
func (e *entry) asked() bool { return e.open() || e.state == Probing }

// receiveND follows RFC 4861, section 7.2; packet.ParseND has done its checks.
func (p *port) receiveND(now int64, v *packet.View, acts []Action) []Action {
	n, ok := packet.ParseND(v)
	// A mapped address would be looked up as the IPv4 address inside it.
	if !ok || n.Target.Is4In6() || v.Src.Is4() {
		p.counts[NDMalformed]++
		return acts
	}
	src, from := v.Src.Netip(), packet.MAC(v.B[6:12])
	if n.HasLinkAddr && !station(n.LinkAddr) || !station(from) || !src.IsUnspecified() && !p.neighbourly(src) {
		p.counts[BadSender]++
		return acts
	}
	if n.Type == packet.ICMP6Advert {
		return p.receiveNA(now, &n, from, acts)
	}
	return p.receiveNS(now, &n, v.Src, from, acts)
}

// receiveNS answers a solicitation and takes what it says about its sender.
func (p *port) receiveNS(now int64, n *packet.ND, src packet.Addr, from packet.MAC, acts []Action) []Action {
	mac := from
	if n.HasLinkAddr {
		mac = n.LinkAddr
	}
	target := p.ownByAddr[packet.AddrFrom(n.Target)]
	if src.IsZero() {
		return p.probedND(now, target, from, acts)
	}
	if o := p.ownByAddr[src]; o != nil {
		return p.claimed(now, o, mac, from, acts)
	}
	if e := p.index.find(src); e != nil && n.HasLinkAddr {
		acts = p.claim(now, e, mac, acts)
	}
	if target != nil && target.status == inUse {
		acts = p.answerND(target, mac, src.Netip(), true, acts)
	}
	return acts
}

// probedND handles duplicate address detection by others (RFC 4862, section
// 5.4.3). Whoever runs it cannot be told directly, as it has no address yet.
func (p *port) probedND(now int64, target *own, from packet.MAC, acts []Action) []Action {
	switch {
	case target == nil:
		return acts
	case from == target.MAC || from == p.cfg.MAC:
		p.counts[Echoes]++
		return acts
	case target.status != inUse:
		return p.refuse(now, target, from, from, acts)
	}
	return p.answerND(target, packet.MulticastMAC(allNodes), allNodes, false, acts)
}

// answerND says where o is.
func (p *port) answerND(o *own, to packet.MAC, dst netip.Addr, solicited bool, acts []Action) []Action {
	p.counts[AnswersSent]++
	a := p.action(Send, o.Addr, packet.MAC{})
	a.Frame = packet.AppendNA(frame(), o.MAC, to, o.Addr, dst, o.Addr, o.MAC, true, solicited, true)
	return append(acts, a)
}

// receiveNA takes an advertisement as RFC 4861, section 7.2.5, says, save that
// one which was not asked for never ends a question.
func (p *port) receiveNA(now int64, n *packet.ND, from packet.MAC, acts []Action) []Action {
	key := packet.AddrFrom(n.Target)
	if o := p.ownByAddr[key]; o != nil {
		mac := from
		if n.HasLinkAddr {
			mac = n.LinkAddr
		}
		return p.claimed(now, o, mac, from, acts)
	}
	e := p.index.find(key)
	if e == nil || e.open() && !(n.Solicited && n.HasLinkAddr) {
		p.counts[UnaskedIgnored]++
		return acts
	}
	mac := n.LinkAddr
	if !n.HasLinkAddr { // Allowed in answer to an ask that went to its MAC.
		mac = unpackMAC(e.mac.Load())
	}
	same := e.mac.Load() == packMAC(mac)
	switch {
	case mac == p.cfg.MAC:
		p.counts[Echoes]++
	case !e.open() && !same && !n.Override:
		if e.state == Reachable { // Doubt what is known, but keep it.
			e.state = Stale
			p.heap.set(e, now+staleCheck)
		}
	case n.Solicited && e.asked():
		p.counts[AnswersReceived]++
		return p.confirm(now, e, mac, acts)
	case n.Solicited && same:
		return p.confirm(now, e, mac, acts)
	case !same:
		return p.claim(now, e, mac, acts)
	}
	return acts
}
