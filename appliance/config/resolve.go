package config

import (
	"cmp"
	"net/netip"
	"slices"
)

// What the words of a rule mean on this node (docs/configuration.md, "How
// rules and translations are judged").

// Interface looks an interface up by name.
func (d *Document) Interface(name string) (*Interface, bool) {
	i := slices.IndexFunc(d.Interfaces, func(i Interface) bool { return i.Name == name })
	if i < 0 {
		return nil, false
	}
	return &d.Interfaces[i], true
}

// Group looks an interface group up by name.
func (d *Document) Group(name string) (*Group, bool) {
	i := slices.IndexFunc(d.Groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		return nil, false
	}
	return &d.Groups[i], true
}

// Alias looks an alias up by name.
func (d *Document) Alias(name string) (*Alias, bool) {
	i := slices.IndexFunc(d.Aliases, func(a Alias) bool { return a.Name == name })
	if i < 0 {
		return nil, false
	}
	return &d.Aliases[i], true
}

// Members are the interfaces that a name stands for: its own, or those of a
// group. Disabled ones are left out.
func (d *Document) Members(name string) []*Interface {
	names := []string{name}
	if g, ok := d.Group(name); ok {
		if names = g.Members; g.Disabled {
			names = nil
		}
	}
	var out []*Interface
	for _, n := range names {
		if i, ok := d.Interface(n); ok && !i.Disabled {
			out = append(out, i)
		}
	}
	return out
}

// Networks is NAME:net: all networks of an interface or group, of its
// addresses, aliases and VIPs. IPv6 link-local is not among them.
func (d *Document) Networks(name string) []netip.Prefix {
	var out []netip.Prefix
	for _, i := range d.Members(name) {
		for _, p := range d.interfacePrefixes(i) {
			if !p.Addr().IsLinkLocalUnicast() || p.Addr().Is4() {
				out = append(out, p.Masked())
			}
		}
	}
	slices.SortFunc(out, comparePrefix)
	return slices.Compact(out)
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
}

// interfacePrefixes are the addresses of an interface, its own and the shared.
func (d *Document) interfacePrefixes(i *Interface) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range i.Addresses {
		if p.IsValid() {
			out = append(out, p.Prefix)
		}
	}
	for _, v := range d.VirtualIPs {
		if v.Interface == i.Name && !v.Disabled && v.Address.IsValid() {
			out = append(out, v.Address.Prefix)
		}
	}
	return out
}

// Addresses is NAME:address: of each member the first address of each family.
func (d *Document) Addresses(name string) []netip.Addr {
	var out []netip.Addr
	for _, i := range d.Members(name) {
		for _, version := range [2]uint8{4, 6} {
			if p, ok := i.First(version); ok {
				out = append(out, p.Addr())
			}
		}
	}
	return out
}

// First is the interface's first address of an IP version, 4 or 6. A
// link-local one is taken only if there is no other.
func (i *Interface) First(version uint8) (netip.Prefix, bool) {
	var found netip.Prefix
	for _, p := range i.Addresses {
		switch {
		case !p.IsValid() || p.Addr().Is4() != (version == 4):
		case !p.Addr().IsLinkLocalUnicast():
			return p.Prefix, true
		case !found.IsValid():
			found = p.Prefix
		}
	}
	return found, found.IsValid()
}

// Self is every address of the node, VIPs that it does not hold included.
func (d *Document) Self() []netip.Addr {
	var out []netip.Addr
	for i := range d.Interfaces {
		if d.Interfaces[i].Disabled {
			continue
		}
		for _, p := range d.interfacePrefixes(&d.Interfaces[i]) {
			out = append(out, p.Addr())
		}
	}
	return out
}

// Uplink says whether the interface leads to a gateway of its own.
func (i *Interface) Uplink() bool { return i.Gateway != "" || i.Gateway6 != "" }

// Matches says whether a list of terms holds addr: any of the positive ones
// (of none: any) and none of the negated ones.
func (d *Document) Matches(terms []AddressTerm, addr netip.Addr) bool {
	return d.matches(terms, addr, nil)
}

// matches follows aliases; trail holds those being followed, so that a cycle,
// which is a fault found elsewhere, ends here.
func (d *Document) matches(terms []AddressTerm, addr netip.Addr, trail []string) bool {
	positive, found := false, false
	for _, t := range terms {
		in := d.term(t, addr, trail)
		switch {
		case t.Kind == 0: // Was at fault.
		case t.Not && in:
			return false
		case !t.Not:
			positive, found = true, found || in
		}
	}
	return found || !positive
}

func (d *Document) term(t AddressTerm, addr netip.Addr, trail []string) bool {
	switch t.Kind {
	case TermAny:
		return true
	case TermSelf:
		return slices.Contains(d.Self(), addr)
	case TermNet:
		return slices.ContainsFunc(d.Networks(t.Name), func(p netip.Prefix) bool { return p.Contains(addr) })
	case TermAddress:
		return slices.Contains(d.Addresses(t.Name), addr)
	case TermPrefix:
		return t.Prefix.Contains(addr)
	case TermRange:
		return t.From.BitLen() == addr.BitLen() && t.From.Compare(addr) <= 0 && addr.Compare(t.To) <= 0
	case TermAlias:
		a, ok := d.Alias(t.Name)
		if !ok || a.Disabled || slices.Contains(trail, t.Name) || len(a.Addresses) == 0 {
			return false // An empty alias matches nothing, unlike an empty list.
		}
		return d.matches(a.Addresses, addr, append(slices.Clone(trail), t.Name))
	}
	return false
}

// SingleAddress is the one IPv4 address that a target puts in: written so,
// NAME:address, or an alias of one address.
func (d *Document) SingleAddress(t Target) (netip.Addr, bool) {
	return d.single(t.Term, nil)
}

func (d *Document) single(t AddressTerm, trail []string) (netip.Addr, bool) {
	switch {
	case t.Not:
		return netip.Addr{}, false
	case t.Kind == TermPrefix && t.Prefix.IsSingleIP() && t.Prefix.Addr().Is4():
		return t.Prefix.Addr(), true
	case t.Kind == TermAddress:
		if i, ok := d.Interface(t.Name); ok && !i.Disabled {
			p, ok := i.First(4)
			return p.Addr(), ok
		}
	case t.Kind == TermAlias && !slices.Contains(trail, t.Name):
		if a, ok := d.Alias(t.Name); ok && !a.Disabled && len(a.Addresses) == 1 {
			return d.single(a.Addresses[0], append(slices.Clone(trail), t.Name))
		}
	}
	return netip.Addr{}, false
}

// PortRanges works a list of ports out: in order, joined where they touch. An
// empty list means every port and gives none.
func (d *Document) PortRanges(terms []PortTerm) []PortRange {
	ranges := d.portRanges(terms, nil)
	slices.SortFunc(ranges, func(a, b PortRange) int { return int(a.Low) - int(b.Low) })
	var out []PortRange
	for _, r := range ranges {
		if n := len(out); n > 0 && int(r.Low) <= int(out[n-1].High)+1 {
			out[n-1].High = max(out[n-1].High, r.High)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (d *Document) portRanges(terms []PortTerm, trail []string) []PortRange {
	var out []PortRange
	for _, t := range terms {
		if t.Name == "" {
			if t.Low != 0 {
				out = append(out, t.PortRange)
			}
			continue
		}
		if a, ok := d.Alias(t.Name); ok && !a.Disabled && !slices.Contains(trail, t.Name) {
			out = append(out, d.portRanges(a.Ports, append(slices.Clone(trail), t.Name))...)
		}
	}
	return out
}

// Carp is the CARP VIP of a vhid on an interface.
func (d *Document) Carp(iface string, vhid uint8) (*VirtualIP, bool) {
	i := slices.IndexFunc(d.VirtualIPs, func(v VirtualIP) bool {
		return v.Type == VIPCARP && !v.Disabled && v.Interface == iface && v.VHID.N == vhid && vhid != 0
	})
	if i < 0 {
		return nil, false
	}
	return &d.VirtualIPs[i], true
}

// HasCarp says whether the node shares any address.
func (d *Document) HasCarp() bool {
	return slices.ContainsFunc(d.VirtualIPs, func(v VirtualIP) bool { return v.Type == VIPCARP && !v.Disabled })
}

// Gateway looks a gateway up by name: an entry of the file, or one that an
// interface makes by giving an address ("wan_gw", "wan_gw6").
func (d *Document) Gateway(name string) (Gateway, bool) {
	i := slices.IndexFunc(d.AllGateways(), func(g Gateway) bool { return g.Name == name })
	if i < 0 {
		return Gateway{}, false
	}
	return d.AllGateways()[i], true
}

// AllGateways are the entries of the file, then those that interfaces make.
func (d *Document) AllGateways() []Gateway {
	var out []Gateway
	for _, g := range d.Gateways {
		if !g.Disabled {
			out = append(out, g)
		}
	}
	for i := range d.Interfaces {
		iface := &d.Interfaces[i]
		if iface.Disabled {
			continue
		}
		for _, given := range []struct{ value, key, suffix string }{
			{iface.Gateway, "gateway", "_gw"}, {iface.Gateway6, "gateway6", "_gw6"},
		} {
			addr, err := netip.ParseAddr(given.value)
			if err != nil || slices.ContainsFunc(out, func(g Gateway) bool { return g.Interface == iface.Name && g.Address.Addr == addr }) {
				continue
			}
			g := Gateway{Name: iface.Name + given.suffix, Interface: iface.Name, Address: Addr{addr}}
			g.Key = child(iface.Key, given.key)
			out = append(out, g)
		}
	}
	return out
}

// InterfaceGateway is the gateway of an uplink for an IP version, 4 or 6.
func (d *Document) InterfaceGateway(i *Interface, version uint8) (Gateway, bool) {
	value := i.Gateway
	if version == 6 {
		value = i.Gateway6
	}
	if value == "" {
		return Gateway{}, false
	}
	addr, err := netip.ParseAddr(value)
	for _, g := range d.AllGateways() {
		if g.Interface == i.Name && (g.Name == value || err == nil && g.Address.Addr == addr) {
			return g, true
		}
	}
	return Gateway{}, false
}
