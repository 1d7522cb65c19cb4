package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tandem/appliance/status"
	"tandem/netstack/link"
	"tandem/netstack/vnet"
)

// cluster is a topology's world.
type cluster struct {
	topology *Topology
	world    *vnet.World
	switches []*vnet.Switch
	machines []*machine
	hosts    map[string]*vnet.Host
	cables   map[string]*vnet.Jack // of hosts
	traffic  []traffic
}

// traffic is some that runs.
type traffic struct {
	spec    *topologyTraffic
	ping    *vnet.Pinger    // of pings and UDP
	connect *vnet.Connector // of connections
}

// newCluster builds switches, hosts and machines; everything is off but the
// switches and hosts.
func newCluster(t *Topology, cfg vnet.Config, event func(string, status.Event)) (*cluster, error) {
	c := &cluster{topology: t, world: vnet.NewWorld(cfg), hosts: make(map[string]*vnet.Host), cables: make(map[string]*vnet.Jack)}
	for n := range t.Switches {
		c.switches = append(c.switches, c.world.Switch(t.Switches[n].Name))
	}
	for n := range t.Appliances {
		spec := &t.Appliances[n]
		m := &machine{name: spec.Name, spec: spec, read: t.read, world: c.world, jacks: make(map[string]*vnet.Jack),
			disk: &disk{values: make(map[string][]byte)}, event: event}
		for _, p := range spec.plugs {
			m.jacks[p.Interface] = c.plug(p.Switch, m.portName(p))
		}
		c.machines = append(c.machines, m)
	}
	for n := range t.Hosts {
		if err := c.addHost(n, &t.Hosts[n]); err != nil {
			c.world.Close()
			return nil, err
		}
	}
	return c, nil
}

// portName is what the switch calls a machine's cable: the machine's name,
// unless it has several on that switch.
func (m *machine) portName(p cableTo) string {
	if slices.ContainsFunc(m.spec.plugs, func(o cableTo) bool { return o.Switch == p.Switch && o != p }) {
		return m.name + "-" + p.Interface
	}
	return m.name
}

// plug puts a cable of a switch's kind into it.
func (c *cluster) plug(sw, name string) *vnet.Jack {
	at := slices.IndexFunc(c.topology.Switches, func(s topologySwitch) bool { return s.Name == sw })
	return c.switches[at].Plug(name, c.topology.Switches[at].cable())
}

// addHost switches a host on, with the services it offers.
func (c *cluster) addHost(n int, spec *topologyHost) error {
	var own []netip.Prefix
	for _, p := range spec.Addresses {
		own = append(own, p.Prefix)
	}
	h := c.world.NewHost(spec.Name, vnet.HostConfig{MAC: link.MAC{2, 0xc1, 0, 0, 0, byte(n + 1)}, TCP: true, MTU: spec.MTU,
		Addresses: own, Gateway4: spec.Gateway.Addr, Gateway6: spec.Gateway6.Addr})
	c.hosts[spec.Name] = h
	c.cables[spec.Name] = c.plug(spec.Switch, spec.Name)
	h.Attach(c.cables[spec.Name])
	for _, s := range spec.Serves {
		serve := map[string]func(uint16) (*vnet.Server, error){"http": h.ServeHTTP, "echo": h.EchoTCP, "echo-udp": h.EchoUDP}[s.kind]
		if _, err := serve(s.port); err != nil {
			return fmt.Errorf("host %s: %s:%d: %w", spec.Name, s.kind, s.port, err)
		}
	}
	return nil
}

// begin starts some traffic.
func (c *cluster) begin(spec *topologyTraffic) error {
	t := traffic{spec: spec}
	h := c.hosts[spec.From]
	var err error
	switch spec.Kind {
	case kindPing:
		t.ping, err = h.Pinger(spec.To.Addr(), spec.Every.Duration)
	case kindUDP:
		t.ping, err = h.UDPPinger(spec.To.AddrPort, spec.Every.Duration)
	default:
		t.connect = h.Connector(spec.To.AddrPort, spec.Every.Duration)
	}
	if err != nil {
		return fmt.Errorf("traffic %q: %w", spec.Name, err)
	}
	c.traffic = append(c.traffic, t)
	return nil
}

// What a topology names is there: it was checked.

func (c *cluster) machine(name string) *machine {
	at := slices.IndexFunc(c.machines, func(m *machine) bool { return m.name == name })
	if at < 0 {
		return nil
	}
	return c.machines[at]
}

func (c *cluster) switchOf(name string) *vnet.Switch {
	return c.switches[slices.IndexFunc(c.switches, func(s *vnet.Switch) bool { return s.Name() == name })]
}

// jack is the cable of "MACHINE.INTERFACE" or of a host.
func (c *cluster) jack(name string) *vnet.Jack {
	if j, ok := c.cables[name]; ok {
		return j
	}
	dot := strings.LastIndexByte(name, '.')
	return c.machine(name[:dot]).jacks[name[dot+1:]]
}

func (c *cluster) powerOn(name string) error {
	if m := c.machine(name); m != nil {
		return m.powerOn()
	}
	if h := c.hosts[name]; h != nil {
		h.SetPower(true)
	} else {
		c.switchOf(name).SetPower(true)
	}
	return nil
}

func (c *cluster) powerOff(name string) error {
	m, h := c.machine(name), c.hosts[name]
	switch {
	case m != nil && m.node == nil:
		return fmt.Errorf("%s is off already", name)
	case m != nil:
		m.shutDown()
	case h != nil:
		h.SetPower(false)
	default:
		c.switchOf(name).SetPower(false)
	}
	return nil
}

// close takes everything down.
func (c *cluster) close() {
	for _, m := range c.machines {
		if m.node != nil {
			m.cut()
		}
	}
	c.world.Close()
}
