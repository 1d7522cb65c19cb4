package carp

import "net/netip"

// State is what a vhid is on this node.
type State uint8

// The states. Init: it cannot run (no link, no address, switched off).
const (
	Init State = iota
	Backup
	Master
)

// String is the name as ifconfig and interface documents write it.
func (s State) String() string {
	switch s {
	case Backup:
		return "BACKUP"
	case Master:
		return "MASTER"
	}
	return "INIT"
}

// Reason is why a state changed, in the words FreeBSD logs where it has them.
type Reason string

// FreeBSD's reasons.
const (
	ReasonInitComplete Reason = "initialization complete"
	ReasonLinkUp       Reason = "hardware interface up"
	ReasonLinkDown     Reason = "hardware interface down"
	ReasonTimedOut     Reason = "master timed out"
	ReasonPreempt      Reason = "preempting a slower master"
	ReasonWillTimeOut  Reason = "master will time out"
	ReasonMoreFrequent Reason = "more frequent advertisement received"
)

// Reasons that FreeBSD does not have or does not log.
const (
	ReasonHigherDemote Reason = "master has a higher demote count" // OpenBSD
	ReasonMasterDown   Reason = "master was found down"            // fast detection
	ReasonNoAddress    Reason = "no address left"
	ReasonRemoved      Reason = "removed from the configuration"
	ReasonDisabled     Reason = "CARP disabled"
	ReasonEnabled      Reason = "CARP enabled"
	ReasonLeaving      Reason = "node is leaving"
)

// Kind says what an [Action] asks for.
type Kind uint8

// The kinds of action, with the fields that go with each beside Iface and VHID.
const (
	// SendAdvert: put an advert on the wire. Family, Base, Skew, Demote; from
	// a [Group] also Src, Dst, RealMAC and the signed Payload. Report the
	// outcome by [Group.Sent].
	SendAdvert Kind = iota + 1
	// BecomeMaster: take the addresses and announce them. Reason, Peer (whom
	// it was taken from, where known).
	BecomeMaster
	// BecomeBackup: give the addresses up. Reason, Peer (the new master, where
	// known), Drain.
	BecomeBackup
	// BecomeInit: the same; it cannot run at all. Reason, Drain.
	BecomeInit
	// DrainEnd: stop forwarding what still arrives for the virtual MAC. It does
	// not come if BecomeMaster comes first.
	DrainEnd
	// DemotionChanged: Demotion is the record that came, changed or went
	// (then its Amount is 0), Total the new sum, Delta the difference.
	DemotionChanged
	// AlarmRaised and AlarmCleared: Alarm.
	AlarmRaised
	AlarmCleared
	// RoleChanged: Role, always the last action of a call.
	RoleChanged
)

// Action is one thing for the caller to do. Which fields mean anything depends
// on Kind.
type Action struct {
	Kind  Kind
	Iface uint16
	VHID  uint8

	Family             Family
	Base, Skew, Demote uint8
	Src, Dst           netip.Addr      // Src 0.0.0.0 only where there is no other
	RealMAC            bool            // unicast: from the interface's own MAC, not the virtual one
	Payload            [HeaderLen]byte // behind the IP header

	Reason Reason
	Peer   netip.Addr
	Drain  bool // go on forwarding for the virtual MAC until DrainEnd

	Demotion     Demotion
	Delta, Total int
	Alarm        Alarm
	Role         Role
}
