package packet

import "encoding/binary"

// ICMP types of IPv4 (IANA).
const (
	ICMP4EchoReply      = 0
	ICMP4Unreachable    = 3
	ICMP4SourceQuench   = 4
	ICMP4Redirect       = 5
	ICMP4Echo           = 8
	ICMP4TimeExceeded   = 11
	ICMP4ParamProblem   = 12
	ICMP4Timestamp      = 13
	ICMP4TimestampReply = 14
)

// ICMP types of IPv6 (IANA).
const (
	ICMP6Unreachable   = 1
	ICMP6TooBig        = 2
	ICMP6TimeExceeded  = 3
	ICMP6ParamProblem  = 4
	ICMP6Echo          = 128
	ICMP6EchoReply     = 129
	ICMP6RouterSolicit = 133
	ICMP6RouterAdvert  = 134
	ICMP6Solicit       = 135 // neighbour solicitation
	ICMP6Advert        = 136 // neighbour advertisement
	ICMP6Redirect      = 137
	ICMP6MLD2Report    = 143
)

// icmpFamily is 4 or 6 for an ICMP message whose type has been read, else 0.
func icmpFamily(v *View) uint8 {
	switch {
	case v.L4 == 0:
		return 0
	case v.Family == 4 && v.Proto == ProtoICMP, v.Family == 6 && v.Proto == ProtoICMPv6:
		return v.Family
	}
	return 0
}

// IsICMPError says whether v is an ICMP message that quotes a packet, of a
// type that is known.
func IsICMPError(v *View) bool {
	switch icmpFamily(v) {
	case 4:
		switch v.ICMPType {
		case ICMP4Unreachable, ICMP4SourceQuench, ICMP4Redirect, ICMP4TimeExceeded, ICMP4ParamProblem:
			return true
		}
	case 6:
		return v.ICMPType >= ICMP6Unreachable && v.ICMPType <= ICMP6ParamProblem
	}
	return false
}

// IsICMPQuery says whether v is an echo or timestamp message, request or
// reply: those have an identifier, which stands in both ports.
func IsICMPQuery(v *View) bool {
	switch icmpFamily(v) {
	case 4:
		switch v.ICMPType {
		case ICMP4EchoReply, ICMP4Echo, ICMP4Timestamp, ICMP4TimestampReply:
			return true
		}
	case 6:
		return v.ICMPType == ICMP6Echo || v.ICMPType == ICMP6EchoReply
	}
	return false
}

// DecodeInner reads the packet quoted in the ICMP error v into in, whose
// offsets count in the same bytes. Eight bytes of its upper-layer header are
// enough, which is all that RFC 792 asks for; fields beyond what is quoted are
// zero. The quoted header checksum is not verified, since routers on the way
// had the right to be careless with it.
func DecodeInner(v *View, in *View) bool {
	if !IsICMPError(v) || v.Fragment {
		return false
	}
	*in = View{B: v.B, L3: v.L4 + icmpLen, End: quoteEnd(v)}
	h := v.B[in.L3:in.End]
	var l4 int
	switch v.Family {
	case 4:
		if len(h) < ipv4Len || h[0]>>4 != 4 {
			return false
		}
		hlen := int(h[0]&0x0f) * 4
		total := int(binary.BigEndian.Uint16(h[ip4TotalLen:]))
		if hlen < ipv4Len || hlen > len(h) || total < hlen {
			return false
		}
		in.EtherType = EtherTypeIPv4
		header4(in, h)
		in.End = min(in.End, in.L3+total)
		in.Options = hlen > ipv4Len
		l4 = in.L3 + hlen
	default:
		if len(h) < ipv6Len || h[0]>>4 != 6 {
			return false
		}
		in.EtherType = EtherTypeIPv6
		header6(in, h)
		if in.Src.Is4() || in.Dst.Is4() {
			return false
		}
		in.End = min(in.End, in.L3+ipv6Len+int(binary.BigEndian.Uint16(h[ip6PayloadLen:])))
		var r Reason
		if l4, r = extensions(in, h[ip6Next], in.L3+ipv6Len); r != OK {
			return false
		}
	}
	return quotedL4(in, l4)
}

// quoteEnd is the offset behind the packet that v quotes: that of the message,
// or less if extensions follow the quote (RFC 4884, section 4).
func quoteEnd(v *View) int {
	var n int
	h := v.B[v.L4:]
	switch {
	case v.Family == 4 && (v.ICMPType == ICMP4Unreachable || v.ICMPType == ICMP4TimeExceeded || v.ICMPType == ICMP4ParamProblem):
		n = int(h[5]) * 4
	case v.Family == 6 && (v.ICMPType == ICMP6Unreachable || v.ICMPType == ICMP6TimeExceeded):
		n = int(h[4]) * 8
	}
	if n == 0 {
		return v.End
	}
	return min(v.End, v.L4+icmpLen+n)
}

// quotedL4 is decodeL4 for a packet that was cut off.
func quotedL4(in *View, l4 int) bool {
	h := in.B[l4:in.End]
	in.Payload, in.DataLen = l4, len(h)
	if in.FragOffset > 0 || in.Proto == nextNone && in.Family == 6 {
		return true
	}
	in.L4 = l4
	switch in.Proto {
	case ProtoTCP, ProtoUDP:
		if len(h) < 8 {
			return false
		}
		ports(in, h)
		if in.Proto == ProtoTCP {
			quotedTCP(in, h)
			break
		}
		in.Payload, in.DataLen = l4+udpLen, len(h)-udpLen
	case ProtoICMP, ProtoICMPv6:
		if icmpFamily(in) == 0 {
			break
		}
		if len(h) < icmpLen {
			return false
		}
		icmpHead(in, h)
		in.Payload, in.DataLen = l4+icmpLen, len(h)-icmpLen
	}
	return true
}

func quotedTCP(in *View, h []byte) {
	in.Seq = binary.BigEndian.Uint32(h[tcpSeq:])
	if len(h) < tcpLen {
		in.Payload, in.DataLen = in.End, 0
		return
	}
	in.Ack = binary.BigEndian.Uint32(h[tcpAck:])
	in.TCPFlags = h[tcpFlags]
	in.Window = binary.BigEndian.Uint16(h[14:])
	in.Payload += min(max(int(h[tcpOff]>>4)*4, tcpLen), len(h))
	in.DataLen = in.End - in.Payload
}
