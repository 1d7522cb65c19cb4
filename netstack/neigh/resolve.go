package neigh

import (
	"net/netip"
	"time"

	"tandem/netstack/packet"
)

// Times of the machine, after RFC 4861, section 10, for both families.
const (
	askTries      = 3 // MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT
	askInterval   = int64(time.Second)
	reachableMin  = 30 * time.Second // an answer is believed for a random time between these
	reachableMax  = 60 * time.Second
	staleCheck    = int64(5 * time.Second) // DELAY_FIRST_PROBE_TIME: how soon use of a stale entry is seen
	staleKeep     = int64(10 * time.Minute)
	noAnswerKeep  = int64(time.Second)
	claimInterval = int64(time.Second) // between two changes of a neighbour's MAC
)

// Resolve returns the link address of neighbour addr if it is known. If not,
// it asks: at once, and twice more a second apart, with src as the sender if
// that is an own or held address in use on this port, else with one that is.
// The caller keeps its packet when the status is Pending and sees Resolved or
// Unreachable for addr later, from this or any other call.
//
// When all questions that a port may have are open, one that has gone
// unanswered for a second is given up for the new one; so somebody who scans a
// network cannot keep others from being asked for.
func (t *Table) Resolve(now time.Time, id uint16, addr, src netip.Addr, acts []Action) (packet.MAC, Status, []Action) {
	p := t.port(id)
	if p == nil {
		return packet.MAC{}, Failed, acts
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.settle()
	at := t.since(now)
	addr, src = addr.Unmap().WithZone(""), src.Unmap().WithZone("")
	key := packet.AddrFrom(addr)
	e := p.index.find(key)
	if e == nil {
		if p.ownByAddr[key] != nil || !p.neighbourly(addr) {
			return packet.MAC{}, Failed, acts
		}
		var ok bool
		if ok, acts = p.roomForQuestion(at, acts); !ok {
			p.counts[QuestionsRefused]++
			return packet.MAC{}, Failed, acts
		}
		e = p.add(at, key, Incomplete, &p.questions)
		e.src = src
		return packet.MAC{}, Pending, p.askAgain(at, e, acts)
	}
	e.src = src
	switch e.state {
	case Incomplete:
		return packet.MAC{}, Pending, acts
	case NoAnswer:
		return packet.MAC{}, Failed, acts
	}
	mac, _ := e.use()
	return mac, Found, acts
}

// roomForQuestion says whether one more question may be opened, giving up the
// oldest one if it had its chance.
func (p *port) roomForQuestion(now int64, acts []Action) (bool, []Action) {
	if p.questions.len < p.t.cfg.QuestionsMax {
		return true, acts
	}
	e := p.questions.front
	switch {
	case e.state == NoAnswer: // Its end was told already.
		p.drop(e)
	case now-e.since >= askInterval:
		p.counts[QuestionsDisplaced]++
		acts = p.lose(e, acts)
	default:
		return false, acts
	}
	return true, acts
}

// expire does what e is due for.
func (p *port) expire(now int64, e *entry, acts []Action) []Action {
	switch e.state {
	case Incomplete:
		return p.askAgain(now, e, acts)
	case NoAnswer:
		p.drop(e)
		return acts
	case Probing:
		return p.refresh(now, e, acts)
	case Provisional:
		return p.lose(e, acts)
	}
	switch { // Reachable or Stale
	case e.wasUsed(usedForRefresh):
		e.state, e.tries = Probing, 0
		return p.refresh(now, e, acts)
	case now-e.since >= staleKeep:
		return p.lose(e, acts)
	}
	e.state = Stale
	p.heap.set(e, now+staleCheck)
	return acts
}

// askAgain sends the next ask for an unknown neighbour, when the rate allows
// it, or gives up after the last.
func (p *port) askAgain(now int64, e *entry, acts []Action) []Action {
	if e.tries == askTries {
		p.counts[NeighboursUnreachable]++
		e.state = NoAnswer
		p.heap.set(e, now+noAnswerKeep)
		return append(acts, p.action(Unreachable, e.addr.Netip(), packet.MAC{}))
	}
	if !e.granted {
		if wait := p.allow(now); wait > 0 {
			p.counts[AsksDelayed]++
			e.granted = true
			p.heap.set(e, now+wait)
			return acts
		}
	}
	e.granted = false
	e.tries++
	p.heap.set(e, now+askInterval)
	return p.ask(e, packet.MAC{}, AsksSent, acts)
}

// refresh asks a known neighbour whether it is still there. Three asks without
// an answer end the entry; the next packet then asks everybody. These asks are
// bounded by the number of entries and not by the rate, so that a flood of
// questions does not cost the neighbours that are known.
func (p *port) refresh(now int64, e *entry, acts []Action) []Action {
	if e.tries == askTries {
		p.counts[NeighboursUnreachable]++
		return p.lose(e, acts)
	}
	e.tries++
	p.heap.set(e, now+askInterval)
	return p.ask(e, unpackMAC(e.mac.Load()), RefreshesSent, acts)
}

// ask sends one question about e, to one station, or to all if to is zero.
// Without an address to ask from nothing is sent: an ARP request from 0.0.0.0
// would be a probe and could take the address from a host that is just
// starting up (RFC 5227, section 2.1.1).
func (p *port) ask(e *entry, to packet.MAC, counter Counter, acts []Action) []Action {
	target := e.addr.Netip()
	from := p.source(target, e.src)
	if from == nil {
		p.counts[AsksWithoutSource]++
		return acts
	}
	p.counts[counter]++
	a := p.action(Send, target, packet.MAC{})
	all := to == packet.MAC{}
	switch {
	case target.Is4() && all:
		a.Frame = packet.AppendARP(frame(), packet.ARPRequest, from.MAC, broadcastMAC, from.MAC, from.Addr, packet.MAC{}, target)
	case target.Is4():
		a.Frame = packet.AppendARP(frame(), packet.ARPRequest, from.MAC, to, from.MAC, from.Addr, packet.MAC{}, target)
	case all:
		group := packet.SolicitedNode(target)
		a.Frame = packet.AppendNS(frame(), from.MAC, packet.MulticastMAC(group), from.Addr, group, target, true)
	default:
		a.Frame = packet.AppendNS(frame(), from.MAC, to, from.Addr, target, target, true)
	}
	return append(acts, a)
}

var broadcastMAC = packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// frame returns room for the longest frame there is here: Ethernet, IPv6 and
// an advertisement with its option.
func frame() []byte { return make([]byte, 0, 14+40+32) }

// source picks the own address to ask for target from: want, if it is in use
// here; else one on a network of target's; else, for IPv6, the link-local one;
// else any of the family. Nil: there is none.
func (p *port) source(target, want netip.Addr) *own {
	if want.IsValid() && want.Is4() == target.Is4() {
		if o := p.ownByAddr[packet.AddrFrom(want)]; o != nil && o.status == inUse {
			return o
		}
	}
	var best *own
	rank := 0
	for _, o := range p.owns {
		if o.Virtual || o.status != inUse || o.Addr.Is4() != target.Is4() {
			continue
		}
		r := 1
		switch {
		case p.together(o.Addr, target):
			r = 3
		case o.Addr == p.cfg.LinkLocal:
			r = 2
		}
		if r > rank {
			best, rank = o, r
		}
	}
	return best
}

// together says whether a and b are on one network of the port.
func (p *port) together(a, b netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() && b.IsLinkLocalUnicast() {
		return true
	}
	for _, n := range p.cfg.Networks {
		if n.Contains(a) && n.Contains(b) {
			return true
		}
	}
	return false
}

// confirm notes that e is at mac, as it said itself in answer to an ask, or by
// speaking from where it was known to be.
func (p *port) confirm(now int64, e *entry, mac packet.MAC, acts []Action) []Action {
	switch {
	case e.open():
		acts = p.room(acts)
		p.questions.remove(e)
		p.neighbours.push(e)
		e.mac.Store(packMAC(mac))
		e.changed = now
		p.counts[NeighboursResolved]++
		acts = append(acts, p.action(Resolved, e.addr.Netip(), mac))
	case e.mac.Load() != packMAC(mac):
		var ok bool
		if ok, acts = p.replace(now, e, mac, acts); !ok {
			return acts
		}
	}
	e.state, e.since, e.tries = Reachable, now, 0
	e.used.And(^uint32(usedForRefresh))
	p.heap.set(e, now+p.t.between(reachableMin, reachableMax))
	return acts
}

// claim notes that e was said to be at another MAC without our asking. A
// neighbour may move, so it is believed, but not confirmed: in use, it is
// probed within seconds.
func (p *port) claim(now int64, e *entry, mac packet.MAC, acts []Action) []Action {
	if e.open() || e.state == Provisional || e.mac.Load() == packMAC(mac) {
		return acts
	}
	ok, acts := p.replace(now, e, mac, acts)
	if ok {
		e.state, e.since, e.tries = Stale, now, 0
		p.heap.set(e, now+staleCheck)
	}
	return acts
}

// replace gives e another MAC, at most once a second: two stations that
// quarrel about an address, or one that forges, must not make every flow look
// for its way on every packet. When a claim was refused, the MAC that stays is
// asked whether it is still there.
func (p *port) replace(now int64, e *entry, mac packet.MAC, acts []Action) (bool, []Action) {
	if now-e.changed < claimInterval {
		p.counts[ChangesLimited]++
		if e.state != Probing {
			e.state, e.tries = Probing, 0
			p.heap.set(e, e.changed+claimInterval)
		}
		return false, acts
	}
	e.mac.Store(packMAC(mac))
	e.changed = now
	p.counts[NeighboursChanged]++
	return true, append(acts, p.action(Changed, e.addr.Netip(), mac))
}
