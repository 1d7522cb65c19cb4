package carp

import (
	"net/netip"
	"slices"
	"time"
)

// Role is what a node is, derived from its vhids.
type Role string

// The roles. Only vhids that can run count: all of them master, none, or some.
const (
	RoleInit       Role = "INIT" // none can run
	RoleBackup     Role = "BACKUP"
	RoleMaster     Role = "MASTER"
	RoleMixed      Role = "MIXED"
	RoleDisabled   Role = "DISABLED"
	RoleStandalone Role = "STANDALONE" // there is no vhid
)

// Role is the node's role now.
func (g *Group) Role() Role { return g.role }

func (g *Group) roleNow() Role {
	masters, backups := 0, 0
	for _, v := range g.vhosts {
		switch v.state {
		case Master:
			masters++
		case Backup:
			backups++
		}
	}
	switch {
	case len(g.vhosts) == 0:
		return RoleStandalone
	case !g.enabled:
		return RoleDisabled
	case masters > 0 && backups > 0:
		return RoleMixed
	case masters > 0:
		return RoleMaster
	case backups > 0:
		return RoleBackup
	}
	return RoleInit
}

// Status is a vhid as an operator sees it.
type Status struct {
	Iface          uint16
	Interface      string
	VHID           uint8
	Addresses      []netip.Addr
	State          string // INIT, BACKUP, MASTER, or DISABLED while CARP is switched off
	Base, Skew     uint8
	EffectiveSkew  uint8
	Reason         Reason     // of the last change; while INIT, what keeps it there
	MasterSource   netip.Addr // whose adverts we follow; invalid as master or unknown
	Transitions    uint64
	LastTransition time.Time // zero: none yet
	Draining       bool
}

// Snapshot is all a group can tell; nothing in it is shared with the group.
type Snapshot struct {
	Enabled     bool
	Maintenance bool
	Role        Role
	Demotion    int
	VHIDs       []Status // by interface, then vhid
	Demotions   []Demotion
	Counters    Counters
	Heard       []Heard
	Alarms      []Alarm
}

// Snapshot copies the group's status.
func (g *Group) Snapshot() Snapshot {
	s := Snapshot{
		Enabled:   g.enabled,
		Role:      g.role,
		Demotion:  g.Demotion(),
		Demotions: slices.Clone(g.demotions),
		Counters:  g.counters,
		Heard:     slices.Clone(g.heard),
	}
	s.Maintenance = slices.ContainsFunc(g.demotions, func(d Demotion) bool { return d.Name == DemotionMaintenance })
	for _, v := range g.vhosts {
		s.VHIDs = append(s.VHIDs, g.status(v))
		for k := range v.suspicions {
			if v.suspicions[k].raised {
				s.Alarms = append(s.Alarms, v.suspicions[k].alarm)
			}
		}
	}
	if g.mixed.raised {
		s.Alarms = append(s.Alarms, g.mixed.alarm)
	}
	return s
}

func (g *Group) status(v *vhost) Status {
	s := Status{
		Iface: v.cfg.Iface, Interface: v.iface.cfg.Name, VHID: v.cfg.ID,
		Addresses: slices.Clone(v.cfg.Addresses),
		State:     v.state.String(),
		Base:      v.cfg.Base, Skew: v.cfg.Skew, EffectiveSkew: v.machine.EffectiveSkew(),
		Reason: v.reason, MasterSource: v.peer,
		Transitions: v.transitions, LastTransition: v.lastTransition,
		Draining: !v.drainUntil.IsZero(),
	}
	if v.state != Init {
		return s
	}
	switch {
	case !g.enabled:
		s.State, s.Reason = "DISABLED", ReasonDisabled
	case g.left:
		s.Reason = ReasonLeaving
	case !v.iface.up:
		s.Reason = ReasonLinkDown
	default:
		s.Reason = ReasonNoAddress
	}
	return s
}
