package host

import (
	"fmt"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Route says by which interface a prefix is reached. Its gateway is the
// router's matter.
type Route struct {
	Prefix netip.Prefix
	Iface  uint16
}

// addressBook is who holds what now. It is replaced, never changed.
type addressBook struct {
	held   map[heldKey]bool
	any    map[netip.Addr]uint16 // the first interface that holds it
	lists  map[uint16][]netip.Prefix
	routes []Route // longest prefix first
}

type heldKey struct {
	iface uint16
	addr  netip.Addr
}

// holder is the interface that is to handle a datagram for dst which came in
// by iface.
func (b *addressBook) holder(iface uint16, dst netip.Addr) (uint16, bool) {
	if b.held[heldKey{iface, dst}] {
		return iface, true
	}
	holder, ok := b.any[dst]
	return holder, ok
}

// route is the interface towards dst.
func (b *addressBook) route(dst netip.Addr) (uint16, bool) {
	for _, r := range b.routes {
		if r.Prefix.Contains(dst) {
			return r.Iface, true
		}
	}
	return 0, false
}

// source is the address of iface that a datagram to dst leaves from if nobody
// says otherwise: the first of its family, in IPv6 of its scope.
func (b *addressBook) source(iface uint16, dst netip.Addr) (netip.Addr, bool) {
	for _, p := range b.lists[iface] {
		if isPrimaryFor(p.Addr(), dst) {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

func isPrimaryFor(addr, dst netip.Addr) bool {
	local := dst.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast() || dst.IsInterfaceLocalMulticast()
	return addr.Is4() == dst.Is4() && (addr.Is4() || addr.IsLinkLocalUnicast() == local)
}

// class tells the addresses apart of which the first is a source.
func class(addr netip.Addr) int {
	switch {
	case addr.Is4():
		return 0
	case addr.IsLinkLocalUnicast():
		return 1
	}
	return 2
}

// SetAddresses replaces the addresses held on an interface: its own first, then
// the virtual ones held now. The first of each family (in IPv6: of each scope)
// is the source of what is sent without choosing one; the others never are.
// Only the difference is applied, so connections on what stays notice nothing.
func (h *Host) SetAddresses(iface uint16, addrs []netip.Prefix) error {
	h.addrMu.Lock()
	defer h.addrMu.Unlock()
	if h.nics[iface] == nil {
		return fmt.Errorf("host: set addresses of interface %d: %w", iface, ErrNoIface)
	}
	list := make([]netip.Prefix, 0, len(addrs))
	for _, p := range addrs {
		p = netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits())
		if !p.IsValid() {
			return fmt.Errorf("host: set addresses of interface %d: %v is no address", iface, p)
		}
		if !slices.ContainsFunc(list, func(o netip.Prefix) bool { return o.Addr() == p.Addr() }) {
			list = append(list, p)
		}
	}
	h.life.RLock() // Not beside a bind that pulses spoofing.
	defer h.life.RUnlock()
	if h.closed {
		return fmt.Errorf("host: set addresses: %w", ErrClosed)
	}
	if err := h.changeAddresses(iface, h.book.Load().lists[iface], list); err != nil {
		return fmt.Errorf("host: set addresses of interface %d: %w", iface, err)
	}
	h.publish(iface, list)
	return nil
}

// changeAddresses applies the difference. An address that only becomes or
// ceases to be a source is taken away and given back; the routes of its
// connections survive that.
func (h *Host) changeAddresses(iface uint16, old, list []netip.Prefix) error {
	was, will := properties(old), properties(list)
	for _, p := range old {
		if will[p] != was[p] {
			if err := h.stack.RemoveAddress(tcpip.NICID(iface), guestAddr(p.Addr())); err != nil {
				return fmt.Errorf("remove %v: %s", p, err)
			}
		}
	}
	for _, p := range list {
		if will[p] == was[p] {
			continue
		}
		at := tcpip.ProtocolAddress{
			Protocol:          protocolOf(p.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: guestAddr(p.Addr()), PrefixLen: p.Bits()},
		}
		peb := stack.NeverPrimaryEndpoint
		if will[p] == primary {
			peb = stack.CanBePrimaryEndpoint
		}
		if err := h.stack.AddProtocolAddress(tcpip.NICID(iface), at, stack.AddressProperties{PEB: peb}); err != nil {
			return fmt.Errorf("add %v: %s", p, err)
		}
	}
	return nil
}

// property is how an address is held.
type property uint8

const (
	notHeld property = iota
	primary
	secondary
)

func properties(list []netip.Prefix) map[netip.Prefix]property {
	out := make(map[netip.Prefix]property, len(list))
	var taken [3]bool
	for _, p := range list {
		c := class(p.Addr())
		out[p] = secondary
		if !taken[c] {
			out[p] = primary
		}
		taken[c] = true
	}
	return out
}

// publish makes list the addresses of iface for Deliver and Ping.
func (h *Host) publish(iface uint16, list []netip.Prefix) {
	old := h.book.Load()
	b := &addressBook{
		held: make(map[heldKey]bool), any: make(map[netip.Addr]uint16),
		lists: map[uint16][]netip.Prefix{iface: list}, routes: old.routes,
	}
	var order []uint16
	for i := range h.nics {
		order = append(order, i)
		if i != iface {
			b.lists[i] = old.lists[i]
		}
	}
	slices.Sort(order)
	for _, i := range order {
		for _, p := range b.lists[i] {
			b.held[heldKey{i, p.Addr()}] = true
			if _, taken := b.any[p.Addr()]; !taken {
				b.any[p.Addr()] = i
			}
		}
	}
	h.book.Store(b)
}

// SetRoutes replaces the routes by which the guest chooses the interface, and
// so the source, of what it sends without being told. What is bound to an
// interface may send anywhere by it. Longer prefixes go first; of equal ones
// the first listed.
func (h *Host) SetRoutes(routes []Route) {
	h.addrMu.Lock()
	defer h.addrMu.Unlock()
	routes = slices.Clone(routes)
	slices.SortStableFunc(routes, func(a, b Route) int { return b.Prefix.Bits() - a.Prefix.Bits() })
	b := *h.book.Load()
	b.routes = routes
	h.book.Store(&b)

	var table []tcpip.Route
	for _, r := range routes {
		p := r.Prefix.Masked()
		subnet, err := tcpip.NewSubnet(guestAddr(p.Addr()), guestMask(p))
		if err == nil && h.nics[r.Iface] != nil {
			table = append(table, tcpip.Route{Destination: subnet, NIC: tcpip.NICID(r.Iface)})
		}
	}
	var order []uint16
	for i := range h.nics {
		order = append(order, i)
	}
	slices.Sort(order)
	for _, i := range order { // For sockets bound to an interface that no route above names.
		table = append(table, tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: tcpip.NICID(i)},
			tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: tcpip.NICID(i)})
	}
	h.stack.SetRouteTable(table)
}

// JoinGroup makes the guest take datagrams for a multicast group on an
// interface. The membership report is the router's.
func (h *Host) JoinGroup(iface uint16, group netip.Addr) error {
	if err := h.stack.JoinGroup(protocolOf(group), tcpip.NICID(iface), guestAddr(group)); err != nil {
		return fmt.Errorf("host: join %v on interface %d: %s", group, iface, err)
	}
	return nil
}

func guestAddr(a netip.Addr) tcpip.Address {
	if !a.IsValid() {
		return tcpip.Address{}
	}
	return tcpip.AddrFromSlice(a.Unmap().AsSlice())
}

func guestMask(p netip.Prefix) tcpip.AddressMask {
	return tcpip.MaskFromBytes(maskBytes(p.Addr().BitLen()/8, p.Bits()))
}

func maskBytes(size, bits int) []byte {
	m := make([]byte, size)
	for i := range bits {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Unmap().Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}
