// Package neigh knows who lives at which link address, and tells others where
// the node's own addresses live: ARP (RFC 826) with address conflict detection
// (RFC 5227) and IPv6 neighbour discovery with duplicate address detection
// (RFC 4861, RFC 4862).
//
// A [Table] holds one machine for each port. Workers of the data path ask
// [Table.Lookup], which takes no lock, and [Table.Resolve] where that knows
// nothing; frames that came in go to [Table.Receive]. Each port has one lock,
// taken by everything but Lookup, so all methods may be called from any
// goroutine. The package opens nothing, starts nothing and reads no clock: it
// is told the time and appends to a slice of [Action] what the caller must do.
// Every frame it wants sent is complete, Ethernet header included.
//
// What may be believed is narrow, since anybody on the segment can write:
//
//   - Only an answer to a question of ours makes an entry. What else is heard,
//     requests and gratuitous announcements, refreshes an entry or replaces its
//     address, at most once a second.
//   - Neighbour discovery needs hop limit 255; redirects and advertisements of
//     other routers are counted and ignored.
//   - Entries, open questions and asks per second are bounded for each port.
//
// Invariants: for an address that is not the node's, or a virtual one that it
// does not hold, nothing is ever answered or announced, and no ask is sent
// from it. What is said about a virtual address carries the virtual MAC both
// inside and as Ethernet source. An own address that is still being probed for
// is not answered, nor asked from.
package neigh

import (
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"tandem/netstack/packet"
)

// Bounds that hold where Config leaves them zero.
const (
	entriesDefault       = 8192
	questionsDefault     = 512
	asksPerSecondDefault = 1000
)

// never is a deadline that does not come.
const never = math.MaxInt64

// longAgo is before every time of the machine.
const longAgo = -1 << 62

// Timing is how an own address is probed for before it is used. RFC 5227
// takes about six seconds for it; a node that must be quick after a restart
// says, for one, Wait 0, Count 3, Min and Max 200 ms, Settle 200 ms, and
// accepts that a slow or sleeping holder of the address may answer too late
// (it is then found as a conflict).
type Timing struct {
	Wait     time.Duration // random delay before the first probe, at most this (PROBE_WAIT)
	Count    int           // ARP probes (PROBE_NUM)
	Min, Max time.Duration // random time between two of them (PROBE_MIN, PROBE_MAX)
	Settle   time.Duration // silence that must follow the last one (ANNOUNCE_WAIT)

	DADCount int           // neighbour solicitations (DupAddrDetectTransmits)
	DADWait  time.Duration // silence that must follow each (RetransTimer)
}

// DefaultTiming is that of RFC 5227, section 1.1, and RFC 4862, section 5.1.
func DefaultTiming() Timing {
	return Timing{
		Wait: time.Second, Count: 3, Min: time.Second, Max: 2 * time.Second, Settle: 2 * time.Second,
		DADCount: 1, DADWait: time.Second,
	}
}

// Config is what all ports of a table share.
type Config struct {
	// Now is when the table begins, with its monotonic reading; later times
	// are measured from it.
	Now time.Time
	// Rand gives random bits: delays, the time an entry is believed, the key
	// of the hash. It is called under a port's lock, from any goroutine. Nil
	// means that every delay is the shortest and the hash has no secret.
	Rand func() uint64
	// Probe is used as it is, unless it is all zero: then DefaultTiming is.
	Probe Timing
	// EntriesMax bounds the neighbours known on a port, QuestionsMax those
	// being asked for, AsksPerSecond what is sent for the latter. Zero means
	// 8192, 512 and 1000.
	EntriesMax    int
	QuestionsMax  int
	AsksPerSecond int
}

// PortConfig describes a port.
type PortConfig struct {
	MAC packet.MAC
	// LinkLocal is the own address that IPv6 neighbours are asked from when
	// there is nothing better. Like every own address it is answered only if
	// it is given to SetOwn.
	LinkLocal netip.Addr
	// Networks are the connected prefixes: by them an own address is chosen
	// to ask from, and broadcast addresses are known.
	Networks []netip.Prefix
}

// Table is the neighbours of all ports. Make one with [New].
type Table struct {
	cfg   Config
	key   [2]uint64
	ports atomic.Pointer[[]*port] // by number; replaced as a whole
}

// New returns a table without ports.
func New(cfg Config) *Table {
	if cfg.Rand == nil {
		cfg.Rand = func() uint64 { return 0 }
	}
	if cfg.Probe == (Timing{}) {
		cfg.Probe = DefaultTiming()
	}
	orDefault := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	orDefault(&cfg.EntriesMax, entriesDefault)
	orDefault(&cfg.QuestionsMax, questionsDefault)
	orDefault(&cfg.AsksPerSecond, asksPerSecondDefault)
	if cfg.Now.IsZero() {
		cfg.Now = time.Unix(0, 0)
	}
	t := &Table{cfg: cfg, key: [2]uint64{cfg.Rand(), cfg.Rand()}}
	t.ports.Store(new([]*port))
	return t
}

// AddPort adds port id, or gives one that is there a new description; if its
// MAC changed it forgets its neighbours and its own addresses.
func (t *Table) AddPort(id uint16, cfg PortConfig) {
	cfg.Networks = slices.Clone(cfg.Networks)
	if p := t.port(id); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.cfg.MAC == cfg.MAC {
			p.cfg = cfg
			return
		}
	}
	t.setPort(id, newPort(t, id, cfg))
}

// RemovePort forgets port id and all that was known on it.
func (t *Table) RemovePort(id uint16) {
	if t.port(id) != nil {
		t.setPort(id, nil)
	}
}

// setPort publishes a copy of the list of ports with p at id.
func (t *Table) setPort(id uint16, p *port) {
	for {
		old := t.ports.Load()
		ports := slices.Clone(*old)
		for len(ports) <= int(id) {
			ports = append(ports, nil)
		}
		ports[id] = p
		if t.ports.CompareAndSwap(old, &ports) {
			return
		}
	}
}

// port returns port id, or nil.
func (t *Table) port(id uint16) *port {
	ports := *t.ports.Load()
	if int(id) >= len(ports) {
		return nil
	}
	return ports[id]
}

// all returns the ports there are, in order of their numbers.
func (t *Table) all() []*port { return *t.ports.Load() }

// Lookup returns the link address of a neighbour, if it is known, and marks
// the neighbour as in use, so that it will be kept fresh. It takes no lock and
// does not allocate.
func (t *Table) Lookup(id uint16, addr packet.Addr) (packet.MAC, bool) {
	p := t.port(id)
	if p == nil {
		return packet.MAC{}, false
	}
	e := p.index.find(addr)
	if e == nil {
		return packet.MAC{}, false
	}
	return e.use()
}

// Tick does what time has brought: asks again, gives up, probes, repeats
// announcements, forgets.
func (t *Table) Tick(now time.Time, acts []Action) []Action {
	at := t.since(now)
	for _, p := range t.all() {
		if p != nil && p.deadline.Load() <= at {
			acts = p.tick(at, acts)
		}
	}
	return acts
}

// Deadline is when Tick wants to be called next; zero means never. Any call
// that takes the time may bring it nearer. It takes no lock, and being some
// tens of milliseconds late does no harm but to the pace of announcements.
func (t *Table) Deadline() time.Time {
	first := int64(never)
	for _, p := range t.all() {
		if p != nil {
			first = min(first, p.deadline.Load())
		}
	}
	if first == never {
		return time.Time{}
	}
	return t.cfg.Now.Add(time.Duration(first))
}

// since converts a time to nanoseconds since the table began.
func (t *Table) since(now time.Time) int64 { return int64(now.Sub(t.cfg.Now)) }

// between draws a random duration from low up to high, in nanoseconds.
func (t *Table) between(low, high time.Duration) int64 {
	if high <= low {
		return int64(low)
	}
	return int64(low) + int64(t.cfg.Rand()%uint64(high-low))
}
