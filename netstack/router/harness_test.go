package router

import (
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
	"tandem/netstack/route"
	"tandem/netstack/vnet"
)

// Interfaces of the router under test.
const (
	wan = 1
	lan = 2
)

var (
	wanAddr  = netip.MustParseAddr("198.51.100.2")
	lanAddr  = netip.MustParseAddr("192.168.1.2")
	wanAddr6 = netip.MustParseAddr("2001:db8:1::2")
	lanAddr6 = netip.MustParseAddr("2001:db8:2::2")
)

// rig is a router between a LAN and a WAN switch, with a host on each.
type rig struct {
	*vnet.World
	router         *Router
	filter         *pf.Filter
	neigh          *neigh.Table
	handle         *vnet.Handle
	client, server *vnet.Host
	wanSw, lanSw   *vnet.Switch
	ports          []PortConfig
	punts          []Punt
	delivered      [][]byte
}

// rigConfig is what a test may choose.
type rigConfig struct {
	Rules  []rule.Rule
	NAT    nat.Config
	Norm   []norm.Policy
	WANMTU int
	States int
	Device link.Features
	Cable  vnet.Cable
}

// passLAN lets the LAN out, of both families.
func passLAN() []rule.Rule {
	return []rule.Rule{{ID: "lan", Action: rule.Pass, Quick: true, Direction: rule.In, Interfaces: []uint16{lan},
		Source: rule.AnyAddr(), Destination: rule.AnyAddr()}}
}

// masquerade translates the LAN to the WAN address.
func masquerade() nat.Config {
	return nat.Config{Outbound: []nat.Outbound{{ID: "out", Interfaces: []uint16{wan}, Translation: wanAddr, Match: nat.Match{
		Source: rule.AddrMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}}, Destination: rule.AnyAddr()}}}}
}

func (c *rigConfig) policy(t testing.TB, gen uint32) *pf.Policy {
	t.Helper()
	rules, err := rule.Compile(c.Rules)
	if err != nil {
		t.Fatal(err)
	}
	set, err := nat.Compile(c.NAT)
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]uint64, len(c.Rules))
	n := c.Norm
	if n == nil {
		n = []norm.Policy{{AllowOptions: true}, {AllowOptions: true}, {AllowOptions: true}}
	}
	return &pf.Policy{Gen: gen, Rules: rules, RuleKeys: keys, NAT: set, Norm: n}
}

func newRig(t testing.TB, cfg rigConfig) *rig {
	t.Helper()
	r := &rig{World: vnet.NewWorld(vnet.Config{Seed: 1})}
	t.Cleanup(r.Close)
	now := r.Now()
	random := r.Rand("router")
	if cfg.States == 0 {
		cfg.States = 10000
	}
	if cfg.WANMTU == 0 {
		cfg.WANMTU = 1500
	}
	r.neigh = neigh.New(neigh.Config{Now: now, Rand: random})
	var err error
	r.filter, err = pf.New(pf.Config{States: state.Config{Max: cfg.States}, HostID: 1}, cfg.policy(t, 1), pf.Env{
		Rand: random, Holds: func(a packet.Addr) bool { return r.router.Holds(a) }, Master: func() bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	r.router, err = New(Config{Workers: 1, Now: now}, Env{Filter: r.filter, Neigh: r.neigh,
		Deliver: func(_ uint16, b []byte) bool {
			r.delivered = append(r.delivered, append([]byte(nil), b...))
			return true
		},
		HostRead:   func([]*link.Frame, []uint16) int { return 0 },
		Punt:       func(_ time.Time, p *Punt) { r.punts = append(r.punts, *p) },
		NeighEvent: func(time.Time, *neigh.Action) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.plug(t, &cfg)
	r.handle = r.AddTask("router", rigTask{r})
	return r
}

// rigTask steps the router.
type rigTask struct{ r *rig }

func (k rigTask) Step(now time.Time) {
	for k.r.router.Worker(0).Step(now) {
	}
}

func (k rigTask) Deadline() time.Time { return k.r.router.Deadline() }

// plug makes switches, hosts, devices, addresses and routes.
func (r *rig) plug(t testing.TB, cfg *rigConfig) {
	t.Helper()
	r.wanSw, r.lanSw = r.Switch("wan"), r.Switch("lan")
	prefix := netip.MustParsePrefix
	r.client = r.NewHost("client", vnet.HostConfig{MAC: link.MAC{2, 0, 0, 0, 0, 0x10}, TCP: true,
		Addresses: []netip.Prefix{prefix("192.168.1.50/24"), prefix("2001:db8:2::50/64")}, Gateway4: lanAddr, Gateway6: lanAddr6})
	r.server = r.NewHost("server", vnet.HostConfig{MAC: link.MAC{2, 0, 0, 0, 0, 0x20}, TCP: true, MTU: cfg.WANMTU,
		Addresses: []netip.Prefix{prefix("198.51.100.1/24"), prefix("2001:db8:1::1/64")}, Gateway4: wanAddr, Gateway6: wanAddr6})
	r.client.Attach(r.lanSw.Plug("client", cfg.Cable))
	r.server.Attach(r.wanSw.Plug("server", cfg.Cable))
	var list []Address
	for i, sw := range []*vnet.Switch{r.wanSw, r.lanSw} {
		p := PortConfig{Index: uint16(i + 1), Name: sw.Name(), MAC: link.MAC{2, 0, 0, 0, 1, byte(i + 1)}, MTU: 1500}
		own := []netip.Addr{wanAddr, wanAddr6}
		if i == 1 {
			own = []netip.Addr{lanAddr, lanAddr6}
		} else {
			p.MTU = cfg.WANMTU
		}
		p.Source4, p.Source6 = packet.AddrFrom(own[0]), packet.AddrFrom(own[1])
		d := r.NewDevice("router-"+sw.Name(), vnet.DeviceConfig{Features: cfg.Device})
		d.Attach(sw.Plug("router", vnet.Cable{}))
		d.OnReadable(func() { r.handle.Wake() })
		p.Device = d
		r.ports = append(r.ports, p)
		local := packet.LinkLocal(packet.MAC(p.MAC))
		r.neigh.AddPort(p.Index, neigh.PortConfig{MAC: packet.MAC(p.MAC), LinkLocal: local,
			Networks: []netip.Prefix{netip.PrefixFrom(own[0], 24).Masked(), netip.PrefixFrom(own[1], 64).Masked()}})
		var answered []neigh.Own
		for _, a := range append(own, local) {
			answered = append(answered, neigh.Own{Addr: a, MAC: packet.MAC(p.MAC)})
			list = append(list, Address{Addr: packet.AddrFrom(a), Iface: p.Index, Kind: Own})
		}
		r.neigh.SetOwn(r.Now(), p.Index, answered, nil)
	}
	if err := r.router.SetPorts(r.ports); err != nil {
		t.Fatal(err)
	}
	table, err := route.Build(route.Config{Connected: []route.Network{
		{Prefix: prefix("198.51.100.0/24"), Iface: wan}, {Prefix: prefix("192.168.1.0/24"), Iface: lan},
		{Prefix: prefix("2001:db8:1::/64"), Iface: wan}, {Prefix: prefix("2001:db8:2::/64"), Iface: lan}}})
	if err != nil {
		t.Fatal(err)
	}
	r.router.SetRoutes(table)
	r.router.SetAddresses(Addresses{List: list})
}

func (r *rig) run(t testing.TB, d time.Duration) {
	t.Helper()
	if err := r.RunFor(d); err != nil {
		t.Fatal(err)
	}
}
