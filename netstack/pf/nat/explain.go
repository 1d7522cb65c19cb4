package nat

import "tandem/netstack/pf/rule"

// Step is what an explanation says about one entry.
type Step struct {
	Index   int // into Entries
	Entry   *Entry
	Differs rule.Criterion // rule.Same: the entry matches and decides
}

// ExplainDestination reports each entry that Destination asks about q, up to
// the one that decides. It counts nothing.
func (s *Set) ExplainDestination(q *rule.Query, report func(Step)) {
	if q.Iface == 0 {
		return
	}
	in := *q
	in.Direction = rule.In
	s.explain(&s.in, &in, report)
}

// ExplainSource reports each entry that Source asks about q, which leaves by
// iface, up to the one that decides. It counts nothing.
func (s *Set) ExplainSource(q *rule.Query, iface uint16, report func(Step)) {
	l := &s.out
	if q.Iface == 0 {
		l = &s.own
	}
	out := *q
	out.Iface, out.Direction = iface, rule.Out
	s.explain(l, &out, report)
}

func (s *Set) explain(l *list, q *rule.Query, report func(Step)) {
	l.rules.Explain(q, func(st rule.Step) {
		i := l.entries[st.Index]
		report(Step{Index: i, Entry: &s.entries[i], Differs: st.Differs})
	})
}
