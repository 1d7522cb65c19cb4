package state

import (
	"strconv"

	"tandem/netstack/packet"
)

// Flow is a copy of one state, for people and for re-checks.
type Flow struct {
	ID              ID
	WireIn, WireOut uint64 // pfsync's ids of the two halves; a flow that ends here has only the first
	Creator         uint32 // host_id of the node that made it
	Peer            bool   // that is another node's host_id than this one's
	In, Out         packet.Tuple
	IfIn, IfOut     uint16
	ICMPType        uint8 // of the first packet; 0 for other protocols
	Proto           uint8
	SrcState        uint8 // of the initiator: as pf numbers TCP's states, or traffic seen
	DstState        uint8
	Created, Seen   int64 // nanoseconds on the node's clock, good to 67 ms
	Expires         int64
	Packets, Bytes  [2]uint64 // by Dir; bytes from the IP header on
	Rule            uint32
	RuleID          uint64
	RuleGen         uint32
	Path            [2]Path
	Allowed         bool // by the rules in force when last asked
	Sloppy          bool
	NoSync          bool
	Log             bool
}

// State is both ends' states as pfctl shows them: "ESTABLISHED:ESTABLISHED",
// "SINGLE:NO_TRAFFIC", or numbers for ICMP.
func (f *Flow) State() string {
	return f.stateName(f.SrcState) + ":" + f.stateName(f.DstState)
}

func (f *Flow) stateName(s uint8) string {
	switch {
	case f.Proto == packet.ProtoTCP && int(s) < len(tcpNames):
		return tcpNames[s]
	case f.Proto == packet.ProtoTCP, f.Proto == packet.ProtoICMP, f.Proto == packet.ProtoICMPv6,
		int(s) >= len(pseudoNames):
		return strconv.Itoa(int(s))
	}
	return pseudoNames[s]
}

// snapshot copies the record at a place, which is locked and in use.
func (t *Table) snapshot(place uint32, b *body, f *Flow) {
	c := t.cold(place)
	*f = Flow{
		ID: ID(b.epoch)<<32 | ID(place), WireIn: c.wire, WireOut: c.wire + 1, Creator: c.creator, Peer: c.creator != t.creator.Load(),
		IfIn: b.iface[Forward], IfOut: b.iface[Reverse],
		ICMPType: b.icmpType(), Proto: b.proto, SrcState: b.peers[0].state, DstState: b.peers[1].state,
		Created: c.created.nanos(), Seen: b.seen.nanos(),
		Expires: (b.seen + tick(t.ages.Load().ticks[b.class])).nanos(),
		Packets: b.packets, Bytes: b.bytes,
		Rule: b.rule, RuleID: c.ruleID, RuleGen: b.ruleGen,
		Allowed: b.flags&flagRefused == 0, Sloppy: b.flags&flagSloppy != 0,
		NoSync: b.flags&flagNoSync != 0, Log: b.flags&flagLog != 0,
	}
	for d := range f.Path {
		f.Path[d] = Path{Out: b.out[d], Hop: b.hop[d], Gen: b.gen[d]}
	}
	t.tuple(place, Forward, &f.In)
	t.answer(place, Reverse, &f.Out)
}

// First gives a copy of the state, whose In and ICMPType are those of its first
// packet, or says that it is gone.
func (t *Table) First(id ID) (f Flow, ok bool) {
	b, st := t.lockID(id)
	if b == nil {
		return Flow{}, false
	}
	defer st.mu.Unlock()
	t.snapshot(id.Place(), b, &f)
	return f, true
}

// List calls f with a copy of each state, by place, until f returns false. No
// lock is held during a call; states made or ended meanwhile may be missed.
// The Flow is reused.
func (t *Table) List(f func(*Flow) bool) {
	var flow Flow
	t.places(func(place uint32) bool {
		st := t.stripeOf(place)
		st.mu.Lock()
		b := t.body(place)
		alive := b.epoch&1 == 1
		if alive {
			t.snapshot(place, b, &flow)
		}
		st.mu.Unlock()
		return !alive || f(&flow)
	})
}

// places calls f with every place ever used, until it returns false.
func (t *Table) places(f func(place uint32) bool) {
	for i := uint32(1); i < t.slab4.used.Load(); i++ {
		if !f(i) {
			return
		}
	}
	for i := uint32(1); i < t.slab6.used.Load(); i++ {
		if !f(i | class6) {
			return
		}
	}
}

// Kill ends the states for which f returns true and says how many. As in List,
// no lock is held during a call.
func (t *Table) Kill(f func(*Flow) bool) (killed int) {
	t.List(func(flow *Flow) bool {
		id := flow.ID
		if f(flow) && t.remove(id) {
			killed++
		}
		return true
	})
	return killed
}

// Sweep looks at up to budget places from where it stopped the last time, ends
// the states there whose time is over, and says how many. It also sets the
// adaptive timeouts to the present load. Called so often that it comes round
// every few seconds, it keeps the table small; a state that is over but not
// swept yet matches nothing in any case.
func (t *Table) Sweep(now int64, budget int) (removed int) {
	t.sweep.Lock()
	defer t.sweep.Unlock()
	a := t.adapt()
	n4, n6 := t.slab4.used.Load()-1, t.slab6.used.Load()-1
	for range min(budget, int(n4+n6)) {
		if t.cursor >= n4+n6 {
			t.cursor = 0
		}
		place := t.cursor + 1
		if t.cursor >= n4 {
			place = t.cursor - n4 + 1 | class6
		}
		t.cursor++
		if id := t.over(tickOf(now), place, a); id != 0 && t.remove(id) {
			removed++
		}
	}
	t.expired.Add(uint64(removed))
	return removed
}

// over is the state at a place if its time is over, else zero.
func (t *Table) over(now tick, place uint32, a *ages) ID {
	st := t.stripeOf(place)
	st.mu.Lock()
	defer st.mu.Unlock()
	b := t.body(place)
	if b.epoch&1 == 0 || !a.expired(now, b.seen, b.class) {
		return 0
	}
	return ID(b.epoch)<<32 | ID(place)
}

// adapt makes the ages that the present number of states asks for.
func (t *Table) adapt() *ages {
	t.alloc.Lock()
	n := t.count
	t.alloc.Unlock()
	a := t.ages.Load()
	scale := scaleFor(n, t.config.AdaptiveStart, t.config.AdaptiveEnd)
	if scale != a.scale {
		a = newAges(&t.config.Timeouts, scale)
		t.ages.Store(a)
	}
	return a
}

// icmpType is the type of the first packet of an ICMP flow.
func (b *body) icmpType() uint8 {
	if b.flags&flagAnswer == 0 {
		return b.icmp
	}
	if b.proto == packet.ProtoICMP && b.icmp == echo4 {
		return echoReply4
	}
	return b.icmp + 1 // all other answers are numbered one above what they answer
}

// Remove ends a state and says whether it was there to be ended.
func (t *Table) Remove(id ID) bool { return t.remove(id) }

// Places is how many places a full turn of Sweep looks at.
func (t *Table) Places() int {
	return int(t.slab4.used.Load()) + int(t.slab6.used.Load()) - 2
}
