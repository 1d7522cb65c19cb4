package node

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"tandem/appliance/plan"
	"tandem/netstack/neigh"
	"tandem/netstack/pf"
	"tandem/netstack/route"
	"tandem/netstack/router"
	"tandem/sync/carp"
)

// maintenanceName is where maintenance mode is kept over a restart.
const maintenanceName = "maintenance"

// currentPlan is what runs now.
func (n *Node) currentPlan() *plan.Plan { return n.running.Load() }

// interfaces are those of the running plan.
func (n *Node) interfaces() []plan.Interface {
	if p := n.running.Load(); p != nil {
		return p.Interfaces
	}
	return nil
}

// prepared is a change that only needs to be put in force; nothing in it can fail.
type prepared struct {
	plan   *plan.Plan
	policy *pf.Policy
	routes *route.Table
}

// Apply changes the running node to another plan: rules, translations, routes
// and virtual addresses, all or nothing. It says in words what differed. An
// interface that came, went or is attached otherwise needs a restart and is an
// error; the running node stays untouched then.
func (n *Node) Apply(p *plan.Plan) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.currentPlan()
	changed := plan.Diff(old, p)
	if len(changed) == 0 {
		return nil, nil
	}
	next, err := n.prepare(old, p)
	if err != nil {
		return nil, err
	}
	now := n.env.Clock.Now()
	n.commit(now, next)
	n.event(now, "info", "node", "configuration applied: "+strings.Join(changed, "; "), nil)
	return changed, nil
}

// prepare does everything of a change that can fail.
func (n *Node) prepare(old, p *plan.Plan) (*prepared, error) {
	if err := sameLinks(old, p); err != nil {
		return nil, err
	}
	routes, err := route.Build(p.Routes)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	if _, err := carp.NewGroup(p.CARP, n.env.Rand); err != nil {
		return nil, fmt.Errorf("virtual addresses: %w", err)
	}
	return &prepared{plan: p, routes: routes, policy: policy(p, n.filter.Generation()+1)}, nil
}

// sameLinks refuses a change of how interfaces are attached.
func sameLinks(old, p *plan.Plan) error {
	if len(old.Interfaces) != len(p.Interfaces) {
		return fmt.Errorf("interfaces came or went: a restart is needed for that")
	}
	for i := range p.Interfaces {
		a, b := &old.Interfaces[i], &p.Interfaces[i]
		if a.Index != b.Index || a.Name != b.Name || a.Link != b.Link || a.MAC != b.MAC || a.MTU != b.MTU {
			return fmt.Errorf("interface %s is attached otherwise than before: a restart is needed for that", b.Name)
		}
	}
	return nil
}

// commit puts a prepared change in force.
func (n *Node) commit(now time.Time, c *prepared) {
	states := c.plan.States
	states.Creator = c.plan.HostID
	if err := n.filter.States().SetConfig(states); err != nil {
		n.event(now, "error", "node", err.Error(), nil) // checked by the plan
	}
	ports := make([]*portOf, len(n.ports))
	for i, old := range n.ports {
		port := *old
		port.plan = c.plan.Interfaces[i]
		port.local = linkLocal(&port.plan, port.mac)
		ports[i] = &port
	}
	n.ports = ports
	for _, port := range n.ports {
		if !port.device.Info().Layer3 {
			n.neigh.AddPort(port.plan.Index, neigh.PortConfig{MAC: port.mac, LinkLocal: port.local, Networks: n.networks(c.plan, port)})
		}
	}
	var cfgs []router.PortConfig
	for _, port := range n.ports {
		cfgs = append(cfgs, port.routerConfig())
	}
	if err := n.router.SetPorts(cfgs); err != nil {
		n.event(now, "error", "node", err.Error(), nil) // the links are the same
	}
	n.filter.SetPolicy(c.policy)
	n.running.Store(c.plan) // not before: its rules take over counters
	n.setRoutes(c.routes)
	if err := n.ha.SetConfig(now, n.roles(c.plan)); err != nil {
		n.event(now, "error", "node", err.Error(), nil) // prepared above
	}
	n.pokes.roles()
	n.pokes.data()
}

// SetEnabled switches CARP on or off until the next restart.
func (n *Node) SetEnabled(on bool) {
	n.ha.SetEnabled(n.env.Clock.Now(), on)
	n.pokes.roles()
}

// ResetDemotion forgets every demotion that is not a fact.
func (n *Node) ResetDemotion() {
	n.ha.ResetDemotion(n.env.Clock.Now())
	n.pokes.roles()
}

// SetMaintenance switches persistent maintenance mode. It fails, and changes
// nothing, if the choice cannot be kept.
func (n *Node) SetMaintenance(on bool) error {
	value := "off"
	if on {
		value = "on"
	}
	if err := n.env.Store.Put(maintenanceName, []byte(value)); err != nil {
		return fmt.Errorf("keep maintenance mode: %w", err)
	}
	n.ha.SetMaintenance(n.env.Clock.Now(), on)
	n.pokes.roles()
	return nil
}

// maintained says whether maintenance mode was on when the node last ran. A
// node that cannot tell is a full member of its cluster, and says so.
func (n *Node) maintained(now time.Time) bool {
	value, err := n.env.Store.Get(maintenanceName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.event(now, "error", "node", fmt.Sprintf("read whether maintenance mode was on: %v; it is off", err), nil)
	}
	return err == nil && string(value) == "on"
}
