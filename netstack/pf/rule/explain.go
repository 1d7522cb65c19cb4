package rule

// Step is what Explain says about one rule.
type Step struct {
	Index   int
	Rule    *Rule
	Differs Criterion // Same: the rule matches
	Decides bool      // and is the one that decides
}

// Explain walks the rules as Match does and reports each rule that it comes
// to, with the first criterion in which q differs from it. It counts nothing
// and leaves q alone; the answer is Match's, with the tag and log mark that
// the packet would then bear.
func (s *Set) Explain(q *Query, report func(Step)) (i int, ok bool, tag uint16, log bool) {
	judged := *q
	i = s.decide(&judged)

	walked := *q
	k := makeKey(&walked)
	for j := range s.matchers {
		m := &s.matchers[j]
		step := Step{Index: j, Rule: &s.rules[j], Differs: m.differs(&k), Decides: j == i}
		if step.Differs == Same && m.action == Match {
			m.note(&k)
		}
		report(step)
		if step.Decides && m.quick {
			break
		}
	}
	return i, i >= 0, judged.Tag, judged.Log
}
