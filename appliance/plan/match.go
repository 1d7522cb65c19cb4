package plan

import (
	"net/netip"
	"slices"
	"strings"

	"tandem/appliance/config"
	"tandem/netstack/pf/rule"
)

// addrs works a list of address terms out: any of the positive ones (of none:
// any) and none of the negated ones. Words that stand for several addresses
// become lists of their own, so that one which holds none matches nothing.
func (b *builder) addrs(terms []config.AddressTerm) rule.AddrMatch {
	if len(terms) == 0 {
		return rule.AnyAddr()
	}
	var m rule.AddrMatch
	for _, t := range terms {
		switch {
		case t.Not:
			m.Except = append(m.Except, b.word(t))
		case t.Kind == config.TermAny:
			m.Any = true
		case t.Kind == config.TermPrefix:
			m.Prefixes = append(m.Prefixes, t.Prefix)
		case t.Kind == config.TermRange:
			m.Ranges = append(m.Ranges, [2]netip.Addr{t.From, t.To})
		default:
			m.Lists = append(m.Lists, b.word(t))
		}
	}
	return m
}

// word is what one term stands for, its negation left aside.
func (b *builder) word(t config.AddressTerm) rule.AddrMatch {
	switch t.Kind {
	case config.TermAny:
		return rule.AnyAddr()
	case config.TermSelf:
		return rule.Addrs(b.doc.Self()...)
	case config.TermNet:
		return rule.AddrMatch{Prefixes: b.doc.Networks(t.Name)}
	case config.TermAddress:
		return rule.Addrs(b.doc.Addresses(t.Name)...)
	case config.TermPrefix:
		return rule.AddrMatch{Prefixes: []netip.Prefix{t.Prefix}}
	case config.TermRange:
		return rule.AddrMatch{Ranges: [][2]netip.Addr{{t.From, t.To}}}
	case config.TermAlias:
		return b.alias(t.Name)
	}
	return rule.AddrMatch{}
}

// alias is what an alias holds. Unlike an empty list in a rule, an empty alias
// matches nothing.
func (b *builder) alias(name string) rule.AddrMatch {
	if m, ok := b.aliases[name]; ok {
		return m
	}
	b.aliases[name] = rule.AddrMatch{}
	if a, ok := b.doc.Alias(name); ok && !a.Disabled && len(a.Addresses) > 0 {
		b.aliases[name] = b.addrs(a.Addresses)
	}
	return b.aliases[name]
}

// ports works a list of port terms out; nil is any.
func (b *builder) ports(terms []config.PortTerm) []rule.PortRange {
	if len(terms) == 0 {
		return nil
	}
	out := []rule.PortRange{}
	for _, r := range b.doc.PortRanges(terms) {
		out = append(out, rule.PortRange{First: r.Low, Last: r.High})
	}
	return out
}

// protos are the numbers of a protocol in the families that a rule is for;
// nil is any.
func protos(p config.Protocol, f config.Family) []uint8 {
	if p.Any() {
		return nil
	}
	out := []uint8{}
	if f.Covers(4) {
		out = append(out, p.V4...)
	}
	if f.Covers(6) {
		out = append(out, p.V6...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func family(f config.Family) uint8 {
	switch f {
	case config.FamilyIPv4:
		return 4
	case config.FamilyIPv6:
		return 6
	}
	return 0
}

// icmpTypes are the types that a rule names, in the families that it is for.
func icmpTypes(r *config.Rule) []rule.ICMPType {
	var out []rule.ICMPType
	for _, t := range r.ICMPTypes {
		if t.V4 >= 0 && r.Family.Covers(4) && r.Protocol.Name != "icmp6" {
			out = append(out, rule.ICMPType{Family: 4, Type: uint8(t.V4)})
		}
		if t.V6 >= 0 && r.Family.Covers(6) {
			out = append(out, rule.ICMPType{Family: 6, Type: uint8(t.V6)})
		}
	}
	return out
}

// where are the numbers of the interfaces that names and groups stand for. It
// is never nil, which would be any interface.
func (b *builder) where(names []string) []uint16 {
	out := []uint16{}
	for _, name := range names {
		for _, i := range b.doc.Members(name) {
			out = append(out, b.numbers[i.Name])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// show writes a list as the file has it; an empty one is any.
func show[T interface{ String() string }](terms []T) string {
	if len(terms) == 0 {
		return "any"
	}
	words := make([]string, len(terms))
	for i, t := range terms {
		words[i] = t.String()
	}
	return strings.Join(words, ", ")
}

// showPorts is show, with an empty text for any.
func showPorts(terms []config.PortTerm) string {
	if len(terms) == 0 {
		return ""
	}
	return show(terms)
}

// familyWord is the family as rows show it.
func familyWord(f config.Family) string {
	if f == "" {
		return string(config.FamilyAny)
	}
	return string(f)
}
