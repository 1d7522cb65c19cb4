package pf

import (
	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
)

// NoRule is the number of a flow that no rule let begin: the default did.
const NoRule = ^uint32(0)

// stateTries is how often a flow is given another port when another worker
// took the chosen one between the question and the insert.
const stateTries = 4

// Decision is the working memory and the outcome of judging one packet. A
// worker keeps one and reuses it.
type Decision struct {
	Verdict Verdict
	// To is what the packet must become: after In with the destination
	// translated, after Out wholly.
	To packet.Tuple

	policy *Policy
	query  rule.Query
	in     int // rule that passed it on the way in; -1: none
	id     state.ID
	ports  nat.Ports // its functions speak of this decision's moment
	mono   int64
	record Record
}

// reset begins the judging of v.
func (f *Filter) reset(mono int64, d *Decision, v *packet.View) {
	if d.ports.InUse == nil {
		d.ports = nat.Ports{Rand: f.env.Rand, HostID: f.hostID, Held: f.env.Holds,
			InUse: func(t *packet.Tuple) bool { return f.states.InUse(d.mono, t) }}
	}
	d.mono = mono
	d.Verdict, d.To, d.in, d.id = Drop, v.Tuple, -1, 0
	d.policy = f.policy.Load()
	d.query.Fill(v)
	d.query.Tag, d.query.Forwarded, d.query.Dry = 0, false, false
	d.query.Master = f.env.Master()
}

// In judges the first packet of a flow at the interface where it came in.
func (f *Filter) In(mono int64, iface uint16, v *packet.View, d *Decision) {
	f.reset(mono, d, v)
	q := &d.query
	q.Iface, q.Direction = iface, rule.In
	if d.policy.destination(q) {
		d.To = q.Tuple
		d.Verdict = Pass
		return
	}
	d.To = q.Tuple
	i, ok := d.policy.Rules.Match(q)
	f.judge(mono, d, v, i, ok, Drop)
	d.in = i
}

// destination translates the destination of q, and says whether a forward did
// it whose packets ask no rule.
func (p *Policy) destination(q *rule.Query) (past bool) {
	addr, port, i, ok := p.NAT.Destination(q)
	if !ok {
		return false
	}
	q.Dst, q.DstPort = addr, port
	return p.PassForward[p.NAT.Entries()[i].ID]
}

// Allows says, without counting anything, whether the rules would pass v where
// it came in.
func (f *Filter) Allows(iface uint16, v *packet.View) bool {
	p := f.policy.Load()
	var q rule.Query
	q.Fill(v)
	q.Iface, q.Direction, q.Master, q.Dry = iface, rule.In, f.env.Master(), true
	if p.destination(&q) {
		return true
	}
	i, ok := p.Rules.Match(&q)
	return ok && p.Rules.Rule(i).Action == rule.Pass
}

// judge turns the rule that decided, or the default, into a verdict, counts
// and logs it.
func (f *Filter) judge(mono int64, d *Decision, v *packet.View, i int, ok bool, byDefault Verdict) {
	if !ok {
		d.Verdict = byDefault
		if byDefault == Drop {
			f.drops[ByDefault].Add(1)
			if d.policy.LogDefaultBlock {
				f.log(mono, d, v, nil, ByDefault)
			}
		}
		return
	}
	r := d.policy.Rules.Rule(i)
	if !d.query.Dry {
		packets, bytes := Weight(v)
		d.policy.Rules.AddPackets(i, packets, bytes)
	}
	reason := ByRule
	switch {
	case r.Action == rule.Pass && r.Accepts(&d.query):
		d.Verdict, reason = Pass, OK
		if tag := d.policy.Rules.Tag(i); tag != 0 {
			d.query.Tag = tag
		}
	case r.Action == rule.Pass:
		d.Verdict, reason = Drop, OptionsRefused
	case r.Action == rule.Reject:
		d.Verdict = Reject
	default:
		d.Verdict = Drop
	}
	if reason != OK {
		f.drops[reason].Add(1)
	}
	if (r.Log || d.query.Log) && !d.query.Dry {
		f.log(mono, d, v, r, reason)
	}
}

// log writes a record of a judged packet.
func (f *Filter) log(mono int64, d *Decision, v *packet.View, r *rule.Rule, why Reason) {
	if f.env.Log == nil {
		return
	}
	d.record = Record{
		Mono: mono, Iface: d.query.Iface, Direction: d.query.Direction, Verdict: d.Verdict,
		Reason: why, Rule: r, Tuple: v.Tuple, TCPFlags: v.TCPFlags,
		ICMPType: v.ICMPType, ICMPCode: v.ICMPCode, Len: d.query.Len,
	}
	f.env.Log(&d.record)
}

// Local makes the state of a flow that ends at the node; In has passed it.
// False: it may not begin.
func (f *Filter) Local(mono int64, iface uint16, v *packet.View, d *Decision) bool {
	if !d.keeps(d.in, &d.To, v) {
		return true
	}
	if f.insert(mono, d, &state.Spec{In: v.Tuple, Out: d.To, IfIn: iface, View: v}) == state.Collision {
		d.Verdict = Drop
		f.drops[KeyTaken].Add(1)
	}
	return d.Verdict == Pass
}

// keeps says whether a flow that rule i (-1: none) passed gets a state: what
// is translated always does, for otherwise the answers could not find back.
// An ICMP error begins no flow.
func (d *Decision) keeps(i int, to *packet.Tuple, v *packet.View) bool {
	if packet.IsICMPError(v) {
		return false
	}
	return i < 0 || *to != v.Tuple || d.policy.Rules.Rule(i).State != rule.None
}

// Out judges the first packet of a flow, which In has passed, at the interface
// it leaves by, and makes its state.
func (f *Filter) Out(mono int64, inIface, outIface uint16, v *packet.View, d *Decision) {
	q := &d.query
	q.Forwarded = true
	tag := q.Tag
	for try := range stateTries {
		q.Iface, q.Tuple, q.Tag, q.Dry = inIface, d.To, tag, try > 0
		src, port, _, outcome := d.policy.NAT.Source(q, outIface, &d.ports)
		if why := refused(outcome); why != OK {
			d.Verdict = Drop
			f.drops[why].Add(1)
			return
		}
		to := d.To
		if outcome == nat.Translated {
			to.Src, to.SrcPort = src, port
			if isICMP(to.Proto) {
				to.DstPort = port
			}
		}
		q.Iface, q.Direction, q.Tuple = outIface, rule.Out, to
		i, ok := d.policy.Rules.Match(q)
		f.judge(mono, d, v, i, ok, Pass)
		if d.Verdict != Pass {
			return
		}
		n := state.Spec{In: v.Tuple, Out: to, IfIn: inIface, IfOut: outIface, View: v}
		if !d.keeps(d.in, &to, v) || f.insert(mono, d, &n) != state.Collision {
			d.To = to
			return
		}
		if outcome != nat.Translated {
			break // another try would end the same
		}
	}
	d.Verdict = Drop
	f.drops[KeyTaken].Add(1)
}

func isICMP(proto uint8) bool { return proto == packet.ProtoICMP || proto == packet.ProtoICMPv6 }

// refused is the drop reason of a translation that could not be made.
func refused(o nat.Outcome) Reason {
	switch o {
	case nat.NotHeld:
		return TranslationNotHeld
	case nat.PortsFull:
		return PortsUsedUp
	case nat.Collision:
		return KeyTaken
	}
	return OK
}

// Self judges a packet of the node's own at the interface it leaves by: its
// state, or the rules with direction out. It is never translated, save by a
// rule for "self".
func (f *Filter) Self(mono int64, outIface uint16, v *packet.View, d *Decision) {
	f.reset(mono, d, v)
	if done := f.selfByState(mono, outIface, v, d); done {
		return
	}
	q := &d.query
	q.Iface = 0
	src, port, _, outcome := d.policy.NAT.Source(q, outIface, &d.ports)
	if why := refused(outcome); why != OK {
		f.drops[why].Add(1)
		return
	}
	if outcome == nat.Translated {
		d.To.Src, d.To.SrcPort = src, port
		if isICMP(d.To.Proto) {
			d.To.DstPort = port
		}
	}
	q.Iface, q.Direction, q.Tuple = outIface, rule.Out, d.To
	i, ok := d.policy.Rules.Match(q)
	f.judge(mono, d, v, i, ok, Pass)
	d.in = i
	if d.Verdict != Pass || !d.keeps(i, &d.To, v) || !tracked(v) {
		return
	}
	if f.insert(mono, d, &state.Spec{In: v.Tuple, Out: d.To, IfOut: outIface, View: v}) == state.Collision {
		d.Verdict = Drop
		f.drops[KeyTaken].Add(1)
	}
}

// selfByState judges a packet of the node's own by its state, if it has one.
func (f *Filter) selfByState(mono int64, outIface uint16, v *packet.View, d *Decision) bool {
	var hit state.Hit
	f.states.Match(mono, 0, true, v, &hit)
	if hit.Verdict == state.Drop && hit.Reason == state.NotAllowed && hit.RuleGen != d.policy.Gen && f.Recheck(mono, &hit) {
		f.states.Match(mono, 0, true, v, &hit)
	}
	switch {
	case hit.Verdict == state.Miss:
		return false
	case hit.Verdict != state.Pass:
		return true
	case hit.Dir == state.Forward && hit.Out != outIface:
		// The route has moved, and answers would not find the state.
		f.states.Remove(hit.ID)
		return false
	}
	if hit.RuleGen != d.policy.Gen && !f.Recheck(mono, &hit) {
		return true
	}
	d.Verdict, d.To = Pass, hit.To
	if hit.RuleGen == d.policy.Gen {
		packets, bytes := Weight(v)
		d.policy.Count(hit.Rule, packets, bytes)
	}
	return true
}

// tracked says whether a packet of the node's own begins a flow: errors and
// resets answer what was judged already, group addresses have no answers.
func tracked(v *packet.View) bool {
	if packet.IsICMPError(v) || v.Proto == packet.ProtoTCP && v.TCPFlags&(packet.SYN|packet.RST) != packet.SYN {
		return false
	}
	return !(v.Dst.Is4() && v.Dst[12] >= 0xe0 || v.Dst[0] == 0xff)
}

// insert makes the state of the flow that d judges. What to do about a
// collision is the caller's to know.
func (f *Filter) insert(mono int64, d *Decision, n *state.Spec) state.Reason {
	n.Gen = d.policy.Gen
	n.Rule = NoRule
	if d.in >= 0 {
		r := d.policy.Rules.Rule(d.in)
		n.Rule, n.RuleID = uint32(d.in), d.policy.RuleKeys[d.in]
		n.Sloppy, n.NoSync, n.Log = r.State == rule.Sloppy, r.NoSync, r.Log
	}
	id, why := f.states.Insert(mono, n)
	switch why {
	case state.OK:
		d.id = id
	case state.Collision:
	case state.Full:
		d.Verdict = Drop
		f.drops[TableFull].Add(1)
	default: // an answer to itself: the state table has counted it
		d.Verdict = Drop
	}
	return why
}

// Hit is the state that Out made, as a match of its first packet would show
// it; its ID is 0 if Out made none.
func (d *Decision) Hit() state.Hit {
	return state.Hit{ID: d.id, Verdict: state.Pass, Dir: state.Forward, To: d.To, RuleGen: d.policy.Gen}
}
