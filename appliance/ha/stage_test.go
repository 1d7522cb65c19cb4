package ha

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
	"tandem/netstack/route"
	"tandem/netstack/router"
	"tandem/netstack/vnet"
	"tandem/sync/carp"
)

// Interfaces of the nodes under test; the third has no VIP.
const (
	wan      = 1
	lan      = 2
	syncLink = 3
)

const password = "lab-only"

var (
	names  = []string{wan: "wan", lan: "lan", syncLink: "sync"}
	wanVIP = netip.MustParsePrefix("198.51.100.200/24")
	lanVIP = netip.MustParsePrefix("192.168.1.1/24")
)

// stage is three switches with nodes on them: real routers, neighbour machines
// and roles, on a virtual Ethernet in virtual time.
type stage struct {
	*vnet.World
	t        *testing.T
	switches map[string]*vnet.Switch
	frames   []frame // what entered a switch
}

// frame is one that entered a switch.
type frame struct {
	at   time.Time
	net  string // the switch
	port string
	b    []byte
}

// box is one node on the stage.
type box struct {
	s      *stage
	name   string
	cfg    Config
	ha     *HA
	router *router.Router
	neigh  *neigh.Table
	guest  *guest
	ports  map[uint16]*port
	handle *vnet.Handle
	hung   bool // the router does not turn any more
	events []status.Event
	roles  []string
}

// guest remembers what the node's own stack has.
type guest struct{ has map[uint16][]netip.Prefix }

func (g *guest) SetAddresses(iface uint16, addrs []netip.Prefix) error {
	g.has[iface] = slices.Clone(addrs)
	return nil
}

func (g *guest) holds(iface uint16, a netip.Addr) bool {
	return slices.ContainsFunc(g.has[iface], func(p netip.Prefix) bool { return p.Addr() == a })
}

// port is a device that can be made to refuse what is written to it.
type port struct {
	*vnet.Device
	refuses bool
	seen    func(frame []byte) // each frame as it is written
}

func (p *port) Queue(int) link.Queue { return p }

func (p *port) Write(frames []*link.Frame) (int, error) {
	if p.refuses {
		return 0, errors.New("no buffer space")
	}
	for _, f := range frames {
		if p.seen != nil {
			p.seen(f.Bytes())
		}
	}
	return p.Device.Write(frames)
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{World: vnet.NewWorld(vnet.Config{Seed: 7}), t: t, switches: make(map[string]*vnet.Switch)}
	t.Cleanup(s.Close)
	for _, name := range names[1:] {
		sw := s.Switch(name)
		s.switches[name] = sw
		sw.Tap(func(now time.Time, port string, dir vnet.Direction, b []byte) {
			if dir == vnet.Sent {
				s.frames = append(s.frames, frame{now, name, port, slices.Clone(b)})
			}
		})
	}
	return s
}

// pairConfig is the configuration of the reference pair's node whose addresses
// end in host.
func pairConfig(name string, host, skew byte) Config {
	nets := []string{wan: "198.51.100.%d/24", lan: "192.168.1.%d/24", syncLink: "172.16.1.%d/24"}
	c := Config{Hostname: name}
	for i := uint16(1); i <= syncLink; i++ {
		mac := packet.MAC{2, 0, 0, 0, host, byte(i)}
		c.Interfaces = append(c.Interfaces, Interface{Index: i, Name: names[i], MAC: mac,
			Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf(nets[i], host))}, LinkLocal: packet.LinkLocal(mac)})
	}
	c.VIPs = []VIP{{Iface: wan, VHID: 200, Address: wanVIP}, {Iface: lan, VHID: 1, Address: lanVIP}}
	c.CARP = carp.Config{Preempt: true, DemotionLinkDown: carp.DemotionDefault, DemotionSendError: carp.DemotionDefault,
		VHIDs: []carp.VHID{{Iface: wan, ID: 200, Base: 1, Skew: skew, Password: password}, {Iface: lan, ID: 1, Base: 1, Skew: skew, Password: password}}}
	c.fill()
	return c
}

// fill copies addresses to where the machines look for them.
func (c *Config) fill() {
	c.CARP.Interfaces = nil
	for n := range c.CARP.VHIDs {
		v := &c.CARP.VHIDs[n]
		v.Addresses = nil
		for _, vip := range c.VIPs {
			if vip.Iface == v.Iface && vip.VHID == v.ID {
				v.Addresses = append(v.Addresses, vip.Address.Addr())
			}
		}
	}
	for n := range c.Interfaces {
		i := &c.Interfaces[n]
		if !slices.ContainsFunc(c.CARP.VHIDs, func(v carp.VHID) bool { return v.Iface == i.Index }) {
			continue
		}
		ci := carp.Interface{Index: i.Index, Name: i.Name, Addresses: []netip.Addr{i.LinkLocal}}
		for _, p := range i.Addresses {
			ci.Addresses = append(ci.Addresses, p.Addr())
		}
		c.CARP.Interfaces = append(c.CARP.Interfaces, ci)
	}
}

// pair puts the reference pair on a stage: a is the primary. edit changes both
// configurations before they are used.
func pair(t *testing.T, edit func(c *Config)) (s *stage, a, b *box) {
	t.Helper()
	s = newStage(t)
	ca, cb := pairConfig("a", 2, 0), pairConfig("b", 3, 100)
	for _, c := range []*Config{&ca, &cb} {
		if edit != nil {
			edit(c)
		}
		c.fill()
	}
	return s, s.add(ca), s.add(cb)
}

// add switches a node on.
func (s *stage) add(c Config) *box {
	s.t.Helper()
	b := &box{s: s, name: c.Hostname, cfg: c, guest: &guest{make(map[uint16][]netip.Prefix)}, ports: make(map[uint16]*port)}
	now, random := s.Now(), s.Rand(c.Hostname)
	b.neigh = neigh.New(neigh.Config{Now: now, Rand: random, Probe: neigh.Timing{
		Count: 3, Min: 150 * time.Millisecond, Max: 200 * time.Millisecond, Settle: 200 * time.Millisecond,
		DADCount: 1, DADWait: 500 * time.Millisecond}})
	filter := s.passAll()
	var err error
	b.router, err = router.New(router.Config{Workers: 1, Now: now}, router.Env{
		Filter: filter, Neigh: b.neigh,
		Deliver:    func(uint16, []byte) bool { return true },
		HostRead:   func([]*link.Frame, []uint16) int { return 0 },
		Punt:       func(at time.Time, p *router.Punt) { b.ha.Receive(at, p) },
		NeighEvent: func(at time.Time, a *neigh.Action) { b.ha.NeighEvent(at, a) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	b.plugIn()
	b.ha, err = New(now, c, Env{
		Router: b.router, Neigh: b.neigh, Guest: b.guest, Rand: random,
		Event:       func(e status.Event) { b.events = append(b.events, e) },
		RoleChanged: func(role string) { b.roles = append(b.roles, role) },
		Wake:        b.wake,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	b.handle = s.AddTask(c.Hostname, b)
	return b
}

// passAll is a filter that lets everything through.
func (s *stage) passAll() *pf.Filter {
	s.t.Helper()
	rules, err := rule.Compile([]rule.Rule{{ID: "all", Action: rule.Pass, Quick: true, Direction: rule.In, AllowOptions: true,
		Source: rule.AnyAddr(), Destination: rule.AnyAddr()}})
	if err != nil {
		s.t.Fatal(err)
	}
	set, err := nat.Compile(nat.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	policy := &pf.Policy{Gen: 1, Rules: rules, RuleKeys: []uint64{1}, NAT: set, Norm: make([]norm.Policy, len(names))}
	f, err := pf.New(pf.Config{States: state.Config{Max: 1000}, HostID: 1}, policy, pf.Env{
		Rand: s.Rand("filter"), Holds: func(packet.Addr) bool { return true }, Master: func() bool { return true }})
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// plugIn gives the box a device on each switch.
func (b *box) plugIn() {
	b.s.t.Helper()
	var ports []router.PortConfig
	var routes route.Config
	for n := range b.cfg.Interfaces {
		i := &b.cfg.Interfaces[n]
		d := b.s.NewDevice(b.name+"-"+i.Name, vnet.DeviceConfig{MAC: link.MAC(i.MAC)})
		d.Attach(b.s.switches[i.Name].Plug(b.name, vnet.Cable{Delay: 100 * time.Microsecond}))
		d.OnReadable(b.wake)
		d.OnLink(b.wake)
		b.ports[i.Index] = &port{Device: d}
		ports = append(ports, router.PortConfig{Index: i.Index, Name: i.Name, Device: b.ports[i.Index], MAC: link.MAC(i.MAC), MTU: 1500})
		var networks []netip.Prefix
		for _, p := range i.Addresses {
			networks = append(networks, p.Masked())
			routes.Connected = append(routes.Connected, route.Network{Prefix: p.Masked(), Iface: i.Index})
		}
		b.neigh.AddPort(i.Index, neigh.PortConfig{MAC: i.MAC, LinkLocal: i.LinkLocal, Networks: networks})
	}
	if err := b.router.SetPorts(ports); err != nil {
		b.s.t.Fatal(err)
	}
	table, err := route.Build(routes)
	if err != nil {
		b.s.t.Fatal(err)
	}
	b.router.SetRoutes(table)
}

func (b *box) wake() {
	if b.handle != nil {
		b.handle.Wake()
	}
}

// Step drives the box as a node does.
func (b *box) Step(now time.Time) {
	for _, i := range b.cfg.Interfaces {
		b.ha.SetLink(now, i.Index, b.ports[i.Index].Up())
	}
	for {
		b.ha.Step(now)
		if b.hung || !b.router.Worker(0).Step(now) {
			break
		}
	}
	b.ha.Step(now)
}

// Deadline is at most half a second away, as a node's own timers see to.
func (b *box) Deadline() time.Time {
	next := b.s.Now().Add(500 * time.Millisecond)
	for _, d := range []time.Time{b.ha.Deadline(), b.router.Deadline()} {
		if !d.IsZero() && d.Before(next) && !b.hung {
			next = d
		}
	}
	return next
}

// crash takes a box out of the world between two instructions.
func (b *box) crash() {
	b.handle.Remove()
	for _, p := range b.ports {
		p.SetPower(false)
	}
}

// run lets time pass.
func (s *stage) run(d time.Duration) {
	s.t.Helper()
	if err := s.RunFor(d); err != nil {
		s.t.Fatal(err)
	}
}

// settle is time enough for the pair to find its roles.
func (s *stage) settle() {
	s.t.Helper()
	s.run(5 * time.Second)
	s.frames = nil
}

// state is the state of a vhid in the words of documents.
func (b *box) state(vhid uint8) string {
	for _, v := range b.ha.Status().VIPs {
		if v.VHID == vhid {
			return v.State
		}
	}
	return "none"
}

func (b *box) vip(vhid uint8) status.VIP {
	for _, v := range b.ha.Status().VIPs {
		if v.VHID == vhid {
			return v
		}
	}
	return status.VIP{}
}

// want fails unless both vhids of a box are in the given states.
func (b *box) want(wanState, lanState string) {
	b.s.t.Helper()
	if w, l := b.state(200), b.state(1); w != wanState || l != lanState {
		b.s.t.Errorf("%s: wan is %s, lan is %s; want %s and %s\n%s", b.name, w, l, wanState, lanState, b.text())
	}
}

// text is the log of a box.
func (b *box) text() string {
	var out strings.Builder
	for _, e := range b.events {
		fmt.Fprintf(&out, "%s %s %s: %s\n", e.Time.Format("05.000"), b.name, e.Level, e.Message)
	}
	return out.String()
}

// said fails unless the box has logged a line that contains all of the words.
func (b *box) said(words ...string) {
	b.s.t.Helper()
	for _, e := range b.events {
		if containsAll(e.Message, words) {
			return
		}
	}
	b.s.t.Errorf("%s never said %q; its log:\n%s", b.name, words, b.text())
}

// alarmed says whether an alarm of the box contains all of the words.
func (b *box) alarmed(words ...string) bool {
	return slices.ContainsFunc(b.ha.Alarms(), func(a status.Alarm) bool { return containsAll(a.Message, words) })
}

func (b *box) wantAlarm(words ...string) {
	b.s.t.Helper()
	if !b.alarmed(words...) {
		b.s.t.Errorf("%s has no alarm with %q; it has %v", b.name, words, b.ha.Alarms())
	}
}

func (b *box) wantNoAlarm() {
	b.s.t.Helper()
	if a := b.ha.Alarms(); len(a) > 0 {
		b.s.t.Errorf("%s has alarms: %v", b.name, a)
	}
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

// heard is an advert as it was on the wire.
type heard struct {
	frame
	family   byte
	src, dst netip.Addr
	ttl      uint8
	adv      carp.Advert
}

// adverts lists those that entered a switch from a port ("": any).
func (s *stage) adverts(net, port string) []heard {
	var out []heard
	for _, f := range s.frames {
		var v packet.View
		if f.net != net || port != "" && f.port != port || packet.Decode(f.b, &v) != packet.OK || v.Proto != packet.ProtoCARP {
			continue
		}
		adv, err := carp.ParseAdvert(v.B[v.L4:v.End])
		if err != nil {
			s.t.Fatalf("%s sent %x: %v", f.port, f.b, err)
		}
		out = append(out, heard{f, v.Family, v.Src.Netip(), v.Dst.Netip(), v.TTL, adv})
	}
	return out
}

// announcements lists the gratuitous ARP requests for an address.
func (s *stage) announcements(net string, a netip.Addr) []frame {
	var out []frame
	for _, f := range s.frames {
		var v packet.View
		if f.net != net || packet.Decode(f.b, &v) != packet.OK || v.EtherType != packet.EtherTypeARP {
			continue
		}
		if p, ok := packet.ParseARP(&v); ok && p.Sender == a && p.Target == a {
			out = append(out, f)
		}
	}
	return out
}
