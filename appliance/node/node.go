// Package node is one running firewall: it builds the parts of a plan, joins
// them, drives them, changes them and takes them down again.
//
// Everything from outside comes in by [Env]: devices, clock, randomness, the
// store of what must survive a restart. The product gives real ones and calls
// [Node.Run], which gives each loop a goroutine; the lab and tests on virtual
// time give their own and call [Node.Step] from one scheduler. The code in
// between is the same.
//
// Invariants: a change is prepared completely before anything of it is
// committed, and the commit cannot fail; a node that could not be built leaves
// nothing open behind.
package node

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tandem/appliance/ha"
	"tandem/appliance/plan"
	"tandem/netstack/capture"
	"tandem/netstack/host"
	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/norm"
	"tandem/netstack/router"
)

// Clock is the node's time and timers.
type Clock = host.Clock

// Store keeps small values over a restart, each write atomic.
type Store interface {
	// Get returns the value, or an error that wraps fs.ErrNotExist.
	Get(name string) ([]byte, error)
	Put(name string, value []byte) error
}

// Env is the world of a node.
type Env struct {
	Clock Clock
	Rand  func() uint64
	// Open attaches an interface's device. It is not called for VLAN children.
	Open  func(iface *plan.Interface) (link.Device, error)
	Store Store
	// Wake asks for a Step soon, where one scheduler drives the node. Nil
	// where Run does.
	Wake func()
	// Probe is how own addresses are probed for; zero: the node's default.
	Probe   neigh.Timing
	Version string
	// Built is when the program was made; a clock that says less is wrong. Zero:
	// nobody knows.
	Built   time.Time
	Workers int // router workers; 0: one
}

// Node is a running firewall. Its exported methods may be called from any
// goroutine.
type Node struct {
	env     Env
	started time.Time
	events  *events
	tap     *capture.Tap

	filter *pf.Filter
	router *router.Router
	neigh  *neigh.Table
	host   *host.Host
	ha     *ha.HA
	pokes  *pokes
	master atomic.Bool // the role is MASTER or STANDALONE

	mu    sync.Mutex // guards what follows: one change at a time
	ports []*portOf
	full  time.Time // since when the state table has been found full

	stepped time.Time // by a scheduler, which alone looks at it
	running atomic.Pointer[plan.Plan]
}

// portOf is an interface of the running node. It is never changed: a reload
// replaces it.
type portOf struct {
	plan   plan.Interface
	device link.Device // the trunk's, for a VLAN child
	own    bool        // device is this port's to close
	mac    packet.MAC
	mtu    int
	local  netip.Addr // link-local
}

// ProbeTiming is how a node probes for its own addresses unless told
// otherwise: quicker than RFC 5227 asks, so that a node that restarts is back
// within a second; a holder that answers later is found as a conflict.
func ProbeTiming() neigh.Timing {
	return neigh.Timing{Count: 3, Min: 150 * time.Millisecond, Max: 200 * time.Millisecond, Settle: 200 * time.Millisecond,
		DADCount: 1, DADWait: 500 * time.Millisecond}
}

// New builds and opens all that p asks for. On an error nothing stays open.
func New(p *plan.Plan, env Env) (*Node, error) {
	now := env.Clock.Now()
	if env.Probe == (neigh.Timing{}) {
		env.Probe = ProbeTiming()
	}
	env.Workers = max(env.Workers, 1)
	n := &Node{env: env, started: now, events: newEvents(env.Wake == nil), tap: capture.New(), pokes: newPokes(env)}
	n.running.Store(p)
	if err := n.open(p); err != nil {
		return nil, err
	}
	if err := n.join(now, p); err != nil {
		n.closeDevices()
		return nil, err
	}
	n.roleChanged(n.ha.Role())
	n.event(now, "info", "node", fmt.Sprintf("%s starts: %d interfaces, %d virtual addresses, %d rules",
		p.Doc.System.Hostname, len(p.Interfaces), len(p.VIPs), len(p.RuleRows)), nil)
	n.ha.SetMaintenance(now, n.maintained(now))
	return n, nil
}

// open attaches every device of the plan.
func (n *Node) open(p *plan.Plan) error {
	for i := range p.Interfaces {
		port, err := n.openPort(p, &p.Interfaces[i])
		if err != nil {
			n.closeDevices()
			return err
		}
		n.ports = append(n.ports, port)
	}
	return nil
}

// openPort attaches one interface, or finds the trunk of a VLAN child.
func (n *Node) openPort(p *plan.Plan, i *plan.Interface) (*portOf, error) {
	port := &portOf{plan: *i}
	if i.VLAN != 0 {
		trunk := n.port(i.Parent)
		if trunk == nil {
			return nil, fmt.Errorf("interface %s: its parent has no device yet; it must stand before it in the file", i.Name)
		}
		port.device = trunk.device
	} else {
		dev, err := n.env.Open(i)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", i.Name, err)
		}
		port.device, port.own = dev, true
	}
	info := port.device.Info()
	mac, err := n.macOf(p.Doc.System.Hostname, i, info)
	if err != nil {
		if port.own {
			err = errors.Join(err, port.device.Close())
		}
		return nil, fmt.Errorf("interface %s: %w", i.Name, err)
	}
	port.mac = mac
	port.mtu = info.MTU
	if i.MTU != 0 {
		port.mtu = i.MTU
	}
	port.local = linkLocal(i, mac)
	return port, nil
}

// linkLocal is an interface's link-local address: the one that is configured,
// else made from its MAC (RFC 4291, appendix A).
func linkLocal(i *plan.Interface, mac packet.MAC) netip.Addr {
	for _, a := range i.Addresses {
		if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
			return a.Addr()
		}
	}
	return packet.LinkLocal(mac)
}

func (n *Node) port(index uint16) *portOf {
	for _, p := range n.ports {
		if p.plan.Index == index {
			return p
		}
	}
	return nil
}

// closeDevices gives the devices back, the last opened first.
func (n *Node) closeDevices() {
	for i := len(n.ports) - 1; i >= 0; i-- {
		if n.ports[i].own {
			if err := n.ports[i].device.Close(); err != nil {
				n.event(n.env.Clock.Now(), "warn", "node", fmt.Sprintf("interface %s: close: %v", n.ports[i].plan.Name, err), nil)
			}
		}
	}
	n.ports = nil
}

// join makes the parts that live as long as the node, and connects them.
func (n *Node) join(now time.Time, p *plan.Plan) error {
	var err error
	n.neigh = neigh.New(neigh.Config{Now: now, Rand: n.env.Rand, Probe: n.env.Probe})
	states := p.States
	states.Key = [2]uint64{n.env.Rand(), n.env.Rand()}
	states.Creator, states.BootSeconds = p.HostID, uint32(now.Unix())
	n.filter, err = pf.New(pf.Config{States: states, HostID: p.HostID, Frags: norm.Config{}}, policy(p, 1), pf.Env{
		Rand: n.env.Rand, Log: n.logPacket,
		Holds:  func(a packet.Addr) bool { return n.router.Holds(a) },
		Master: n.master.Load,
	})
	if err != nil {
		return err
	}
	if n.host, err = n.newHost(); err != nil {
		return fmt.Errorf("guest stack: %w", err)
	}
	n.router, err = router.New(router.Config{Workers: n.env.Workers, Now: now}, router.Env{
		Filter: n.filter, Neigh: n.neigh, Tap: n.tap, Deliver: n.host.Deliver, HostRead: n.host.Read,
		Punt:       func(at time.Time, q *router.Punt) { n.ha.Receive(at, q) },
		NeighEvent: func(at time.Time, a *neigh.Action) { n.ha.NeighEvent(at, a) },
	})
	if err == nil {
		err = n.plugIn(p)
	}
	if err == nil {
		n.ha, err = ha.New(now, n.roles(p), ha.Env{
			Router: n.router, Neigh: n.neigh, Guest: n.host, Rand: n.env.Rand, Event: n.events.add,
			RoleChanged: n.roleChanged, Wake: n.pokes.roles,
		})
	}
	if err != nil {
		n.host.Close()
	}
	return err
}

// Close takes the node down without a farewell: what a power cut would do, but
// for giving the devices back. Nothing may step the node afterwards.
func (n *Node) Close() {
	n.host.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closeDevices()
	n.pokes.close()
	n.events.close()
}
