package plan

import (
	"net/netip"

	"tandem/appliance/config"
	"tandem/netstack/route"
)

// routes gathers the connected networks, the static routes and the defaults.
func (b *builder) routes() {
	c := &b.plan.Routes
	for _, i := range b.plan.Interfaces {
		for _, p := range b.connected(i) {
			c.Connected = append(c.Connected, route.Network{Prefix: p, Iface: i.Index})
		}
	}
	for n := range b.doc.Routes {
		r := &b.doc.Routes[n]
		if r.Disabled {
			continue
		}
		gateway, known := b.doc.Gateway(r.Gateway)
		for _, p := range b.destinations(r) {
			switch {
			case !known:
				c.Static = append(c.Static, route.Static{Prefix: p, Blackhole: true})
			case gateway.Address.Is4() == p.Addr().Is4():
				s := b.via(gateway)
				s.Prefix = p
				c.Static = append(c.Static, s)
			}
		}
	}
	c.Default4 = b.defaultRoute(4, b.doc.Routing.Default)
	c.Default6 = b.defaultRoute(6, b.doc.Routing.Default6)
}

// connected are the networks in which an interface has neighbours. Those of
// single addresses are none, and IPv6 link-local is every interface's.
func (b *builder) connected(i Interface) []netip.Prefix {
	all := append([]netip.Prefix{}, i.Addresses...)
	for _, v := range b.plan.VIPs {
		if v.Iface == i.Index {
			all = append(all, v.Address)
		}
	}
	var out []netip.Prefix
	for _, p := range all {
		if !p.IsSingleIP() && !(p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()) {
			out = append(out, p.Masked())
		}
	}
	return distinct(out)
}

// distinct keeps the first of equal networks.
func distinct(list []netip.Prefix) []netip.Prefix {
	seen := map[netip.Prefix]bool{}
	var out []netip.Prefix
	for _, p := range list {
		if !seen[p] {
			out = append(out, p)
		}
		seen[p] = true
	}
	return out
}

// destinations are the networks of a static route, whose alias may hold several.
func (b *builder) destinations(r *config.Route) []netip.Prefix {
	if r.Destination.Kind == config.TermPrefix {
		return []netip.Prefix{r.Destination.Prefix}
	}
	var out []netip.Prefix
	if a, ok := b.doc.Alias(r.Destination.Name); ok {
		for _, t := range a.Addresses {
			out = append(out, t.Prefix)
		}
	}
	return out
}

// via is the way to a gateway. On a layer-3 link there is nobody to ask for:
// what is written to it arrives at the other end.
func (b *builder) via(g config.Gateway) route.Static {
	s := route.Static{Gateway: g.Address.Addr, Iface: b.numbers[g.Interface]}
	if i, ok := b.doc.Interface(g.Interface); ok && i.Link.Driver == config.DriverTUN {
		s.Gateway = netip.Addr{}
	}
	return s
}

// defaultRoute is by the gateway that [routing] names, else the one that says
// so itself, else the first uplink's in the file.
func (b *builder) defaultRoute(version uint8, name string) route.Static {
	if g, ok := b.doc.Gateway(name); ok {
		return b.via(g)
	}
	for _, g := range b.doc.Gateways {
		if !g.Disabled && g.Default && g.Address.Is4() == (version == 4) {
			return b.via(g)
		}
	}
	for n := range b.doc.Interfaces {
		i := &b.doc.Interfaces[n]
		if g, ok := b.doc.InterfaceGateway(i, version); ok && !i.Disabled {
			return b.via(g)
		}
	}
	return route.Static{}
}
