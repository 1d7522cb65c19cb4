package carp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// world is a few nodes on common segments in virtual time. Interface i of
// every node is on segment i; adverts take a moment and may be lost.
type world struct {
	t     testing.TB
	now   time.Time
	rng   *rand.Rand
	loss  float64
	nodes []*testNode
	wire  []flight
	// cut says from which node to which, on which interface, nothing passes.
	cut map[[3]int]bool
	// doubles is how long the vhid of an interface has had two living masters.
	doubles map[int]time.Duration
}

type testNode struct {
	id     int
	group  *Group
	dead   bool
	frozen bool
	link   []bool
	log    []string
	sent   []flight
	alarms []Alarm
	drains int
}

// flight is an advert on its way.
type flight struct {
	at    time.Time
	to    int
	iface uint16
	act   Action
}

const (
	flightTime = 2 * time.Millisecond
	lan        = 1
	wan        = 2
)

func nodeAddr(node, iface int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(iface), 0, byte(node + 2)})
}

func vipAddr(iface int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(iface), 0, 200}) }

// pairConfig is what node id of a cluster with LAN and WAN has: one vhid each,
// skews in steps of 100.
func pairConfig(id int) Config {
	cfg := Config{Preempt: true, DemotionLinkDown: DemotionDefault, DemotionSendError: DemotionDefault}
	for i, name := range []string{lan: "lan", wan: "wan"} {
		if i == 0 {
			continue
		}
		cfg.Interfaces = append(cfg.Interfaces, Interface{Index: uint16(i), Name: name, Addresses: []netip.Addr{nodeAddr(id, i)}})
		cfg.VHIDs = append(cfg.VHIDs, VHID{
			Iface: uint16(i), ID: uint8(i), Base: 1, Skew: uint8(min(100*id, SkewMax)),
			Password: "secret", Addresses: []netip.Addr{vipAddr(i)},
		})
	}
	return cfg
}

func newWorld(t testing.TB, seed uint64, configs ...Config) *world {
	t.Helper()
	w := &world{
		t: t, now: start, rng: rand.New(rand.NewPCG(seed, 1)),
		cut: make(map[[3]int]bool), doubles: make(map[int]time.Duration),
	}
	for id, cfg := range configs {
		n := &testNode{id: id}
		w.nodes = append(w.nodes, n)
		w.boot(id, cfg)
	}
	return w
}

func newPair(t testing.TB, seed uint64) *world {
	return newWorld(t, seed, pairConfig(0), pairConfig(1))
}

func (w *world) boot(id int, cfg Config) {
	g, err := NewGroup(cfg, w.rng.Uint64)
	if err != nil {
		w.t.Fatal(err)
	}
	n := w.nodes[id]
	n.group, n.dead, n.frozen, n.link = g, false, false, make([]bool, len(cfg.Interfaces)+1)
	for i := range cfg.Interfaces {
		w.setLink(id, i+1, true)
	}
}

func (w *world) setLink(id, iface int, up bool) {
	w.nodes[id].link[iface] = up
	w.do(id, func(g *Group) []Action { return g.SetLink(w.now, uint16(iface), up, nil) })
}

// do performs the actions of one call.
func (w *world) do(id int, call func(g *Group) []Action) {
	n := w.nodes[id]
	for _, a := range call(n.group) {
		switch a.Kind {
		case SendAdvert:
			w.send(n, a)
		case BecomeMaster, BecomeBackup, BecomeInit:
			n.log = append(n.log, fmt.Sprintf("%v %d %v: %s", w.now.Sub(start), a.VHID, n.group.find(a.Iface, a.VHID).state, a.Reason))
		case AlarmRaised:
			n.alarms = append(n.alarms, a.Alarm)
		case DrainEnd:
			n.drains++
		}
	}
}

func (w *world) send(n *testNode, a Action) {
	ok := n.link[a.Iface]
	w.do(n.id, func(g *Group) []Action { return g.Sent(w.now, a.Iface, a.VHID, a.Family, ok, nil) })
	n.sent = append(n.sent, flight{at: w.now, act: a})
	for _, to := range w.nodes {
		lost := w.rng.Float64() < w.loss
		if to == n || !ok || lost || w.cut[[3]int{n.id, to.id, int(a.Iface)}] {
			continue
		}
		w.wire = append(w.wire, flight{at: w.now.Add(flightTime), to: to.id, iface: a.Iface, act: a})
	}
}

func packetOfAction(a *Action) Packet {
	return Packet{Iface: a.Iface, Family: a.Family, Src: a.Src, Dst: a.Dst, TTL: TTL, Payload: a.Payload[:]}
}

// run lets time pass, and does what falls due, adverts before timers.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for {
		next, node := end.Add(1), -1
		for id, n := range w.nodes {
			if d := n.group.Deadline(); !n.dead && !n.frozen && !d.IsZero() && d.Before(next) {
				next, node = d, id
			}
		}
		arrival := len(w.wire) > 0 && !w.wire[0].at.After(next) // In order: all take equally long.
		if arrival {
			next = w.wire[0].at
		}
		if next.After(end) {
			w.pass(end)
			return
		}
		if next.After(w.now) {
			w.pass(next)
		}
		if arrival {
			w.deliver(w.wire[0])
		} else {
			w.do(node, func(g *Group) []Action { return g.Tick(w.now, nil) })
		}
	}
}

func (w *world) deliver(f flight) {
	w.wire = w.wire[1:]
	n := w.nodes[f.to]
	if n.dead || !n.link[f.iface] {
		return
	}
	w.do(f.to, func(g *Group) []Action { return g.Receive(w.now, packetOfAction(&f.act), nil) })
}

// pass moves the clock and adds up the time with two masters.
func (w *world) pass(to time.Time) {
	for i := lan; i <= wan; i++ {
		if masters := w.masters(i); len(masters) > 1 {
			w.doubles[i] += to.Sub(w.now)
		}
	}
	w.now = to
}

// masters lists the living nodes that are master on an interface.
func (w *world) masters(iface int) []int {
	var out []int
	for _, n := range w.nodes {
		if v := n.group.find(uint16(iface), uint8(iface)); !n.dead && v != nil && v.state == Master {
			out = append(out, n.id)
		}
	}
	return out
}

func (w *world) wantMaster(id int) {
	w.t.Helper()
	for i := lan; i <= wan; i++ {
		if m := w.masters(i); !slices.Equal(m, []int{id}) {
			w.t.Errorf("%v: masters on interface %d are %v, want %d\n%v\n%v", w.now.Sub(start), i, m, id, w.nodes[0].log, w.nodes[1].log)
		}
	}
}

// until runs in small steps until ok, and says how long that took.
func (w *world) until(limit time.Duration, ok func() bool) time.Duration {
	w.t.Helper()
	begin := w.now
	for !ok() {
		if w.now.Sub(begin) > limit {
			w.t.Fatalf("not within %v\n%v\n%v", limit, w.nodes[0].log, w.nodes[1].log)
		}
		w.run(time.Millisecond)
	}
	return w.now.Sub(begin)
}

func (w *world) isMaster(id int) func() bool {
	return func() bool {
		return slices.Equal(w.masters(lan), []int{id}) && slices.Equal(w.masters(wan), []int{id})
	}
}

func (w *world) hasAlarm(id int, kind AlarmKind) bool {
	return slices.ContainsFunc(w.nodes[id].group.Snapshot().Alarms, func(a Alarm) bool { return a.Kind == kind })
}
