package lab

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"tandem/appliance/config"
	"tandem/appliance/plan"
)

// topologyCheck finds what only shows between the entries of a topology.
type topologyCheck struct {
	t        *Topology
	file     *config.File
	dir      string
	problems []config.Problem
}

func (c *topologyCheck) errorf(key, format string, args ...any) {
	c.problems = append(c.problems, c.file.Problem(config.Error, key, fmt.Sprintf(format, args...)))
}

func (c *topologyCheck) all() {
	for n := range c.t.Appliances {
		c.machine(&c.t.Appliances[n])
	}
	for n := range c.t.Hosts {
		c.host(&c.t.Hosts[n])
	}
	for n := range c.t.Traffic {
		c.traffic(fmt.Sprintf("traffic[%d]", n), &c.t.Traffic[n])
	}
	for n := range c.t.Events {
		c.event(fmt.Sprintf("events[%d]", n), &c.t.Events[n])
	}
	for n := range c.t.Expect {
		c.expected(fmt.Sprintf("expect[%d]", n), &c.t.Expect[n])
	}
	slices.SortStableFunc(c.t.Events, func(a, b topologyEvent) int { return cmp.Compare(a.At.Duration, b.At.Duration) })
	slices.SortStableFunc(c.t.Expect, func(a, b topologyExpected) int { return cmp.Compare(a.To.Duration, b.To.Duration) })
}

// known reports a name that is not among those there are.
func (c *topologyCheck) known(key, what, name string, names []string) bool {
	if slices.Contains(names, name) {
		return true
	}
	c.errorf(key, "there is no %s %q; there are %s", what, name, strings.Join(names, ", "))
	return false
}

func (t *Topology) switchNames() (names []string) {
	for _, s := range t.Switches {
		names = append(names, s.Name)
	}
	return names
}

func (t *Topology) machineNames() (names []string) {
	for _, m := range t.Appliances {
		names = append(names, m.Name)
	}
	return names
}

func (t *Topology) hostNames() (names []string) {
	for _, h := range t.Hosts {
		names = append(names, h.Name)
	}
	return names
}

// machine reads a node's configuration and finds the switch of each interface.
func (c *topologyCheck) machine(m *topologyMachine) {
	key := "appliances." + m.Name
	if (m.Config == "") == (m.Inline == "") {
		c.errorf(key, `give either config = "FILE" or inline = """TEXT"""`)
		return
	}
	m.file, m.text = key+".inline", []byte(m.Inline)
	if m.Config != "" {
		m.file = m.Config
		if !path.IsAbs(m.file) {
			m.file = path.Join(c.dir, m.file)
		}
		var err error
		if m.text, err = c.t.read(m.file); err != nil {
			c.errorf(key+".config", "read %s: %v", m.file, err)
			return
		}
	} else {
		m.file = path.Join(c.dir, m.file)
	}
	p, problems := m.plan(c.t.read)
	c.problems = append(c.problems, problems...)
	if p == nil {
		return
	}
	for n, cable := range m.Cables {
		c.known(fmt.Sprintf("%s.cables[%d].switch", key, n), "switch", cable.Switch, c.t.switchNames())
		if !slices.ContainsFunc(p.Interfaces, func(i plan.Interface) bool { return i.Name == cable.Interface }) {
			c.errorf(fmt.Sprintf("%s.cables[%d].interface", key, n), "%s has no interface %q", m.file, cable.Interface)
		}
	}
	for _, i := range p.Interfaces {
		if i.VLAN != 0 {
			continue
		}
		to := i.Name
		if i.Link.Driver == config.DriverLab {
			to = i.Link.Switch
		}
		if at := slices.IndexFunc(m.Cables, func(l cableTo) bool { return l.Interface == i.Name }); at >= 0 {
			to = m.Cables[at].Switch
		}
		if c.known(key, "switch for interface "+i.Name+", called", to, c.t.switchNames()) {
			m.plugs = append(m.plugs, cableTo{i.Name, to})
		}
	}
}

// plan builds what the node is to run, as `appliance run` would.
func (m *topologyMachine) plan(read func(string) ([]byte, error)) (*plan.Plan, []config.Problem) {
	doc, problems := config.Load(config.Config{Name: m.file, Text: m.text, Read: read})
	if doc == nil || config.HasErrors(problems) {
		return nil, problems
	}
	p, more := plan.Build(doc)
	return p, append(problems, more...)
}

func (c *topologyCheck) host(h *topologyHost) {
	c.known("hosts."+h.Name+".switch", "switch", h.Switch, c.t.switchNames())
	if slices.Contains(c.t.machineNames(), h.Name) {
		c.errorf("hosts."+h.Name, "an appliance has that name too; give one of them another")
	}
}

func (c *topologyCheck) traffic(key string, t *topologyTraffic) {
	c.known(key+".from", "host", t.From, c.t.hostNames())
	c.known(key+".kind", "kind of traffic", t.Kind, []string{kindPing, kindUDP, kindConnections})
	switch {
	case t.Kind == kindPing && t.To.Port() != 0:
		c.errorf(key+".to", "a ping has no port; write %v", t.To.Addr())
	case t.Kind != kindPing && t.To.Port() == 0:
		c.errorf(key+".to", "%s needs a port; write it as %v", t.Kind, netip.AddrPortFrom(t.To.Addr(), 80))
	}
	if t.Every.Duration <= 0 {
		c.errorf(key+".every", "must be above zero")
	}
	if t.SeenAs.IsValid() && t.Kind != kindConnections {
		c.errorf(key+".seen_as", "only connections tell what their server saw")
	}
}

func (c *topologyCheck) expected(key string, e *topologyExpected) {
	if e.Master != "" {
		c.known(key+".master", "appliance", e.Master, c.t.machineNames())
	}
	if e.To.Duration <= e.From.Duration+lookBack {
		c.errorf(key+".to", "must be more than %v after from", lookBack)
	}
	for n, a := range e.Alarms {
		c.known(fmt.Sprintf("%s.alarms[%d].appliance", key, n), "appliance", a.Appliance, c.t.machineNames())
	}
}
