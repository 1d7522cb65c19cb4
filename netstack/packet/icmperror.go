package packet

import (
	"encoding/binary"
	"net/netip"
)

// How long an ICMP error may get, IP header included.
const (
	icmp4ErrorBytesMax = 576  // RFC 1812, section 4.3.2.3
	icmp6ErrorBytesMax = 1280 // RFC 4443, section 2.4(c)
)

// tosControl is the precedence "internetwork control" that RFC 1812, section
// 4.3.2.5 wants on ICMP errors over IPv4.
const tosControl = 0xc0

// AppendICMPError appends a frame with an ICMP error of orig's family about
// orig, from src to orig's source. rest is the second word of the header (an
// MTU, a pointer). As much of orig is quoted as allowed, just as it lies in
// orig.B. The Ethernet addresses are zero; see [SetMACs]. Whether there may be
// an error at all says [MayICMPError].
func AppendICMPError(dst []byte, orig *View, src netip.Addr, typ, code uint8, rest uint32) []byte {
	limit, proto, headers, tos := icmp4ErrorBytesMax, uint8(ProtoICMP), ipv4Len+icmpLen, uint8(tosControl)
	if orig.Family == 6 {
		limit, proto, headers, tos = icmp6ErrorBytesMax, ProtoICMPv6, ipv6Len+icmpLen, 0
	}
	quote := orig.B[orig.L3:orig.End]
	quote = quote[:min(len(quote), limit-headers)]

	t := Tuple{Src: AddrFrom(src), Dst: orig.Src, Proto: proto, Family: orig.Family}
	dst = appendEthernet(dst, MAC{}, MAC{}, etherTypeOf(orig.Family))
	dst = appendIP(dst, &t, ipFields{ttl: ttlDefault, tos: tos, df: true}, icmpLen+len(quote))
	at := len(dst)
	dst = append(dst, typ, code, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, rest)
	dst = append(dst, quote...)
	finishL4(dst[at:], icmpSum, &t)
	return dst
}

// MayICMPError says whether an ICMP error may be sent about orig: not about
// another error or a redirect, a later fragment, anything sent to more than
// one host (by IP or by Ethernet address), or a source that is not one host
// (RFC 1812, section 4.3.2.7; RFC 4443, section 2.4(e)). Directed broadcasts
// are for the caller to know.
func MayICMPError(orig *View) bool {
	switch {
	case orig.Family == 0, orig.FragOffset > 0:
		return false
	case orig.L3 >= ethernetLen && orig.B[0]&1 != 0:
		return false
	case IsICMPError(orig):
		return false
	case icmpFamily(orig) == 6 && (orig.ICMPType < 128 || orig.ICMPType == ICMP6Redirect):
		return false
	case orig.Dst.IsMulticast() || orig.Dst.IsBroadcast():
		return false
	}
	return !orig.Src.IsMulticast() && !orig.Src.IsBroadcast() && !orig.Src.isThisHost()
}

// IsMulticast says whether a is a group address of either family.
func (a Addr) IsMulticast() bool {
	if a.Is4() {
		return a[12]&0xf0 == 0xe0
	}
	return a[0] == 0xff
}

// IsBroadcast says whether a is 255.255.255.255.
func (a Addr) IsBroadcast() bool {
	return a.Is4() && binary.BigEndian.Uint32(a[12:]) == 0xffffffff
}

// IsLoopback says whether a is in 127/8 or ::1.
func (a Addr) IsLoopback() bool {
	if a.Is4() {
		return a[12] == 127
	}
	return a == Addr{15: 1}
}

// IsUnspecified says whether a is 0.0.0.0 or ::.
func (a Addr) IsUnspecified() bool {
	return a == Addr{} || a == Addr{10: 0xff, 11: 0xff}
}

// isThisHost says whether a, as a source, cannot be answered: 0/8 (RFC 1122,
// section 3.2.1.3), :: or loopback.
func (a Addr) isThisHost() bool {
	return a.IsUnspecified() || a.IsLoopback() || a.Is4() && a[12] == 0
}
