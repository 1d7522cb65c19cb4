package plan

import (
	"fmt"
	"reflect"
	"strings"

	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
)

// Diff says in words what differs between two plans as far as a running node
// is concerned, part by part; nothing if it would run the same.
func Diff(before, after *Plan) []string {
	var out []string
	note := func(part string, same bool) {
		if !same {
			out = append(out, part)
		}
	}
	note("system", before.Doc.System == after.Doc.System && before.HostID == after.HostID)
	note("interfaces", reflect.DeepEqual(before.Interfaces, after.Interfaces))
	note("virtual_ips", reflect.DeepEqual(before.VIPs, after.VIPs) && reflect.DeepEqual(before.CARP, after.CARP) &&
		before.InterfaceMAC == after.InterfaceMAC)
	note("firewall", before.States == after.States && before.LogDefaultBlock == after.LogDefaultBlock)
	if words := compare(before.ruleItems(), after.ruleItems()); words != "" {
		out = append(out, "rules: "+words)
	}
	if words := compare(before.natItems(), after.natItems()); words != "" {
		out = append(out, "nat: "+words)
	}
	note("routes", reflect.DeepEqual(before.Routes, after.Routes))
	return out
}

// item is a rule or translation as Diff compares them: the same identifier is
// the same one, changed or not.
type item struct {
	id   string
	what any
}

func (p *Plan) ruleItems() []item {
	out := make([]item, p.Rules.Len())
	for i := range out {
		r, row := *p.Rules.Rule(i), p.RuleRows[i]
		r.Number, row.Number = 0, 0
		out[i] = item{r.ID, struct {
			Rule rule.Rule
			Row  RuleRow
		}{r, row}}
	}
	return out
}

func (p *Plan) natItems() []item {
	entries := p.NAT.Entries()
	out := make([]item, len(entries))
	for i, e := range entries {
		row := p.NATRows[i]
		row.Number = 0
		out[i] = item{e.Kind.String() + e.ID, struct {
			Entry nat.Entry
			Row   NATRow
			Pass  bool
		}{e, row, p.PassForward[e.ID]}}
	}
	return out
}

// compare counts in words how one list became another.
func compare(before, after []item) string {
	place := map[string]int{}
	for i, x := range before {
		place[x.id] = i
	}
	added, changed, moved, last := 0, 0, false, -1
	for _, x := range after {
		i, known := place[x.id]
		switch {
		case !known:
			added++
			continue
		case !reflect.DeepEqual(before[i].what, x.what):
			changed++
		}
		moved = moved || i < last
		last = i
	}
	removed := len(before) + added - len(after)
	var words []string
	for _, c := range []struct {
		n    int
		word string
	}{{added, "added"}, {removed, "removed"}, {changed, "changed"}} {
		if c.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", c.n, c.word))
		}
	}
	if moved {
		words = append(words, "order changed")
	}
	return strings.Join(words, ", ")
}
