package lab

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"tandem/appliance/config"
	"tandem/appliance/node"
	"tandem/appliance/plan"
	"tandem/appliance/status"
	"tandem/examples"
	"tandem/netstack/host"
	"tandem/netstack/link"
	"tandem/netstack/vnet"
)

// Addresses of the reference pair's surroundings.
var (
	serverAddr = netip.MustParsePrefix("198.51.100.1/24")
	clientAddr = netip.MustParsePrefix("192.168.1.50/24")
	lanVIP     = netip.MustParseAddr("192.168.1.1")
	wanVIP     = netip.MustParseAddr("198.51.100.200")
)

const (
	webPort     = 80   // on the server, and on the client behind the forward
	forwardPort = 8080 // on the WAN VIP
	wireDelay   = 200 * time.Microsecond
)

// machine is a box with a power button: a node, its disk and its cables.
type machine struct {
	name   string
	file   string // in examples
	world  *vnet.World
	jacks  map[string]*vnet.Jack // by interface
	disk   *disk
	node   *node.Node
	handle *vnet.Handle
	ports  []*vnet.Device
	event  func(machine string, e status.Event)
}

// disk is a node's store: it outlives crashes, but only what was put.
type disk struct{ values map[string][]byte }

// Get implements node.Store.
func (d *disk) Get(name string) ([]byte, error) {
	v, ok := d.values[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return v, nil
}

// Put implements node.Store.
func (d *disk) Put(name string, value []byte) error {
	d.values[name] = append([]byte(nil), value...)
	return nil
}

// worldClock fits the world's clock to what a node asks for.
type worldClock struct{ c *vnet.Clock }

func (w worldClock) Now() time.Time { return w.c.Now() }

func (w worldClock) AfterFunc(d time.Duration, f func()) host.Timer { return w.c.AfterFunc(d, f) }

// loadPlan reads an example as `appliance run` would.
func loadPlan(file string) (*plan.Plan, error) {
	text, err := examples.Files.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("example %s: %w", file, err)
	}
	doc, problems := config.Load(config.Config{Name: file, Text: text, Read: examples.Files.ReadFile})
	var p *plan.Plan
	if doc != nil && !hasErrors(problems) {
		var more []config.Problem
		p, more = plan.Build(doc)
		problems = append(problems, more...)
	}
	if hasErrors(problems) {
		var b strings.Builder
		for _, q := range problems {
			fmt.Fprintln(&b, q)
		}
		return nil, fmt.Errorf("example %s:\n%s", file, b.String())
	}
	return p, nil
}

func hasErrors(problems []config.Problem) bool {
	for _, p := range problems {
		if p.Severity == config.Error {
			return true
		}
	}
	return false
}

// powerOn boots the machine: a node from its file and its disk.
func (m *machine) powerOn() error {
	p, err := loadPlan(m.file)
	if err != nil {
		return err
	}
	m.ports = nil
	var n *node.Node
	wake := func() {
		if m.handle != nil {
			m.handle.Wake()
		}
	}
	n, err = node.New(p, node.Env{
		Clock: worldClock{m.world.Clock(m.name)}, Rand: m.world.Rand(m.name), Store: m.disk, Wake: wake, Version: "lab",
		Open: func(i *plan.Interface) (link.Device, error) {
			jack, ok := m.jacks[i.Name]
			if !ok {
				return nil, fmt.Errorf("the lab has no switch for it")
			}
			d := m.world.NewDevice(m.name+"-"+i.Name, vnet.DeviceConfig{
				Features: link.Features{Checksum: true, TCP4: true, TCP6: true}})
			d.Attach(jack)
			d.OnReadable(wake)
			d.OnLink(wake)
			m.ports = append(m.ports, d)
			return d, nil
		},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	m.node = n
	n.SetSink(func(e status.Event) { m.event(m.name, e) })
	m.handle = m.world.AddTask(m.name, n)
	return nil
}

// cut takes the power away between two instructions: nothing is said, nothing
// is closed, only what was on the disk is left.
func (m *machine) cut() {
	m.handle.Remove()
	m.handle = nil
	for _, p := range m.ports {
		p.SetPower(false)
	}
	m.node.Close()
	m.node = nil
	for _, j := range m.jacks {
		j.Detach()
	}
}

// shutDown is what SIGTERM does: farewell, draining, then off.
func (m *machine) shutDown() {
	n := m.node
	n.Leave(m.world.Clock(m.name).Now())
	m.handle.Wake()
	m.awaitLeft(n, 0)
}

// drainStep and drainSteps bound the wait for a farewell to be over.
const (
	drainStep  = 10 * time.Millisecond
	drainSteps = 150
)

func (m *machine) awaitLeft(n *node.Node, step int) {
	m.world.After(drainStep, func() {
		if m.node != n {
			return
		}
		if n.Left() || step >= drainSteps {
			m.cut()
			return
		}
		m.awaitLeft(n, step+1)
	})
}

// cluster is the reference pair and its surroundings.
type cluster struct {
	world              *vnet.World
	switches           []*vnet.Switch
	primary, secondary *machine
	client, server     *vnet.Host
	web, inner         *vnet.Server
	ping               *vnet.Pinger
	out, in            *vnet.Connector
}

// newCluster builds switches, hosts and machines; everything is off but the hosts.
func newCluster(cfg vnet.Config, event func(string, status.Event)) (*cluster, error) {
	c := &cluster{world: vnet.NewWorld(cfg)}
	cable := vnet.Cable{Delay: wireDelay}
	byName := make(map[string]*vnet.Switch)
	for _, name := range []string{"wan", "lan", "sync"} {
		byName[name] = c.world.Switch(name)
		c.switches = append(c.switches, byName[name])
	}
	machine := func(name, file string) *machine {
		m := &machine{name: name, file: file, world: c.world, jacks: make(map[string]*vnet.Jack),
			disk: &disk{values: make(map[string][]byte)}, event: event}
		for _, sw := range c.switches {
			m.jacks[sw.Name()] = sw.Plug(name, cable)
		}
		return m
	}
	c.primary = machine("fw-primary", "primary.toml")
	c.secondary = machine("fw-secondary", "secondary.toml")
	c.client = c.world.NewHost("client", vnet.HostConfig{MAC: link.MAC{2, 0xc1, 0, 0, 0, 1}, TCP: true,
		Addresses: []netip.Prefix{clientAddr}, Gateway4: lanVIP})
	c.server = c.world.NewHost("server", vnet.HostConfig{MAC: link.MAC{2, 0x5e, 0, 0, 0, 1}, TCP: true,
		Addresses: []netip.Prefix{serverAddr}})
	c.client.Attach(byName["lan"].Plug("client", cable))
	c.server.Attach(byName["wan"].Plug("server", cable))
	var err error
	if c.web, err = c.server.ServeHTTP(webPort); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if c.inner, err = c.client.ServeHTTP(webPort); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return c, nil
}

// Traffic that runs all the time.
const (
	pingEvery    = 10 * time.Millisecond
	connectEvery = 50 * time.Millisecond
)

// startTraffic begins the ping and the connections, both ways.
func (c *cluster) startTraffic() error {
	var err error
	if c.ping, err = c.client.Pinger(serverAddr.Addr(), pingEvery); err != nil {
		return err
	}
	c.out = c.client.Connector(netip.AddrPortFrom(serverAddr.Addr(), webPort), connectEvery)
	c.in = c.server.Connector(netip.AddrPortFrom(wanVIP, forwardPort), connectEvery)
	return nil
}

// close takes everything down.
func (c *cluster) close() {
	for _, m := range []*machine{c.primary, c.secondary} {
		if m.node != nil {
			m.cut()
		}
	}
	c.world.Close()
}
