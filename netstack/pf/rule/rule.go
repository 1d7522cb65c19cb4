// Package rule decides which filter rule a packet without a state meets.
//
// A [Set] is a list of rules in the order in which they are judged, compiled
// once and never changed: a reload builds another one beside it and swaps.
// The first matching quick rule decides; where none matches, the last matching
// rule that is not quick (pf.conf(5), "quick"). Rules with action match never
// decide, they tag and log on the way. Up to sixteen rules are walked one by
// one; larger sets are looked up in prefix tries and bit sets, which give the
// same answer (see classify.go for how).
//
// The package knows nothing of names: interfaces are numbers, addresses are
// prefixes and ranges, and what an alias or "lan:net" stands for was settled
// before. It reads no clock, and allocates only while it compiles or explains.
//
// Invariants: Match, the linear walk and Explain agree on every packet. A rule
// that names ports matches nothing but TCP and UDP packets that show theirs.
// ICMP is matched in IPv4 only and ICMPv6 in IPv6 only.
package rule

import "tandem/netstack/packet"

// Action is what a rule does with the packets that it decides on.
type Action uint8

// Block is the zero value, so that a rule that forgot its action is harmless.
const (
	Block  Action = iota // drop silently
	Reject               // drop, and answer with a TCP reset or an ICMP error
	Pass
	Match // never decides: tags and logs, then the walk goes on
)

// String gives the word of the configuration.
func (a Action) String() string {
	return [...]string{"block", "reject", "pass", "match"}[a&3]
}

// Direction is the way through the interface; a query has In or Out.
type Direction uint8

const (
	In Direction = iota
	Out
	Any
)

// String gives the word of the configuration.
func (d Direction) String() string {
	return [...]string{"in", "out", "any", "invalid"}[d&3]
}

// StateMode is how a connection is followed that a pass rule let begin.
type StateMode uint8

const (
	Keep   StateMode = iota // a state; TCP begins with SYN
	Sloppy                  // a state that does not look at TCP sequence numbers, begun by any packet
	None                    // no state
)

// String gives the word of the configuration.
func (m StateMode) String() string {
	return [...]string{"keep", "sloppy", "none", "invalid"}[m&3]
}

// Role restricts a rule to the time in which the node is master or backup.
type Role string

const (
	AnyRole    Role = ""
	RoleMaster Role = "master"
	RoleBackup Role = "backup"
)

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// ICMPType is an ICMP type of one family, with one code or any.
type ICMPType struct {
	Family  uint8 // 4 or 6
	Type    uint8
	Code    uint8
	HasCode bool // only with Code
}

// Flags are the TCP flags that a rule asks for: those of Mask must be as in
// Set ("S/SA" is Set SYN, Mask SYN|ACK). Mask 0 asks for none.
type Flags struct{ Set, Mask uint8 }

// Rule is one rule, with all its names resolved.
type Rule struct {
	ID          string // the same over reloads; counters follow it. Empty: not carried
	Description string
	Number      int  // as `rules list` shows it
	Automatic   bool // written by the program, not by the operator

	Action    Action
	Quick     bool
	Direction Direction
	State     StateMode

	Interfaces       []uint16 // nil: any
	Family           uint8    // 4, 6, or 0 for both
	Protos           []uint8  // IP protocol numbers; nil: any
	Source           AddrMatch
	Destination      AddrMatch
	SourcePorts      []PortRange // nil: any; empty but not nil (an empty alias): none
	DestinationPorts []PortRange
	ICMPTypes        []ICMPType // nil: any
	// TCPFlags asks only TCP packets. A pass rule that keeps state and gives
	// no mask asks for S/SA (pf.conf(5), "flags").
	TCPFlags Flags
	Tagged   string // needs this tag, or with a leading "!" any but this
	Role     Role

	AllowOptions bool // lets packets with IP options pass, see Accepts
	Log          bool
	Tag          string // put on the packet
	NoSync       bool   // its states are not sent to the peer
}

// Accepts says whether a packet that this rule decided on may pass as far as
// IP options go: one with options passes only by a rule that allows them
// (pf.conf(5), "allow-opts"). It is true for rules that pass nothing anyway.
func (r *Rule) Accepts(q *Query) bool {
	return !q.Options || r.AllowOptions || r.Action != Pass
}

// Query is what the rules are asked about: one packet at one interface. It is
// reused from packet to packet.
type Query struct {
	Iface     uint16
	Direction Direction // In or Out
	packet.Tuple
	ICMPType, ICMPCode uint8
	TCPFlags           uint8
	Fragment           bool // not the first fragment: shows no ports, flags or type
	// Options: IPv4 options, or an IPv6 hop-by-hop or routing header.
	Options bool
	Master  bool // the node's role, for rules with a role
	// Forwarded is set for direction out when the packet came in by another
	// interface: the rules there judged already whether it may begin a
	// connection, so that the S/SA that goes without saying is not asked twice.
	Forwarded bool
	Dry       bool   // for explaining: nothing is counted
	Tag       uint16 // the tag the packet bears, 0 none; Match leaves here what it bears then
	Log       bool   // Match sets it where a match rule asks for a log entry
	Len       int    // bytes of the IP packet
}

// Fill sets what a decoded packet says; interface, direction, role and tag are
// left to the caller.
func (q *Query) Fill(v *packet.View) {
	q.Tuple = v.Tuple
	q.ICMPType, q.ICMPCode, q.TCPFlags = v.ICMPType, v.ICMPCode, v.TCPFlags
	q.Fragment = v.Fragment && v.FragOffset > 0
	q.Options = v.Options
	q.Log = false
	q.Len = v.End - v.L3
}

// hasPorts says whether q shows TCP or UDP ports.
func (q *Query) hasPorts() bool {
	return (q.Proto == packet.ProtoTCP || q.Proto == packet.ProtoUDP) && !q.Fragment
}
