// Package router is the node's only data path: the walk of every packet from
// the queue it was read from to the queue it leaves by.
//
// One function chain per packet, run to completion on the worker that read it:
// decode, accept, filter, route, resolve, rewrite in place, write. A packet of
// a known flow takes the same chain with the middle cut out; its state
// remembers the way under one generation number, and whatever changes rules,
// routes, addresses or role bumps that number (see docs/architecture.md, the
// walks). The router answers for what routers must: RFC 1812 (TTL, unreachable,
// fragmentation needed) and RFC 4443 for IPv6; ICMP errors find their way back
// through translation as RFC 5508 asks, and switches are told which groups the
// node listens to (RFC 3376, RFC 3810). It ends no connection: what is for the
// node itself goes to a guest stack by [Env.Deliver], and protocols that
// machines speak (CARP) go to their inbox by [Env.Punt].
//
// Workers call [Worker.Step]; everything else may be called from any
// goroutine. The router reads no clock: each step is told the time.
//
// Invariants: a packet whose source would become a virtual address that is not
// held is dropped; both walks give equal frames; what waits, is sent unasked or
// is kept for later has a bound; nothing is allocated on the established walk.
package router

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tandem/netstack/capture"
	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/route"
)

// AddressKind says what the node does with a packet for one of its addresses.
type AddressKind uint8

// The kinds of addresses.
const (
	// Own: of the interface itself, always there.
	Own AddressKind = iota + 1
	// Unusable: of the interface, but somebody else has it or the probe for
	// it has not ended. Packets for it are dropped.
	Unusable
	// Held: a virtual address while this node is its master.
	Held
	// Draining: a virtual address that was given up a moment ago. What still
	// arrives is forwarded, nothing is answered from it.
	Draining
	// NotHeld: a virtual address that another node answers for.
	NotHeld
)

// Address is one address of the node.
type Address struct {
	Addr  packet.Addr
	Iface uint16
	Kind  AddressKind
}

// Addresses is all that a role change alters, applied as one.
type Addresses struct {
	List []Address
	// VirtualMACs are those whose frames are taken, by interface number.
	VirtualMACs map[uint16][]link.MAC
}

// PortConfig describes an interface to the router.
type PortConfig struct {
	Index  uint16
	Name   string
	Device link.Device // nil for a VLAN child
	MAC    link.MAC
	MTU    int
	Parent uint16 // of a VLAN child
	VLAN   uint16 // its tag, 1 to 4094; 0: not a child
	TPID   uint16 // 0x8100 or 0x88a8 of a child
	// Source4 and Source6 are what ICMP errors are sent from.
	Source4, Source6 packet.Addr
}

// Punt is a packet for a protocol machine of the node. The bytes are valid
// only during the call.
type Punt struct {
	Iface    uint16
	Family   uint8
	Proto    uint8
	Src, Dst packet.Addr
	TTL      uint8
	Payload  []byte
	SrcMAC   link.MAC
}

// Env is what the router needs done by others. All of it may be called from
// any worker.
type Env struct {
	Filter *pf.Filter
	Neigh  *neigh.Table
	// Deliver hands an IP datagram to the node's own stack; false: it was
	// not taken. HostRead takes what that stack wants sent; see host.Read.
	Deliver  func(iface uint16, datagram []byte) bool
	HostRead func(frames []*link.Frame, ifaces []uint16) int
	Punt     func(now time.Time, p *Punt)
	// NeighEvent reports conflicts and ended probes; never nil.
	NeighEvent func(now time.Time, a *neigh.Action)
	// Tap sees every frame of every interface; may be nil.
	Tap *capture.Tap
}

// Config is the start of a router.
type Config struct {
	Workers int // at least 1
	Now     time.Time
}

// snapshot is what a walk may look at; it is replaced as a whole.
type snapshot struct {
	gen        uint32
	ports      []*port // by interface number; [0] is nil
	hops       *hops   // its numbers mean something in states of this gen only
	routes     *route.Table
	addresses  []Address
	locals     map[localKey]Address
	own4, own6 packet.Addr // to complain from where an interface has no address
	virtual    map[uint16][]link.MAC
}

// localKey finds an address of the node. Link-local ones are their interface's
// alone; two interfaces may well have the same.
type localKey struct {
	addr  packet.Addr
	iface uint16 // 0 but for link-local addresses
}

func localKeyOf(iface uint16, addr packet.Addr) localKey {
	if !isLinkLocal(addr) {
		iface = 0
	}
	return localKey{addr, iface}
}

// local is what the node knows of addr on an interface: an address of its own
// or a virtual one; of another's the Kind is 0.
func (s *snapshot) local(iface uint16, addr packet.Addr) Address {
	return s.locals[localKeyOf(iface, addr)]
}

// port is interface i, or nil.
func (s *snapshot) port(i uint16) *port {
	if int(i) >= len(s.ports) {
		return nil
	}
	return s.ports[i]
}

// Router joins ports, filter, routes and neighbours. Make one with [New].
type Router struct {
	env     Env
	epoch   time.Time
	workers []*Worker
	hold    hold
	groups  groups
	limit   limiter // of ICMP errors and resets
	drops   [reasonCount]atomic.Uint64
	decoded [256]atomic.Uint64 // packets dropped by packet.Reason

	snap  atomic.Pointer[snapshot]
	alive atomic.Int64 // when the first worker last began a step
	mu    sync.Mutex   // serialises changes of snap
	pool  sync.Pool    // *Worker contexts for senders that are no workers
}

// New returns a router without ports. It fails for a count of workers below one.
func New(cfg Config, env Env) (*Router, error) {
	if cfg.Workers < 1 {
		return nil, fmt.Errorf("router: %d workers, need at least one", cfg.Workers)
	}
	empty, err := route.Build(route.Config{})
	if err != nil {
		return nil, fmt.Errorf("router: empty route table: %w", err)
	}
	r := &Router{env: env, epoch: cfg.Now.Add(-time.Second)}
	r.hold.init()
	r.limit.init()
	r.groups.init()
	r.snap.Store(&snapshot{gen: 1, ports: []*port{nil}, hops: newHops(r.findHop), routes: empty})
	r.pool.New = func() any { return newWorker(r, -1, 0) }
	for i := range cfg.Workers {
		r.workers = append(r.workers, newWorker(r, i, batchMax))
	}
	return r, nil
}

// Worker returns worker i of Config.Workers.
func (r *Router) Worker(i int) *Worker { return r.workers[i] }

// Mono converts a time to the data path's nanoseconds, which begin at one second.
func (r *Router) Mono(now time.Time) int64 { return int64(now.Sub(r.epoch)) }

// Alive is when the first worker last began a step: proof that packets go
// round. A node that lacks it must not call itself master.
func (r *Router) Alive() time.Time { return r.epoch.Add(time.Duration(r.alive.Load())) }

// change replaces the snapshot by an edited copy under a new generation.
func (r *Router) change(edit func(*snapshot)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := *r.snap.Load()
	next.gen++
	edit(&next)
	r.snap.Store(&next)
}

// renewHops replaces a table of next hops that is full.
func (r *Router) renewHops(full *hops) {
	r.change(func(s *snapshot) {
		if s.hops == full {
			s.hops = newHops(r.findHop)
		}
	})
}

// SetPorts replaces the set of interfaces. Those whose name stays keep their
// counters.
func (r *Router) SetPorts(cfgs []PortConfig) error {
	top := uint16(0)
	for _, c := range cfgs {
		top = max(top, c.Index)
	}
	ports := make([]*port, top+1)
	old := r.snap.Load().ports
	for _, c := range cfgs {
		if c.Index == 0 || ports[c.Index] != nil {
			return fmt.Errorf("router: interface %s: number %d is taken", c.Name, c.Index)
		}
		ports[c.Index] = newPort(c)
		if int(c.Index) < len(old) && old[c.Index] != nil && old[c.Index].Name == c.Name {
			ports[c.Index].stats = old[c.Index].stats
		}
	}
	for _, c := range cfgs {
		if c.VLAN == 0 {
			continue
		}
		if int(c.Parent) >= len(ports) || ports[c.Parent] == nil || ports[c.Parent].Device == nil {
			return fmt.Errorf("router: interface %s: its parent %d has no device", c.Name, c.Parent)
		}
		ports[c.Index].trunk = ports[c.Parent]
		ports[c.Index].features = ports[c.Parent].features
		ports[c.Parent].children = append(ports[c.Parent].children, ports[c.Index])
	}
	r.change(func(s *snapshot) { s.ports, s.hops = ports, newHops(r.findHop) })
	r.hold.keepPorts(func(i uint16) bool { return int(i) < len(ports) && ports[i] != nil })
	return nil
}

// SetRoutes replaces the routing table.
func (r *Router) SetRoutes(t *route.Table) { r.change(func(s *snapshot) { s.routes = t }) }

// SetAddresses replaces the node's addresses and the virtual MACs taken.
func (r *Router) SetAddresses(a Addresses) {
	locals := make(map[localKey]Address, len(a.List))
	var own4, own6 packet.Addr
	for _, l := range a.List {
		locals[localKeyOf(l.Iface, l.Addr)] = l
		switch {
		case l.Kind != Own || isLinkLocal(l.Addr):
		case l.Addr.Is4() && own4.IsZero():
			own4 = l.Addr
		case !l.Addr.Is4() && own6.IsZero():
			own6 = l.Addr
		}
	}
	r.change(func(s *snapshot) {
		s.addresses, s.locals, s.virtual = slices.Clone(a.List), locals, a.VirtualMACs
		s.own4, s.own6 = own4, own6
	})
	r.programFilters()
	r.groups.set(r.snap.Load().ports, a.List)
}

// programFilters tells devices that filter by address which to pass: their
// interfaces' own MACs, the virtual ones taken now, and the groups that
// neighbour discovery and CARP use. A device that cannot passes all or says so
// in its own counters.
func (r *Router) programFilters() {
	s := r.snap.Load()
	for _, p := range s.ports {
		if p == nil || p.Device == nil {
			continue
		}
		f, ok := p.Device.(link.AddressFilter)
		if !ok {
			continue
		}
		macs := s.taken(p)
		for _, c := range p.children {
			macs = append(macs, s.taken(c)...)
		}
		if err := f.SetAddresses(macs); err != nil {
			p.stats.filterErrors.Add(1)
		}
	}
}

// groupMACs are the multicast addresses of every interface: all nodes, all
// routers, and CARP's in both families.
var groupMACs = [...]link.MAC{
	{0x01, 0x00, 0x5e, 0, 0, 1}, {0x01, 0x00, 0x5e, 0, 0, 2}, {0x01, 0x00, 0x5e, 0, 0, 0x12},
	{0x33, 0x33, 0, 0, 0, 1}, {0x33, 0x33, 0, 0, 0, 2}, {0x33, 0x33, 0, 0, 0, 0x12},
}

// taken lists the link addresses whose frames an interface takes.
func (s *snapshot) taken(p *port) []link.MAC {
	macs := append([]link.MAC{p.MAC}, s.virtual[p.Index]...)
	macs = append(macs, groupMACs[:]...)
	for _, a := range s.addresses {
		if a.Iface == p.Index && !a.Addr.Is4() {
			macs = append(macs, link.MAC(packet.MulticastMAC(packet.SolicitedNode(a.Addr.Netip()))))
		}
	}
	slices.SortFunc(macs, func(a, b link.MAC) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(macs)
}

// Bump makes every remembered way stale; the filter's rules changed, say.
func (r *Router) Bump() { r.change(func(*snapshot) {}) }

// LookupRoute says where a packet for dst would go, as [route.Table.Lookup].
func (r *Router) LookupRoute(dst packet.Addr) (route.Next, bool) {
	return r.snap.Load().routes.Lookup(dst)
}

// Routes returns the routing table in force.
func (r *Router) Routes() *route.Table { return r.snap.Load().routes }

// Local says what the node does with packets for addr; false: not its address.
func (r *Router) Local(addr packet.Addr) (Address, bool) {
	for _, a := range r.snap.Load().addresses {
		if a.Addr == addr {
			return a, true
		}
	}
	return Address{}, false
}

// holds says whether a translation to addr may be used now: it is no virtual
// address, or one that this node answers for.
func (s *snapshot) holds(addr packet.Addr) bool {
	switch s.local(0, addr).Kind {
	case 0, Own, Held, Draining:
		return true
	}
	return false
}

// Holds is whether a new flow may be translated to addr.
func (r *Router) Holds(addr packet.Addr) bool {
	switch r.snap.Load().local(0, addr).Kind {
	case 0, Own, Held:
		return true
	}
	return false
}
