package packet

import (
	"encoding/binary"
	"net/netip"
)

// ttlDefault is the time to live of the node's own packets (IANA).
const ttlDefault = 64

func etherTypeOf(family uint8) uint16 {
	if family == 6 {
		return EtherTypeIPv6
	}
	return EtherTypeIPv4
}

func appendEthernet(dst []byte, dstMAC, srcMAC MAC, etherType uint16) []byte {
	dst = append(dst, dstMAC[:]...)
	dst = append(dst, srcMAC[:]...)
	return binary.BigEndian.AppendUint16(dst, etherType)
}

// ipFields are the fields of an IP header that differ from packet to packet.
// df and id mean nothing to IPv6.
type ipFields struct {
	ttl, tos uint8
	df       bool
	id       uint16
}

// appendIP appends the header of t's family for length bytes of payload.
func appendIP(dst []byte, t *Tuple, f ipFields, length int) []byte {
	if t.Family == 6 {
		dst = append(dst, 0x60|f.tos>>4, f.tos<<4, 0, 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(length))
		dst = append(dst, t.Proto, f.ttl)
		dst = append(dst, t.Src[:]...)
		return append(dst, t.Dst[:]...)
	}
	at := len(dst)
	dst = appendIPv4(dst, t, f, length)
	finishL3(dst[at:])
	return dst
}

// appendIPv4 leaves header length and checksum to finishL3.
func appendIPv4(dst []byte, t *Tuple, f ipFields, length int) []byte {
	var frag uint16
	if f.df {
		frag = ip4DF
	}
	dst = append(dst, 0x40, f.tos)
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = binary.BigEndian.AppendUint16(dst, f.id)
	dst = binary.BigEndian.AppendUint16(dst, frag)
	dst = append(dst, f.ttl, t.Proto, 0, 0)
	dst = append(dst, t.Src[12:]...)
	return append(dst, t.Dst[12:]...)
}

// finishL3 completes h, an IPv4 header with its options whose total length is
// so far that of the payload.
func finishL3(h []byte) {
	h[0] = 0x40 | uint8(len(h)/4)
	binary.BigEndian.PutUint16(h[ip4TotalLen:], binary.BigEndian.Uint16(h[ip4TotalLen:])+uint16(len(h)))
	binary.BigEndian.PutUint16(h[ip4Sum:], Checksum(h, 0))
}

// finishL4 writes the checksum of b, a whole segment or message, at offset at,
// where zeros stand.
func finishL4(b []byte, at int, t *Tuple) {
	var s uint32
	if t.Proto != ProtoICMP {
		s = PseudoSum(t, len(b))
	}
	c := Checksum(b, s)
	if c == 0 && t.Proto == ProtoUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], c)
}

// familyOf is 4 for IPv4 addresses, mapped ones too, and 6 for the rest.
func familyOf(a netip.Addr) uint8 {
	if a.Unmap().Is4() {
		return 4
	}
	return 6
}

// AppendIP appends a frame with an IP packet of the addresses' family around
// payload, which must fit a datagram. df and id mean nothing to IPv6. A
// checksum inside payload is the caller's.
func AppendIP(dst []byte, srcMAC, dstMAC MAC, src, dstIP netip.Addr, proto, ttl, tos uint8, df bool, id uint16, payload []byte) []byte {
	t := Tuple{Src: AddrFrom(src), Dst: AddrFrom(dstIP), Proto: proto, Family: familyOf(dstIP)}
	dst = appendEthernet(dst, dstMAC, srcMAC, etherTypeOf(t.Family))
	dst = appendIP(dst, &t, ipFields{ttl: ttl, tos: tos, df: df, id: id}, len(payload))
	return append(dst, payload...)
}

// AppendUDP appends a frame with a UDP datagram of t's addresses, ports and
// family. It is never to be fragmented (DF), which lets its identification be
// zero (RFC 6864).
func AppendUDP(dst []byte, srcMAC, dstMAC MAC, t *Tuple, ttl uint8, payload []byte) []byte {
	u := *t
	u.Proto = ProtoUDP
	dst = appendEthernet(dst, dstMAC, srcMAC, etherTypeOf(u.Family))
	dst = appendIP(dst, &u, ipFields{ttl: ttl, df: true}, udpLen+len(payload))
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, u.SrcPort)
	dst = binary.BigEndian.AppendUint16(dst, u.DstPort)
	dst = binary.BigEndian.AppendUint16(dst, uint16(udpLen+len(payload)))
	dst = append(dst, 0, 0)
	dst = append(dst, payload...)
	finishL4(dst[at:], udpSum, &u)
	return dst
}

// MulticastMAC is the Ethernet address of group a (RFC 1112, section 6.4; RFC
// 2464, section 7).
func MulticastMAC(a netip.Addr) MAC {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return MAC{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := a.As16()
	return MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// SolicitedNode is the group that the owner of the IPv6 address a listens to
// (RFC 4291, section 2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// LinkLocal is the link-local address made from m (RFC 4291, appendix A).
func LinkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2],
		11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
