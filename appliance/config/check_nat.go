package config

import (
	"net/netip"
	"slices"
)

func (c *checker) nat() {
	ids := map[string]string{}
	o := &c.doc.NAT.Outbound
	for n := range o.Rules {
		c.outbound(&o.Rules[n], ids)
	}
	if len(o.Rules) > 0 && (o.Mode == NATAutomatic || o.Mode == NATDisabled) {
		c.warnf(o.Rules[0].Key, "is not used in mode %s, nor are the rules below; set nat.outbound.mode = \"hybrid\" or \"manual\"", o.Mode)
	}
	for n := range c.doc.NAT.PortForwards {
		c.forward(&c.doc.NAT.PortForwards[n], ids)
	}
	for n := range c.doc.NAT.OneToOne {
		c.oneToOne(n, ids)
	}
}

// ipv4Only reports a translation of IPv6, which has none of these.
func (c *checker) ipv4Only(key string, family Family, version uint8) {
	if family == FamilyIPv6 || version == 6 {
		c.errorf(key, "is for IPv6, and addresses are translated in IPv4 alone; leave it out, IPv6 needs none")
	}
}

func (c *checker) outbound(r *OutboundRule, ids map[string]string) {
	version := c.match(r.Key, &r.Protocol, r.Family, r.Source, r.SourcePort, r.Destination, r.DestinationPort)
	c.id(r.Key, r.ID, ids)
	if r.Disabled {
		return
	}
	c.ipv4Only(r.Key, r.Family, version)
	c.where(r.Key+".interface", r.Interface)
	c.matchNames(r.Key, r.Source, r.SourcePort, r.Destination, r.DestinationPort)
	c.target(r.Key+".translation", r.Translation)
	c.ownSources(r)
	if addr, ok := c.doc.SingleAddress(r.Translation); ok {
		c.answered(r.Key+".translation", addr, r.Interface)
	}
	port := r.Key + ".translation_port"
	switch {
	case r.TranslationPort == (PortRange{}):
	case r.StaticPort:
		c.errorf(port, "static_port keeps the source port; leave one of the two out")
	case !r.Protocol.HasPorts() && !r.Protocol.Any():
		c.errorf(port, "protocol %v has no ports; leave it out", r.Protocol)
	}
	if r.Translation.None && (r.StaticPort || r.TranslationPort != (PortRange{})) {
		c.errorf(r.Key+".translation", "\"none\" leaves packets as they are; leave static_port and translation_port out")
	}
}

// target checks that a translation is to one IPv4 address.
func (c *checker) target(key string, t Target) {
	if t.None || t.Term.Kind == 0 {
		return
	}
	c.term(key, t.Term)
	if _, ok := c.doc.SingleAddress(t); ok {
		return
	}
	switch t.Term.Kind {
	case TermAlias:
		if a, ok := c.doc.Alias(t.Term.Name); ok && !a.Disabled && !a.IsPorts {
			c.errorf(key, "alias %s is not one IPv4 address, and this build does not have pools of addresses yet; name one that is", a.Name)
		}
	case TermAddress:
		if _, isGroup := c.doc.Group(t.Term.Name); isGroup {
			c.errorf(key, "%s is a group with an address for each member; name one interface", t.Term.Name)
		} else if i, ok := c.doc.Interface(t.Term.Name); ok && !i.Disabled {
			c.errorf(key, "%s has no IPv4 address of its own; give the address to translate to", i.Name)
		}
	default:
		c.errorf(key, "%v is no IPv4 address; addresses are translated in IPv4 alone", t)
	}
}

// ownSources reports an outbound rule that would translate the cluster itself:
// on the node that is not master its own traffic would leave with an address
// that it does not hold.
func (c *checker) ownSources(r *OutboundRule) {
	if r.Translation.None {
		return
	}
	key := r.Key + ".source"
	for n, t := range r.Source {
		loop := t.Kind == TermPrefix && loopback4.Overlaps(t.Prefix) && t.Prefix.Bits() >= loopback4.Bits()
		switch {
		case t.Kind == TermAny:
			c.errorf(c.at(key, n), "any covers the cluster's own addresses, whose traffic must keep them; name the networks behind the node, such as \"lan:net\"")
			return
		case t.Kind == TermSelf && !t.Not && r.Translation.Term.Kind == TermAddress, loop && r.Translation.Term.Kind == TermAddress:
			return // The node's own traffic, to the node's own address.
		case t.Kind == TermSelf && !t.Not, loop:
			c.errorf(c.at(key, n), "%v is the node's own traffic, which is never translated to a shared address; set translation = %q", t, firstOf(r.Interface)+suffixAddress)
			return
		}
	}
	for _, name := range r.Interface {
		for _, i := range c.doc.Members(name) {
			for _, own := range c.ownOn(i) {
				if own.Is4() && c.doc.Matches(r.Source, own) {
					c.errorf(key, "covers %v, an address of the cluster on %s, whose traffic must keep it; name the networks behind the node alone", own, i.Name)
					return
				}
			}
		}
	}
}

func firstOf(names []string) string {
	if len(names) == 0 {
		return "wan"
	}
	return names[0]
}

// answered warns of a translated address that lies in a subnet of its
// interface while nobody answers ARP for it.
func (c *checker) answered(key string, addr netip.Addr, where []string) {
	if slices.Contains(c.doc.Self(), addr) {
		return
	}
	for _, name := range where {
		for _, i := range c.doc.Members(name) {
			for _, p := range c.doc.interfacePrefixes(i) {
				if p.Contains(addr) {
					c.warnf(key, "%v lies in %s's %v and is neither a VIP nor an address of the node, so nobody answers for it; add it as ip_alias with the vhid of a CARP VIP", addr, i.Name, p.Masked())
					return
				}
			}
		}
	}
}

func (c *checker) forward(f *PortForward, ids map[string]string) {
	version := c.match(f.Key, &f.Protocol, f.Family, f.Source, f.SourcePort, f.Destination, f.DestinationPort)
	c.id(f.Key, f.ID, ids)
	if f.Disabled {
		return
	}
	c.ipv4Only(f.Key, f.Family, version)
	c.where(f.Key+".interface", f.Interface)
	c.matchNames(f.Key, f.Source, f.SourcePort, f.Destination, f.DestinationPort)
	c.target(f.Key+".target", f.Target)
	for n, t := range f.Destination {
		if t.Kind == TermPrefix && t.Prefix.IsSingleIP() && !t.Not {
			c.answered(c.at(f.Key+".destination", n), t.Prefix.Addr(), f.Interface)
			c.nodeAddress(c.at(f.Key+".destination", n), t.Prefix.Addr())
		}
	}
	c.targetPort(f)
	if f.Target.None && f.Rule == ForwardPass {
		c.errorf(f.Key+".rule", "a forward to \"none\" passes nothing; leave it out")
	}
}

// nodeAddress warns of a service on a node's own address in a cluster.
func (c *checker) nodeAddress(key string, addr netip.Addr) {
	if !c.doc.HasCarp() {
		return
	}
	for _, i := range c.doc.Interfaces {
		for _, p := range i.Addresses {
			if p.IsValid() && p.Addr() == addr && !i.Disabled {
				c.warnf(key, "%v is this node's own address on %s, so the service does not fail over; use a VIP", addr, i.Name)
			}
		}
	}
}

func (c *checker) targetPort(f *PortForward) {
	key := f.Key + ".target_port"
	if f.TargetPort == 0 {
		return
	}
	ranges := c.doc.PortRanges(f.DestinationPort)
	switch {
	case f.Target.None:
		c.errorf(key, "a forward to \"none\" changes no port; leave it out")
	case len(ranges) == 0:
		c.errorf(key, "needs destination_port, the ports that it takes the place of; add it")
	case len(ranges) > 1:
		c.errorf(key, "destination_port has several ranges, which would fall on the same ports; make a forward of each, or leave target_port out")
	case int(f.TargetPort)+ranges[0].Len()-1 > 65535:
		c.errorf(key, "%d ports from %d on go beyond 65535; begin lower", ranges[0].Len(), f.TargetPort)
	}
}

func (c *checker) oneToOne(n int, ids map[string]string) {
	o := &c.doc.NAT.OneToOne[n]
	c.id(o.Key, o.ID, ids)
	if o.Disabled || !o.External.IsValid() || !o.Internal.IsValid() {
		return
	}
	c.where(o.Key+".interface", o.Interface)
	c.terms(o.Key+".destination", o.Destination)
	switch {
	case !o.External.Addr().Is4() || !o.Internal.Addr().Is4():
		c.errorf(o.Key, "is for IPv6, and addresses are translated in IPv4 alone; leave it out, IPv6 needs none")
		return
	case o.External.Bits() != o.Internal.Bits():
		c.errorf(o.Key+".internal", "%v and %v differ in length; both have the same number of addresses", o.Internal, o.External)
	case o.External.Overlaps(o.Internal.Prefix):
		c.errorf(o.Key+".internal", "%v overlaps %v; inside and outside are different networks", o.Internal, o.External)
	}
	for _, i := range c.doc.Interfaces {
		for _, p := range i.Addresses {
			if p.IsValid() && !i.Disabled && o.External.Contains(p.Addr()) {
				c.errorf(o.Key+".external", "%v holds %v, this node's own address on %s, which would then be the inside host's; use a VIP", o.External, p.Addr(), i.Name)
			}
		}
	}
	if o.External.IsSingleIP() {
		c.answered(o.Key+".external", o.External.Addr(), o.Interface)
	}
	for _, earlier := range c.doc.NAT.OneToOne[:n] {
		if !earlier.Disabled && earlier.External.IsValid() && earlier.External.Overlaps(o.External.Prefix) && c.sameInterface(earlier.Interface, o.Interface) && len(earlier.Destination) == 0 {
			c.errorf(o.Key+".external", "%v overlaps %s above, which is taken first; give each its own addresses", o.External, earlier.Key)
		}
	}
}

// sameInterface says whether two lists of names share an interface.
func (c *checker) sameInterface(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(c.doc.Members(x), func(i *Interface) bool {
			return slices.ContainsFunc(b, func(y string) bool { return slices.Contains(c.doc.Members(y), i) })
		})
	})
}
