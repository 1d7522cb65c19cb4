package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tandem/appliance/config"
	"tandem/netstack/pf/rule"
)

// filter lists all rules in the order in which they are judged.
func (b *builder) filter() {
	b.automaticFirst()
	for _, groups := range []bool{true, false} {
		for n := range b.doc.Rules {
			r := &b.doc.Rules[n]
			if !r.Disabled && b.onGroup(r) == groups {
				b.configured(r)
			}
		}
	}
	for n := range b.doc.NAT.PortForwards {
		b.associated(&b.doc.NAT.PortForwards[n])
	}
}

// onGroup says whether a rule is for an interface group.
func (b *builder) onGroup(r *config.Rule) bool {
	return slices.ContainsFunc(r.Interface, func(name string) bool {
		_, ok := b.doc.Group(name)
		return ok
	})
}

// add appends a rule with its row. What both hold is written once, in the rule.
func (b *builder) add(r rule.Rule, row RuleRow, key string) {
	row.ID, row.Description, row.Automatic = r.ID, r.Description, r.Automatic
	row.Action, row.Direction, row.State = r.Action.String(), r.Direction.String(), r.State.String()
	row.Quick, row.Log = r.Quick, r.Log
	b.rules = append(b.rules, r)
	b.keys = append(b.keys, key)
	b.plan.RuleRows = append(b.plan.RuleRows, row)
}

// configured adds a rule of the file.
func (b *builder) configured(r *config.Rule) {
	row := RuleRow{
		Interface: strings.Join(r.Interface, ", "), Family: familyWord(r.Family), Protocol: r.Protocol.String(),
		Source: show(r.Source), SourcePort: showPorts(r.SourcePort),
		Destination: show(r.Destination), DestinationPort: showPorts(r.DestinationPort),
		Extra: extra(r),
	}
	out := rule.Rule{
		Description: r.Description, Action: action(r.Action), Quick: true, Direction: rule.In, State: stateMode(r.State),
		Interfaces: b.where(r.Interface), Family: family(r.Family), Protos: protos(r.Protocol, r.Family),
		Source: b.addrs(r.Source), SourcePorts: b.ports(r.SourcePort),
		Destination: b.addrs(r.Destination), DestinationPorts: b.ports(r.DestinationPort),
		ICMPTypes:    icmpTypes(r),
		TCPFlags:     rule.Flags{Set: r.TCPFlags.Set, Mask: r.TCPFlags.Mask},
		AllowOptions: r.AllowOptions, Log: r.Log, NoSync: r.NoSync,
	}
	out.ID = b.id(r.ID, "rule", row.Interface, string(r.Action), row.Family, row.Protocol, row.Source, row.SourcePort,
		row.Destination, row.DestinationPort, string(r.State), strings.Join(row.Extra, ";"))
	b.add(out, row, r.Key)
}

func action(a config.Action) rule.Action {
	switch a {
	case config.ActionPass:
		return rule.Pass
	case config.ActionReject:
		return rule.Reject
	}
	return rule.Block
}

func stateMode(m config.StateMode) rule.StateMode {
	switch m {
	case config.StateSloppy:
		return rule.Sloppy
	case config.StateNone:
		return rule.None
	}
	return rule.Keep
}

// extra lists the keys without a column that are not at their defaults.
func extra(r *config.Rule) []string {
	var out []string
	if len(r.ICMPTypes) > 0 {
		names := make([]string, len(r.ICMPTypes))
		for i, t := range r.ICMPTypes {
			names[i] = t.Name
		}
		out = append(out, "icmp_types = "+strings.Join(names, ", "))
	}
	if r.TCPFlags != (config.TCPFlags{}) {
		out = append(out, "tcp_flags = "+r.TCPFlags.String())
	}
	for _, set := range []struct {
		on   bool
		name string
	}{{r.AllowOptions, "allow_options"}, {r.NoSync, "no_sync"}, {r.Local, "local"}} {
		if set.on {
			out = append(out, set.name)
		}
	}
	return out
}

// associated adds the pass rule that comes with a port forward. It names the
// inside address and port, as all rules behind a translation do.
func (b *builder) associated(f *config.PortForward) {
	if f.Disabled || f.Rule != config.ForwardAssociated || f.Target.None {
		return
	}
	target, ok := b.doc.SingleAddress(f.Target)
	if !ok {
		return
	}
	ports := b.ports(f.DestinationPort)
	if f.TargetPort != 0 && len(ports) == 1 {
		first := uint16(f.TargetPort)
		ports = []rule.PortRange{{First: first, Last: first + ports[0].Last - ports[0].First}}
	}
	row := RuleRow{
		Interface: strings.Join(f.Interface, ", "), Family: string(config.FamilyIPv4), Protocol: f.Protocol.String(),
		Source: show(f.Source), SourcePort: showPorts(f.SourcePort),
		Destination: f.Target.String(), DestinationPort: showRanges(ports),
	}
	r := rule.Rule{
		ID:          b.id("", "auto:forward", row.Interface, row.Protocol, row.Source, row.SourcePort, row.Destination, row.DestinationPort),
		Description: forwardText(f), Automatic: true, Action: rule.Pass, Quick: true, Direction: rule.In, State: rule.Keep,
		Interfaces: b.where(f.Interface), Family: 4, Protos: protos(f.Protocol, config.FamilyIPv4),
		Source: b.addrs(f.Source), SourcePorts: b.ports(f.SourcePort),
		Destination: rule.Addrs(target), DestinationPorts: ports,
		Log: b.doc.Firewall.LogAutomaticPass,
	}
	b.add(r, row, f.Key)
}

func forwardText(f *config.PortForward) string {
	if f.Description == "" {
		return "port forward to " + f.Target.String()
	}
	return "port forward: " + f.Description
}

func showRanges(ranges []rule.PortRange) string {
	words := make([]string, len(ranges))
	for i, r := range ranges {
		words[i] = strconv.Itoa(int(r.First))
		if r.Last != r.First {
			words[i] = fmt.Sprintf("%d-%d", r.First, r.Last)
		}
	}
	return strings.Join(words, ", ")
}
