package carp

import (
	"net/netip"
	"time"
)

const (
	// SkewDemoted is the largest skew on the wire: FreeBSD clamps configured
	// skew and demotion to it, so it marks a demoted node.
	SkewDemoted = 240
	// SkewMax is the largest skew that can be configured.
	SkewMax = 254
	// hastenGrace is how late one advert may be while a machine hastens.
	hastenGrace = 250 * time.Millisecond
	// tieDelay is how much longer one of two equal masters waits, far above
	// what adverts take to arrive.
	tieDelay = 250 * time.Millisecond
	// downAdverts is how many adverts of a master must be missed.
	downAdverts = 3
)

// MachineConfig is what one vhid's machine needs to know.
type MachineConfig struct {
	Base       uint8 // seconds, at least 1
	Skew       uint8 // 1/256 seconds, at most SkewMax
	Preempt    bool  // as a backup, take over from a slower master at once
	DemoteByte bool  // OpenBSD's rules: heed and send the demotion byte
	IPv4, IPv6 bool  // the families in which the vhid has addresses
	// Together: a backup that could take over from a healthy master waits for
	// [Machine.TakeTogether], so that all vhids of a node come back at once.
	Together bool
}

// masterDown is how long a backup waits for an advert: FreeBSD adds the
// configured skew once, whatever the demotion.
func (c MachineConfig) masterDown() time.Duration {
	return downAdverts*interval(c.Base, 0) + skewTime(c.Skew)
}

// watch is the master-down timer of one family.
type watch struct {
	on       bool          // the vhid has addresses of this family
	deadline time.Time     // zero: not running
	since    time.Time     // armed or last heard
	promised time.Duration // the interval last heard; zero: nothing heard yet
}

// Machine is one virtual host. It begins in [Init] and belongs to one
// goroutine. Methods append what the caller must do to acts.
type Machine struct {
	cfg      MachineConfig
	state    State
	runnable bool
	demotion int

	advert      time.Time // next advert, as master
	watch       [2]watch  // as backup, by family
	hastenUntil time.Time

	settled   bool       // as backup: an advert was heard since it or its demotion began
	wants     bool       // ... and it would have preempted
	wantsFrom netip.Addr // the master then
}

// NewMachine returns a machine that waits for [Machine.SetRunnable]. Base 0 is
// taken as 1: an interval of zero would be a flood.
func NewMachine(cfg MachineConfig) *Machine {
	m := &Machine{}
	m.configure(cfg)
	return m
}

func (m *Machine) configure(cfg MachineConfig) {
	cfg.Base, cfg.Skew = max(cfg.Base, 1), min(cfg.Skew, SkewMax)
	m.cfg = cfg
	m.watch[0].on, m.watch[1].on = cfg.IPv4, cfg.IPv6
}

// State is the machine's state now.
func (m *Machine) State() State { return m.state }

// MasterDown is how long this machine, as backup, waits for an advert.
func (m *Machine) MasterDown() time.Duration { return m.cfg.masterDown() }

// EffectiveSkew is the skew that adverts carry: configured plus demotion,
// between 0 and [SkewDemoted].
func (m *Machine) EffectiveSkew() uint8 {
	return uint8(min(max(int(m.cfg.Skew)+m.demotion, 0), SkewDemoted))
}

// DemoteCount is the demotion as OpenBSD's byte holds it; zero unless
// DemoteByte is set.
func (m *Machine) DemoteCount() uint8 {
	if !m.cfg.DemoteByte {
		return 0
	}
	return uint8(min(max(m.demotion, 0), 255))
}

// Deadline is when Tick wants to be called next; zero means never.
func (m *Machine) Deadline() time.Time {
	if m.state == Master {
		return m.advert
	}
	return earlier(m.watch[0].deadline, m.watch[1].deadline)
}

// earlier is the smaller of two deadlines, where zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Tick does what is due: the next adverts of a master, the takeover of a
// backup that has heard nothing. A caller that was held up hands in the
// packets that wait for it before it ticks, or it takes over from the living.
func (m *Machine) Tick(now time.Time, acts []Action) []Action {
	switch m.state {
	case Master:
		if now.Before(m.advert) {
			return acts
		}
		every := interval(m.cfg.Base, m.EffectiveSkew())
		m.advert = m.advert.Add(every)
		if !m.advert.After(now) { // Held up for longer than that: no burst to make up.
			m.advert = now.Add(every)
		}
		return m.send(acts)
	case Backup:
		for i := range m.watch {
			if d := m.watch[i].deadline; !d.IsZero() && !now.Before(d) {
				return m.master(now, ReasonTimedOut, netip.Addr{}, acts)
			}
		}
	}
	return acts
}

// Receive takes a verified advert of another node that came in by the given
// family.
func (m *Machine) Receive(now time.Time, adv Advert, from netip.Addr, family Family, acts []Action) []Action {
	if m.state == Init {
		return acts
	}
	verdict := m.compareFreeBSD
	if m.cfg.DemoteByte {
		verdict = m.compareOpenBSD
	}
	reason := verdict(adv)
	switch {
	case m.state == Master && reason != "":
		acts = append(acts, Action{Kind: BecomeBackup, Reason: reason, Peer: from})
		m.backup(now)
		for i := range m.watch {
			m.heard(now, i, adv.Interval()) // its adverts of the other family are due as well
		}
		m.settled = true
	case m.state == Backup && reason == ReasonPreempt && m.cfg.Together && !m.isDemoted(adv):
		m.heard(now, familyIndex(family), adv.Interval())
		m.settled, m.wants, m.wantsFrom = true, true, from
	case m.state == Backup && reason != "":
		acts = m.master(now, reason, from, acts)
	case m.state == Backup:
		m.heard(now, familyIndex(family), adv.Interval())
		m.settled, m.wants = true, false
	}
	return acts
}

// isDemoted says whether an advert's sender says that it is a worse master
// than usual: its vhids are to be taken at once, one by one.
func (m *Machine) isDemoted(adv Advert) bool {
	return adv.Skew() >= SkewDemoted || m.cfg.DemoteByte && adv.Demote() > 0
}

// Settled says whether the machine knows where it stands: it is no backup, or
// it has heard a master.
func (m *Machine) Settled() bool { return m.state != Backup || m.settled }

// TakeTogether takes over, if the machine waits to do so.
func (m *Machine) TakeTogether(now time.Time, acts []Action) []Action {
	if m.state != Backup || !m.wants {
		return acts
	}
	return m.master(now, ReasonPreempt, m.wantsFrom, acts)
}

// compareFreeBSD says why the advert changes our state; "" if it does not.
func (m *Machine) compareFreeBSD(adv Advert) Reason {
	ours, theirs := interval(m.cfg.Base, m.EffectiveSkew()), adv.Interval()
	switch {
	case m.state == Master && ours >= theirs:
		// A tie goes to the peer: two masters harm more than a short gap.
		return ReasonMoreFrequent
	case m.state == Backup && m.cfg.Preempt && ours < theirs:
		return ReasonPreempt
	case m.state == Backup && m.patience(m.EffectiveSkew()) < theirs:
		// It is so slow that it would time out between two adverts; a
		// farewell of OpenBSD's is the extreme.
		return ReasonWillTimeOut
	}
	return ""
}

// compareOpenBSD is the same by OpenBSD's rules, where the demotion byte
// outranks the interval and leaves our own skew alone.
func (m *Machine) compareOpenBSD(adv Advert) Reason {
	skew, mine, his := m.cfg.Skew, m.DemoteCount(), adv.Demote()
	if his > 0 && adv.Skew() == SkewDemoted {
		// One that demotes both ways, as we do: its skew is not the configured
		// one, so it is compared with our demoted one, or two demoted nodes
		// would take over from each other for ever.
		skew = m.EffectiveSkew()
	}
	ours, theirs := interval(m.cfg.Base, skew), adv.Interval()
	switch {
	case m.state == Master && (ours >= theirs && his <= mine || his < mine):
		return ReasonMoreFrequent
	case m.state == Master:
		return ""
	case m.cfg.Preempt && ours < theirs && his >= mine:
		return ReasonPreempt
	case his > mine:
		return ReasonHigherDemote
	case m.patience(skew) < theirs:
		return ReasonWillTimeOut
	}
	return ""
}

func (m *Machine) patience(skew uint8) time.Duration {
	return downAdverts*interval(m.cfg.Base, 0) + skewTime(skew)
}

// SetRunnable tells whether the vhid can run (link up, CARP enabled), and why
// that changed.
func (m *Machine) SetRunnable(now time.Time, runnable bool, why Reason, acts []Action) []Action {
	m.runnable = runnable
	return m.settle(now, why, why, acts)
}

// SetDemotion takes the node's demotion, any number. A master says so at once.
func (m *Machine) SetDemotion(now time.Time, amount int, acts []Action) []Action {
	if amount == m.demotion {
		return acts
	}
	m.demotion = amount
	m.settled, m.wants = false, false // what was heard is to be weighed anew
	return m.sayNow(now, acts)
}

// SetConfig replaces the configuration. A master stays master, also when
// addresses came or went: FreeBSD would make it wait a master-down time as
// INIT and BACKUP, in which nobody holds the addresses.
func (m *Machine) SetConfig(now time.Time, cfg MachineConfig, acts []Action) []Action {
	if cfg == m.cfg {
		return acts
	}
	m.configure(cfg)
	before := m.state
	acts = m.settle(now, ReasonInitComplete, ReasonNoAddress, acts)
	switch {
	case m.state != before:
	case m.state == Master:
		acts = m.sayNow(now, acts)
	case m.state == Backup:
		for i := range m.watch {
			if m.watch[i].since.IsZero() { // a family that is new
				m.watch[i].since = now
			}
			m.arm(i)
		}
	}
	return acts
}

// MasterIsDown is word from elsewhere, not from adverts, that the master is
// gone: a backup takes over at once.
func (m *Machine) MasterIsDown(now time.Time, acts []Action) []Action {
	if m.state != Backup {
		return acts
	}
	return m.master(now, ReasonMasterDown, netip.Addr{}, acts)
}

// Leave stops the machine; it does not run until [Machine.SetRunnable] says
// so. A master says farewell as OpenBSD does, so that nobody waits for it.
func (m *Machine) Leave(now time.Time, why Reason, acts []Action) []Action {
	if m.state == Master {
		acts = m.sendAs(BowOut, BowOut, acts)
	}
	return m.SetRunnable(now, false, why, acts)
}

// Hasten makes a backup content with one missed advert, and [hastenGrace],
// instead of three, for adverts heard before until. It has no effect before
// the first advert was heard.
func (m *Machine) Hasten(now, until time.Time) {
	if m.state != Backup {
		return
	}
	m.hastenUntil = until
	for i := range m.watch {
		w := &m.watch[i]
		soon := w.since.Add(w.promised + hastenGrace)
		if soon.Before(now) {
			soon = now
		}
		if w.promised > 0 && soon.Before(w.deadline) {
			w.deadline = soon
		}
	}
}

// yieldTie puts off a backup's takeover a little. After a tie both masters
// have stepped down; if they did so at the same moment they would also come
// back at the same moment, and so on for ever. One of them waits longer.
func (m *Machine) yieldTie() {
	for i := range m.watch {
		if w := &m.watch[i]; !w.deadline.IsZero() {
			w.deadline = w.deadline.Add(tieDelay)
		}
	}
}

// settle brings the state in line with whether the machine can run.
func (m *Machine) settle(now time.Time, up, down Reason, acts []Action) []Action {
	can := m.runnable && (m.cfg.IPv4 || m.cfg.IPv6)
	switch {
	case can && m.state == Init:
		m.backup(now)
		acts = append(acts, Action{Kind: BecomeBackup, Reason: up})
	case !can && m.state != Init:
		m.stop()
		m.state = Init
		acts = append(acts, Action{Kind: BecomeInit, Reason: down})
	}
	return acts
}

func (m *Machine) master(now time.Time, why Reason, from netip.Addr, acts []Action) []Action {
	m.stop()
	m.state = Master
	acts = append(acts, Action{Kind: BecomeMaster, Reason: why, Peer: from})
	m.advert = now.Add(interval(m.cfg.Base, m.cfg.Skew)) // FreeBSD: the first wait leaves demotion out
	return m.send(acts)
}

// backup enters that state and waits afresh in both families.
func (m *Machine) backup(now time.Time) {
	m.stop()
	m.state = Backup
	for i := range m.watch {
		m.watch[i].since = now
		m.arm(i)
	}
}

func (m *Machine) stop() {
	m.settled, m.wants = false, false
	m.advert, m.hastenUntil = time.Time{}, time.Time{}
	for i := range m.watch {
		w := &m.watch[i]
		w.deadline, w.since, w.promised = time.Time{}, time.Time{}, 0
	}
}

func (m *Machine) heard(now time.Time, i int, promised time.Duration) {
	m.watch[i].since, m.watch[i].promised = now, promised
	m.arm(i)
}

func (m *Machine) arm(i int) {
	w := &m.watch[i]
	if !w.on {
		*w = watch{}
		return
	}
	w.deadline = w.since.Add(m.cfg.masterDown())
	if w.promised > 0 && w.since.Before(m.hastenUntil) {
		if soon := w.since.Add(w.promised + hastenGrace); soon.Before(w.deadline) {
			w.deadline = soon
		}
	}
}

// sayNow makes a master advertise at once and start a fresh interval.
func (m *Machine) sayNow(now time.Time, acts []Action) []Action {
	if m.state != Master {
		return acts
	}
	m.advert = now.Add(interval(m.cfg.Base, m.EffectiveSkew()))
	return m.send(acts)
}

func (m *Machine) send(acts []Action) []Action {
	return m.sendAs(m.cfg.Base, m.EffectiveSkew(), acts)
}

// sendAs asks for one advert of each family, IPv4 first.
func (m *Machine) sendAs(base, skew uint8, acts []Action) []Action {
	for i, family := range [2]Family{IPv4, IPv6} {
		if m.watch[i].on {
			acts = append(acts, Action{
				Kind: SendAdvert, Family: family,
				Base: base, Skew: skew, Demote: m.DemoteCount(),
			})
		}
	}
	return acts
}

func familyIndex(f Family) int {
	if f == IPv6 {
		return 1
	}
	return 0
}
