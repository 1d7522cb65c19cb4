// Package ha is the node's role as one transaction. It drives the CARP
// machines (sync/carp), and turns what they decide into deeds that happen
// together: which addresses are held, who answers for them, what is announced,
// what the log says about it.
//
// Packets and neighbour events come in through a bounded inbox from any
// worker; [HA.Step] takes them, lets the machines tick, and performs their
// actions. It is called by one loop in the product, and by the scheduler of a
// virtual world in tests and in the lab. The package reads no clock of its own.
//
// Invariants: addresses, link-layer answers and the guest stack change in one
// step, before the first advertisement of a new master leaves; a virtual
// address that is not held is never answered for; an own address is used only
// after nobody else was found to have it.
package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/router"
	"tandem/sync/carp"
)

// inboxMax bounds what waits for the loop: adverts and neighbour events.
const inboxMax = 1024

// aliveMax is how old the router's last turn may be for an advert to leave: a
// node whose data path hangs must not stay master.
const aliveMax = 2 * time.Second

// Interface is one of the node's, as roles see it.
type Interface struct {
	Index     uint16
	Name      string
	MAC       packet.MAC
	Addresses []netip.Prefix // the node's own, first of a family is the interface address
	LinkLocal netip.Addr     // also the source of IPv6 adverts
	Layer3    bool           // no neighbours: nothing to probe or announce
}

// VIP is one address of a vhid.
type VIP struct {
	Iface       uint16
	VHID        uint8
	Address     netip.Prefix
	Alias       bool // stacked on the CARP VIP of that vhid
	Description string
}

// Config is a node's addresses and roles.
type Config struct {
	Hostname   string
	Interfaces []Interface
	VIPs       []VIP
	CARP       carp.Config
	// InterfaceMAC: VIPs answer with the interface's MAC, not a virtual one.
	InterfaceMAC bool
}

// Guest is the node's own stack, as far as roles concern it.
type Guest interface {
	SetAddresses(iface uint16, addrs []netip.Prefix) error
}

// Env is what roles act upon.
type Env struct {
	Router *router.Router
	Neigh  *neigh.Table
	Guest  Guest
	Rand   func() uint64
	// Event takes a line for the log.
	Event func(e status.Event)
	// RoleChanged is told the node's role after it changed.
	RoleChanged func(role string)
	// Wake asks for a Step soon; it must not block.
	Wake func()
}

// event is one thing in the inbox.
type event struct {
	at     time.Time
	packet carp.Packet
	neigh  neigh.Action
	isCARP bool
}

// addrKey names an own address: link-local ones may be the same on several
// interfaces.
type addrKey struct {
	iface uint16
	addr  netip.Addr
}

// hold is what this node does with one vhid's addresses.
type hold struct {
	state    carp.State
	draining bool
}

// vhidKey names a vhid of the node.
type vhidKey struct {
	iface uint16
	vhid  uint8
}

// ownState is what became of an own address.
type ownState struct {
	usable bool
	holder packet.MAC // who has it, if somebody else does
}

// HA is the roles of one node. Make it with [New].
type HA struct {
	env Env

	inMu    sync.Mutex
	inbox   []event
	dropped uint64

	mu       sync.Mutex
	cfg      Config
	group    *carp.Group
	holds    map[vhidKey]hold
	own      map[addrKey]ownState
	claims   map[addrKey]time.Time // since when somebody else announces a held VIP
	links    map[uint16]bool
	role     string
	disabled time.Time // when CARP was switched off
	alarms   map[string]alarm
	unsent   []unsent            // adverts that wait for a unicast peer's MAC
	faults   map[advertKey]fault // of adverts that did not leave, until enough did
	mending  map[uint16]mending
	taken    []event
	frame    []byte
	ident    uint16
}

// New returns the roles of a node, all links down, nothing held. It fails
// where the CARP configuration contradicts itself.
func New(now time.Time, cfg Config, env Env) (*HA, error) {
	h := &HA{
		env: env, cfg: cfg,
		holds: make(map[vhidKey]hold), own: make(map[addrKey]ownState), claims: make(map[addrKey]time.Time),
		alarms: make(map[string]alarm), links: make(map[uint16]bool), faults: make(map[advertKey]fault), mending: make(map[uint16]mending),
	}
	var err error
	if h.group, err = carp.NewGroup(h.carpConfig(), env.Rand); err != nil {
		return nil, fmt.Errorf("roles: %w", err)
	}
	h.role = string(h.group.Role())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applyAddresses(now)
	return h, nil
}

// carpConfig is what the machines are given: the addresses that adverts may be
// sent from are those that nobody else was found to have.
func (h *HA) carpConfig() carp.Config {
	c := h.cfg.CARP
	c.Interfaces = slices.Clone(c.Interfaces)
	for n := range c.Interfaces {
		i := &c.Interfaces[n]
		of := h.iface(i.Index)
		i.Addresses = slices.DeleteFunc(slices.Clone(i.Addresses), func(a netip.Addr) bool {
			return of == nil || !h.usable(of, a)
		})
	}
	return c
}

// Receive takes a packet of protocol 112; its bytes are copied.
func (h *HA) Receive(now time.Time, p *router.Punt) {
	if p.Proto != packet.ProtoCARP {
		return
	}
	family := carp.IPv4
	if p.Family == 6 {
		family = carp.IPv6
	}
	h.put(event{at: now, isCARP: true, packet: carp.Packet{
		Iface: p.Iface, Family: family, Src: p.Src.Netip(), Dst: p.Dst.Netip(), TTL: p.TTL,
		Payload: append([]byte(nil), p.Payload...),
	}})
}

// NeighEvent takes what the neighbour machine has found out about addresses.
func (h *HA) NeighEvent(now time.Time, a *neigh.Action) { h.put(event{at: now, neigh: *a}) }

// put keeps an event for the loop, or counts it as lost.
func (h *HA) put(e event) {
	h.inMu.Lock()
	full := len(h.inbox) >= inboxMax
	if full {
		h.dropped++
	} else {
		h.inbox = append(h.inbox, e)
	}
	h.inMu.Unlock()
	if !full {
		h.env.Wake()
	}
}

// Step takes the inbox and does what is due.
func (h *HA) Step(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inMu.Lock()
	h.taken, h.inbox = h.inbox, h.taken[:0]
	h.inMu.Unlock()

	cause := now // when the first thing happened that this step answers
	if d := h.group.Deadline(); !d.IsZero() && d.Before(cause) {
		cause = d
	}
	var acts []carp.Action
	for i := range h.taken {
		e := &h.taken[i]
		if e.at.Before(cause) {
			cause = e.at
		}
		if e.isCARP {
			acts = h.group.Receive(now, e.packet, acts)
		} else {
			acts = h.neighEvent(now, &e.neigh, acts)
		}
	}
	acts = h.group.Tick(now, acts)
	acts = h.mend(now, h.sendLate(now, acts))
	h.perform(now, cause, acts)
	h.expireAlarms(now)
}

// Deadline is when Step wants to be called next; zero: never.
func (h *HA) Deadline() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.group.Deadline()
	sooner := func(d time.Time) {
		if !d.IsZero() && (next.IsZero() || d.Before(next)) {
			next = d
		}
	}
	for _, u := range h.unsent {
		sooner(u.next)
	}
	for _, m := range h.mending {
		sooner(m.next)
	}
	for _, a := range h.alarms {
		sooner(a.until)
	}
	return next
}

// Role is the node's role.
func (h *HA) Role() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.role
}

// SetLink tells that an interface has gained or lost its link.
func (h *HA) SetLink(now time.Time, iface uint16, up bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if was, told := h.links[iface]; told && was == up {
		return
	}
	h.links[iface] = up
	word := "down"
	if up {
		word = "up"
	}
	h.log(now, "info", fmt.Sprintf("link of %s is %s", h.ifaceName(iface), word), map[string]string{"interface": h.ifaceName(iface), "link": word})
	if up {
		h.probe(now, iface)
	} else {
		h.env.Router.LinkDown(iface)
	}
	h.perform(now, now, h.tellLink(now, iface, nil))
}

// tellLink tells the machines of an interface's link. Its vhids may run once
// it can be used: the link is up and it is known which of the own addresses
// are free. A node that became master before that could not ask for its
// neighbours.
func (h *HA) tellLink(now time.Time, iface uint16, acts []carp.Action) []carp.Action {
	up, known := h.links[iface]
	if !known || up && h.probing(iface) {
		return acts
	}
	return h.group.SetLink(now, iface, up, acts)
}

// SetEnabled switches CARP on or off until the next restart.
func (h *HA) SetEnabled(now time.Time, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !on && h.disabled.IsZero() {
		h.disabled = now
	}
	if on {
		h.disabled = time.Time{}
	}
	h.perform(now, now, h.group.SetEnabled(now, on, nil))
}

// SetMaintenance switches maintenance mode; keeping it over a restart is the caller's.
func (h *HA) SetMaintenance(now time.Time, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.perform(now, now, h.group.SetMaintenance(now, on, nil))
}

// SetDemotion records a named demotion; amount 0 clears it.
func (h *HA) SetDemotion(now time.Time, name string, amount int, clearsWhen string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.perform(now, now, h.group.SetDemotion(now, name, amount, clearsWhen, nil))
}

// ResetDemotion forgets every demotion that is not a fact.
func (h *HA) ResetDemotion(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.perform(now, now, h.group.ResetDemotion(now, nil))
}

// Leave says farewell on every vhid. The node should go on stepping while
// [HA.Draining].
func (h *HA) Leave(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.perform(now, now, h.group.Leave(now, nil))
}

// Draining says whether the node still forwards for what it has given up.
func (h *HA) Draining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.group.IsDraining()
}

// SetConfig replaces addresses and vhids; on an error nothing has changed. An
// own address that is new is probed for before it is used; a virtual one that
// is new, or answered with another MAC, is announced where it is held.
func (h *HA) SetConfig(now time.Time, cfg Config) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, before := h.cfg, h.heldVIPs()
	h.cfg = cfg
	acts, err := h.group.SetConfig(now, h.carpConfig(), nil)
	if err != nil {
		h.cfg = old
		return fmt.Errorf("roles: %w", err)
	}
	h.forgetOwn(now)
	h.applyAddresses(now)
	for n := range cfg.Interfaces {
		acts = h.tellLink(now, cfg.Interfaces[n].Index, acts) // the machines have not heard of those without a vhid
	}
	h.perform(now, now, acts)
	h.forgetHolds()
	h.announceNew(now, before)
	return nil
}
