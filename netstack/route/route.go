// Package route answers where a packet goes next: to a neighbour on a
// connected network, to a gateway, or nowhere.
//
// A [Table] is made whole by [Build] and never changes, so that any number of
// workers may look things up in it without a lock; new routes are a new table
// behind the owner's pointer. The longest prefix wins (RFC 1812, section
// 5.2.4.3); of equal prefixes a connected one wins over a static one, and
// among equals the one that was named first. The two families never meet: an
// IPv4 address is looked up among IPv4 routes only.
//
// The package does not know which addresses are the node's own, which rules
// choose a gateway, or whether a gateway lives; it opens nothing and reads no
// clock.
package route

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"tandem/netstack/packet"
)

// Kind says what is done with a packet that a route matches.
type Kind uint8

// The kinds of routes. The zero Kind is none of them.
const (
	// Connected: the destination is itself a neighbour on the interface (or,
	// on a layer-3 interface, is reached by writing to it).
	Connected Kind = iota + 1
	// Via: the packet goes to the gateway's link address.
	Via
	// Blackhole: the packet is discarded.
	Blackhole
)

// String is the kind's name in listings: "connected", "via" or "blackhole".
func (k Kind) String() string {
	switch k {
	case Connected:
		return "connected"
	case Via:
		return "via"
	case Blackhole:
		return "blackhole"
	}
	return "none"
}

// Next is where a packet goes.
type Next struct {
	Kind    Kind
	Iface   uint16      // way out; 0 for Blackhole
	Gateway packet.Addr // for Via, else zero
}

// Network is a prefix that is reached directly through an interface. Host
// bits of the prefix are ignored, so an interface's address will do.
type Network struct {
	Prefix netip.Prefix
	Iface  uint16
}

// Static is a route from the configuration. Exactly one of three forms is
// right: a gateway (its interface follows from the connected networks; a
// link-local one needs Iface), an interface alone, or Blackhole.
type Static struct {
	Prefix    netip.Prefix
	Gateway   netip.Addr
	Iface     uint16
	Blackhole bool
}

// isZero says whether s was left out.
func (s Static) isZero() bool { return s == Static{} }

// Config is all that a table is made of.
type Config struct {
	Connected []Network
	Static    []Static
	// Default4 and Default6 are static routes for 0.0.0.0/0 and ::/0; their
	// Prefix may be left out, and the zero Static means that there is none.
	Default4, Default6 Static
}

// Route is one line of [Table.List].
type Route struct {
	Prefix  netip.Prefix
	Kind    Kind
	Iface   uint16
	Gateway netip.Addr // invalid unless Kind is Via
	Static  bool       // from the configuration, not from an interface's network
}

// broadcast is an address that means every host on an interface.
type broadcast struct {
	iface uint16
	addr  packet.Addr
}

// Table is an immutable routing table. The zero Table has no routes.
type Table struct {
	trie       bart.Fast[Next]
	list       []Route
	broadcasts map[broadcast]struct{}
}

// Build makes a table of cfg. If routes are wrong it reports all of them, each
// with its prefix, and returns no table.
func Build(cfg Config) (*Table, error) {
	t := &Table{broadcasts: make(map[broadcast]struct{})}
	var faults []error
	for _, c := range cfg.Connected {
		if err := t.connect(c); err != nil {
			faults = append(faults, err)
		}
	}
	static := slices.Clone(cfg.Static)
	for _, d := range []struct {
		route  Static
		prefix netip.Prefix
	}{
		{cfg.Default4, netip.PrefixFrom(netip.IPv4Unspecified(), 0)},
		{cfg.Default6, netip.PrefixFrom(netip.IPv6Unspecified(), 0)},
	} {
		if d.route.isZero() {
			continue
		}
		if d.route.Prefix.IsValid() && d.route.Prefix != d.prefix {
			faults = append(faults, fmt.Errorf("default route %v: is not for %v", d.route.Prefix, d.prefix))
			continue
		}
		d.route.Prefix = d.prefix
		static = append(static, d.route)
	}
	for _, s := range static {
		next, err := t.resolve(cfg.Connected, s)
		if err != nil {
			faults = append(faults, fmt.Errorf("route %v: %w", s.Prefix, err))
			continue
		}
		t.insert(s.Prefix.Masked(), next, true)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	slices.SortFunc(t.list, compare)
	return t, nil
}

// connect adds a connected network and its broadcast addresses.
func (t *Table) connect(c Network) error {
	if err := checkPrefix(c.Prefix); err != nil {
		return fmt.Errorf("connected network %v: %w", c.Prefix, err)
	}
	if c.Iface == 0 {
		return fmt.Errorf("connected network %v: no interface", c.Prefix)
	}
	p := c.Prefix.Masked()
	t.insert(p, Next{Kind: Connected, Iface: c.Iface}, false)
	// A /31 is a point-to-point link without broadcast (RFC 3021).
	if p.Addr().Is4() && p.Bits() < 31 {
		for _, a := range []netip.Addr{p.Addr(), last4(p)} {
			t.broadcasts[broadcast{c.Iface, packet.AddrFrom(a)}] = struct{}{}
		}
	}
	return nil
}

// insert adds a route unless one for the same prefix is there.
func (t *Table) insert(p netip.Prefix, next Next, static bool) {
	if _, ok := t.trie.Get(p); ok {
		return
	}
	t.trie.Insert(p, next)
	r := Route{Prefix: p, Kind: next.Kind, Iface: next.Iface, Static: static}
	if next.Kind == Via {
		r.Gateway = next.Gateway.Netip()
	}
	t.list = append(t.list, r)
}

// resolve checks s and finds its way out.
func (t *Table) resolve(connected []Network, s Static) (Next, error) {
	if err := checkPrefix(s.Prefix); err != nil {
		return Next{}, err
	}
	switch {
	case s.Blackhole && (s.Gateway.IsValid() || s.Iface != 0):
		return Next{}, errors.New("a blackhole takes neither gateway nor interface")
	case s.Blackhole:
		return Next{Kind: Blackhole}, nil
	case !s.Gateway.IsValid() && s.Iface == 0:
		return Next{}, errors.New("needs a gateway, an interface or blackhole")
	case !s.Gateway.IsValid():
		return Next{Kind: Connected, Iface: s.Iface}, nil
	}
	iface, err := gatewayIface(connected, s)
	if err != nil {
		return Next{}, err
	}
	gw := packet.AddrFrom(s.Gateway)
	if t.Broadcast(iface, gw) {
		return Next{}, fmt.Errorf("gateway %v is a broadcast address", s.Gateway)
	}
	return Next{Kind: Via, Iface: iface, Gateway: gw}, nil
}

// gatewayIface finds the interface behind which s.Gateway is a neighbour.
func gatewayIface(connected []Network, s Static) (uint16, error) {
	gw := s.Gateway.WithZone("")
	switch {
	case gw.Is4In6() || gw.IsUnspecified() || gw.IsMulticast() || gw.IsLoopback():
		return 0, fmt.Errorf("gateway %v is no neighbour's address", gw)
	case gw.Is4() != s.Prefix.Addr().Is4():
		return 0, fmt.Errorf("gateway %v is of the other family", gw)
	case gw.IsLinkLocalUnicast() && gw.Is6() && s.Iface == 0:
		return 0, fmt.Errorf("gateway %v is link-local and needs an interface", gw)
	case gw.IsLinkLocalUnicast() && gw.Is6():
		return s.Iface, nil
	}
	iface, bits := uint16(0), -1
	for _, c := range connected {
		if s.Iface != 0 && c.Iface != s.Iface {
			continue
		}
		if c.Prefix.IsValid() && c.Prefix.Contains(gw) && c.Prefix.Bits() > bits {
			iface, bits = c.Iface, c.Prefix.Bits()
		}
	}
	switch {
	case bits >= 0:
		return iface, nil
	case s.Iface != 0:
		return 0, fmt.Errorf("gateway %v is on no network of its interface", gw)
	}
	return 0, fmt.Errorf("gateway %v is on no connected network", gw)
}

// checkPrefix refuses what no trie should hold.
func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("no valid prefix")
	case p.Addr().Is4In6():
		return errors.New("an IPv4 network is written as IPv4")
	}
	return nil
}

// last4 is the highest address of an IPv4 prefix.
func last4(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

// Lookup finds the way for a packet to dst; false: there is none. It does not
// allocate. The longest prefix of dst's own family decides.
func (t *Table) Lookup(dst packet.Addr) (Next, bool) {
	return t.trie.Lookup(dst.Netip())
}

// Broadcast says whether addr means all hosts on iface: 255.255.255.255, or
// the last address of one of its IPv4 networks, or the first, which is its old
// form (RFC 1812, section 4.2.3.1, which wants both recognised).
func (t *Table) Broadcast(iface uint16, addr packet.Addr) bool {
	if addr == limitedBroadcast {
		return true
	}
	_, ok := t.broadcasts[broadcast{iface, addr}]
	return ok
}

// limitedBroadcast is 255.255.255.255.
var limitedBroadcast = packet.Addr{10: 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// List returns all routes in force: IPv4 before IPv6, then by address, the
// wider prefix first. The slice is the caller's.
func (t *Table) List() []Route { return slices.Clone(t.list) }

// compare orders routes for people.
func compare(a, b Route) int {
	return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
}
