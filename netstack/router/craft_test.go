package router

import (
	"encoding/binary"
	"net/netip"

	"tandem/netstack/packet"
)

// segment describes a TCP segment for tests.
type segment struct {
	flags    uint8
	seq, ack uint32
	options  []byte
	payload  []byte
	ttl      uint8
	df       bool
	id       uint16
}

// toPort addresses a frame to the interface's own MAC.
func toPort(iface uint16, src netip.Addr) (dstMAC, srcMAC packet.MAC) {
	return packet.MAC(portMAC(iface)), macOf(src)
}

func ttlOr64(ttl uint8) uint8 {
	if ttl == 0 {
		return 64
	}
	return ttl
}

// tcp is the frame of a segment that comes in by iface.
func tcp(iface uint16, src, dst netip.AddrPort, s segment) []byte {
	b := binary.BigEndian.AppendUint16(nil, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, s.seq)
	b = binary.BigEndian.AppendUint32(b, s.ack)
	b = append(b, byte(20+len(s.options))/4<<4, s.flags, 0x20, 0, 0, 0, 0, 0)
	b = append(append(b, s.options...), s.payload...)
	return summed(iface, src.Addr(), dst.Addr(), packet.ProtoTCP, s.ttl, s.df, s.id, b, 16)
}

// udp is the frame of a datagram that comes in by iface.
func udp(iface uint16, src, dst netip.AddrPort, payload []byte) []byte {
	return udpWith(iface, src, dst, 64, false, 7, payload)
}

func udpWith(iface uint16, src, dst netip.AddrPort, ttl uint8, df bool, id uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(append(b, 0, 0), payload...)
	return summed(iface, src.Addr(), dst.Addr(), packet.ProtoUDP, ttl, df, id, b, 6)
}

// icmp is the frame of an ICMP message of the addresses' family.
func icmp(iface uint16, src, dst netip.Addr, typ, code uint8, rest uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ, code, 0, 0}, rest)
	proto := uint8(packet.ProtoICMP)
	if src.Is6() {
		proto = packet.ProtoICMPv6
	}
	return summed(iface, src, dst, proto, 64, false, 9, append(b, payload...), 2)
}

// echo is an echo request.
func echo(iface uint16, src, dst netip.Addr, id, seq uint16) []byte {
	typ := uint8(packet.ICMP4Echo)
	if src.Is6() {
		typ = packet.ICMP6Echo
	}
	return icmp(iface, src, dst, typ, 0, uint32(id)<<16|uint32(seq), []byte("abcdefgh"))
}

// echoReply answers the echo request v, as its receiver on iface does.
func echoReply(iface uint16, v *packet.View) []byte {
	typ := uint8(packet.ICMP4EchoReply)
	if v.Family == 6 {
		typ = packet.ICMP6EchoReply
	}
	return icmp(iface, v.Dst.Netip(), v.Src.Netip(), typ, 0, binary.BigEndian.Uint32(v.B[v.L4+4:]), v.B[v.Payload:v.End])
}

// summed is a frame around payload whose checksum at offset at is right.
func summed(iface uint16, src, dst netip.Addr, proto, ttl uint8, df bool, id uint16, payload []byte, at int) []byte {
	family := uint8(4)
	if src.Is6() {
		family = 6
	}
	sum := uint32(0)
	if proto != packet.ProtoICMP {
		sum = packet.PseudoSum(&packet.Tuple{Src: packet.AddrFrom(src), Dst: packet.AddrFrom(dst), Proto: proto, Family: family}, len(payload))
	}
	c := packet.Checksum(payload, sum)
	if c == 0 && proto == packet.ProtoUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(payload[at:], c)
	dstMAC, srcMAC := toPort(iface, src)
	return packet.AppendIP(nil, srcMAC, dstMAC, src, dst, proto, ttlOr64(ttl), 0, df, id, payload)
}

func ap(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
