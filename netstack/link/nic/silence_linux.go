package nic

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Where the fields of struct ifaddrmsg, rtmsg and rtnexthop lie.
const (
	addrIndex   = 4
	addrBytes   = 8
	routeDst    = 1
	routeProto  = 5
	routeScope  = 6
	routeType   = 7
	routeFlags  = 8
	routeBytes  = 12
	hopIndex    = 4
	hopBytes    = 8
	restoreRuns = 3 // a route may need another one first
)

// silence is what the kernel's stack was made to give up on one interface. It
// keeps the kernel's own messages, so that they can be said back to it.
type silence struct {
	index      uint32
	sockets    map[int]*nl.SocketHandle
	addresses  [][]byte // of RTM_NEWADDR
	routes     [][]byte // of RTM_NEWROUTE
	genMode    int      // of IPv6 link-local addresses; -1: there is no IPv6
	table      *dropTable
	incomplete error
}

// newSilence notes what the kernel has on the interface and takes it away. On
// an error the result is what restore can undo; it is never nil.
func newSilence(device string, index uint32) (*silence, error) {
	s := &silence{index: index, genMode: -1}
	socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return s, fmt.Errorf("open netlink socket: %w", err)
	}
	s.sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
	if s.addresses, err = s.dumpAddresses(); err != nil {
		return s, fmt.Errorf("list addresses: %w", err)
	}
	routes, err := s.dumpRoutes()
	if err != nil {
		return s, fmt.Errorf("list routes: %w", err)
	}
	for _, m := range routes {
		if m[routeProto] != unix.RTPROT_RA { // The next advertisement brings those back.
			s.routes = append(s.routes, m)
		}
	}
	if s.genMode, err = s.getGenMode(); err != nil {
		return s, fmt.Errorf("ask for address generation: %w", err)
	}
	s.table, s.incomplete = newDropTable(device)
	return s, s.take(routes)
}

// take removes what was noted. What is gone already is no error: with an
// address go the routes through it, with a primary address its secondary ones.
func (s *silence) take(routes [][]byte) error {
	const modeNone = 1 // IN6_ADDR_GEN_MODE_NONE
	if s.genMode >= 0 {
		if err := s.setGenMode(modeNone); err != nil {
			return fmt.Errorf("stop address generation: %w", err)
		}
	}
	for _, m := range routes {
		if hops := attribute(m[routeBytes:], unix.RTA_MULTIPATH); hops != nil {
			continue // It has other ways out, which are not ours to cut.
		}
		if err := s.say(unix.RTM_DELROUTE, 0, m); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route: %w", err)
		}
	}
	for _, m := range s.addresses {
		if err := s.say(unix.RTM_DELADDR, 0, m); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address: %w", err)
		}
	}
	return nil
}

// restore gives everything back, and what it can where something fails. An
// interface that is gone needs nothing.
func (s *silence) restore() error {
	var errs []error
	if s.genMode >= 0 {
		errs = append(errs, s.setGenMode(s.genMode))
	}
	for _, m := range s.addresses {
		errs = append(errs, s.say(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m))
	}
	errs = append(errs, s.restoreRoutes()...)
	if s.table != nil {
		errs = append(errs, s.table.remove())
	}
	for _, h := range s.sockets {
		h.Close()
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, unix.ENODEV) })
	return errors.Join(errs...)
}

// restoreRoutes says the routes again, those without gateway first, and again
// where one had to wait for another.
func (s *silence) restoreRoutes() []error {
	left := slices.Clone(s.routes)
	slices.SortStableFunc(left, func(a, b []byte) int { return cmp.Compare(b[routeScope], a[routeScope]) })
	var errs []error
	for range restoreRuns {
		errs = nil
		var again [][]byte
		for _, m := range left {
			err := s.say(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m)
			if err == nil || errors.Is(err, unix.EEXIST) {
				continue
			}
			again, errs = append(again, m), append(errs, fmt.Errorf("route: %w", err))
		}
		left = again
	}
	return errs
}

// found reads the notes as a person would have configured them.
func (s *silence) found() Found {
	var f Found
	for _, m := range s.addresses {
		b := attribute(m[addrBytes:], unix.IFA_LOCAL)
		if b == nil {
			b = attribute(m[addrBytes:], unix.IFA_ADDRESS)
		}
		if a, ok := netip.AddrFromSlice(b); ok {
			f.Addresses = append(f.Addresses, netip.PrefixFrom(a, int(m[1])))
		}
	}
	for _, m := range s.routes {
		if m[routeDst] != 0 {
			continue
		}
		if a, ok := netip.AddrFromSlice(attribute(m[routeBytes:], unix.RTA_GATEWAY)); ok {
			f.Gateways = append(f.Gateways, a)
		}
	}
	return f
}

// say sends one message and waits for the answer.
func (s *silence) say(kind, flags int, message []byte) error {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	req.Sockets = s.sockets
	req.AddRawData(message)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// dump asks for all objects of a kind; the answers are copies.
func (s *silence) dump(ask, answer int, head nl.NetlinkRequestData) ([][]byte, error) {
	req := nl.NewNetlinkRequest(ask, unix.NLM_F_DUMP)
	req.Sockets = s.sockets
	req.AddData(head)
	messages, err := req.Execute(unix.NETLINK_ROUTE, uint16(answer))
	if err != nil {
		return nil, err
	}
	for i, m := range messages {
		messages[i] = slices.Clone(m)
	}
	return messages, nil
}

func (s *silence) dumpAddresses() ([][]byte, error) {
	all, err := s.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	return slices.DeleteFunc(all, func(m []byte) bool {
		return len(m) < addrBytes || binary.NativeEndian.Uint32(m[addrIndex:]) != s.index
	}), err
}

// dumpRoutes lists what was configured by somebody, in any table, and leaves
// out what the kernel makes by itself of addresses.
func (s *silence) dumpRoutes() ([][]byte, error) {
	all, err := s.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, nl.NewRtMsg())
	if err != nil {
		return nil, err
	}
	var ours [][]byte
	for _, m := range all {
		if len(m) < routeBytes || m[routeType] != unix.RTN_UNICAST || m[routeProto] == unix.RTPROT_KERNEL {
			continue
		}
		flags := binary.NativeEndian.Uint32(m[routeFlags:])
		if flags&unix.RTM_F_CLONED != 0 || !s.uses(m[routeBytes:]) {
			continue
		}
		// What the flags say about now (no carrier, ...) is not to be said back.
		binary.NativeEndian.PutUint32(m[routeFlags:], flags&unix.RTNH_F_ONLINK)
		ours = append(ours, m)
	}
	return ours, nil
}

// uses says whether a route's attributes lead out of the interface.
func (s *silence) uses(attrs []byte) bool {
	if b := attribute(attrs, unix.RTA_OIF); len(b) == 4 {
		return binary.NativeEndian.Uint32(b) == s.index
	}
	hops := attribute(attrs, unix.RTA_MULTIPATH)
	for len(hops) >= hopBytes {
		if binary.NativeEndian.Uint32(hops[hopIndex:]) == s.index {
			return true
		}
		n := max(hopBytes, (int(binary.NativeEndian.Uint16(hops))+3)&^3)
		hops = hops[min(n, len(hops)):]
	}
	return false
}

// attribute is the value of the first attribute of that kind, or nil.
func attribute(attrs []byte, kind uint16) []byte {
	const headBytes = 4
	for len(attrs) >= headBytes {
		n := int(binary.NativeEndian.Uint16(attrs))
		if n < headBytes || n > len(attrs) {
			return nil
		}
		if binary.NativeEndian.Uint16(attrs[2:])&^unix.NLA_F_NESTED == kind {
			return attrs[headBytes:n]
		}
		attrs = attrs[min((n+3)&^3, len(attrs)):]
	}
	return nil
}

// getGenMode is how the kernel makes IPv6 link-local addresses on the
// interface, -1 where it has no IPv6 (rtnetlink(7), IFLA_AF_SPEC).
func (s *silence) getGenMode() (int, error) {
	const infoBytes = 16 // struct ifinfomsg
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	req.Sockets = s.sockets
	head := nl.NewIfInfomsg(unix.AF_UNSPEC)
	head.Index = int32(s.index)
	req.AddData(head)
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return -1, err
	}
	if len(messages) != 1 || len(messages[0]) < infoBytes {
		return -1, fmt.Errorf("%d answers about one interface", len(messages))
	}
	spec := attribute(messages[0][infoBytes:], unix.IFLA_AF_SPEC)
	mode := attribute(attribute(spec, unix.AF_INET6), unix.IFLA_INET6_ADDR_GEN_MODE)
	if len(mode) != 1 {
		return -1, nil
	}
	return int(mode[0]), nil
}

func (s *silence) setGenMode(mode int) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.Sockets = s.sockets
	head := nl.NewIfInfomsg(unix.AF_UNSPEC)
	head.Index = int32(s.index)
	req.AddData(head)
	value := nl.NewRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{byte(mode)})
	family := nl.NewRtAttr(unix.AF_INET6, value.Serialize())
	req.AddData(nl.NewRtAttr(unix.IFLA_AF_SPEC, family.Serialize()))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
