package carp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// AlarmKind is what is wrong.
type AlarmKind uint8

// The alarms of a vhid, and AlarmMixed of the node.
const (
	AlarmOwnEcho        AlarmKind = iota // our adverts come back: a layer-2 loop
	AlarmSecondMaster                    // another master goes on beside us
	AlarmWrongDigest                     // adverts of our vhid that do not verify
	AlarmForeignSpeaker                  // VRRP with our number: the same virtual MAC
	AlarmReplayed                        // counters that their source has used before
	AlarmEqualSkew                       // a peer as preferred as we are
	AlarmBaseMismatch                    // a peer with another advbase
	AlarmFlapping                        // mastership comes and goes
	alarmKinds                           // of a vhid
	AlarmMixed                           // some vhids here, some elsewhere, for too long
)

// String is the alarm's stable name.
func (k AlarmKind) String() string {
	switch k {
	case AlarmOwnEcho:
		return "own-echo"
	case AlarmSecondMaster:
		return "second-master"
	case AlarmWrongDigest:
		return "wrong-digest"
	case AlarmForeignSpeaker:
		return "foreign-speaker"
	case AlarmReplayed:
		return "replayed"
	case AlarmEqualSkew:
		return "equal-skew"
	case AlarmBaseMismatch:
		return "base-mismatch"
	case AlarmFlapping:
		return "flapping"
	case AlarmMixed:
		return "mixed"
	}
	return "unknown"
}

// Alarm is something an operator should know. Iface and VHID are zero for
// AlarmMixed.
type Alarm struct {
	Kind   AlarmKind
	Iface  uint16
	VHID   uint8
	Source netip.Addr
	Since  time.Time
	Text   string // one sentence: what is wrong, and where to look
}

const (
	// alarmHold is how long an alarm stays without new evidence.
	alarmHold = time.Minute
	// settingsHold is longer: a master does not hear the backup whose settings
	// are wrong.
	settingsHold = time.Hour
	// flapsMax changes of mastership within flapsWithin are flapping.
	flapsMax    = 4
	flapsWithin = time.Minute
	// mixedDowns is how many master-down times a node may be MIXED.
	mixedDowns = 2
)

// holdFor keeps an alarm over three adverts of a slow speaker.
func holdFor(interval time.Duration) time.Duration { return max(alarmHold, 3*interval) }

// evidence is one observation that speaks for an alarm.
type evidence struct {
	kind   AlarmKind
	source netip.Addr
	need   int           // observations that make an alarm
	after  time.Duration // ... when the first of them is so old
	hold   time.Duration // without another one it is over

	diagnosed bool // the fields below say why a digest is wrong
	diagnosis Diagnosis
	addr      netip.Addr
	vhid      uint8
	base      uint8 // the peer's, for AlarmBaseMismatch
}

// suspicion collects evidence of one kind.
type suspicion struct {
	count       int
	raised      bool
	first, last time.Time
	latest      evidence
	alarm       Alarm
}

// expires is when the suspicion is over; zero: there is none.
func (s *suspicion) expires() time.Time {
	if s.count == 0 {
		return time.Time{}
	}
	return s.last.Add(s.latest.hold)
}

// suspect adds evidence, and raises the alarm once there is enough of it.
func (g *Group) suspect(now time.Time, v *vhost, e evidence, acts []Action) []Action {
	s := &v.suspicions[e.kind]
	if s.count == 0 {
		s.first = now
	}
	if !e.diagnosed && s.latest.diagnosed && s.latest.source == e.source {
		e.diagnosed, e.diagnosis, e.addr, e.vhid = true, s.latest.diagnosis, s.latest.addr, s.latest.vhid
	}
	s.count++
	s.last, s.latest = now, e
	undiagnosed := e.kind == AlarmWrongDigest && !e.diagnosed
	if s.raised || undiagnosed || s.count < e.need || now.Sub(s.first) < e.after {
		return acts
	}
	s.raised = true
	s.alarm = Alarm{Kind: e.kind, Iface: v.cfg.Iface, VHID: v.cfg.ID, Source: e.source, Since: now, Text: v.explain(e)}
	return append(acts, Action{Kind: AlarmRaised, Iface: v.cfg.Iface, VHID: v.cfg.ID, Alarm: s.alarm})
}

// clear forgets a suspicion.
func (g *Group) clear(v *vhost, kind AlarmKind, acts []Action) []Action {
	s := &v.suspicions[kind]
	if s.raised {
		acts = append(acts, Action{Kind: AlarmCleared, Iface: v.cfg.Iface, VHID: v.cfg.ID, Alarm: s.alarm})
	}
	*s = suspicion{}
	return acts
}

func (g *Group) clearSuspicions(v *vhost, acts []Action) []Action {
	for k := range alarmKinds {
		acts = g.clear(v, k, acts)
	}
	return acts
}

func (g *Group) expireSuspicions(now time.Time, v *vhost, acts []Action) []Action {
	for k := range alarmKinds {
		if d := v.suspicions[k].expires(); !d.IsZero() && !now.Before(d) {
			acts = g.clear(v, k, acts)
		}
	}
	return acts
}

// compareSettings looks at what a peer of the same vhid must have like us
// (base) or unlike us (skew). A demoted node's skew says nothing.
func (g *Group) compareSettings(now time.Time, v *vhost, p *Packet, adv Advert, acts []Action) []Action {
	if adv.IsBowOut() {
		return acts
	}
	judge := func(kind AlarmKind, wrong bool) {
		switch {
		case wrong:
			acts = g.suspect(now, v, evidence{kind: kind, source: p.Src, need: 2, hold: settingsHold, base: adv.Base()}, acts)
		case v.suspicions[kind].latest.source == p.Src:
			acts = g.clear(v, kind, acts)
		}
	}
	judge(AlarmBaseMismatch, adv.Base() != v.cfg.Base)
	if ours := v.machine.EffectiveSkew(); ours < SkewDemoted && adv.Skew() < SkewDemoted {
		judge(AlarmEqualSkew, adv.Skew() == ours && adv.Base() == v.cfg.Base)
	}
	return acts
}

// noteFlap remembers that v was taken from a master that fell silent. Only
// that may mean that adverts get lost; changes that somebody asked for do not.
func (g *Group) noteFlap(now time.Time, v *vhost, acts []Action) []Action {
	copy(v.flaps[:], v.flaps[1:])
	v.flaps[flapsMax-1] = now
	within := max(flapsWithin, flapsMax*v.machine.MasterDown())
	if first := v.flaps[0]; first.IsZero() || now.Sub(first) > within {
		return acts
	}
	return g.suspect(now, v, evidence{kind: AlarmFlapping, source: v.peer, need: 1, hold: 5 * within}, acts)
}

// watchMixed raises the alarm when the vhids stay apart.
func (g *Group) watchMixed(now time.Time, role Role, acts []Action) []Action {
	if role != RoleMixed {
		g.mixedSince = time.Time{}
		if g.mixed.raised {
			acts = append(acts, Action{Kind: AlarmCleared, Alarm: g.mixed.alarm})
			g.mixed = suspicion{}
		}
		return acts
	}
	if g.mixedSince.IsZero() {
		g.mixedSince = now
	}
	if d := g.mixedDeadline(); d.IsZero() || now.Before(d) {
		return acts
	}
	g.mixed.raised = true
	g.mixed.alarm = Alarm{Kind: AlarmMixed, Since: now, Text: g.explainMixed()}
	return append(acts, Action{Kind: AlarmRaised, Alarm: g.mixed.alarm})
}

func (g *Group) mixedDeadline() time.Time {
	if g.mixedSince.IsZero() || g.mixed.raised {
		return time.Time{}
	}
	var down time.Duration
	for _, v := range g.vhosts {
		down = max(down, v.machine.MasterDown())
	}
	return g.mixedSince.Add(mixedDowns * down)
}

// explainMixed names the vhids that are not ours, and who has them.
func (g *Group) explainMixed() string {
	var held []string
	for _, v := range g.vhosts {
		if v.state == Backup {
			holder := "nobody heard"
			if v.peer.IsValid() {
				holder = v.peer.String()
			}
			held = append(held, fmt.Sprintf("%s (%s)", v.name(), holder))
		}
	}
	return "this node is MASTER of some vhids but not of " + strings.Join(held, ", ") +
		"; check preempt and demotion on both nodes, and who else speaks with these numbers"
}

// explain is the alarm's sentence.
func (v *vhost) explain(e evidence) string {
	name := v.name()
	switch e.kind {
	case AlarmOwnEcho:
		return fmt.Sprintf("own adverts of vhid %s come back: there is a loop at layer 2, or a switch that mirrors them", name)
	case AlarmSecondMaster:
		return fmt.Sprintf("%v is MASTER of vhid %s beside us: it does not hear our adverts; check there the rules "+
			"(IP protocol 112), then cables, then the switch (multicast snooping), then the hypervisor "+
			"(promiscuous mode, MAC changes, forged transmits)", e.source, name)
	case AlarmWrongDigest:
		return fmt.Sprintf("adverts of vhid %s from %v do not verify: %s", name, e.source, v.explainDiagnosis(e))
	case AlarmForeignSpeaker:
		return fmt.Sprintf("%v speaks VRRP with id %d: it uses the same virtual MAC address as vhid %s; renumber one of them",
			e.source, v.cfg.ID, name)
	case AlarmReplayed:
		return fmt.Sprintf("an advert of vhid %s from %v has a counter that its source has used before: "+
			"somebody on the segment repeats old adverts", name, e.source)
	case AlarmEqualSkew:
		return fmt.Sprintf("%v advertises vhid %s with the same advskew %d as we: give each node its own",
			e.source, name, v.machine.EffectiveSkew())
	case AlarmBaseMismatch:
		return fmt.Sprintf("%v advertises vhid %s with advbase %d, here it is %d: it must be equal on all nodes",
			e.source, name, e.base, v.cfg.Base)
	case AlarmFlapping:
		return fmt.Sprintf("the master of vhid %s fell silent %d times in short order: if the network is too slow for the timer, "+
			"raise advbase one second at a time, on all nodes alike", name, flapsMax)
	}
	return e.kind.String()
}

func (v *vhost) explainDiagnosis(e evidence) string {
	switch e.diagnosis {
	case DiagnosisMissing:
		return fmt.Sprintf("the address set differs, it lacks %v", e.addr)
	case DiagnosisExtra:
		return fmt.Sprintf("the address set differs, it also has %v", e.addr)
	case DiagnosisFamily:
		return "the address set differs, it has the addresses of one family only"
	case DiagnosisEscaped:
		return "the password differs as a web page changes it: spaces removed, quotes and backslashes escaped"
	case DiagnosisVHID:
		return fmt.Sprintf("the vhid differs, it uses %d", e.vhid)
	}
	return "the password differs, or an address that only it has, or another CARP group uses this vhid on the segment"
}
