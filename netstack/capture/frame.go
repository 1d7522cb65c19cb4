package capture

import (
	"encoding/binary"

	"tandem/netstack/packet"
)

const (
	ethernetBytes = 14
	tagBytes      = 4
	tagsMax       = 2
	arpBytes      = 28
)

// frame is one frame taken apart as far as filters and lines of text need it.
// Unlike in pcap-filter(7), what is behind VLAN tags is seen without asking
// for the tag.
type frame struct {
	b         []byte
	iface     string
	dir       Direction
	ethernet  bool // b has a whole Ethernet header
	tags      [tagsMax]uint16
	tagCount  int
	l3        int
	etherType uint16 // behind the tags
	reason    packet.Reason
	ip        bool        // view holds a packet that was decoded without fault
	view      packet.View // of the IP packet, offsets from l3
}

// decode takes b apart; it keeps b until the next call.
func (f *frame) decode(b []byte, iface string, dir Direction) {
	f.b, f.iface, f.dir = b, iface, dir
	f.ethernet, f.tagCount, f.etherType, f.reason, f.ip = false, 0, 0, packet.Short, false
	if len(b) < ethernetBytes {
		return
	}
	f.ethernet, f.reason = true, packet.OK
	f.l3 = ethernetBytes
	f.etherType = binary.BigEndian.Uint16(b[12:])
	for f.tagCount < tagsMax && (f.etherType == packet.EtherTypeVLAN || f.etherType == packet.EtherTypeQinQ) && len(b) >= f.l3+tagBytes {
		f.tags[f.tagCount] = binary.BigEndian.Uint16(b[f.l3:])
		f.tagCount++
		f.etherType = binary.BigEndian.Uint16(b[f.l3+2:])
		f.l3 += tagBytes
	}
	if f.etherType != packet.EtherTypeIPv4 && f.etherType != packet.EtherTypeIPv6 {
		return
	}
	f.reason = packet.DecodeIP(b[f.l3:], &f.view)
	f.ip = f.reason == packet.OK && f.view.EtherType == f.etherType
	if f.reason == packet.OK && !f.ip {
		f.reason = packet.BadVersion
	}
}

func (f *frame) dst() packet.MAC { return packet.MAC(f.b[0:6]) }
func (f *frame) src() packet.MAC { return packet.MAC(f.b[6:12]) }

// arp is the ARP message, if that is what the frame is.
func (f *frame) arp() (packet.ARP, bool) {
	if f.etherType != packet.EtherTypeARP || len(f.b) < f.l3+arpBytes {
		return packet.ARP{}, false
	}
	v := packet.View{B: f.b, EtherType: packet.EtherTypeARP, L3: f.l3}
	return packet.ParseARP(&v)
}

// proto is the protocol inside IP, ok false for all else.
func (f *frame) proto() (uint8, bool) { return f.view.Proto, f.ip }

// hasPorts says whether the two ports of view mean anything.
func (f *frame) hasPorts() bool {
	if !f.ip || f.view.L4 == 0 || f.view.FragOffset > 0 {
		return false
	}
	return f.view.Proto == packet.ProtoTCP || f.view.Proto == packet.ProtoUDP
}
