package router

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"
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
)

// wire is a device in memory: what a test puts in is read, what is written is
// kept. Every address on it but the silent ones answers ARP and neighbour
// solicitations at once.
type wire struct {
	info   link.Info
	silent map[netip.Addr]bool

	mu      sync.Mutex
	rx      []wireFrame
	tx      []wireFrame
	reports []wireFrame // about group membership, which other tests do not care for
	accept  []link.MAC
	refuse  bool // writes fail
	down    bool
}

type wireFrame struct {
	b       []byte
	offload link.Offload
}

func (w *wire) Info() link.Info      { return w.info }
func (w *wire) Queue(int) link.Queue { return w }
func (w *wire) Up() bool             { return !w.down }
func (w *wire) Close() error         { return nil }
func (w *wire) FD() int              { return -1 }
func (w *wire) put(frames ...[]byte) {
	for _, b := range frames {
		w.putOffload(b, link.Offload{})
	}
}

func (w *wire) putOffload(b []byte, o link.Offload) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rx = append(w.rx, wireFrame{bytes.Clone(b), o})
}

func (w *wire) Read(frames []*link.Frame) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(frames), len(w.rx))
	for i, f := range w.rx[:n] {
		frames[i].Set(f.b)
		frames[i].Offload = f.offload
	}
	w.rx = w.rx[n:]
	return n, nil
}

func (w *wire) Write(frames []*link.Frame) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse {
		return 0, link.ErrDown
	}
	for _, f := range frames {
		b := bytes.Clone(f.Bytes())
		if answer := w.answer(b); answer != nil {
			w.rx = append(w.rx, wireFrame{b: answer})
			continue
		}
		if isReport(b) {
			w.reports = append(w.reports, wireFrame{b: b})
			continue
		}
		w.tx = append(w.tx, wireFrame{b, f.Offload})
	}
	return len(frames), nil
}

// isReport says whether a frame goes to those who listen to membership reports.
func isReport(b []byte) bool {
	to := packet.MAC(b[:6])
	return to == packet.MAC{1, 0, 0x5e, 0, 0, 22} || to == packet.MAC{0x33, 0x33, 0, 0, 0, 22}
}

// SetAddresses implements [link.AddressFilter].
func (w *wire) SetAddresses(macs []link.MAC) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accept = macs
	return nil
}

// macOf is where a neighbour lives.
func macOf(a netip.Addr) packet.MAC {
	b := a.As16()
	return packet.MAC{2, 9, b[12], b[13], b[14], b[15]}
}

// answer is the neighbour's answer to a question about its address; nil for
// all else.
func (w *wire) answer(b []byte) []byte {
	at := 0
	if len(b) > 18 && binary.BigEndian.Uint16(b[12:]) == packet.EtherTypeVLAN {
		at = link.TagBytes
	}
	var v packet.View
	untagged := append(bytes.Clone(b[:12]), b[12+at:]...)
	if packet.Decode(untagged, &v) != packet.OK {
		return nil
	}
	var out []byte
	if a, ok := packet.ParseARP(&v); ok && a.Op == packet.ARPRequest && !a.Sender.IsUnspecified() && a.Sender != a.Target {
		if !w.silent[a.Target] {
			m := macOf(a.Target)
			out = packet.AppendARP(nil, packet.ARPReply, m, a.SenderMAC, m, a.Target, a.SenderMAC, a.Sender)
		} else {
			out = []byte{}
		}
	} else if n, ok := packet.ParseND(&v); ok && n.Type == packet.ICMP6Solicit && !v.Src.IsUnspecified() {
		if !w.silent[n.Target] {
			m := macOf(n.Target)
			out = packet.AppendNA(nil, m, packet.MAC(b[6:12]), n.Target, v.Src.Netip(), n.Target, m, false, true, true)
		} else {
			out = []byte{}
		}
	}
	if at > 0 && len(out) > 0 {
		out = bytes.Join([][]byte{out[:12], b[12:16], out[12:]}, nil)
	}
	return out
}

// take returns what was written since the last call.
func (w *wire) take() []wireFrame {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.tx
	w.tx = nil
	return out
}

// lab is a router whose ports are wires.
type lab struct {
	t         testing.TB
	router    *Router
	filter    *pf.Filter
	neigh     *neigh.Table
	cfg       labConfig
	wires     []*wire // by interface number
	ports     []PortConfig
	addresses Addresses
	now       time.Time
	gen       uint32

	mu        sync.Mutex // guards what follows
	random    uint64
	punts     []Punt
	delivered [][]byte
	guest     []wireFrame // what the guest stack wants sent
	guestBy   []uint16
	events    []neigh.Action
}

// labConfig is what a test may choose. The zero value is a node with WAN (1),
// LAN (2) and DMZ (3) that lets nothing in.
type labConfig struct {
	Rules    []rule.Rule
	NAT      nat.Config
	Pass     map[string]bool
	Norm     []norm.Policy
	Frags    norm.Config
	MTU      map[uint16]int
	States   int
	Workers  int
	Features link.Features
	Silent   []netip.Addr
	Layer3   uint16 // this port is a tunnel
	VLANs    bool   // 4 and 5 are children of DMZ, tags 10 and 20
	VIPs     []Address
	MACs     map[uint16][]link.MAC
	Log      func(*pf.Record)
}

// Interface and neighbours of a lab beside wan and lan of the other harness.
const dmz = 3

var (
	dmzAddr  = netip.MustParseAddr("172.16.0.2")
	dmzAddr6 = netip.MustParseAddr("2001:db8:3::2")
	vipAddr  = netip.MustParseAddr("198.51.100.9")

	client4 = netip.MustParseAddr("192.168.1.50")
	client6 = netip.MustParseAddr("2001:db8:2::50")
	server4 = netip.MustParseAddr("198.51.100.1")
	server6 = netip.MustParseAddr("2001:db8:1::1")
	far4    = netip.MustParseAddr("203.0.113.7") // behind the server as gateway
	far6    = netip.MustParseAddr("2001:db8:99::7")
	inside4 = netip.MustParseAddr("172.16.0.80") // in the DMZ
	inside6 = netip.MustParseAddr("2001:db8:3::80")
)

func portMAC(i uint16) link.MAC { return link.MAC{2, 0, 0, 0, 1, byte(i)} }

func newLab(t testing.TB, cfg labConfig) *lab {
	t.Helper()
	if cfg.States == 0 {
		cfg.States = 10000
	}
	cfg.Workers = max(cfg.Workers, 1)
	l := &lab{t: t, cfg: cfg, now: time.Unix(1_700_000_000, 0), gen: 1}
	l.neigh = neigh.New(neigh.Config{Now: l.now, Rand: l.rand})
	var err error
	l.filter, err = pf.New(pf.Config{States: state.Config{Max: cfg.States}, Frags: cfg.Frags, HostID: 1}, l.policy(cfg.Rules, cfg.NAT), pf.Env{
		Rand: l.rand, Holds: func(a packet.Addr) bool { return l.router.Holds(a) }, Master: func() bool { return true }, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	l.router, err = New(Config{Workers: cfg.Workers, Now: l.now}, Env{Filter: l.filter, Neigh: l.neigh,
		Deliver: l.deliver, HostRead: l.hostRead, Punt: l.punt,
		NeighEvent: func(_ time.Time, a *neigh.Action) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.events = append(l.events, *a)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.plug()
	return l
}

// rand is a sequence that every lab repeats.
func (l *lab) rand() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.random += 0x9e3779b97f4a7c15
	z := (l.random ^ l.random>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (l *lab) deliver(_ uint16, b []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered = append(l.delivered, bytes.Clone(b))
	return true
}

func (l *lab) punt(_ time.Time, p *Punt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := *p
	q.Payload = bytes.Clone(p.Payload)
	l.punts = append(l.punts, q)
}

func (l *lab) hostRead(frames []*link.Frame, ifaces []uint16) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(frames), len(l.guest))
	for i, f := range l.guest[:n] {
		frames[i].Set(f.b)
		frames[i].Offload = f.offload
		ifaces[i] = l.guestBy[i]
	}
	l.guest, l.guestBy = l.guest[n:], l.guestBy[n:]
	return n
}

// send has the guest stack send a frame by an interface.
func (l *lab) send(iface uint16, b []byte, o link.Offload) {
	l.mu.Lock()
	l.guest = append(l.guest, wireFrame{bytes.Clone(b), o})
	l.guestBy = append(l.guestBy, iface)
	l.mu.Unlock()
	l.step()
}

func (l *lab) policy(rules []rule.Rule, translations nat.Config) *pf.Policy {
	l.t.Helper()
	rules = append([]rule.Rule(nil), rules...)
	keys := make([]uint64, len(rules))
	for i := range rules {
		keys[i] = uint64(i + 1)
		for _, c := range rules[i].ID {
			keys[i] = keys[i]*31 + uint64(c)
		}
	}
	set, err := rule.Compile(rules)
	if err != nil {
		l.t.Fatal(err)
	}
	nats, err := nat.Compile(translations)
	if err != nil {
		l.t.Fatal(err)
	}
	n := l.cfg.Norm
	if n == nil {
		n = []norm.Policy{{AllowOptions: true}, {AllowOptions: true}, {AllowOptions: true}, {AllowOptions: true}, {AllowOptions: true}, {AllowOptions: true}}
	}
	return &pf.Policy{Gen: l.gen, Rules: set, RuleKeys: keys, NAT: nats, Norm: n, PassForward: l.cfg.Pass, LogDefaultBlock: l.cfg.Log != nil}
}

// setRules replaces the rules, as a reload does.
func (l *lab) setRules(rules []rule.Rule) {
	l.gen++
	l.filter.SetPolicy(l.policy(rules, l.cfg.NAT))
	l.router.Bump()
}

// plug makes wires, addresses and routes.
func (l *lab) plug() {
	own := [][]netip.Addr{nil, {wanAddr, wanAddr6}, {lanAddr, lanAddr6}, {dmzAddr, dmzAddr6}}
	if l.cfg.VLANs {
		own = append(own, []netip.Addr{netip.MustParseAddr("10.10.0.2"), netip.MustParseAddr("2001:db8:10::2")},
			[]netip.Addr{netip.MustParseAddr("10.20.0.2"), netip.MustParseAddr("2001:db8:20::2")})
	}
	l.wires = make([]*wire, len(own))
	var networks []route.Network
	for i := uint16(1); int(i) < len(own); i++ {
		mtu := 1500
		if m := l.cfg.MTU[i]; m != 0 {
			mtu = m
		}
		p := PortConfig{Index: i, Name: []string{"", "wan", "lan", "dmz", "v10", "v20"}[i], MAC: portMAC(i), MTU: mtu,
			Source4: packet.AddrFrom(own[i][0]), Source6: packet.AddrFrom(own[i][1])}
		if i <= dmz {
			w := &wire{info: link.Info{Driver: "test", MTU: mtu, Features: l.cfg.Features, Layer3: i == l.cfg.Layer3, Queues: l.cfg.Workers}, silent: map[netip.Addr]bool{}}
			for _, a := range l.cfg.Silent {
				w.silent[a] = true
			}
			l.wires[i], p.Device = w, w
		} else {
			l.wires[i] = l.wires[dmz]
			p.Parent, p.VLAN, p.TPID = dmz, 10*(i-3), packet.EtherTypeVLAN
		}
		l.ports = append(l.ports, p)
		local := packet.LinkLocal(packet.MAC(p.MAC))
		nets := []netip.Prefix{netip.PrefixFrom(own[i][0], 24).Masked(), netip.PrefixFrom(own[i][1], 64).Masked()}
		var answered []neigh.Own
		for _, a := range append(own[i], local) {
			answered = append(answered, neigh.Own{Addr: a, MAC: packet.MAC(p.MAC)})
			l.addresses.List = append(l.addresses.List, Address{Addr: packet.AddrFrom(a), Iface: i, Kind: Own})
		}
		if i != l.cfg.Layer3 {
			l.neigh.AddPort(i, neigh.PortConfig{MAC: packet.MAC(p.MAC), LinkLocal: local, Networks: nets})
			l.neigh.SetOwn(l.now, i, answered, nil)
		}
		for _, n := range nets {
			networks = append(networks, route.Network{Prefix: n, Iface: i})
		}
	}
	if err := l.router.SetPorts(l.ports); err != nil {
		l.t.Fatal(err)
	}
	cfg := route.Config{Connected: networks, Default4: route.Static{Gateway: server4}, Default6: route.Static{Gateway: server6}}
	if l.cfg.Layer3 == wan {
		cfg.Default4, cfg.Default6 = route.Static{Iface: wan}, route.Static{Iface: wan}
	}
	table, err := route.Build(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.router.SetRoutes(table)
	l.addresses.List = append(l.addresses.List, l.cfg.VIPs...)
	l.addresses.VirtualMACs = l.cfg.MACs
	l.router.SetAddresses(l.addresses)
}

// setVIP changes what the node does with an address, as a role change does.
func (l *lab) setVIP(a netip.Addr, kind AddressKind, macs map[uint16][]link.MAC) {
	for i := range l.addresses.List {
		if l.addresses.List[i].Addr == packet.AddrFrom(a) {
			l.addresses.List[i].Kind = kind
		}
	}
	l.addresses.VirtualMACs = macs
	l.router.SetAddresses(l.addresses)
}

// step runs the router until nothing is left to do.
func (l *lab) step() {
	for l.router.Worker(0).Step(l.now) {
	}
}

// wait lets time pass, with a step in every tenth of a second.
func (l *lab) wait(d time.Duration) {
	for end := l.now.Add(d); l.now.Before(end); {
		l.now = l.now.Add(min(100*time.Millisecond, end.Sub(l.now)))
		l.step()
	}
}

// in puts frames on an interface's wire and walks them.
func (l *lab) in(iface uint16, frames ...[]byte) {
	l.wires[iface].put(frames...)
	l.step()
}

// out returns the frames written to an interface's wire since the last call.
func (l *lab) out(iface uint16) [][]byte {
	var out [][]byte
	for _, f := range l.wires[iface].take() {
		out = append(out, f.b)
	}
	return out
}

// one returns the only frame written to an interface's wire, decoded.
func (l *lab) one(iface uint16) *packet.View {
	l.t.Helper()
	frames := l.out(iface)
	if len(frames) != 1 {
		l.t.Fatalf("%d frames left by interface %d, want 1; drops %v %v", len(frames), iface, l.router.Drops(), l.filter.Drops())
	}
	return decoded(l.t, frames[0])
}

// none checks that nothing left by any interface.
func (l *lab) none() {
	l.t.Helper()
	for i := uint16(1); i <= dmz; i++ {
		if frames := l.out(i); len(frames) != 0 {
			l.t.Errorf("interface %d: sent %d frames, first %x", i, len(frames), frames[0])
		}
	}
}

// dropped is a drop counter of router or filter.
func (l *lab) dropped(reason string) uint64 {
	for _, d := range l.router.Drops() {
		if d.Reason == reason {
			return d.Packets
		}
	}
	for _, d := range l.filter.Drops() {
		if d.Reason == reason {
			return d.Packets
		}
	}
	return 0
}

// takeDelivered returns what the guest stack was given since the last call.
func (l *lab) takeDelivered() []*packet.View {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*packet.View
	for _, b := range l.delivered {
		v := new(packet.View)
		if why := packet.DecodeIP(b, v); why != packet.OK {
			l.t.Fatalf("delivered %x: %v", b, why)
		}
		out = append(out, v)
	}
	l.delivered = nil
	return out
}

// decoded is the view of a frame, whose checksums must be right.
func decoded(t testing.TB, b []byte) *packet.View {
	t.Helper()
	v := new(packet.View)
	if why := packet.Decode(b, v); why != packet.OK {
		t.Fatalf("frame %x: %v", b, why)
	}
	if !packet.VerifyL4(v) {
		t.Fatalf("frame %x: wrong checksum", b)
	}
	return v
}

// mustRoutes are the lab's networks with a default route by another gateway.
func mustRoutes(t testing.TB, gateway netip.Addr) *route.Table {
	t.Helper()
	prefix := netip.MustParsePrefix
	table, err := route.Build(route.Config{Connected: []route.Network{
		{Prefix: prefix("198.51.100.0/24"), Iface: wan}, {Prefix: prefix("192.168.1.0/24"), Iface: lan}, {Prefix: prefix("172.16.0.0/24"), Iface: dmz},
	}, Default4: route.Static{Gateway: gateway}})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// flowsOf lists the states.
func flowsOf(l *lab) (out []state.Flow) {
	l.filter.States().List(func(f *state.Flow) bool {
		out = append(out, *f)
		return true
	})
	return out
}
