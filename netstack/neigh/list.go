package neigh

import (
	"net/netip"
	"slices"
	"time"

	"tandem/netstack/packet"
)

// Neighbour is an entry as people see it.
type Neighbour struct {
	Port  uint16
	Addr  netip.Addr
	MAC   packet.MAC // zero while it is not known
	State State
	// Age is the time since it was last confirmed, or asked for if it never was.
	Age time.Duration
	// Expires is the time until it will be in doubt or forgotten.
	Expires time.Duration
}

// List returns all neighbours, by port and address. The slice is the caller's.
func (t *Table) List(now time.Time) []Neighbour {
	at := t.since(now)
	var out []Neighbour
	for _, p := range t.all() {
		if p == nil {
			continue
		}
		start := len(out)
		out = p.list(at, out)
		slices.SortFunc(out[start:], func(a, b Neighbour) int { return a.Addr.Compare(b.Addr) })
	}
	return out
}

func (p *port) list(now int64, out []Neighbour) []Neighbour {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range []*list{&p.neighbours, &p.questions} {
		for e := l.front; e != nil; e = e.next {
			expires := e.due
			if e.state == Stale { // due is only when its use is looked at
				expires = e.since + staleKeep
			}
			out = append(out, Neighbour{
				Port: p.id, Addr: e.addr.Netip(), MAC: unpackMAC(e.mac.Load()), State: e.state,
				Age: time.Duration(now - e.since), Expires: time.Duration(max(0, expires-now)),
			})
		}
	}
	return out
}

// Len is how many neighbours are known on port id, and how many questions are
// open there.
func (t *Table) Len(id uint16) (neighbours, questions int) {
	p := t.port(id)
	if p == nil {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.neighbours.len, p.questions.len
}

// Hint says where a neighbour is that cannot be asked yet, such as a DHCP
// client that is being offered its address, and holds until then. It is
// believed before what the neighbour says, and ends a question about it.
func (t *Table) Hint(now time.Time, id uint16, addr netip.Addr, mac packet.MAC, until time.Time, acts []Action) []Action {
	p := t.port(id)
	if p == nil || !station(mac) || !until.After(now) {
		return acts
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.settle()
	addr = addr.Unmap().WithZone("")
	key := packet.AddrFrom(addr)
	if !p.neighbourly(addr) || p.ownByAddr[key] != nil {
		return acts
	}
	at, end := t.since(now), t.since(until)
	e := p.index.find(key)
	switch {
	case e == nil:
		acts = p.room(acts)
		e = p.add(at, key, Provisional, &p.neighbours)
	case e.open():
		acts = p.confirm(at, e, mac, acts)
	case e.mac.Load() == packMAC(mac) && e.state != Provisional:
		return acts // Known for itself, which holds longer.
	case e.mac.Load() != packMAC(mac):
		acts = append(acts, p.action(Changed, addr, mac))
	}
	e.mac.Store(packMAC(mac))
	e.state, e.since, e.changed = Provisional, at, at
	p.heap.set(e, end)
	return acts
}

// Delete forgets a neighbour on every port, as the operator asked for. Each
// port that knew it adds Unreachable to acts; if none did, nothing is added.
func (t *Table) Delete(addr netip.Addr, acts []Action) []Action {
	key := packet.AddrFrom(addr.Unmap())
	for _, p := range t.all() {
		if p == nil {
			continue
		}
		p.mu.Lock()
		if e := p.index.find(key); e != nil {
			acts = p.lose(e, acts)
		}
		p.settle()
		p.mu.Unlock()
	}
	return acts
}

// Flush forgets the neighbours of port id, whose link is down. Lookup knows
// none of them when it returns. Questions that were open end at the next Tick,
// with Unreachable, so that what waits for them is given up.
func (t *Table) Flush(id uint16) {
	p := t.port(id)
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.neighbours.front != nil {
		p.drop(p.neighbours.front)
	}
	for e := p.questions.front; e != nil; e = e.next {
		if e.state == Incomplete {
			e.tries = askTries
			p.heap.set(e, e.since)
		}
	}
	p.settle()
}
