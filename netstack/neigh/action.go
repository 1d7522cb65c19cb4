package neigh

import (
	"net/netip"

	"tandem/netstack/packet"
)

// Kind says what an [Action] asks for.
type Kind uint8

// The kinds of actions. Unless said otherwise Port and Addr are set.
const (
	// Send: write Frame to Port. Addr is what it is about.
	Send Kind = iota + 1
	// Resolved: a neighbour that was asked for has MAC; send what waited.
	Resolved
	// Changed: a known neighbour has a new MAC.
	Changed
	// Unreachable: a neighbour has no MAC, or none any more: nobody answered,
	// or its entry went for disuse, for room or by Delete. What waited for it
	// is to be given up, and no copy of its old MAC to be used.
	Unreachable
	// Conflict: another station, MAC, claims the own or held virtual address
	// Addr. From is the Ethernet source of the frame that did; where MAC is
	// the virtual MAC itself (a second master, or an echo of ours) it may
	// tell the station apart. At most one a second for each address.
	Conflict
	// ProbeDone: the probe for own address Addr has ended. OK: nobody has it
	// and it is in use now. Otherwise MAC has it, it is not used, and the
	// probe is repeated every minute; a later success is reported again.
	ProbeDone
)

// String is the kind's name: "send", "resolved" and so on.
func (k Kind) String() string {
	return name(kindNames[:], int(k))
}

var kindNames = [...]string{Send: "send", Resolved: "resolved", Changed: "changed",
	Unreachable: "unreachable", Conflict: "conflict", ProbeDone: "probe-done"}

// Action is one thing the caller must do. Frame is the caller's to keep.
type Action struct {
	Kind  Kind
	Port  uint16
	Addr  netip.Addr
	MAC   packet.MAC
	From  packet.MAC // for Conflict and a ProbeDone that is not OK
	OK    bool       // for ProbeDone
	Frame []byte     // for Send, from the Ethernet header, without padding
}

// Status is what [Table.Resolve] knows.
type Status uint8

// The answers of Resolve.
const (
	// Found: here is the MAC.
	Found Status = iota + 1
	// Pending: the neighbour is being asked; Resolved or Unreachable follows.
	Pending
	// Failed: the neighbour did not answer a moment ago, cannot be a
	// neighbour at all, or there is no room to ask for it. Nothing follows.
	Failed
)

// String is the status's name.
func (s Status) String() string { return name(statusNames[:], int(s)) }

var statusNames = [...]string{Found: "found", Pending: "pending", Failed: "failed"}

// State is how well a neighbour is known.
type State uint8

// The states of a neighbour, after RFC 4861, section 7.3.2, of which DELAY is
// left out: a stale entry in use is probed within five seconds anyhow.
const (
	Incomplete  State = iota + 1 // asked for, no answer yet
	Reachable                    // confirmed within the last half to whole minute
	Stale                        // known, not confirmed lately
	Probing                      // in use, being confirmed by asks to its address
	NoAnswer                     // nobody answered a moment ago
	Provisional                  // told by Hint, for a while
)

// String is the state's name in listings.
func (s State) String() string { return name(stateNames[:], int(s)) }

var stateNames = [...]string{Incomplete: "incomplete", Reachable: "reachable", Stale: "stale",
	Probing: "probe", NoAnswer: "failed", Provisional: "static"}

// name is names[i], or "none" where there is no such value.
func name(names []string, i int) string {
	if i >= len(names) || names[i] == "" {
		return "none"
	}
	return names[i]
}
