package capture

import (
	"net/netip"

	"tandem/netstack/packet"
)

// node is one part of a compiled expression.
type node interface{ match(f *frame) bool }

type (
	both   struct{ a, b node }
	either struct{ a, b node }
	not    struct{ of node }
)

func (n both) match(f *frame) bool   { return n.a.match(f) && n.b.match(f) }
func (n either) match(f *frame) bool { return n.a.match(f) || n.b.match(f) }
func (n not) match(f *frame) bool    { return !n.of.match(f) }

// side says which end of a packet a primitive is about.
type side uint8

const (
	anySide side = iota
	srcSide
	dstSide
)

func (s side) of(src, dst bool) bool {
	switch s {
	case srcSide:
		return src
	case dstSide:
		return dst
	}
	return src || dst
}

// isEther matches the Ethernet type behind the tags.
type isEther struct{ etherType uint16 }

func (n isEther) match(f *frame) bool { return f.ethernet && f.etherType == n.etherType }

// isProto matches the protocol inside IP, of one family or of both (0).
type isProto struct{ proto, family uint8 }

func (n isProto) match(f *frame) bool {
	proto, ok := f.proto()
	return ok && proto == n.proto && (n.family == 0 || n.family == f.view.Family)
}

// inPrefix matches an address of an IP packet, or one that ARP is about.
type inPrefix struct {
	side   side
	prefix netip.Prefix
}

func (n inPrefix) match(f *frame) bool {
	if f.ip {
		return n.side.of(n.prefix.Contains(f.view.Src.Netip()), n.prefix.Contains(f.view.Dst.Netip()))
	}
	if a, ok := f.arp(); ok {
		return n.side.of(n.prefix.Contains(a.Sender), n.prefix.Contains(a.Target))
	}
	return false
}

// inPorts matches a port of TCP or UDP.
type inPorts struct {
	side      side
	low, high uint16
}

func (n inPorts) match(f *frame) bool {
	if !f.hasPorts() {
		return false
	}
	src, dst := f.view.SrcPort, f.view.DstPort
	return n.side.of(n.low <= src && src <= n.high, n.low <= dst && dst <= n.high)
}

// hasMAC matches an Ethernet address.
type hasMAC struct {
	side side
	mac  packet.MAC
}

func (n hasMAC) match(f *frame) bool {
	return f.ethernet && n.side.of(f.src() == n.mac, f.dst() == n.mac)
}

// groupFrame matches frames to a group address; of those, only broadcasts.
type groupFrame struct{ broadcast bool }

func (n groupFrame) match(f *frame) bool {
	if !f.ethernet {
		return false
	}
	if n.broadcast {
		return f.dst() == packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	return f.dst()[0]&1 != 0
}

// inVLAN matches tagged frames, with one of their tags, or with any (-1).
type inVLAN struct{ id int }

func (n inVLAN) match(f *frame) bool {
	if n.id < 0 {
		return f.tagCount > 0
	}
	for _, t := range f.tags[:f.tagCount] {
		if int(t&0xfff) == n.id {
			return true
		}
	}
	return false
}

// goes matches one direction; on matches one interface.
type (
	goes struct{ dir Direction }
	on   struct{ iface string }
)

func (n goes) match(f *frame) bool { return f.dir == n.dir }
func (n on) match(f *frame) bool   { return f.iface == n.iface }

// longer matches frames of at least min and at most max bytes.
type longer struct{ min, max int }

func (n longer) match(f *frame) bool { return n.min <= len(f.b) && len(f.b) <= n.max }
