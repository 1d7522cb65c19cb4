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
	d.query.Tag = 0
	d.query.Forwarded = false
	d.query.Master = f.env.Master()
}

// In judges the first packet of a flow at the interface where it came in.
func (f *Filter) In(mono int64, iface uint16, v *packet.View, d *Decision) {
	f.reset(mono, d, v)
	q := &d.query
	q.Iface, q.Direction = iface, rule.In
	past := false // a forward with rule = "pass" asks no rule
	if addr, port, i, ok := d.policy.NAT.Destination(q); ok {
		d.To.Dst, d.To.DstPort = addr, port
		q.Tuple = d.To
		past = d.policy.PassForward[d.policy.NAT.Entries()[i].ID]
	}
	if past {
		d.Verdict = Pass
		return
	}
	i, ok := d.policy.Rules.Match(q)
	f.judge(mono, d, v, i, ok, Drop)
	d.in = i
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
	d.policy.Rules.AddPackets(i, 1, uint64(d.query.Len))
	reason := ByRule
	switch {
	case r.Action == rule.Pass && r.Accepts(&d.query):
		d.Verdict, reason = Pass, OK
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
	if r.Log || d.query.Log {
		f.log(mono, d, v, r, reason)
	}
}

// log writes a record of a judged packet.
func (f *Filter) log(mono int64, d *Decision, v *packet.View, r *rule.Rule, why Reason) {
	if f.env.Log == nil {
		return
	}
	f.env.Log(&Record{
		Mono: mono, Iface: d.query.Iface, Direction: d.query.Direction, Verdict: d.Verdict,
		Reason: why, Rule: r, Tuple: v.Tuple, TCPFlags: v.TCPFlags,
		ICMPType: v.ICMPType, ICMPCode: v.ICMPCode, Len: d.query.Len,
	})
}

// Local makes the state of a flow that ends at the node; In has passed it.
// False: there was no room.
func (f *Filter) Local(mono int64, iface uint16, v *packet.View, d *Decision) bool {
	if !f.keeps(d.in, d) {
		return true
	}
	return f.insert(mono, d, &state.Spec{In: v.Tuple, Out: d.To, IfIn: iface, View: v}) == state.OK
}

// keeps says whether rule i wants a state.
func (f *Filter) keeps(i int, d *Decision) bool {
	return i < 0 || d.policy.Rules.Rule(i).State != rule.None
}

// Out judges the first packet of a flow, which In has passed, at the interface
// it leaves by, and makes its state.
func (f *Filter) Out(mono int64, inIface, outIface uint16, v *packet.View, d *Decision) {
	q := &d.query
	q.Tuple, q.Forwarded = d.To, true
	for range stateTries {
		q.Iface, q.Tuple = inIface, d.To
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
		if !f.keeps(d.in, d) {
			d.To = to
			return
		}
		n := state.Spec{In: v.Tuple, Out: to, IfIn: inIface, IfOut: outIface, View: v}
		if f.insert(mono, d, &n) != state.Collision {
			d.To = to
			return
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
	var hit state.Hit
	f.states.Match(mono, 0, true, v, &hit)
	switch {
	case hit.Verdict == state.Pass && (hit.RuleGen == f.Generation() || f.Recheck(mono, &hit)):
		d.Verdict, d.To = Pass, hit.To
		return
	case hit.Verdict != state.Miss:
		return
	}
	q := &d.query
	src, port, _, outcome := d.policy.NAT.Source(q, outIface, &d.ports)
	if why := refused(outcome); why != OK {
		f.drops[why].Add(1)
		return
	}
	if outcome == nat.Translated {
		d.To.Src, d.To.SrcPort = src, port
	}
	q.Iface, q.Direction, q.Tuple = outIface, rule.Out, d.To
	i, ok := d.policy.Rules.Match(q)
	f.judge(mono, d, v, i, ok, Pass)
	d.in = i
	if d.Verdict != Pass || !f.keeps(i, d) || !tracked(v) {
		return
	}
	f.insert(mono, d, &state.Spec{In: v.Tuple, Out: d.To, IfOut: outIface, View: v})
}

// tracked says whether a packet of the node's own begins a flow: errors and
// resets answer what was judged already, group addresses have no answers.
func tracked(v *packet.View) bool {
	if packet.IsICMPError(v) || v.Proto == packet.ProtoTCP && v.TCPFlags&(packet.SYN|packet.RST) != packet.SYN {
		return false
	}
	return !(v.Dst.Is4() && v.Dst[12] >= 0xe0 || v.Dst[0] == 0xff)
}

// insert makes the state of the flow that d judges.
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
		if d.in >= 0 {
			d.policy.Rules.AddStates(d.in, 1)
		}
	case state.Collision:
	default:
		d.Verdict = Drop
		f.drops[TableFull].Add(1)
	}
	return why
}

// Hit is the state that Out made, as a match of its first packet would show it.
func (d *Decision) Hit() state.Hit {
	return state.Hit{ID: d.id, Verdict: state.Pass, Dir: state.Forward, To: d.To, RuleGen: d.policy.Gen}
}

// Recheck asks today's rules about a flow that older ones let begin: the
// original tuple, with the translation that it has. False: it passes nothing
// until it times out or a later policy lets it again.
func (f *Filter) Recheck(mono int64, hit *state.Hit) bool {
	policy := f.policy.Load()
	flow, ok := f.states.First(hit.ID)
	if !ok {
		return false
	}
	q := rule.Query{Iface: flow.IfIn, Direction: rule.In, Tuple: flow.In, TCPFlags: packet.SYN,
		Master: f.env.Master(), Dry: true}
	q.ICMPType = flow.ICMPType
	q.Dst, q.DstPort = flow.Out.Dst, flow.Out.DstPort
	i, allowed := -1, true
	if flow.IfIn != 0 && !policy.passes(&flow) {
		i, ok = policy.Rules.Match(&q)
		allowed = ok && policy.Rules.Rule(i).Action == rule.Pass
	}
	if allowed && flow.IfOut != 0 {
		q.Iface, q.Direction, q.Forwarded = flow.IfOut, rule.Out, flow.IfIn != 0
		q.Tuple = flow.Out
		j, ok := policy.Rules.Match(&q)
		allowed = !ok || policy.Rules.Rule(j).Action == rule.Pass
	}
	n, key := NoRule, uint64(0)
	if i >= 0 {
		n, key = uint32(i), policy.RuleKeys[i]
	}
	f.states.SetRule(hit.ID, policy.Gen, n, key, allowed)
	hit.RuleGen = policy.Gen
	return allowed
}
