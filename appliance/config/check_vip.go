package config

import (
	"net/netip"
	"slices"
	"strings"
)

// passwordBytesMax is how much of a password CARP uses (ifconfig(8), "pass").
const passwordBytesMax = 19

// vhids decides the automatic ones: the last octet of the address if it is
// free on the interface.
func (c *checker) vhids() {
	for n := range c.doc.VirtualIPs {
		v := &c.doc.VirtualIPs[n]
		if !v.VHID.Auto || v.Disabled || !v.Address.IsValid() {
			continue
		}
		if v.Type != VIPCARP {
			c.errorf(v.Key+".vhid", "\"auto\" is for carp; give the vhid of the CARP VIP that the alias is stacked on")
			continue
		}
		bytes := v.Address.Addr().AsSlice()
		last := bytes[len(bytes)-1]
		if last != 0 && !c.vhidTaken(v, last) {
			v.VHID.N = last
			continue
		}
		free := uint8(1)
		for free < 255 && c.vhidTaken(v, free) {
			free++
		}
		c.errorf(v.Key+".vhid", "%d, the last octet of the address, is not free on %s; write vhid = %d", last, v.Interface, free)
	}
}

func (c *checker) vhidTaken(v *VirtualIP, n uint8) bool {
	return slices.ContainsFunc(c.doc.VirtualIPs, func(o VirtualIP) bool {
		return o.Key != v.Key && o.Type == VIPCARP && o.Interface == v.Interface && o.VHID.N == n
	})
}

func (c *checker) vip(v *VirtualIP) {
	if v.Disabled {
		return
	}
	i, ok := c.mustBeInterface(v.Key+".interface", v.Interface)
	if !ok || !v.Address.IsValid() || v.Type == "" {
		return
	}
	switch {
	case i.Disabled:
		c.errorf(v.Key+".interface", "%s is disabled; enable it, or disable this VIP too", i.Name)
	case i.Link.Driver == DriverTUN:
		c.errorf(v.Key+".interface", "%s is a tun device, which has no MAC for a VIP to answer with; use a tap device", i.Name)
	case i.Name == c.sync:
		c.errorf(v.Key+".interface", "%s is the sync interface, which carries no VIP: each node is spoken to by its own address there; remove this VIP", i.Name)
	}
	c.vipAddress(v, i)
	if v.Type == VIPCARP {
		c.carp(v, i)
	} else {
		c.stacked(v)
	}
}

// vipAddress checks that nobody else has the address and that it fits in.
func (c *checker) vipAddress(v *VirtualIP, i *Interface) {
	key, a := v.Key+".address", v.Address.Addr()
	switch {
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		c.errorf(key, "%v cannot be shared; give an address of the interface's subnet", a)
		return
	case !isHostAddr(v.Address.Prefix):
		c.errorf(key, "%v is the network or broadcast address of %v; give one between them", a, v.Address.Masked())
		return
	}
	for _, other := range c.doc.Interfaces {
		for _, p := range other.Addresses {
			if p.IsValid() && p.Addr() == a && !other.Disabled {
				c.errorf(key, "%v is this node's own address on %s; a VIP is an address beside those of the nodes", a, other.Name)
			}
		}
	}
	for _, other := range c.doc.VirtualIPs {
		if other.Key == v.Key {
			break
		}
		if other.Address.IsValid() && other.Address.Addr() == a && !other.Disabled {
			c.errorf(key, "%v is already the address of %s; remove one of the two", a, other.Key)
		}
	}
	if a.Is6() && !c.doc.Firewall.IPv6 {
		c.warnf(key, "firewall.ipv6 is false, so nothing reaches %v", a)
	}
	c.vipSubnet(v, i)
}

// vipSubnet checks the address against the subnets of its interface.
func (c *checker) vipSubnet(v *VirtualIP, i *Interface) {
	key, a, version := v.Key+".address", v.Address.Addr(), versionOf(v.Address.Addr())
	if a.Is6() && a.IsLinkLocalUnicast() {
		return
	}
	host := v.Address.Bits() == a.BitLen()
	var inside, first netip.Prefix
	for _, p := range i.Addresses {
		if !p.IsValid() || versionOf(p.Addr()) != version || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if !first.IsValid() {
			first = p.Prefix
		}
		if p.Contains(a) && (!inside.IsValid() || p.Bits() > inside.Bits()) {
			inside = p.Prefix
		}
	}
	switch {
	case v.Type == VIPCARP && host && first.IsValid():
		c.errorf(key, "a CARP VIP has the real mask of its subnet, not /%d; write %v/%d", v.Address.Bits(), a, first.Bits())
	case v.Type == VIPCARP && host:
		c.errorf(key, "a CARP VIP has the real mask of its subnet, not /%d; write it with that", v.Address.Bits())
	case v.Type == VIPAlias && host:
		// An alias may be a host alone: its network is another address's.
	case inside.IsValid() && inside.Bits() != v.Address.Bits():
		c.errorf(key, "the mask /%d differs from that of %s's %v; write %v/%d", v.Address.Bits(), i.Name, inside.Masked(), a, inside.Bits())
	case inside.IsValid() && v.ExtraSubnet:
		c.warnf(v.Key+".extra_subnet", "%v lies in %s's %v, so it is no extra subnet; leave it out", a, i.Name, inside.Masked())
	}
	switch {
	case v.Type != VIPCARP || inside.IsValid() || v.ExtraSubnet || host:
	case first.IsValid():
		c.errorf(key, "%v is outside %s's %v; give an address inside it, or extra_subnet = true if the nodes have none of their own in that subnet", a, i.Name, first.Masked())
	case c.doc.HA.Classic:
		c.errorf(key, "%s has no IPv%d address of its own, which a CARP VIP needs in classic mode; give it one", i.Name, version)
	}
}

// carp checks what only an entry of type carp has.
func (c *checker) carp(v *VirtualIP, i *Interface) {
	switch {
	case !v.Password.IsSet() && !c.index.has(v.Key+".password") && !c.index.has(v.Key+".password_file"):
		c.errorf(v.Key+".password", "is required for a CARP VIP, and the same on all nodes; add it, or password_file")
	case len(v.Password.Reveal()) > passwordBytesMax:
		c.warnf(c.passwordKey(v), "has more than %d bytes, and CARP uses the first %d alone; shorten it on all nodes", passwordBytesMax, passwordBytesMax)
	}
	if p := v.Password.Reveal(); strings.ContainsAny(p, " '\"\\") {
		c.warnf(c.passwordKey(v), "has a space, quote or backslash; a pfSense or OPNsense peer takes spaces out and puts backslashes in, so the hashes would differ")
	}
	if !c.index.has(v.Key + ".vhid") {
		c.errorf(v.Key+".vhid", "is required for a CARP VIP; give 1 to 255, the same on all nodes, or \"auto\"")
	}
	for _, other := range c.doc.VirtualIPs {
		if other.Key == v.Key {
			break
		}
		if other.Type == VIPCARP && !other.Disabled && other.Interface == v.Interface && other.VHID.N == v.VHID.N && v.VHID.N != 0 {
			c.errorf(v.Key+".vhid", "vhid %d of %s is that of %s; give another one, or make this an ip_alias with vhid = %d to share it", v.VHID.N, v.Interface, other.Key, v.VHID.N)
		}
	}
	if v.AdvBase < 1 || v.AdvBase > 255 {
		c.errorf(v.Key+".advbase", "%d is not from 1 to 255 seconds; 1 is usual", v.AdvBase)
	}
	if v.AdvSkew < 0 || v.AdvSkew > 254 {
		c.errorf(v.Key+".advskew", "%d is not from 0 to 254; 0 on the primary and 100 on the secondary are usual", v.AdvSkew)
	}
	c.vipPeer(v, i, v.Key+".peer", v.Peer.Addr, 4)
	c.vipPeer(v, i, v.Key+".peer6", v.Peer6.Addr, 6)
}

func (c *checker) passwordKey(v *VirtualIP) string {
	if file := v.Key + ".password_file"; c.index.has(file) {
		return file
	}
	return v.Key + ".password"
}

func (c *checker) vipPeer(v *VirtualIP, i *Interface, key string, peer netip.Addr, version uint8) {
	switch {
	case !peer.IsValid():
	case versionOf(peer) != version:
		c.errorf(key, "%v is not IPv%d; peer is for IPv4 and peer6 for IPv6", peer, version)
	case peer.IsMulticast() || peer.IsUnspecified() || peer.IsLoopback():
		c.errorf(key, "%v is no node; give the other node's own address on %s", peer, i.Name)
	case slices.Contains(c.doc.Self(), peer):
		c.errorf(key, "%v is an address of this node; give the other node's own address on %s", peer, i.Name)
	}
}

// stacked checks an alias; one with a vhid hangs on the CARP VIP of that vhid.
func (c *checker) stacked(v *VirtualIP) {
	for _, name := range []string{"password", "password_file", "advbase", "advskew", "peer", "peer6"} {
		if c.index.has(child(v.Key, name)) {
			c.errorf(child(v.Key, name), "belongs on the CARP VIP; an ip_alias advertises nothing itself, leave it out")
		}
	}
	if v.VHID.N == 0 {
		return
	}
	if _, ok := c.doc.Carp(v.Interface, v.VHID.N); !ok {
		c.errorf(v.Key+".vhid", "%s has no CARP VIP with vhid %d to stack this on; add one of type carp, or give its vhid", v.Interface, v.VHID.N)
	}
}

// cluster checks what only shows over all VIPs.
func (c *checker) cluster() {
	if !c.doc.HasCarp() {
		return
	}
	if !c.index.has("high_availability.host_id") {
		c.errorf("high_availability.host_id", "is required as soon as there is a CARP VIP; give 1 on the primary and 2 on the secondary")
	}
	for n := range c.doc.Interfaces {
		if i := &c.doc.Interfaces[n]; !i.Disabled && i.Name != c.sync {
			c.shared(i, 4)
			c.shared(i, 6)
		}
	}
	var low, high *VirtualIP
	for n := range c.doc.VirtualIPs {
		v := &c.doc.VirtualIPs[n]
		switch {
		case v.Disabled || v.Type != VIPCARP:
		case v.AdvSkew < 20 && low == nil:
			low = v
		case v.AdvSkew >= 100 && high == nil:
			high = v
		}
	}
	if low != nil && high != nil {
		c.warnf(high.Key+".advskew", "is %d here and %d at %s, so this node is primary for some VIPs and secondary for others; use one skew for a node", high.AdvSkew, low.AdvSkew, low.Key)
	}
}

// shared holds an interface of a cluster against the rule of three: an address
// for each node and a VIP.
func (c *checker) shared(i *Interface, version uint8) {
	own, hasOwn := i.First(version)
	if own.IsValid() && own.Addr().Is6() && own.Addr().IsLinkLocalUnicast() {
		hasOwn = false
	}
	var carp *VirtualIP
	for n := range c.doc.VirtualIPs {
		v := &c.doc.VirtualIPs[n]
		if !v.Disabled && v.Type == VIPCARP && v.Interface == i.Name && v.Address.IsValid() && versionOf(v.Address.Addr()) == version && carp == nil {
			carp = v
		}
	}
	key := i.Key
	if c.index.has(i.Key + ".addresses") {
		key += ".addresses"
	}
	switch {
	case carp == nil && hasOwn && !c.covered(i, version):
		c.warnf(key, "%v of %s has no VIP, so what uses this node's address there does not fail over; add one of type carp", own.Masked(), i.Name)
	case carp != nil && hasOwn && own.Contains(carp.Address.Addr()) && hostsOf(own) < 3:
		c.errorf(key, "%v has no room for an address of each node and a VIP, which makes three; use a larger subnet, or the VIP as the only address", own.Masked())
	case carp != nil && !hasOwn && i.Uplink():
		c.warnf(key, "the VIP is the only IPv%d address of %s, so the node that is not master cannot reach the outside by it: no updates, lists, monitoring or clock, unless there is another way", version, i.Name)
	case carp != nil && !hasOwn && !carp.ExtraSubnet && !carp.Address.Addr().IsLinkLocalUnicast():
		c.warnf(key, "the VIP is the only IPv%d address of %s, so the node that is not master has none there; give each node an address of its own if it must be reached", version, i.Name)
	}
}

// covered says whether some VIP of the version, an alias say, is on i.
func (c *checker) covered(i *Interface, version uint8) bool {
	return slices.ContainsFunc(c.doc.VirtualIPs, func(v VirtualIP) bool {
		return !v.Disabled && v.Interface == i.Name && v.VHID.N != 0 && v.Address.IsValid() && versionOf(v.Address.Addr()) == version
	})
}

// hostsOf is how many hosts fit into a network, or many.
func hostsOf(p netip.Prefix) int {
	bits := p.Addr().BitLen() - p.Bits()
	switch {
	case bits > 8:
		return 256
	case p.Addr().Is4() && bits > 1:
		return 1<<bits - 2
	}
	return 1 << bits
}
