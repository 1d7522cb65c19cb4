package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/appliance/config"
	"tandem/appliance/plan"
	"tandem/appliance/status"
	"tandem/netstack/host"
	"tandem/netstack/link"
	"tandem/netstack/vnet"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden holds a value, as the document that others parse, against a file.
func golden(t *testing.T, name string, value any) {
	t.Helper()
	got, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; -update rewrites it. It is now\n%s", name, got)
	}
}

// single is the configuration of one node between a LAN and a WAN.
const single = `
[system]
hostname = "fw"
[interfaces.wan]
link = { driver = "tap", device = "x-wan" }
addresses = ["198.51.100.2/24"]
gateway = "198.51.100.1"
[interfaces.lan]
link = { driver = "tap", device = "x-lan" }
addresses = ["192.168.1.1/24", "192.168.1.2/24"]
`

// passLAN lets the LAN out.
const passLAN = `
[[rules]]
id = "out"
interface = "lan"
action = "pass"
source = "lan:net"
`

// shared is a VIP on the LAN.
const shared = `
[high_availability]
host_id = 1
[[virtual_ips]]
type = "carp"
interface = "lan"
address = "192.168.1.9/24"
vhid = 9
password = "lab-only"
`

// planOf reads a configuration as `run` does.
func planOf(t testing.TB, text string) *plan.Plan {
	t.Helper()
	doc, problems := config.Load(config.Config{Name: "test.toml", Text: []byte(text)})
	if doc != nil && !config.HasErrors(problems) {
		if p, more := plan.Build(doc); p != nil {
			return p
		} else {
			problems = append(problems, more...)
		}
	}
	t.Fatalf("%v", problems)
	return nil
}

// memory is a store that can be made to fail.
type memory struct {
	mu     sync.Mutex
	values map[string]string
	broken error
}

func (m *memory) Get(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[name]
	switch {
	case m.broken != nil:
		return nil, m.broken
	case !ok:
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return []byte(v), nil
}

func (m *memory) Put(name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	m.values[name] = string(value)
	return nil
}

// card is a device that remembers that it was closed.
type card struct {
	*vnet.Device
	closed *int
}

func (c card) Close() error { *c.closed++; return c.Device.Close() }

// scene is a node with a client on its LAN and a server on its WAN.
type scene struct {
	*vnet.World
	t              testing.TB
	node           *Node
	handle         *vnet.Handle
	client, server *vnet.Host
	store          *memory
	closed         int // devices
	cards          map[string]*vnet.Device
}

var (
	clientAddr = netip.MustParseAddr("192.168.1.50")
	serverAddr = netip.MustParseAddr("198.51.100.1")
)

// worldClock fits the world's clock to what a node asks for.
type worldClock struct{ *vnet.Clock }

func (w worldClock) AfterFunc(d time.Duration, f func()) host.Timer { return w.Clock.AfterFunc(d, f) }

// newScene makes the surroundings; the node is off.
func newScene(t testing.TB, cfg vnet.Config) *scene {
	t.Helper()
	s := &scene{World: vnet.NewWorld(cfg), t: t, store: &memory{values: map[string]string{}}, cards: map[string]*vnet.Device{}}
	t.Cleanup(func() {
		if s.node != nil {
			s.off()
		}
		s.World.Close()
	})
	wan, lan := s.Switch("wan"), s.Switch("lan")
	s.client = s.NewHost("client", vnet.HostConfig{MAC: link.MAC{2, 0, 0, 0, 0, 0x10}, TCP: true,
		Addresses: []netip.Prefix{netip.PrefixFrom(clientAddr, 24), netip.MustParsePrefix("2001:db8:2::50/64")},
		Gateway4:  netip.MustParseAddr("192.168.1.1"), Gateway6: netip.MustParseAddr("2001:db8:2::1")})
	s.server = s.NewHost("server", vnet.HostConfig{MAC: link.MAC{2, 0, 0, 0, 0, 0x20}, TCP: true,
		Addresses: []netip.Prefix{netip.PrefixFrom(serverAddr, 24), netip.MustParsePrefix("2001:db8:1::1/64")},
		Gateway4:  netip.MustParseAddr("198.51.100.2"), Gateway6: netip.MustParseAddr("2001:db8:1::2")})
	s.client.Attach(lan.Plug("client", vnet.Cable{Delay: 100 * time.Microsecond}))
	s.server.Attach(wan.Plug("server", vnet.Cable{Delay: 100 * time.Microsecond}))
	if _, err := s.server.ServeHTTP(80); err != nil {
		t.Fatal(err)
	}
	return s
}

// env is the world as the node sees it.
func (s *scene) env() Env {
	wake := func() {
		switch {
		case s.handle != nil:
			s.handle.Wake()
		case s.node != nil: // under Run, where a real device's descriptor would wake the worker
			s.node.pokes.data()
		}
	}
	return Env{
		Clock: worldClock{s.Clock("fw")}, Rand: s.Rand("fw"), Store: s.store, Wake: wake, Version: "test",
		Open: func(i *plan.Interface) (link.Device, error) {
			d := s.NewDevice("fw-"+i.Name, vnet.DeviceConfig{})
			d.Attach(s.Switch(i.Name).Plug("fw", vnet.Cable{Delay: 100 * time.Microsecond}))
			d.OnReadable(wake)
			d.OnLink(wake)
			s.cards[i.Name] = d
			return card{d, &s.closed}, nil
		},
	}
}

// boot switches a node on and waits until it uses its addresses.
func boot(t testing.TB, text string) *scene {
	t.Helper()
	s := newScene(t, vnet.Config{Seed: 1})
	s.on(text)
	s.run(time.Second)
	return s
}

func (s *scene) on(text string) {
	s.t.Helper()
	n, err := New(planOf(s.t, text), s.env())
	if err != nil {
		s.t.Fatal(err)
	}
	s.node = n
	s.handle = s.AddTask("fw", n)
}

func (s *scene) off() {
	if s.handle != nil {
		s.handle.Remove()
		s.handle = nil
	}
	s.node.Close()
	s.node = nil
}

func (s *scene) run(d time.Duration) {
	s.t.Helper()
	if err := s.RunFor(d); err != nil {
		s.t.Fatal(err)
	}
}

// connect opens one connection from the client to the server and says whether
// it was answered, and whom the server saw.
func (s *scene) connect() (answered bool, seen netip.AddrPort) {
	s.t.Helper()
	c := s.client.Connector(netip.AddrPortFrom(serverAddr, 80), time.Hour)
	s.run(500 * time.Millisecond)
	c.Stop()
	all := c.Connections(time.Time{}, time.Time{})
	return all[0].Outcome == vnet.Answered, all[0].SeenAs
}

// apply reloads the node.
func (s *scene) apply(text string) []string {
	s.t.Helper()
	changed, err := s.node.Apply(planOf(s.t, text))
	if err != nil {
		s.t.Fatal(err)
	}
	return changed
}

// said says whether a line of the node's log contains text.
func (s *scene) said(text string) bool {
	for _, e := range s.node.Events(time.Time{}) {
		if strings.Contains(e.Message, text) {
			return true
		}
	}
	return false
}

// rule finds a row of `rules list`.
func (s *scene) rule(id string) status.Rule {
	s.t.Helper()
	for _, r := range s.node.Rules(true) {
		if r.ID == id {
			return r
		}
	}
	s.t.Fatalf("there is no rule %q", id)
	return status.Rule{}
}

var errDisk = errors.New("no space left")
