package config

import (
	"net/netip"
	"slices"
	"strings"
)

const (
	mtuMin  = 576
	mtuMin6 = 1280 // RFC 8200, section 5
	mtuMax  = 9216
	mssMin  = 64
)

func (c *checker) iface(i *Interface) {
	key := i.Key
	if i.Disabled {
		return
	}
	c.ownAddresses(i)
	hasV6 := false
	for _, p := range c.doc.interfacePrefixes(i) {
		hasV6 = hasV6 || p.Addr().Is6()
	}
	switch {
	case i.MTU == 0 && !c.index.has(key+".mtu"):
	case i.MTU < mtuMin || i.MTU > mtuMax:
		c.errorf(key+".mtu", "%d is not from %d to %d", i.MTU, mtuMin, mtuMax)
	case i.MTU < mtuMin6 && hasV6:
		c.errorf(key+".mtu", "%d is too small for IPv6, which needs %d", i.MTU, mtuMin6)
	}
	if c.index.has(key+".mss") && (i.MSS < mssMin || i.MSS > mtuMax) {
		c.errorf(key+".mss", "%d is not from %d to %d; it is the most bytes that a TCP segment carries", i.MSS, mssMin, mtuMax)
	}
	if i.MAC != (MAC{}) && i.Link.Driver == DriverTUN {
		c.errorf(key+".mac", "a tun device has no MAC address; leave it out")
	}
	c.interfaceGateway(i, key+".gateway", i.Gateway, 4)
	c.interfaceGateway(i, key+".gateway6", i.Gateway6, 6)
	c.blocks(i)
	if i.Uplink() && c.doc.HasCarp() {
		for n, p := range i.Addresses {
			if p.IsValid() && p.Addr().Is4() && p.Bits() > 29 {
				c.warnf(element(key+".addresses", n), "%v is longer than /29: a pair with a VIP takes three addresses beside the gateway's and does not fit comfortably; ask for a /29", p.Masked())
			}
		}
	}
}

// ownAddresses checks the interface's addresses one by one.
func (c *checker) ownAddresses(i *Interface) {
	for n, p := range i.Addresses {
		key, a := element(i.Key+".addresses", n), p.Addr()
		switch {
		case !p.IsValid():
			continue
		case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			c.errorf(key, "%v is no address of a host; give the interface one of its own", a)
		case a.IsLoopback():
			c.errorf(key, "%v is from the loopback range, which never leaves a host; give an address of the network on this interface", a)
		case p.Bits() == 0:
			c.errorf(key, "%v spans the whole Internet; give the prefix length of the subnet", p)
		case !isHostAddr(p.Prefix):
			c.errorf(key, "%v is the network or broadcast address of %v; give one between them", a, p.Masked())
		case linkLocal.Contains(a):
			c.warnf(key, "%v is link-local, and packets from there are blocked everywhere", a)
		case a.Is6() && !c.doc.Firewall.IPv6:
			c.warnf(key, "firewall.ipv6 is false, so nothing reaches %v", a)
		}
		if a.Is4() && p.Bits() == 32 && i.Link.Driver != DriverTUN {
			c.errorf(key, "%v has no room for a neighbour; give the prefix length of the subnet, such as %v/24", p, a)
		}
	}
}

// subnets finds addresses and networks that two interfaces claim.
func (c *checker) subnets() {
	type claim struct {
		key, iface string
		prefix     netip.Prefix
	}
	var claims []claim
	for _, i := range c.doc.Interfaces {
		for n, p := range i.Addresses {
			if i.Disabled || !p.IsValid() || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				continue
			}
			now := claim{element(i.Key+".addresses", n), i.Name, p.Prefix}
			for _, earlier := range claims {
				switch {
				case earlier.prefix.Addr() == p.Addr():
					c.errorf(now.key, "%v is already an address of %s; give another one", p.Addr(), earlier.iface)
				case earlier.iface != i.Name && earlier.prefix.Overlaps(p.Prefix):
					c.errorf(now.key, "%v overlaps %v of %s; a subnet can be on one interface only", p.Masked(), earlier.prefix.Masked(), earlier.iface)
				}
			}
			claims = append(claims, now)
		}
	}
}

// interfaceGateway checks the gateway that makes the interface an uplink.
func (c *checker) interfaceGateway(i *Interface, key, value string, version uint8) {
	if value == "" {
		return
	}
	a, err := netip.ParseAddr(value)
	if err != nil {
		n := slices.IndexFunc(c.doc.Gateways, func(g Gateway) bool { return g.Name == value && !g.Disabled })
		switch {
		case n < 0 && !isName(value):
			c.errorf(key, "%q is no address; give one, or the name of an entry in [[gateways]]", value)
		case n < 0:
			c.errorf(key, "there is no gateway %q%s; give an address, or the name of an entry in [[gateways]]", value, didYouMean(value, c.gatewayNames()))
		case c.doc.Gateways[n].Interface != i.Name:
			c.errorf(key, "gateway %s is on %s; name one on %s", value, c.doc.Gateways[n].Interface, i.Name)
		case c.doc.Gateways[n].Address.IsValid() && versionOf(c.doc.Gateways[n].Address.Addr) != version:
			c.errorf(key, "gateway %s is %v, which is not IPv%d; name another one here", value, c.doc.Gateways[n].Address, version)
		}
		return
	}
	c.gatewayAddr(key, i, a.WithZone(""), version)
}

// gatewayAddr checks that a gateway is a neighbour on its interface.
func (c *checker) gatewayAddr(key string, i *Interface, a netip.Addr, version uint8) {
	if version != 0 && versionOf(a) != version {
		c.errorf(key, "%v is not IPv%d; give the gateway of that family", a, version)
		return
	}
	inside := a.Is6() && a.IsLinkLocalUnicast()
	for _, p := range c.doc.interfacePrefixes(i) {
		if p.Addr() == a {
			c.errorf(key, "%v is an address of %s itself; give that of the router there", a, i.Name)
			return
		}
		inside = inside || p.Contains(a)
	}
	if !inside && i.Link.Driver != DriverTUN {
		c.errorf(key, "%v is in no subnet of %s%s; give an address inside one", a, i.Name, listSubnets(c.doc.interfacePrefixes(i)))
	}
}

func listSubnets(list []netip.Prefix) string {
	var words []string
	for _, p := range list {
		if s := p.Masked().String(); !slices.Contains(words, s) {
			words = append(words, s)
		}
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

// blocks warns of filters that keep the interface's own neighbours out.
func (c *checker) blocks(i *Interface) {
	for _, p := range c.doc.interfacePrefixes(i) {
		if net, found := anyContains(private, p.Addr()); found && i.BlockPrivate {
			c.warnf(i.Key+".block_private", "%v of %s lies in %v, so its own neighbours are blocked; set it to false", p.Addr(), i.Name, net)
			break
		}
	}
	for _, p := range c.doc.interfacePrefixes(i) {
		if net, found := anyContains(bogons, p.Addr()); found && i.BlockBogons {
			c.warnf(i.Key+".block_bogons", "%v of %s lies in %v, so its own neighbours are blocked; set it to false", p.Addr(), i.Name, net)
			break
		}
	}
	if i.Name != c.sync {
		return
	}
	for _, b := range []struct {
		on  bool
		key string
	}{{i.BlockPrivate, "block_private"}, {i.BlockBogons, "block_bogons"}} {
		if b.on {
			c.warnf(child(i.Key, b.key), "keeps the other node out of the sync interface; set it to false")
		}
	}
}
