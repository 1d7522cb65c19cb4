// Package pf is the filter: the one decision about each packet, per direction.
//
// [Filter.In] judges the first packet of a flow where it comes in (translation
// of the destination, then rules), [Filter.Out] where it leaves (translation
// of the source, then rules) and makes the state; later packets follow the
// state by [Filter.States]. The order is that of pf, as the guide on rules in
// docs/ states it: rules with direction in see the original source and the
// translated destination, rules with direction out the translated source.
//
// The package does not know routes, neighbours or links; an interface is a
// small number, 0 is the node itself. Verdicts and reasons are small numbers
// and every reason is a counter. It reads no clock and allocates nothing per
// packet.
//
// Invariants: rules, translations and normalisation change as one [Policy],
// swapped by a pointer; a state remembers under which policy it was last
// judged, and one that today's rules would not let begin passes nothing.
package pf

import (
	"fmt"
	"sync"
	"sync/atomic"

	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
)

// Verdict is what becomes of a packet.
type Verdict uint8

// The verdicts. Drop is the zero value: what nobody decided does not pass.
const (
	Drop Verdict = iota
	Pass
	Reject // drop, and tell the sender
)

// Reason is why the filter dropped a packet that no state was in the way of.
type Reason uint8

// The reasons; each is a counter.
const (
	OK Reason = iota
	ByRule
	ByDefault
	OptionsRefused
	NoTranslation
	PortsUsedUp
	TranslationNotHeld
	TableFull
	KeyTaken
	UnrelatedError
	NoLongerAllowed
	reasonCount
)

// String is the counter's name.
func (r Reason) String() string {
	names := [...]string{"ok", "block-rule", "default-block", "ip-options", "no-translation", "nat-ports-used-up",
		"translation-not-held", "state-limit", "state-collision", "unrelated-icmp-error", "no-longer-allowed"}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}

// Policy is all that judges packets, compiled; it is never changed.
type Policy struct {
	Gen   uint32 // rises with every policy
	Rules *rule.Set
	// RuleKeys identifies rule i across policies, for the state table.
	RuleKeys []uint64
	NAT      *nat.Set
	// PassForward names the port forwards whose packets ask no rule.
	PassForward map[string]bool
	// Norm is the normalisation of each interface, by its number.
	Norm []norm.Policy
	// LogDefaultBlock: what no rule passes is logged.
	LogDefaultBlock bool
}

// Record is a line of the firewall log.
type Record struct {
	Mono      int64 // the data path's time, nanoseconds
	Iface     uint16
	Direction rule.Direction
	Verdict   Verdict
	Reason    Reason
	Rule      *rule.Rule // nil: the default
	packet.Tuple
	TCPFlags, ICMPType, ICMPCode uint8
	Len                          int
}

// Env is what the filter needs done by others.
type Env struct {
	Rand func() uint64
	// Holds says whether a new flow may be translated to an address: it is
	// no virtual address, or one that this node holds.
	Holds func(packet.Addr) bool
	// Master says whether the node role is MASTER, for rules with a role.
	Master func() bool
	// Log takes a record; it must not keep the pointer. May be nil.
	Log func(*Record)
}

// Config is the start of a filter.
type Config struct {
	States state.Config
	Frags  norm.Config
	HostID uint32
}

// Filter judges packets. Make one with [New]; all methods may be called from
// any worker.
type Filter struct {
	env    Env
	policy atomic.Pointer[Policy]
	states *state.Table
	hostID uint32

	fragMu sync.Mutex
	frags  *norm.Reassembler
	swept  atomic.Int64

	drops     [reasonCount]atomic.Uint64
	normDrops [norm.ReasonCount]atomic.Uint64
}

// Generation is the number of the policy in force.
func (f *Filter) Generation() uint32 { return f.policy.Load().Gen }

// Policy returns the policy in force.
func (f *Filter) Policy() *Policy { return f.policy.Load() }

// States is the state table.
func (f *Filter) States() *state.Table { return f.states }

// New returns a filter under a first policy.
func New(cfg Config, first *Policy, env Env) (*Filter, error) {
	states, err := state.New(cfg.States)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	f := &Filter{env: env, states: states, hostID: cfg.HostID, frags: norm.New(cfg.Frags)}
	f.policy.Store(first)
	return f, nil
}

// SetPolicy puts another policy in force. Rules that stay keep their counters;
// states are asked about again when they are next used. The caller makes the
// router forget its ways afterwards.
func (f *Filter) SetPolicy(next *Policy) {
	next.Rules.Carry(f.policy.Load().Rules)
	f.policy.Store(next)
}

// CountUnrelatedError counts an ICMP error that belongs to no flow.
func (f *Filter) CountUnrelatedError() { f.drops[UnrelatedError].Add(1) }

// DropCount is one drop counter that is not zero.
type DropCount struct {
	Reason  string
	Packets uint64
}

// Drops lists the counters of packets that the filter dropped.
func (f *Filter) Drops() []DropCount {
	var out []DropCount
	add := func(name string, n uint64) {
		if n > 0 {
			out = append(out, DropCount{name, n})
		}
	}
	for i := range f.normDrops {
		add(norm.Reason(i).String(), f.normDrops[i].Load())
	}
	for i := range f.drops {
		add(Reason(i).String(), f.drops[i].Load())
	}
	for i, n := range f.states.Stats().Reasons {
		switch why := state.Reason(i); why {
		case state.OK, state.Full, state.Collision: // the last two are of flows that did not begin, counted above
		default:
			add("state-"+why.String(), n)
		}
	}
	return out
}
