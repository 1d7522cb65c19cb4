package lab

import (
	"fmt"
	"io/fs"
	"time"

	"tandem/appliance/node"
	"tandem/appliance/plan"
	"tandem/appliance/status"
	"tandem/netstack/host"
	"tandem/netstack/link"
	"tandem/netstack/vnet"
)

// machine is a box with a power button: a node, its disk and its cables.
type machine struct {
	name   string
	spec   *topologyMachine
	read   func(string) ([]byte, error)
	world  *vnet.World
	jacks  map[string]*vnet.Jack // by interface
	disk   *disk
	node   *node.Node // nil: it is off
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

// powerOn boots the machine: a node from its file and its disk.
func (m *machine) powerOn() error {
	if m.node != nil {
		return fmt.Errorf("%s is on already", m.name)
	}
	p, problems := m.spec.plan(m.read)
	if p == nil {
		return fmt.Errorf("%s: %v", m.name, problems) // loaded before
	}
	m.ports = nil
	wake := func() {
		if m.handle != nil {
			m.handle.Wake()
		}
	}
	n, err := node.New(p, node.Env{
		Clock: worldClock{m.world.Clock(m.name)}, Rand: m.world.Rand(m.name), Store: m.disk, Wake: wake, Version: "lab",
		Open: func(i *plan.Interface) (link.Device, error) {
			jack, ok := m.jacks[i.Name]
			if !ok {
				return nil, fmt.Errorf("the lab has no switch for it")
			}
			d := m.world.NewDevice(m.name+"-"+i.Name, vnet.DeviceConfig{MTU: i.MTU,
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
