package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tandem/appliance/config"
	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
)

// isakmpPort keeps its number in automatic translation: old IPsec clients
// expect their answers there (RFC 3947 came later).
const isakmpPort = 500

// translations gathers NAT in the order of nat.Set's entries: forwards, 1:1,
// outbound rules of the file, automatic ones.
func (b *builder) translations() {
	for n := range b.doc.NAT.PortForwards {
		if f := &b.doc.NAT.PortForwards[n]; !f.Disabled {
			b.forward(f)
		}
	}
	for n := range b.doc.NAT.OneToOne {
		if o := &b.doc.NAT.OneToOne[n]; !o.Disabled {
			b.oneToOne(o)
		}
	}
	mode := b.doc.NAT.Outbound.Mode
	if mode == config.NATHybrid || mode == config.NATManual {
		for n := range b.doc.NAT.Outbound.Rules {
			if r := &b.doc.NAT.Outbound.Rules[n]; !r.Disabled {
				b.outbound(r)
			}
		}
	}
	if mode == config.NATHybrid || mode == config.NATAutomatic {
		b.automaticOutbound()
	}
}

func (b *builder) forward(f *config.PortForward) {
	row := NATRow{
		Kind: nat.KindForward.String(), Interface: strings.Join(f.Interface, ", "), Family: string(config.FamilyIPv4),
		Protocol: f.Protocol.String(), Source: show(f.Source), SourcePort: showPorts(f.SourcePort),
		Destination: show(f.Destination), DestinationPort: showPorts(f.DestinationPort),
		Translation: f.Target.String(), Description: f.Description,
	}
	if f.TargetPort != 0 {
		row.Translation += ":" + strconv.Itoa(int(f.TargetPort))
	}
	out := nat.Forward{
		ID:          b.id(f.ID, "forward", row.Interface, row.Protocol, row.Source, row.SourcePort, row.Destination, row.DestinationPort, row.Translation),
		Description: f.Description, Interfaces: b.where(f.Interface),
		Match: nat.Match{
			Family: 4, Protos: protos(f.Protocol, config.FamilyIPv4), Source: b.addrs(f.Source), SourcePorts: b.ports(f.SourcePort),
			Destination: b.addrs(f.Destination), DestinationPorts: b.ports(f.DestinationPort),
		},
		TargetPort: uint16(f.TargetPort), None: f.Target.None,
	}
	if !f.Target.None {
		out.Target, _ = b.doc.SingleAddress(f.Target)
	}
	if f.Rule == config.ForwardPass {
		b.plan.PassForward[out.ID] = true
	}
	b.nat.Forwards = append(b.nat.Forwards, out)
	b.plan.NATRows = append(b.plan.NATRows, row)
}

func (b *builder) oneToOne(o *config.OneToOne) {
	row := NATRow{
		Kind: nat.KindOneToOne.String(), Interface: strings.Join(o.Interface, ", "), Family: string(config.FamilyIPv4), Protocol: "any",
		Source: showNetwork(o.Internal), Destination: show(o.Destination), Translation: showNetwork(o.External),
		Description: o.Description,
	}
	b.nat.OneToOne = append(b.nat.OneToOne, nat.OneToOne{
		ID:          b.id(o.ID, "one-to-one", row.Interface, row.Source, row.Destination, row.Translation),
		Description: o.Description, Interfaces: b.where(o.Interface),
		External: o.External.Prefix, Internal: o.Internal.Prefix, Peers: b.addrs(o.Destination),
	})
	b.plan.NATRows = append(b.plan.NATRows, row)
}

func showNetwork(n config.Network) string {
	if n.IsSingleIP() {
		return n.Addr().String()
	}
	return n.String()
}

func (b *builder) outbound(r *config.OutboundRule) {
	row := NATRow{
		Kind: nat.KindOutbound.String(), Interface: strings.Join(r.Interface, ", "), Family: string(config.FamilyIPv4),
		Protocol: r.Protocol.String(), Source: show(r.Source), SourcePort: showPorts(r.SourcePort),
		Destination: show(r.Destination), DestinationPort: showPorts(r.DestinationPort),
		Translation: r.Translation.String(), StaticPort: r.StaticPort, Description: r.Description,
	}
	if r.TranslationPort != (config.PortRange{}) {
		row.Translation += ":" + r.TranslationPort.String()
	}
	out := nat.Outbound{
		ID: b.id(r.ID, "outbound", row.Interface, row.Protocol, row.Source, row.SourcePort, row.Destination, row.DestinationPort,
			row.Translation, strconv.FormatBool(r.StaticPort)),
		Description: r.Description, Interfaces: b.where(r.Interface),
		Match: nat.Match{
			Family: 4, Protos: protos(r.Protocol, config.FamilyIPv4), Source: b.addrs(r.Source), SourcePorts: b.ports(r.SourcePort),
			Destination: b.addrs(r.Destination), DestinationPorts: b.ports(r.DestinationPort),
		},
		None: r.Translation.None, StaticPort: r.StaticPort,
		PortLow: r.TranslationPort.Low, PortHigh: r.TranslationPort.High,
		Self: slices.ContainsFunc(r.Source, func(t config.AddressTerm) bool { return t.Kind == config.TermSelf && !t.Not }),
	}
	if !r.Translation.None {
		out.Translation, _ = b.doc.SingleAddress(r.Translation)
	}
	b.nat.Outbound = append(b.nat.Outbound, out)
	b.plan.NATRows = append(b.plan.NATRows, row)
}

// automaticOutbound translates what comes from behind the node, on each uplink
// to the address that the cluster shows there.
func (b *builder) automaticOutbound() {
	words, networks := b.inside()
	if len(networks) == 0 {
		return
	}
	for n := range b.doc.Interfaces {
		i := &b.doc.Interfaces[n]
		addr, ok := b.shown(i)
		if i.Disabled || !i.Uplink() || !ok {
			continue
		}
		for _, isakmp := range []bool{true, false} {
			row := NATRow{
				Kind: nat.KindOutbound.String(), Interface: i.Name, Family: string(config.FamilyIPv4), Protocol: "any",
				Source: strings.Join(words, ", "), Destination: "any", Translation: addr.String(),
				Description: "automatic for " + i.Name, Automatic: true,
			}
			out := nat.Outbound{
				ID: "auto:outbound:" + i.Name, Description: row.Description, Interfaces: []uint16{b.numbers[i.Name]},
				Match:       nat.Match{Family: 4, Source: rule.AddrMatch{Prefixes: networks}, Destination: rule.AnyAddr()},
				Translation: addr, Automatic: true,
			}
			if isakmp {
				row.Protocol, row.DestinationPort, row.StaticPort = "udp", strconv.Itoa(isakmpPort), true
				row.Description = "automatic for " + i.Name + ", ISAKMP"
				out.ID, out.Description, out.StaticPort = out.ID+":isakmp", row.Description, true
				out.Protos = []uint8{packet.ProtoUDP}
				out.DestinationPorts = []rule.PortRange{{First: isakmpPort, Last: isakmpPort}}
			}
			b.nat.Outbound = append(b.nat.Outbound, out)
			b.plan.NATRows = append(b.plan.NATRows, row)
		}
	}
}

// inside are the IPv4 networks behind the node: of all interfaces that are no
// uplinks, and of static routes by way of these.
func (b *builder) inside() (words []string, networks []netip.Prefix) {
	add := func(word string, list []netip.Prefix) {
		list = slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return !p.Addr().Is4() })
		if len(list) > 0 {
			words, networks = append(words, word), append(networks, list...)
		}
	}
	for n := range b.doc.Interfaces {
		if i := &b.doc.Interfaces[n]; !i.Disabled && !i.Uplink() {
			add(i.Name+":net", b.doc.Networks(i.Name))
		}
	}
	for n := range b.doc.Routes {
		r := &b.doc.Routes[n]
		gateway, ok := b.doc.Gateway(r.Gateway)
		if r.Disabled || !ok {
			continue
		}
		if i, ok := b.doc.Interface(gateway.Interface); ok && !i.Uplink() {
			add(r.Destination.String(), b.destinations(r))
		}
	}
	return words, networks
}

// shown is the IPv4 address that hosts behind the node have outside of an
// uplink: its first CARP VIP in the subnet of its first address, else that
// address itself; where there is none, its first CARP VIP.
func (b *builder) shown(i *config.Interface) (netip.Addr, bool) {
	own, hasOwn := i.First(4)
	for _, v := range b.doc.VirtualIPs {
		if v.Disabled || v.Type != config.VIPCARP || v.Interface != i.Name || !v.Address.Addr().Is4() {
			continue
		}
		if !hasOwn || own.Masked().Contains(v.Address.Addr()) {
			return v.Address.Addr(), true
		}
	}
	return own.Addr(), hasOwn
}

// NATText is the automatic outbound rules as text for the file, for those who
// go from mode automatic or hybrid to manual.
func (p *Plan) NATText() string {
	var s strings.Builder
	fmt.Fprintf(&s, "[nat.outbound]\nmode = %q\n", config.NATManual)
	for _, r := range p.NATRows {
		if !r.Automatic {
			continue
		}
		fmt.Fprintf(&s, "\n[[nat.outbound.rules]]\ninterface = %q\n", r.Interface)
		if r.Protocol != "any" {
			fmt.Fprintf(&s, "protocol = %q\n", r.Protocol)
		}
		quoted := strings.Split(r.Source, ", ")
		for i := range quoted {
			quoted[i] = strconv.Quote(quoted[i])
		}
		fmt.Fprintf(&s, "source = [%s]\n", strings.Join(quoted, ", "))
		if r.DestinationPort != "" {
			fmt.Fprintf(&s, "destination_port = %s\n", r.DestinationPort)
		}
		fmt.Fprintf(&s, "translation = %q\n", r.Translation)
		if r.StaticPort {
			s.WriteString("static_port = true\n")
		}
		fmt.Fprintf(&s, "description = %q\n", r.Description)
	}
	return s.String()
}
