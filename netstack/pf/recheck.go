package pf

import (
	"tandem/netstack/packet"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
)

// Recheck asks today's rules about a flow that older ones let begin: the
// original tuple, with the translation that it has. False: it passes nothing
// until it times out or a later policy lets it again; then the packet at hand
// was counted as refused.
func (f *Filter) Recheck(mono int64, hit *state.Hit) bool {
	policy := f.policy.Load()
	flow, ok := f.states.First(hit.ID)
	if !ok {
		return false
	}
	i, allowed := policy.allows(&flow, f.env.Master())
	n, key := NoRule, uint64(0)
	if i >= 0 {
		n, key = uint32(i), policy.RuleKeys[i]
	}
	f.states.SetRule(hit.ID, policy.Gen, n, key, allowed)
	hit.Rule, hit.RuleGen = n, policy.Gen
	if !allowed {
		f.drops[NoLongerAllowed].Add(1)
	}
	return allowed
}

// allows says whether p would let a flow begin, and by which rule: the one
// that judged it where it came in, or of the node's own the one where it left;
// -1 is none.
func (p *Policy) allows(flow *state.Flow, master bool) (i int, allowed bool) {
	q := rule.Query{Iface: flow.IfIn, Direction: rule.In, Tuple: flow.In, TCPFlags: packet.SYN,
		ICMPType: flow.ICMPType, Master: master, Dry: true}
	i, allowed = -1, true
	if flow.IfIn != 0 && !p.passes(flow) {
		q.Dst, q.DstPort = flow.Out.Dst, flow.Out.DstPort
		if isICMP(q.Proto) {
			q.DstPort = q.SrcPort // an identifier, which stands in both
		}
		i, allowed = p.Rules.Match(&q)
		if !allowed || p.Rules.Rule(i).Action != rule.Pass {
			return i, false
		}
		if tag := p.Rules.Tag(i); tag != 0 {
			q.Tag = tag
		}
	}
	if flow.IfOut == 0 {
		return i, true
	}
	q.Iface, q.Direction, q.Forwarded, q.Tuple = flow.IfOut, rule.Out, flow.IfIn != 0, flow.Out
	j, ok := p.Rules.Match(&q)
	if flow.IfIn == 0 {
		i = j
	}
	return i, !ok || p.Rules.Rule(j).Action == rule.Pass
}

// passes says whether a flow began by a port forward that asks no rule.
func (p *Policy) passes(flow *state.Flow) bool {
	if len(p.PassForward) == 0 {
		return false
	}
	q := rule.Query{Iface: flow.IfIn, Direction: rule.In, Tuple: flow.In, Dry: true}
	return p.destination(&q)
}

// OptionsPass says whether a packet with IP options may follow its state: only
// by a rule that allows them (pf.conf(5), "allow-opts"). hit is of the policy
// in force.
func (f *Filter) OptionsPass(hit *state.Hit) bool {
	p := f.policy.Load()
	if hit.RuleGen == p.Gen && hit.Rule != NoRule && p.Rules.Rule(int(hit.Rule)).AllowOptions {
		return true
	}
	f.drops[OptionsRefused].Add(1)
	return false
}
