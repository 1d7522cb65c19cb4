package packet

import "encoding/binary"

const (
	ethernetLen = 14
	arpLen      = 28
	ipv4Len     = 20 // without options
	ipv6Len     = 40
	fragmentLen = 8 // IPv6 fragment header
	tcpLen      = 20
	udpLen      = 8
	icmpLen     = 8 // the shortest of either family

	datagramBytesMax = 65535
)

// Offsets inside the headers, as far as they are used in more than one place.
const (
	ip4TotalLen = 2
	ip4ID       = 4
	ip4Frag     = 6
	ip4TTL      = 8
	ip4Proto    = 9
	ip4Sum      = 10
	ip4Src      = 12
	ip4Dst      = 16

	ip6PayloadLen = 4
	ip6Next       = 6
	ip6HopLimit   = 7
	ip6Src        = 8
	ip6Dst        = 24

	tcpSeq   = 4
	tcpAck   = 8
	tcpOff   = 12
	tcpFlags = 13
	tcpSum   = 16
	udpLenAt = 4
	udpSum   = 6
	icmpSum  = 2
	icmpID   = 4
)

// Flags and offset, the 16 bits at ip4Frag (RFC 791).
const (
	ip4DF         = 0x4000
	ip4MF         = 0x2000
	ip4OffsetMask = 0x1fff
)

// Decode reads the Ethernet frame b into v, which it resets first. Frames that
// carry no IP, tagged ones among them, are OK and leave Family 0, with L3
// behind the Ethernet header. A view whose decoding was not OK must not be
// used.
//
// What follows the IP datagram is padding. The IPv4 header checksum is
// verified; those of the upper layers are not, see [VerifyL4].
func Decode(b []byte, v *View) Reason {
	*v = View{B: b}
	if len(b) < ethernetLen {
		return Short
	}
	v.EtherType = binary.BigEndian.Uint16(b[12:])
	v.L3 = ethernetLen
	switch v.EtherType {
	case EtherTypeIPv4:
		return decode4(v)
	case EtherTypeIPv6:
		return decode6(v)
	}
	v.Payload, v.End = ethernetLen, len(b)
	return OK
}

// DecodeIP reads b, which begins with an IP header of either version, into v,
// as Decode does.
func DecodeIP(b []byte, v *View) Reason {
	*v = View{B: b}
	if len(b) == 0 {
		return Short
	}
	switch b[0] >> 4 {
	case 4:
		v.EtherType = EtherTypeIPv4
		return decode4(v)
	case 6:
		v.EtherType = EtherTypeIPv6
		return decode6(v)
	}
	return BadVersion
}
