package pf

import (
	"tandem/netstack/packet"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
)

// Weight is what a packet counts for: a coalesced one as the segments that the
// wire carries, bytes from the IP header on.
func Weight(v *packet.View) (packets, bytes uint64) {
	packets, bytes = 1, uint64(v.End-v.L3)
	if v.SegSize > 0 && v.DataLen > v.SegSize {
		packets = uint64(v.DataLen+v.SegSize-1) / uint64(v.SegSize)
		bytes += (packets - 1) * uint64(v.Payload-v.L3)
	}
	return packets, bytes
}

// Count adds packets that followed a state to those of its rule, which is of
// this policy; [NoRule] is nobody's.
func (p *Policy) Count(n uint32, packets, bytes uint64) {
	if n != NoRule {
		p.Rules.AddPackets(int(n), packets, bytes)
	}
}

// RuleCounters gives the counters of rules, in order, with the states that
// each lets pass now; keys identifies the rules as in [Policy.RuleKeys]. A rule
// counts all packets of the flows that it let begin. Of a flow in transit that
// is the rule where it came in; the one where it left counts the first packet.
// It looks at every state.
func (f *Filter) RuleCounters(rules *rule.Set, keys []uint64) []rule.Counters {
	index := make(map[uint64]int, len(keys))
	for i, k := range keys {
		index[k] = i
	}
	out := rules.Counters()
	f.states.List(func(flow *state.Flow) bool {
		if i, ok := index[flow.RuleID]; ok && flow.Rule != NoRule && flow.Allowed {
			out[i].States++
		}
		return true
	})
	return out
}
