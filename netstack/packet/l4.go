package packet

import "encoding/binary"

// decodeL4 reads the upper-layer header at l4, of type v.Proto. The first
// fragment of a datagram must hold that header in full (RFC 1858, RFC 7112).
func decodeL4(v *View, l4 int) Reason {
	h := v.B[l4:v.End]
	v.L4, v.Payload, v.DataLen = l4, l4, len(h)
	switch v.Proto {
	case ProtoTCP:
		return decodeTCP(v, h)
	case ProtoUDP:
		return decodeUDP(v, h)
	case ProtoICMP:
		if v.Family == 4 {
			return decodeICMP(v, h)
		}
	case ProtoICMPv6:
		if v.Family == 6 {
			return decodeICMP(v, h)
		}
	}
	return OK
}

func decodeTCP(v *View, h []byte) Reason {
	if len(h) < tcpLen {
		return Short
	}
	hlen := int(h[tcpOff]>>4) * 4
	if hlen < tcpLen || hlen > len(h) {
		return BadHeaderLength
	}
	ports(v, h)
	v.Seq = binary.BigEndian.Uint32(h[tcpSeq:])
	v.Ack = binary.BigEndian.Uint32(h[tcpAck:])
	v.TCPFlags = h[tcpFlags]
	v.Window = binary.BigEndian.Uint16(h[14:])
	v.Payload += hlen
	v.DataLen -= hlen
	return OK
}

func decodeUDP(v *View, h []byte) Reason {
	if len(h) < udpLen {
		return Short
	}
	length := int(binary.BigEndian.Uint16(h[udpLenAt:]))
	if length < udpLen || length > len(h) && !v.Fragment {
		return BadLength
	}
	ports(v, h)
	v.Payload += udpLen
	v.DataLen = min(length, len(h)) - udpLen
	return OK
}

func decodeICMP(v *View, h []byte) Reason {
	if len(h) < icmpLen {
		return Short
	}
	icmpHead(v, h)
	v.Payload += icmpLen
	v.DataLen -= icmpLen
	return OK
}

func icmpHead(v *View, h []byte) {
	v.ICMPType, v.ICMPCode = h[0], h[1]
	if IsICMPQuery(v) {
		id := binary.BigEndian.Uint16(h[icmpID:])
		v.SrcPort, v.DstPort = id, id
	}
}

func ports(v *View, h []byte) {
	v.SrcPort = binary.BigEndian.Uint16(h)
	v.DstPort = binary.BigEndian.Uint16(h[2:])
}

// TCP option kinds (RFC 9293, RFC 7323).
const (
	tcpOptEnd    = 0
	tcpOptNop    = 1
	tcpOptMSS    = 2
	tcpOptWScale = 3

	windowShiftMax = 14 // RFC 7323, section 2.3
)

// tcpOption returns the offset in v.B of the option of the given kind and
// total length, or 0.
func tcpOption(v *View, kind uint8, length int) int {
	if v.L4 == 0 || v.Proto != ProtoTCP {
		return 0
	}
	at := v.L4 + tcpLen
	for at < v.Payload {
		k := v.B[at]
		if k == tcpOptEnd {
			return 0
		}
		if k == tcpOptNop {
			at++
			continue
		}
		if at+2 > v.Payload {
			return 0
		}
		n := int(v.B[at+1])
		if n < 2 || at+n > v.Payload {
			return 0
		}
		if k == kind && n == length {
			return at
		}
		at += n
	}
	return 0
}

// WindowScale is the shift that a SYN offers (RFC 7323, section 2), at most
// 14; ok is false where it offers none.
func WindowScale(v *View) (shift uint8, ok bool) {
	if v.TCPFlags&SYN == 0 {
		return 0, false
	}
	at := tcpOption(v, tcpOptWScale, 3)
	if at == 0 {
		return 0, false
	}
	return min(v.B[at+2], windowShiftMax), true
}

// ClampMSS lowers the maximum segment size that a SYN offers to mss bytes and
// says whether it had to.
func ClampMSS(v *View, mss uint16) bool {
	if v.TCPFlags&SYN == 0 {
		return false
	}
	at := tcpOption(v, tcpOptMSS, 4)
	if at == 0 || binary.BigEndian.Uint16(v.B[at+2:]) <= mss {
		return false
	}
	d := diff16(binary.BigEndian.Uint16(v.B[at+2:]), mss)
	if (at-v.L4)%2 != 0 {
		d <<= 8 // The value straddles two words of the sum.
	}
	binary.BigEndian.PutUint16(v.B[at+2:], mss)
	if !v.PartialSum {
		adjust(v.B[v.L4+tcpSum:], d)
	}
	return true
}
