package packet

import (
	"encoding/binary"
	"math/bits"
)

// Checksum is the Internet checksum of b (RFC 1071), ready to be stored:
// the complement of the sum. It is 0 over data that includes a right
// checksum. initial is a sum to begin with, such as [PseudoSum]. A b of odd
// length counts as if a zero byte followed.
func Checksum(b []byte, initial uint32) uint16 { return ^sum(b, uint64(initial)) }

// PseudoSum is the sum of the pseudo header of a segment of length bytes,
// header included (RFC 9293, section 3.1; RFC 8200, section 8.1).
func PseudoSum(t *Tuple, length int) uint32 {
	s := uint64(t.Proto) + uint64(length)
	if t.Family == 4 {
		s += uint64(binary.BigEndian.Uint32(t.Src[12:])) + uint64(binary.BigEndian.Uint32(t.Dst[12:]))
	} else {
		s += words(&t.Src) + words(&t.Dst)
	}
	return uint32(fold(s))
}

// words is the sum of the four 32-bit words of a.
func words(a *Addr) uint64 {
	return uint64(binary.BigEndian.Uint32(a[0:])) + uint64(binary.BigEndian.Uint32(a[4:])) +
		uint64(binary.BigEndian.Uint32(a[8:])) + uint64(binary.BigEndian.Uint32(a[12:]))
}

// sum is the folded ones' complement sum of b and s. Since 2^16 is 1 modulo
// 2^16-1, words of any width may be added so long as no carry is lost.
func sum(b []byte, s uint64) uint16 {
	var c uint64
	for len(b) >= 32 {
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), c)
		s += c
		b = b[32:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s += c
		b = b[8:]
	}
	s = s>>32 + s&0xffffffff // Room for the few words that are left.
	if len(b) >= 4 {
		s += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return fold(s)
}

// fold brings s down to 16 bits, carries added in again.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// diff16 and diff32 are what a sum grows by when a word changes (RFC 1624,
// equation 3). Differences add up.
func diff16(old, new uint16) uint64 { return uint64(^old) + uint64(new) }
func diff32(old, new uint32) uint64 { return uint64(^old) + uint64(new) }

// adjust changes the checksum at the start of b by difference d, and returns
// the difference this makes to a sum that covers the checksum itself.
func adjust(b []byte, d uint64) uint64 {
	old := binary.BigEndian.Uint16(b)
	s := ^fold(uint64(^old) + d)
	binary.BigEndian.PutUint16(b, s)
	return diff16(old, s)
}

// adjustUDP is adjust where 0 says that there is no checksum (RFC 768).
func adjustUDP(b []byte, d uint64) uint64 {
	old := binary.BigEndian.Uint16(b)
	if old == 0 {
		return 0
	}
	s := ^fold(uint64(^old) + d)
	if s == 0 {
		s = 0xffff
	}
	binary.BigEndian.PutUint16(b, s)
	return diff16(old, s)
}

// adjustPartial changes an unfinished checksum, which is a plain sum and no
// complement.
func adjustPartial(b []byte, d uint64) {
	binary.BigEndian.PutUint16(b, fold(uint64(binary.BigEndian.Uint16(b))+d))
}

// checksumAt returns the offset of the layer-4 checksum in v.B, or 0 where the
// protocol has none that we know, and whether it covers a pseudo header.
func checksumAt(v *View) (at int, pseudo bool) {
	if v.L4 == 0 {
		return 0, false
	}
	switch v.Proto {
	case ProtoTCP:
		return v.L4 + tcpSum, true
	case ProtoUDP:
		return v.L4 + udpSum, true
	case ProtoICMP:
		if v.Family == 4 {
			return v.L4 + icmpSum, false
		}
	case ProtoICMPv6:
		if v.Family == 6 {
			return v.L4 + icmpSum, true
		}
	}
	return 0, false
}

// l4Bytes is what the layer-4 checksum covers beside the pseudo header. UDP
// has a length of its own: what is behind it belongs to nobody.
func l4Bytes(v *View) []byte {
	if v.Proto == ProtoUDP {
		return v.B[v.L4 : v.Payload+v.DataLen]
	}
	return v.B[v.L4:v.End]
}

// VerifyL4 says whether the TCP, UDP or ICMP checksum is right. A packet
// without one is right: another protocol, a fragment, an unfinished sum, UDP
// over IPv4 with 0. UDP over IPv6 must have one (RFC 8200, section 8.1).
func VerifyL4(v *View) bool {
	at, pseudo := checksumAt(v)
	if at == 0 || v.Fragment || v.PartialSum {
		return true
	}
	if v.Proto == ProtoUDP && v.B[at] == 0 && v.B[at+1] == 0 {
		return v.Family == 4
	}
	b := l4Bytes(v)
	var s uint32
	if pseudo {
		s = PseudoSum(&v.Tuple, len(b))
	}
	return Checksum(b, s) == 0
}

// CompleteChecksum turns an unfinished checksum into a full one. It does
// nothing to a packet that has none unfinished.
func CompleteChecksum(v *View) {
	at, _ := checksumAt(v)
	if !v.PartialSum || at == 0 {
		return
	}
	s := Checksum(l4Bytes(v), 0) // The sum that stands in the field stands for the pseudo header.
	if s == 0 && v.Proto == ProtoUDP {
		s = 0xffff
	}
	binary.BigEndian.PutUint16(v.B[at:], s)
	v.PartialSum = false
}
