package neigh

import (
	"net/netip"
	"time"

	"tandem/netstack/packet"
)

// Own is an address that the node answers for.
type Own struct {
	Addr netip.Addr
	// MAC is the answer: the port's, or the virtual MAC of a virtual address.
	MAC packet.MAC
	// Virtual: a virtual address that is held now. It is never probed for;
	// another node may have had it a moment ago.
	Virtual bool
	// Probe: find out whether somebody else has the address before using it.
	Probe bool
}

// status is how far the node is with an own address.
type status uint8

const (
	probing status = iota // not used yet
	inUse
	refused // somebody else has it
)

const (
	refusedRetry   = int64(time.Minute) // until a refused address is probed for again
	defendInterval = int64(time.Second) // between two answers to claims on one address, and two reports
)

// When an announcement is repeated, counted from the first. A switch or a host
// may lose one while it relearns a port; a new master speaks up soon and often.
// An own address is announced as RFC 5227, section 2.3, says.
var (
	repeatsHeld = []int64{int64(50 * time.Millisecond), int64(200 * time.Millisecond), int64(time.Second)}
	repeatsOwn  = []int64{int64(2 * time.Second)}
)

// own is an own address with what the machine knows of it.
type own struct {
	Own
	key      packet.Addr
	status   status
	sent     int     // probes
	due      int64   // next probe, end of the silence, or the next try of a refused one
	told     bool    // that it was refused
	first    int64   // when it was announced
	repeats  []int64 // what is left of the announcement's schedule
	defended int64
	reported int64
}

// next is when o wants something.
func (o *own) next() int64 {
	due := o.due
	if len(o.repeats) > 0 {
		due = min(due, o.first+o.repeats[0])
	}
	return due
}

// SetOwn replaces the addresses that port id answers for. An address that was
// there with the same MAC goes on as it was; a new one with Probe is probed
// for first and reported by ProbeDone, any other is answered for from now on.
// With an address that is left out go its probes and announcements. Of two
// entries for one address the first counts. A node that wants its addresses
// probed for afresh, after its link was down say, sets none and then sets them.
func (t *Table) SetOwn(now time.Time, id uint16, list []Own, acts []Action) []Action {
	p := t.port(id)
	if p == nil {
		return acts
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.settle()
	at := t.since(now)
	before := p.ownByAddr
	p.owns, p.ownByAddr = nil, make(map[packet.Addr]*own, len(list))
	for _, n := range list {
		n.Addr = n.Addr.Unmap().WithZone("")
		key := packet.AddrFrom(n.Addr)
		if !n.Addr.IsValid() || p.ownByAddr[key] != nil {
			continue
		}
		o := before[key]
		if o == nil || o.MAC != n.MAC || o.Virtual != n.Virtual {
			o = &own{Own: n, key: key, status: inUse, due: never, defended: longAgo, reported: longAgo}
			if n.Probe && !n.Virtual {
				o.status, o.due = probing, at+t.between(0, t.cfg.Probe.Wait)
			}
		}
		p.owns, p.ownByAddr[key] = append(p.owns, o), o
		// As a neighbour it is gone: it was the former master, say.
		if e := p.index.find(key); e != nil {
			acts = p.lose(e, acts)
		}
	}
	return p.tickOwns(at, acts)
}

// Announce tells everybody on port id where the listed addresses are now: a
// gratuitous ARP request or an unsolicited advertisement for each, with its
// MAC inside and as Ethernet source, at once and after 50, 200 and 1000 ms. An
// address that SetOwn did not name, or that is not in use, is counted and left
// out. A node that has just regained its link announces its own addresses too:
// whoever has one of them will object.
func (t *Table) Announce(now time.Time, id uint16, list []Own, acts []Action) []Action {
	p := t.port(id)
	if p == nil {
		return acts
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.settle()
	for _, n := range list {
		o := p.ownByAddr[packet.AddrFrom(n.Addr.Unmap())]
		if !n.Addr.IsValid() || o == nil || o.status != inUse {
			p.counts[AnnouncementsNotAllowed]++
			continue
		}
		acts = p.announce(t.since(now), o, repeatsHeld, acts)
	}
	p.planOwns()
	return acts
}

// announce announces o now and plans the repeats.
func (p *port) announce(now int64, o *own, repeats []int64, acts []Action) []Action {
	o.first, o.repeats = now, repeats
	p.counts[AnnouncementsSent]++
	return p.sendAnnouncement(o, acts)
}

// planOwns notes when the first own address wants something.
func (p *port) planOwns() {
	p.ownDue = never
	for _, o := range p.owns {
		p.ownDue = min(p.ownDue, o.next())
	}
}

// tickOwns does what own addresses are due for.
func (p *port) tickOwns(now int64, acts []Action) []Action {
	for _, o := range p.owns {
		if o.due <= now {
			acts = p.probe(now, o, acts)
		}
		if len(o.repeats) > 0 && o.first+o.repeats[0] <= now {
			o.repeats = o.repeats[1:]
			p.counts[AnnouncementsSent]++
			acts = p.sendAnnouncement(o, acts)
		}
	}
	p.planOwns()
	return acts
}

// probe takes the next step of probing for o: another probe, or, after the
// silence that follows the last, its use.
func (p *port) probe(now int64, o *own, acts []Action) []Action {
	timing := &p.t.cfg.Probe
	if o.status == refused {
		o.status, o.sent = probing, 0
	}
	count, wait := timing.DADCount, int64(timing.DADWait)
	if o.Addr.Is4() {
		count, wait = timing.Count, int64(timing.Settle)
		if o.sent+1 < count {
			wait = p.t.between(timing.Min, timing.Max)
		}
	}
	if o.sent >= count {
		o.status, o.due, o.told = inUse, never, false
		done := p.action(ProbeDone, o.Addr, o.MAC)
		done.OK = true
		return p.announce(now, o, repeatsOwn, append(acts, done))
	}
	o.sent++
	o.due = now + wait
	p.counts[ProbesSent]++
	a := p.action(Send, o.Addr, packet.MAC{})
	if o.Addr.Is4() {
		a.Frame = packet.AppendARP(frame(), packet.ARPRequest, o.MAC, broadcastMAC, o.MAC, netip.IPv4Unspecified(), packet.MAC{}, o.Addr)
	} else {
		group := packet.SolicitedNode(o.Addr)
		a.Frame = packet.AppendNS(frame(), o.MAC, packet.MulticastMAC(group), netip.IPv6Unspecified(), group, o.Addr, false)
	}
	return append(acts, a)
}

// sendAnnouncement tells everybody where o is.
func (p *port) sendAnnouncement(o *own, acts []Action) []Action {
	a := p.action(Send, o.Addr, packet.MAC{})
	if o.Addr.Is4() {
		a.Frame = packet.AppendARP(frame(), packet.ARPRequest, o.MAC, broadcastMAC, o.MAC, o.Addr, packet.MAC{}, o.Addr)
	} else {
		a.Frame = packet.AppendNA(frame(), o.MAC, packet.MulticastMAC(allNodes), o.Addr, allNodes, o.Addr, o.MAC, true, false, true)
	}
	return append(acts, a)
}

// allNodes is ff02::1.
var allNodes = netip.IPv6LinkLocalAllNodes()

// claimed notes that the station mac, in a frame from Ethernet source from,
// has said that o's address is its own.
func (p *port) claimed(now int64, o *own, mac, from packet.MAC, acts []Action) []Action {
	switch {
	case mac == p.cfg.MAC || mac == o.MAC && !o.Virtual:
		p.counts[Echoes]++
		return acts
	case o.status != inUse:
		return p.refuse(now, o, mac, from, acts)
	case mac == o.MAC:
		p.counts[SecondMaster]++
	default:
		p.counts[Conflicts]++
	}
	if now-o.reported >= defendInterval {
		o.reported = now
		a := p.action(Conflict, o.Addr, mac)
		a.From = from
		acts = append(acts, a)
	}
	// A second master says what we would say; who is right is for the
	// election to find out.
	if mac != o.MAC && now-o.defended >= defendInterval {
		o.defended = now
		p.counts[DefencesSent]++
		acts = p.sendAnnouncement(o, acts)
	}
	return acts
}

// refuse gives up an address that was being probed for.
func (p *port) refuse(now int64, o *own, mac, from packet.MAC, acts []Action) []Action {
	p.counts[Conflicts]++
	if o.status == refused { // More of the same; the next try is planned.
		return acts
	}
	o.status, o.due = refused, now+refusedRetry
	p.planOwns()
	a := p.action(Conflict, o.Addr, mac)
	a.From = from
	acts = append(acts, a)
	if !o.told {
		o.told = true
		a.Kind = ProbeDone
		acts = append(acts, a)
	}
	return acts
}
