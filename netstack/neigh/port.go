package neigh

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tandem/netstack/packet"
)

// port is the machine of one interface.
type port struct {
	t        *Table
	id       uint16
	index    index        // Lookup reads it without the lock
	deadline atomic.Int64 // the nearest of heap and ownDue

	mu         sync.Mutex
	cfg        PortConfig
	heap       timers
	questions  list // open entries, the oldest first
	neighbours list // all others, the longest known first
	owns       []*own
	ownByAddr  map[packet.Addr]*own
	ownDue     int64 // when an own address next wants something
	pace       int64 // the ask that came last was allowed for this time
	counts     Counts
}

func newPort(t *Table, id uint16, cfg PortConfig) *port {
	p := &port{
		t: t, id: id, cfg: cfg, ownDue: never, pace: longAgo,
		index:     newIndex(t.key, t.cfg.EntriesMax+t.cfg.QuestionsMax),
		ownByAddr: make(map[packet.Addr]*own),
	}
	p.deadline.Store(never)
	return p
}

// settle notes when the port next wants to be called; every method that takes
// the lock does so before it lets go.
func (p *port) settle() { p.deadline.Store(min(p.heap.next(), p.ownDue)) }

// tick does what is due at now.
func (p *port) tick(now int64, acts []Action) []Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.heap.next() <= now {
		acts = p.expire(now, p.heap[0], acts)
	}
	if p.ownDue <= now {
		acts = p.tickOwns(now, acts)
	}
	p.settle()
	return acts
}

// add makes an entry in the given list, due at a time of the caller's choice.
func (p *port) add(now int64, key packet.Addr, state State, l *list) *entry {
	e := &entry{addr: key, state: state, since: now, changed: longAgo, due: never, pos: -1}
	l.push(e)
	p.index.insert(e)
	return e
}

// drop forgets e. Whoever still holds it sees no MAC.
func (p *port) drop(e *entry) {
	e.mac.Store(0)
	p.heap.set(e, never)
	e.in.remove(e)
	p.index.remove(e)
}

// lose forgets e and says so.
func (p *port) lose(e *entry, acts []Action) []Action {
	p.drop(e)
	return append(acts, p.action(Unreachable, e.addr.Netip(), packet.MAC{}))
}

// spareMax is how many entries in use are passed over in search of one that
// is not; beyond it an entry in use has to go.
const spareMax = 64

// room makes room for one more neighbour. It takes the one known longest that
// was not in use since it was last passed over.
func (p *port) room(acts []Action) []Action {
	if p.neighbours.len < p.t.cfg.EntriesMax {
		return acts
	}
	for range spareMax {
		e := p.neighbours.front
		if !e.wasUsed(usedForRoom) {
			break
		}
		p.neighbours.remove(e)
		p.neighbours.push(e)
	}
	p.counts[EntriesEvicted]++
	return p.lose(p.neighbours.front, acts)
}

// action is an action about addr on this port.
func (p *port) action(k Kind, addr netip.Addr, mac packet.MAC) Action {
	return Action{Kind: k, Port: p.id, Addr: addr, MAC: mac}
}

// allow says how long the next ask must wait, so that no more than
// AsksPerSecond are sent, half a second's worth of them at once. What it
// grants is taken.
func (p *port) allow(now int64) (wait int64) {
	const burst = int64(time.Second) / 2
	p.pace = max(p.pace, now-burst) + int64(time.Second)/int64(p.t.cfg.AsksPerSecond)
	return max(0, p.pace-now)
}

// neighbourly says whether addr can be a station on this port.
func (p *port) neighbourly(addr netip.Addr) bool {
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return false
	}
	if addr.Is6() {
		return true
	}
	if addr == limitedBroadcast {
		return false
	}
	for _, n := range p.cfg.Networks {
		if n.Addr().Is4() && n.Bits() < 31 && n.Contains(addr) {
			first, last := hostBits(addr.As4(), n.Bits())
			return !first && !last
		}
	}
	return true
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// hostBits says whether the bits of a behind the prefix are all clear or all set.
func hostBits(a [4]byte, bits int) (clear, set bool) {
	host := uint32(1)<<(32-bits) - 1
	v := (uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])) & host
	return v == 0, v == host
}

// station says whether m can be the address of one interface.
func station(m packet.MAC) bool { return m[0]&1 == 0 && m != packet.MAC{} }
