package config

import "slices"

const blackhole = "blackhole"

func (c *checker) gatewayNames() []string {
	var names []string
	for _, g := range c.doc.AllGateways() {
		names = append(names, g.Name)
	}
	return names
}

func (c *checker) routing() {
	var defaults [2]string // keys of the entries with default = true, by family
	for n := range c.doc.Gateways {
		g := &c.doc.Gateways[n]
		if g.Disabled {
			continue
		}
		c.gateway(n)
		if !g.Default || !g.Address.IsValid() {
			continue
		}
		family := 0
		if g.Address.Is6() {
			family = 1
		}
		if defaults[family] != "" {
			c.errorf(g.Key+".default", "%s is the default already; one gateway of a family can be", defaults[family])
		}
		defaults[family] = g.Key
	}
	for n, d := range []struct {
		key, name string
		version   uint8
	}{{"routing.default", c.doc.Routing.Default, 4}, {"routing.default6", c.doc.Routing.Default6, 6}} {
		if d.name == "" {
			continue
		}
		if g, ok := c.mustBeGateway(d.key, d.name); ok && g.Address.IsValid() && versionOf(g.Address.Addr) != d.version {
			c.errorf(d.key, "gateway %s is %v, which is not IPv%d; name another one", d.name, g.Address, d.version)
		}
		if defaults[n] != "" {
			c.errorf(d.key, "%s says default = true; say it in one place", defaults[n])
		}
	}
	c.routes()
}

func (c *checker) gateway(n int) {
	g := &c.doc.Gateways[n]
	if c.index.has(g.Key + ".name") {
		c.name(g.Key+".name", g.Name)
	}
	if g.Name == blackhole {
		c.errorf(g.Key+".name", "%q is a word of the configuration; choose another name", g.Name)
	}
	for _, earlier := range c.doc.Gateways[:n] {
		if earlier.Name == g.Name && !earlier.Disabled && g.Name != "" {
			c.errorf(g.Key+".name", "%q is that of %s; give each gateway its own", g.Name, earlier.Key)
		}
	}
	for _, made := range c.doc.AllGateways() {
		if made.Name == g.Name && made.Key != g.Key && !slices.ContainsFunc(c.doc.Gateways, func(o Gateway) bool { return o.Key == made.Key }) {
			c.errorf(g.Key+".name", "%q is the name that %s makes for %v; give that address here, or another name", g.Name, made.Key, made.Address)
		}
	}
	i, ok := c.mustBeInterface(g.Key+".interface", g.Interface)
	if !ok || !g.Address.IsValid() {
		return
	}
	if i.Disabled {
		c.errorf(g.Key+".interface", "%s is disabled; enable it, or disable the gateway too", i.Name)
		return
	}
	c.gatewayAddr(g.Key+".address", i, g.Address.Addr, 0)
}

func (c *checker) mustBeGateway(key, name string) (Gateway, bool) {
	g, ok := c.doc.Gateway(name)
	if !ok {
		c.errorf(key, "there is no gateway %q%s; name an entry of [[gateways]], or the one that an interface makes, such as wan_gw", name, didYouMean(name, c.gatewayNames()))
	}
	return g, ok
}

func (c *checker) routes() {
	type seen struct{ destination, key string }
	var earlier []seen
	for n := range c.doc.Routes {
		r := &c.doc.Routes[n]
		if r.Disabled || r.Destination.Kind == 0 || r.Gateway == "" {
			continue
		}
		key := r.Key + ".destination"
		c.term(key, r.Destination)
		version := r.Destination.Version()
		switch {
		case r.Destination.Not || r.Destination.Kind != TermPrefix && r.Destination.Kind != TermAlias:
			c.errorf(key, "%v is no network; give one such as 10.0.0.0/8, or an alias of networks", r.Destination)
		case r.Destination.Kind == TermPrefix && r.Destination.Prefix.Bits() == 0:
			c.errorf(key, "%v is the default route; set [routing] default or default6 instead", r.Destination)
		case r.Destination.Kind == TermAlias:
			c.routeAlias(key, r.Destination.Name)
		default:
			c.connected(key, r.Destination)
		}
		for _, e := range earlier {
			if e.destination == r.Destination.String() {
				c.errorf(key, "%v has a route already in %s; remove one of the two", r.Destination, e.key)
			}
		}
		earlier = append(earlier, seen{r.Destination.String(), r.Key})
		if r.Gateway == blackhole {
			continue
		}
		g, ok := c.mustBeGateway(r.Key+".gateway", r.Gateway)
		if ok && version != 0 && g.Address.IsValid() && versionOf(g.Address.Addr) != version {
			c.errorf(r.Key+".gateway", "gateway %s is %v, of another family than %v; name one of the same", g.Name, g.Address, r.Destination)
		}
	}
}

// routeAlias checks that an alias is a plain list of networks.
func (c *checker) routeAlias(key, name string) {
	a, ok := c.doc.Alias(name)
	if !ok || a.Disabled || a.IsPorts {
		return
	}
	for _, t := range a.Addresses {
		if t.Kind != TermPrefix || t.Not {
			c.errorf(key, "alias %s holds %v, and routes need networks; name an alias of networks alone", name, t)
			return
		}
	}
}

// connected reports a route for a network that an interface is on.
func (c *checker) connected(key string, t AddressTerm) {
	for n := range c.doc.Interfaces {
		i := &c.doc.Interfaces[n]
		if i.Disabled {
			continue
		}
		for _, p := range c.doc.interfacePrefixes(i) {
			if p.Masked() == t.Prefix {
				c.errorf(key, "%v is the subnet of %s itself, which is reached directly; remove the route", t, i.Name)
				return
			}
		}
	}
}
