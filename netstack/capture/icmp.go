package capture

import (
	"encoding/binary"
	"fmt"

	"tandem/netstack/packet"
)

// appendICMP appends a message of either family.
func appendICMP(dst []byte, v *packet.View) []byte {
	dst = append(dst, protoName(v.Proto)...)
	dst = append(dst, ' ')
	if (v.Proto == packet.ProtoICMP) != (v.Family == 4) {
		return append(dst, "of the other family"...)
	}
	if nd, ok := packet.ParseND(v); ok {
		return appendND(dst, &nd)
	}
	dst = append(dst, icmpName(v)...)
	b := v.B[v.L4:v.End]
	if packet.IsICMPQuery(v) && len(b) >= 8 {
		return fmt.Appendf(dst, " id %d seq %d length %d", binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), v.DataLen)
	}
	if packet.IsICMPError(v) {
		return appendQuoted(dst, v, b)
	}
	return fmt.Appendf(dst, " length %d", len(b))
}

// appendQuoted appends what an error is about.
func appendQuoted(dst []byte, v *packet.View, b []byte) []byte {
	if mtu, ok := icmpMTU(v, b); ok {
		dst = fmt.Appendf(dst, " mtu %d", mtu)
	}
	var in packet.View
	if !packet.DecodeInner(v, &in) {
		return dst
	}
	ports := in.Proto == packet.ProtoTCP || in.Proto == packet.ProtoUDP
	dst = append(dst, " of "...)
	dst = append(dst, protoName(in.Proto)...)
	dst = append(dst, ' ')
	dst = appendEnd(dst, in.Src, in.SrcPort, ports)
	dst = append(dst, " > "...)
	return appendEnd(dst, in.Dst, in.DstPort, ports)
}

// icmpMTU is the MTU a message of "too big" asks for (RFC 1191, RFC 4443).
func icmpMTU(v *packet.View, b []byte) (uint32, bool) {
	switch {
	case len(b) < 8:
		return 0, false
	case v.Family == 4 && v.ICMPType == 3 && v.ICMPCode == 4:
		return uint32(binary.BigEndian.Uint16(b[6:])), true
	case v.Family == 6 && v.ICMPType == 2:
		return binary.BigEndian.Uint32(b[4:]), true
	}
	return 0, false
}

func appendND(dst []byte, nd *packet.ND) []byte {
	if nd.Type == packet.ICMP6Solicit {
		return fmt.Appendf(dst, "who-has %s", nd.Target)
	}
	dst = fmt.Appendf(dst, "%s is-at ", nd.Target)
	if nd.HasLinkAddr {
		dst = appendMAC(dst, nd.LinkAddr)
	} else {
		dst = append(dst, "the same place"...)
	}
	for _, flag := range [...]struct {
		set  bool
		name string
	}{{nd.Router, " router"}, {nd.Solicited, " solicited"}, {nd.Override, " override"}} {
		if flag.set {
			dst = append(dst, flag.name...)
		}
	}
	return dst
}

// icmpName names type and code as people know them (IANA's registries).
func icmpName(v *packet.View) string {
	names := icmp4Names
	if v.Family == 6 {
		names = icmp6Names
	}
	if s := names(v.ICMPType, v.ICMPCode); s != "" {
		return s
	}
	return fmt.Sprintf("type %d code %d", v.ICMPType, v.ICMPCode)
}

func icmp4Names(typ, code uint8) string {
	switch typ {
	case 0:
		return "echo reply"
	case 3:
		switch code {
		case 0:
			return "net unreachable"
		case 1:
			return "host unreachable"
		case 2:
			return "protocol unreachable"
		case 3:
			return "port unreachable"
		case 4:
			return "fragmentation needed"
		case 9, 10, 13:
			return "prohibited"
		}
	case 5:
		return "redirect"
	case 8:
		return "echo request"
	case 11:
		return "time exceeded"
	case 12:
		return "parameter problem"
	}
	return ""
}

func icmp6Names(typ, code uint8) string {
	switch typ {
	case 1:
		switch code {
		case 0:
			return "no route"
		case 1:
			return "prohibited"
		case 3:
			return "address unreachable"
		case 4:
			return "port unreachable"
		}
	case 2:
		return "packet too big"
	case 3:
		return "time exceeded"
	case 4:
		return "parameter problem"
	case 128:
		return "echo request"
	case 129:
		return "echo reply"
	case 130, 131, 132, 143:
		return "multicast listener"
	case 133:
		return "router solicitation"
	case 134:
		return "router advertisement"
	case 135:
		return "neighbor solicitation, malformed"
	case 136:
		return "neighbor advertisement, malformed"
	case 137:
		return "redirect"
	}
	return ""
}
