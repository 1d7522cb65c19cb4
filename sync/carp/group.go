package carp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// drainMax is how long a former master forwards for the virtual MAC when
	// it hears nothing of a new one, drainAfterAdvert how long once it has.
	drainMax         = time.Second
	drainAfterAdvert = 50 * time.Millisecond
	// keyGrace is how long the former key is signed with and accepted beside
	// the new one: time enough for configuration sync to reach the peer.
	keyGrace = 30 * time.Second
)

// Groups that multicast adverts go to.
var (
	group4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	group6 = netip.MustParseAddr("ff02::12")
)

// Replay says what happens to adverts whose counter their source has used.
type Replay uint8

// ReplayReport counts and alarms; ReplayDrop also drops, which is safe only
// where all speakers are appliances: BSDs adopt each other's counters.
const (
	ReplayReport Replay = iota
	ReplayDrop
)

// Interface is one that carries vhids.
type Interface struct {
	Index     uint16
	Name      string
	Addresses []netip.Addr // the node's own, the link-local one among them; no VIPs
}

// VHID is one virtual host: a CARP VIP and the aliases stacked on it.
type VHID struct {
	Iface       uint16
	ID          uint8
	Base        uint8 // seconds, 1 to 255
	Skew        uint8 // 1/256 seconds, 0 to SkewMax
	Password    string
	Addresses   []netip.Addr
	LinkAddr    [6]byte    // hashed, see [KeyConfig]; usually zero
	Peer, Peer6 netip.Addr // unicast instead of multicast, by family; usually zero
}

// Config is all of a node's CARP. The demotion factors are used as they are:
// give [DemotionDefault] for FreeBSD's, zero for none.
type Config struct {
	Interfaces        []Interface
	VHIDs             []VHID
	Preempt           bool
	DemoteByte        bool // OpenBSD speaks here: demotion also in byte 4, hashes as OpenBSD sends them
	Replay            Replay
	DemotionLinkDown  int
	DemotionSendError int
}

type iface struct {
	cfg      Interface
	up, told bool // told: the link's state is known
}

// vhost is a vhid with all that the group keeps about it.
type vhost struct {
	cfg     VHID
	iface   *iface
	machine *Machine

	key, oldKey *Key
	oldKeyUntil time.Time
	counter     uint64 // of the next advert
	firstSent   uint64

	state          State // as last acted on
	reason         Reason
	peer           netip.Addr // the master last heard; invalid while it is us or unknown
	transitions    uint64
	lastTransition time.Time
	flaps          [flapsMax]time.Time // when mastership was won or lost, oldest first
	drainUntil     time.Time           // zero: not draining

	sendErrors, sendsGood int
	replay                replayGuard
	diagnoseAt            time.Time // when the next costly diagnosis may run
	suspicions            [alarmKinds]suspicion
}

// name is how FreeBSD logs a vhid: 1@em0.
func (v *vhost) name() string { return fmt.Sprintf("%d@%s", v.cfg.ID, v.iface.cfg.Name) }

// Group is all vhids of a node. It belongs to one goroutine. As with
// [Machine], methods append to acts what the caller must do, and the
// transitions that one call returns belong together: they are one change of
// role. Links are down until [Group.SetLink] says otherwise.
type Group struct {
	cfg    Config
	random func() uint64

	ifaces  []*iface
	vhosts  []*vhost // by interface, then vhid
	enabled bool
	left    bool

	demotions  []Demotion
	counters   Counters
	heard      []Heard
	role       Role
	mixedSince time.Time
	mixed      suspicion
	diagnoseAt time.Time // the same, for vhids that we do not have
}

// NewGroup checks cfg and returns a group that is enabled. Random gives the
// replay counters their start.
func NewGroup(cfg Config, random func() uint64) (*Group, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	g := &Group{random: random, enabled: true}
	g.apply(time.Time{}, cfg, nil)
	g.role = g.roleNow()
	return g, nil
}

func (c *Config) check() error {
	known := make(map[uint16]bool, len(c.Interfaces))
	for _, i := range c.Interfaces {
		if known[i.Index] {
			return fmt.Errorf("carp: interface %d is listed twice", i.Index)
		}
		known[i.Index] = true
	}
	seen := make(map[[2]uint16]bool, len(c.VHIDs))
	for _, v := range c.VHIDs {
		key := [2]uint16{v.Iface, uint16(v.ID)}
		var err error
		switch {
		case !known[v.Iface]:
			err = errors.New("the interface is not listed")
		case v.ID == 0:
			err = errors.New("the vhid must be 1 to 255")
		case seen[key]:
			err = errors.New("the vhid is listed twice")
		case v.Base == 0:
			err = errors.New("advbase must be 1 to 255 seconds")
		case v.Skew > SkewMax:
			err = fmt.Errorf("advskew %d is above %d", v.Skew, SkewMax)
		}
		if err != nil {
			return fmt.Errorf("carp: vhid %d on interface %d: %w", v.ID, v.Iface, err)
		}
		seen[key] = true
	}
	return nil
}

// SetConfig replaces the configuration; on an error nothing has changed. A
// vhid that stays keeps its state, a master its mastership. For thirty seconds
// after its password or addresses have changed a vhid also signs with, and
// accepts, the former key, so that a peer that learns of the change a little
// later sees no silence in between; it counts every other advert as badly
// authenticated in that time. A vhid that goes takes its leave.
func (g *Group) SetConfig(now time.Time, cfg Config, acts []Action) ([]Action, error) {
	if err := cfg.check(); err != nil {
		return acts, err
	}
	return g.finish(now, g.apply(now, cfg, acts)), nil
}

func (g *Group) apply(now time.Time, cfg Config, acts []Action) []Action {
	acts = g.removeMissing(now, cfg, acts)
	former := g.ifaces
	g.cfg, g.ifaces = cfg, nil
	for _, ic := range cfg.Interfaces {
		i := &iface{}
		if at := slices.IndexFunc(former, func(f *iface) bool { return f.cfg.Name == ic.Name }); at >= 0 {
			i = former[at]
		}
		i.cfg = ic
		g.ifaces = append(g.ifaces, i)
	}
	for _, vc := range cfg.VHIDs {
		acts = g.applyVHID(now, vc, acts)
	}
	slices.SortFunc(g.vhosts, func(a, b *vhost) int {
		return cmp.Or(cmp.Compare(a.cfg.Iface, b.cfg.Iface), cmp.Compare(a.cfg.ID, b.cfg.ID))
	})
	for _, i := range g.ifaces {
		acts = g.demoteForLink(now, i, acts)
	}
	return acts
}

// removeMissing takes leave for the vhids that cfg does not have, and for
// those whose interface got another number, which begin anew.
func (g *Group) removeMissing(now time.Time, cfg Config, acts []Action) []Action {
	kept := make([]*vhost, 0, len(cfg.VHIDs))
	for _, v := range g.vhosts {
		stays := slices.ContainsFunc(cfg.VHIDs, func(c VHID) bool { return c.Iface == v.cfg.Iface && c.ID == v.cfg.ID }) &&
			slices.ContainsFunc(cfg.Interfaces, func(i Interface) bool {
				return i.Index == v.cfg.Iface && i.Name == v.iface.cfg.Name
			})
		if stays {
			kept = append(kept, v)
			continue
		}
		n := len(acts)
		acts = g.did(now, v, n, v.machine.Leave(now, ReasonRemoved, acts))
		acts = g.clearSuspicions(v, acts)
		acts = g.forgiveSendErrors(now, v, acts)
	}
	g.vhosts = kept
	for _, i := range g.ifaces {
		if !slices.ContainsFunc(cfg.Interfaces, func(c Interface) bool { return c.Name == i.cfg.Name }) {
			acts = g.demote(now, demotionLink+i.cfg.Name, 0, "", acts)
		}
	}
	return acts
}

func (g *Group) applyVHID(now time.Time, vc VHID, acts []Action) []Action {
	vc.Addresses = slices.Clone(vc.Addresses)
	mc := MachineConfig{
		Base: vc.Base, Skew: vc.Skew, Preempt: g.cfg.Preempt, DemoteByte: g.cfg.DemoteByte, Together: true,
		IPv4: slices.ContainsFunc(vc.Addresses, netip.Addr.Is4),
		IPv6: slices.ContainsFunc(vc.Addresses, netip.Addr.Is6),
	}
	kc := KeyConfig{
		VHID: vc.ID, Password: vc.Password, Addresses: vc.Addresses,
		LinkAddr: vc.LinkAddr, OmitLinkLocal: g.cfg.DemoteByte,
	}
	v := g.find(vc.Iface, vc.ID)
	if v == nil {
		v = &vhost{cfg: vc, iface: g.findIface(vc.Iface), machine: NewMachine(mc), key: NewKey(kc), counter: g.random()}
		v.firstSent = v.counter
		v.machine.SetDemotion(now, g.Demotion(), nil)
		g.vhosts = append(g.vhosts, v)
		n := len(acts)
		return g.did(now, v, n, v.machine.SetRunnable(now, g.canRun(v), ReasonInitComplete, acts))
	}
	sameKey := v.key.Same(kc)
	if !sameKey {
		v.oldKey, v.oldKeyUntil = v.key, now.Add(keyGrace)
		v.key = NewKey(kc)
	}
	if !sameKey || v.cfg.Base != vc.Base || v.cfg.Skew != vc.Skew || v.cfg.Peer != vc.Peer || v.cfg.Peer6 != vc.Peer6 {
		acts = g.clearSuspicions(v, acts) // Whatever was wrong may just have been put right.
	}
	v.cfg = vc
	n := len(acts)
	return g.did(now, v, n, v.machine.SetConfig(now, mc, acts))
}

// SetLink tells whether an interface can send and receive.
func (g *Group) SetLink(now time.Time, ifaceIndex uint16, up bool, acts []Action) []Action {
	i := g.findIface(ifaceIndex)
	if i == nil || i.told && i.up == up {
		return acts
	}
	why := ReasonLinkDown
	switch {
	case up && i.told:
		why = ReasonLinkUp
	case up:
		why = ReasonInitComplete
	}
	i.up, i.told = up, true
	acts = g.setRunnable(now, i, why, acts)
	if up {
		for _, v := range g.vhosts {
			if v.iface == i {
				acts = g.forgiveSendErrors(now, v, acts)
			}
		}
	}
	return g.finish(now, g.demoteForLink(now, i, acts))
}

// SetEnabled switches CARP on this node. Switching off says farewell and lets
// every vhid be INIT, shown as DISABLED; it is not kept over a restart.
func (g *Group) SetEnabled(now time.Time, on bool, acts []Action) []Action {
	if on == g.enabled {
		return acts
	}
	g.enabled = on
	if !on {
		return g.finish(now, g.leave(now, ReasonDisabled, acts))
	}
	for _, v := range g.vhosts {
		acts = g.forgiveSendErrors(now, v, acts)
	}
	return g.finish(now, g.setRunnable(now, nil, ReasonEnabled, acts))
}

// Leave is for a node that stops: farewell on every vhid, and nothing after
// that but draining. [Group.IsDraining] says when that is over.
func (g *Group) Leave(now time.Time, acts []Action) []Action {
	g.left = true
	return g.finish(now, g.leave(now, ReasonLeaving, acts))
}

func (g *Group) leave(now time.Time, why Reason, acts []Action) []Action {
	for _, v := range g.vhosts {
		n := len(acts)
		acts = g.did(now, v, n, v.machine.Leave(now, why, acts))
	}
	return acts
}

// setRunnable brings the machines of one interface (nil: of all) in line with
// link, switch and leave.
func (g *Group) setRunnable(now time.Time, i *iface, why Reason, acts []Action) []Action {
	for _, v := range g.vhosts {
		if i == nil || v.iface == i {
			n := len(acts)
			acts = g.did(now, v, n, v.machine.SetRunnable(now, g.canRun(v), why, acts))
		}
	}
	return acts
}

func (g *Group) canRun(v *vhost) bool { return g.enabled && !g.left && v.iface.up }

// MasterIsDown is fast detection's word that the node with these addresses is
// gone: we take at once what it was master of. Vhids whose master is somebody
// else, or not known, wait for CARP's own timer.
func (g *Group) MasterIsDown(now time.Time, addrs []netip.Addr, acts []Action) []Action {
	for _, v := range g.vhosts {
		if v.peer.IsValid() && slices.Contains(addrs, v.peer) {
			n := len(acts)
			acts = g.did(now, v, n, v.machine.MasterIsDown(now, acts))
		}
	}
	return g.finish(now, acts)
}

// Tick does what is due. Hand in all packets received before now first.
func (g *Group) Tick(now time.Time, acts []Action) []Action {
	for _, v := range g.vhosts {
		n := len(acts)
		acts = g.did(now, v, n, v.machine.Tick(now, acts))
		if !v.drainUntil.IsZero() && !now.Before(v.drainUntil) {
			v.drainUntil = time.Time{}
			acts = append(acts, Action{Kind: DrainEnd, Iface: v.cfg.Iface, VHID: v.cfg.ID})
		}
		if v.oldKey != nil && !now.Before(v.oldKeyUntil) {
			v.oldKey = nil
		}
		acts = g.expireSuspicions(now, v, acts)
	}
	return g.finish(now, acts)
}

// Deadline is when Tick wants to be called next; zero means never. It is asked
// anew after every call.
func (g *Group) Deadline() time.Time {
	next := g.mixedDeadline()
	for _, v := range g.vhosts {
		next = earlier(next, v.machine.Deadline())
		next = earlier(next, v.drainUntil)
		for k := range v.suspicions {
			next = earlier(next, v.suspicions[k].expires())
		}
	}
	return next
}

// IsDraining says whether the node still forwards for a virtual MAC that it
// has given up.
func (g *Group) IsDraining() bool {
	return slices.ContainsFunc(g.vhosts, func(v *vhost) bool { return !v.drainUntil.IsZero() })
}

func (g *Group) find(ifaceIndex uint16, vhid uint8) *vhost {
	for _, v := range g.vhosts {
		if v.cfg.ID == vhid && v.cfg.Iface == ifaceIndex {
			return v
		}
	}
	return nil
}

func (g *Group) findIface(index uint16) *iface {
	for _, i := range g.ifaces {
		if i.cfg.Index == index {
			return i
		}
	}
	return nil
}
