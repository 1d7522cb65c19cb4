package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tandem/appliance/config"
	"tandem/netstack/packet"
	"tandem/netstack/pf/rule"
)

// Networks that automatic rules name.
var (
	linkLocal6     = netip.MustParsePrefix("fe80::/10")
	unspecified4   = netip.MustParsePrefix("0.0.0.0/32")
	unspecified6   = netip.MustParsePrefix("::/128")
	routersGroup6  = netip.MustParsePrefix("ff02::/16")
	carpGroup4     = netip.MustParsePrefix("224.0.0.18/32")
	carpGroup6     = netip.MustParsePrefix("ff02::12/128")
	loopback4      = netip.MustParsePrefix("127.0.0.0/8")
	loopback6      = netip.MustParsePrefix("::1/128")
	linkLocal4     = netip.MustParsePrefix("169.254.0.0/16")
	protosWithPort = []uint8{packet.ProtoTCP, packet.ProtoUDP}
)

// How rows show the lists that are too long for them.
const (
	wordsLoopback = "127.0.0.0/8, ::1, 169.254.0.0/16"
	wordsPrivate  = "private networks"
	wordsBogons   = "bogons"
)

// ICMPv6 types that IPv6 cannot do without (RFC 4890, section 4.4).
const (
	icmp6Unreachable = 1
	icmp6TooBig      = 2
	icmp6RouterSol   = 133
	icmp6RouterAdv   = 134
	icmp6NeighborSol = 135
	icmp6NeighborAdv = 136
)

// automaticFirst adds the rules that stand before those of the file.
func (b *builder) automaticFirst() {
	if b.doc.Firewall.IPv6 {
		b.icmp6()
	} else {
		b.auto(rule.Rule{
			ID: "auto:no-ipv6", Description: "firewall.ipv6 is false", Action: rule.Block, Direction: rule.Any, Family: 6,
			Source: rule.AnyAddr(), Destination: rule.AnyAddr(),
		}, RuleRow{})
	}
	for _, i := range b.plan.CARP.Interfaces {
		b.carpRule(i.Index, i.Name)
	}
	for n := range b.doc.Interfaces {
		if i := &b.doc.Interfaces[n]; !i.Disabled {
			b.guards(i)
		}
	}
	b.impossible()
}

// auto adds an automatic rule; empty words of its row are filled from the rule.
func (b *builder) auto(r rule.Rule, row RuleRow) {
	r.Automatic, r.Quick, r.State = true, true, rule.None
	if r.Action == rule.Pass {
		r.AllowOptions = true // Group membership and CARP may carry a router alert.
		r.Log = b.doc.Firewall.LogAutomaticPass
	}
	fill := func(word *string, otherwise string) {
		if *word == "" {
			*word = otherwise
		}
	}
	fill(&row.Interface, "any")
	fill(&row.Protocol, "any")
	fill(&row.Source, "any")
	fill(&row.Destination, "any")
	fill(&row.Family, map[uint8]string{0: "any", 4: "inet", 6: "inet6"}[r.Family])
	b.add(r, row, "")
}

// icmp6 passes what neighbours and routers say to each other, and the errors
// without which no large packet arrives.
func (b *builder) icmp6() {
	neighbours := rule.AddrMatch{Prefixes: []netip.Prefix{linkLocal6, unspecified6}}
	group := rule.AddrMatch{Prefixes: []netip.Prefix{linkLocal6, routersGroup6}}
	for _, r := range []struct {
		id, text, names, source, destination string
		types                                []uint8
		from, to                             rule.AddrMatch
	}{
		{"neighbours", "neighbour discovery", "neighbrsol, neighbradv", "", "",
			[]uint8{icmp6NeighborSol, icmp6NeighborAdv}, rule.AnyAddr(), rule.AnyAddr()},
		{"routers", "router discovery", "routersol, routeradv", "fe80::/10, ::", "fe80::/10, ff02::/16",
			[]uint8{icmp6RouterSol, icmp6RouterAdv}, neighbours, group},
		{"errors", "unreachable and too big", "unreach, toobig", "", "",
			[]uint8{icmp6Unreachable, icmp6TooBig}, rule.AnyAddr(), rule.AnyAddr()},
	} {
		out := rule.Rule{
			ID: "auto:icmp6:" + r.id, Description: r.text, Action: rule.Pass, Direction: rule.Any, Family: 6,
			Protos: []uint8{packet.ProtoICMPv6}, Source: r.from, Destination: r.to,
		}
		for _, t := range r.types {
			out.ICMPTypes = append(out.ICMPTypes, rule.ICMPType{Family: 6, Type: t})
		}
		b.auto(out, RuleRow{Protocol: "icmp6", Source: r.source, Destination: r.destination, Extra: []string{"icmp_types = " + r.names}})
	}
}

// carpRule passes advertisements between neighbours on an interface with a
// VIP, and nothing else of protocol 112. A node without an address there
// speaks from 0.0.0.0.
func (b *builder) carpRule(number uint16, name string) {
	from := append(b.doc.Networks(name), linkLocal6, unspecified4)
	to := append(b.doc.Networks(name), linkLocal6, carpGroup4, carpGroup6)
	source, destination := name+":net, fe80::/10, 0.0.0.0", name+":net, fe80::/10, 224.0.0.18, ff02::12"
	var peers []string
	for _, v := range b.plan.CARP.VHIDs {
		for _, peer := range [2]netip.Addr{v.Peer, v.Peer6} {
			if v.Iface == number && peer.IsValid() && !slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(peer) }) {
				host := netip.PrefixFrom(peer, peer.BitLen())
				from, to, peers = append(from, host), append(to, host), append(peers, ", "+peer.String())
			}
		}
	}
	b.auto(rule.Rule{
		ID: "auto:carp:" + name, Description: "CARP between neighbours", Action: rule.Pass, Direction: rule.Any,
		Interfaces: []uint16{number}, Protos: []uint8{packet.ProtoCARP},
		Source: rule.AddrMatch{Prefixes: from}, Destination: rule.AddrMatch{Prefixes: to},
	}, RuleRow{
		Interface: name, Protocol: "carp",
		Source: source + strings.Join(peers, ""), Destination: destination + strings.Join(peers, ""),
	})
}

// guards adds what an interface keeps out by the source.
func (b *builder) guards(i *config.Interface) {
	number := []uint16{b.numbers[i.Name]}
	if i.BlockBogons {
		b.auto(rule.Rule{
			ID: "auto:bogons:" + i.Name, Description: "block_bogons of " + i.Name, Action: rule.Block, Direction: rule.In,
			Interfaces: number, Source: rule.AddrMatch{Prefixes: config.BogonNetworks()}, Destination: rule.AnyAddr(),
			Log: b.doc.Firewall.LogBogons,
		}, RuleRow{Interface: i.Name, Source: wordsBogons})
	}
	if i.Antispoof {
		b.antispoof(i, number)
	}
	if i.BlockPrivate {
		b.auto(rule.Rule{
			ID: "auto:private:" + i.Name, Description: "block_private of " + i.Name, Action: rule.Block, Direction: rule.In,
			Interfaces: number, Source: rule.AddrMatch{Prefixes: config.PrivateNetworks()}, Destination: rule.AnyAddr(),
			Log: b.doc.Firewall.LogPrivate,
		}, RuleRow{Interface: i.Name, Source: wordsPrivate})
	}
}

// antispoof keeps out sources that belong to another interface's networks.
func (b *builder) antispoof(i *config.Interface, number []uint16) {
	var words []string
	var networks []netip.Prefix
	for n := range b.doc.Interfaces {
		other := &b.doc.Interfaces[n]
		if nets := b.doc.Networks(other.Name); other.Name != i.Name && len(nets) > 0 {
			networks, words = append(networks, nets...), append(words, other.Name+":net")
		}
	}
	b.auto(rule.Rule{
		ID: "auto:antispoof:" + i.Name, Description: "antispoof of " + i.Name, Action: rule.Block, Direction: rule.In,
		Interfaces: number, Source: rule.AddrMatch{Prefixes: networks}, Destination: rule.AnyAddr(),
		Log: b.doc.Firewall.LogDefaultBlock,
	}, RuleRow{Interface: i.Name, Source: strings.Join(words, ", ")})
}

// impossible blocks what no honest host sends: port 0, and addresses that
// never leave a host or a link.
func (b *builder) impossible() {
	zero := []rule.PortRange{{}}
	never := rule.AddrMatch{Prefixes: []netip.Prefix{loopback4, loopback6, linkLocal4}}
	for _, r := range []struct {
		name, text string
		rule       rule.Rule
		row        RuleRow
	}{
		{"source-port-0", "port 0", rule.Rule{Protos: protosWithPort, SourcePorts: zero}, RuleRow{Protocol: "tcp/udp", SourcePort: "0"}},
		{"port-0", "port 0", rule.Rule{Protos: protosWithPort, DestinationPorts: zero}, RuleRow{Protocol: "tcp/udp", DestinationPort: "0"}},
		{"source-loopback", "loopback and link-local sources", rule.Rule{Source: never}, RuleRow{Source: wordsLoopback}},
		{"loopback", "loopback and link-local destinations", rule.Rule{Destination: never}, RuleRow{Destination: wordsLoopback}},
	} {
		out := r.rule
		out.ID, out.Description, out.Action, out.Direction = fmt.Sprintf("auto:%s", r.name), r.text, rule.Block, rule.In
		out.Log = b.doc.Firewall.LogDefaultBlock
		if out.Source.Prefixes == nil {
			out.Source = rule.AnyAddr()
		}
		if out.Destination.Prefixes == nil {
			out.Destination = rule.AnyAddr()
		}
		b.auto(out, r.row)
	}
}
