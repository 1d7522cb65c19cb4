package state

import (
	"encoding/binary"
	"math/bits"

	"tandem/netstack/packet"
)

// key is a tuple in the form that the index hashes and the records compare:
// whole words. Of IPv4 only addr[0] is used, the source in its low half and
// the destination in its high half; of IPv6 two words are each address.
type key struct {
	addr  [4]uint64
	ports uint32 // source<<16 | destination
	meta  uint32 // protocol, ICMP type<<8, answer<<16
	v6    bool
}

// answerBit tells the answer to an ICMP query from a query: their tuples look
// alike, and hosts that all use the same identifier ping one another.
const answerBit = 1 << 16

// set makes k of a tuple; icmpType is the packet's, and ignored for other
// protocols. It says whether the tuple is of IP at all.
func (k *key) set(t *packet.Tuple, icmpType uint8) bool {
	k.ports = uint32(t.SrcPort)<<16 | uint32(t.DstPort)
	k.meta = uint32(t.Proto)
	switch t.Family {
	case 4:
		k.v6 = false
		k.addr[0] = uint64(binary.LittleEndian.Uint32(t.Src[12:])) |
			uint64(binary.LittleEndian.Uint32(t.Dst[12:]))<<32
		if t.Proto == packet.ProtoICMP {
			k.meta |= icmpMeta4(icmpType)
		}
	case 6:
		k.v6 = true
		k.addr[0] = binary.LittleEndian.Uint64(t.Src[:8])
		k.addr[1] = binary.LittleEndian.Uint64(t.Src[8:])
		k.addr[2] = binary.LittleEndian.Uint64(t.Dst[:8])
		k.addr[3] = binary.LittleEndian.Uint64(t.Dst[8:])
		if t.Proto == packet.ProtoICMPv6 {
			k.meta |= icmpMeta6(icmpType)
		}
	default:
		return false
	}
	return true
}

// reverse is the key of the answers. An ICMP message that is no query has
// none that could arrive, since its answer bit would have to be set.
func (k *key) reverse() key {
	r := *k
	r.ports = bits.RotateLeft32(k.ports, 16)
	if k.v6 {
		r.addr = [4]uint64{k.addr[2], k.addr[3], k.addr[0], k.addr[1]}
	} else {
		r.addr[0] = bits.RotateLeft64(k.addr[0], 32)
	}
	if k.meta&0xff00 != 0 {
		r.meta ^= answerBit
	}
	return r
}

// ICMP message types that ask, and the answers to them (IANA; RFC 792, RFC
// 950, RFC 4443, RFC 4620).
const (
	echo4, echoReply4           = 8, 0
	timestamp4, timestampReply4 = 13, 14
	info4, infoReply4           = 15, 16
	mask4, maskReply4           = 17, 18
	echo6, echoReply6           = 128, 129
	nodeInfo6, nodeInfoReply6   = 139, 140
)

func icmpMeta4(typ uint8) uint32 {
	switch typ {
	case echoReply4:
		return echo4<<8 | answerBit
	case timestampReply4, infoReply4, maskReply4:
		return uint32(typ-1)<<8 | answerBit
	}
	return uint32(typ) << 8
}

func icmpMeta6(typ uint8) uint32 {
	if typ == echoReply6 || typ == nodeInfoReply6 {
		return uint32(typ-1)<<8 | answerBit
	}
	return uint32(typ) << 8
}

// tuple4 puts a tuple together from the words of an IPv4 record.
func tuple4(addr uint64, ports uint32, proto uint8, t *packet.Tuple) {
	t.Src = mapped(uint32(addr))
	t.Dst = mapped(uint32(addr >> 32))
	t.SrcPort, t.DstPort = uint16(ports>>16), uint16(ports)
	t.Proto, t.Family = proto, 4
}

// mapped is an IPv4 address, as key.set loads it, in its mapped form.
func mapped(a uint32) (m packet.Addr) {
	binary.LittleEndian.PutUint64(m[8:], uint64(a)<<32|0xffff<<16)
	return m
}

// tuple6 does the same for IPv6.
func tuple6(addr *[4]uint64, ports uint32, proto uint8, t *packet.Tuple) {
	binary.LittleEndian.PutUint64(t.Src[:8], addr[0])
	binary.LittleEndian.PutUint64(t.Src[8:], addr[1])
	binary.LittleEndian.PutUint64(t.Dst[:8], addr[2])
	binary.LittleEndian.PutUint64(t.Dst[8:], addr[3])
	t.SrcPort, t.DstPort = uint16(ports>>16), uint16(ports)
	t.Proto, t.Family = proto, 6
}

// secret is the hash's key, spread to the four words that it mixes in.
type secret [4]uint64

// newSecret spreads a key by the finaliser of SplitMix64, so that even a poor
// key gives four words with many bits set.
func newSecret(k [2]uint64) (s secret) {
	x := k[0]
	for i := range s {
		x += 0x9e3779b97f4a7c15 ^ k[1]<<(8*uint(i)) ^ k[1]>>(64-8*uint(i))
		z := (x ^ x>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		s[i] = z ^ z>>31 | 1
	}
	return s
}

// hash mixes a key by folded 64-bit products. Who does not know the secret
// cannot choose tuples that meet in one place.
func (s *secret) hash(k *key) uint64 {
	h := fold(k.addr[0]^s[0], (uint64(k.ports)<<32|uint64(k.meta))^s[1])
	if k.v6 {
		h = fold(h^k.addr[1], k.addr[2]^s[2])
		h = fold(h^k.addr[3], s[0])
	}
	return fold(h^s[2], s[3])
}

// fold is the two halves of a product, one laid over the other.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
