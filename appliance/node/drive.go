package node

import (
	"time"

	"tandem/appliance/status"
)

// linkEvery is how often the links are looked at.
const linkEvery = 50 * time.Millisecond

// idleMax is the longest sleep of a loop: states expire, links change.
const idleMax = 100 * time.Millisecond

// Step does all that is due at a moment, for a scheduler that drives the whole
// node from one goroutine. It must not be mixed with Run.
func (n *Node) Step(now time.Time) {
	n.stepped = now
	n.lookAtLinks(now)
	n.sumUp(now)
	for {
		n.ha.Step(now)
		worked := false
		for i := range n.env.Workers {
			worked = n.router.Worker(i).Step(now) || worked
		}
		if !worked {
			break
		}
	}
	n.ha.Step(now)
}

// Deadline is when a scheduler must call Step although nothing has woken the
// node.
func (n *Node) Deadline() time.Time {
	next := n.stepped.Add(time.Second)
	for _, d := range []time.Time{n.ha.Deadline(), n.router.Deadline()} {
		if !d.IsZero() && d.Before(next) {
			next = d
		}
	}
	return next
}

// Pump lets the guest stack do everything that is ready, in virtual time.
func (n *Node) Pump() { n.host.Pump() }

// lookAtLinks tells the roles which links are up; they know what that changes.
func (n *Node) lookAtLinks(now time.Time) {
	n.mu.Lock()
	ports := n.ports
	n.mu.Unlock()
	for _, p := range ports {
		n.ha.SetLink(now, p.plan.Index, p.device.Up())
	}
}

// roleChanged keeps the role where the filter can ask for it at no cost.
func (n *Node) roleChanged(role string) {
	n.master.Store(role == status.RoleMaster || role == status.RoleStandalone)
}

// Leave begins the farewell of a node that stops: its peers take over at once.
// The caller goes on stepping until Left.
func (n *Node) Leave(now time.Time) {
	n.event(now, "info", "node", n.currentPlan().Doc.System.Hostname+" leaves", nil)
	n.ha.Leave(now)
}

// Left says that nothing arrives for the node's virtual addresses any more.
func (n *Node) Left() bool { return !n.ha.Draining() }
