package packet

import (
	"encoding/binary"
	"net/netip"
)

const (
	ndLen       = 24 // a solicitation or advertisement without options
	ndOptionLen = 8  // a link-layer address option for Ethernet
	ndHopLimit  = 255

	ndOptSource = 1 // source link-layer address
	ndOptTarget = 2 // target link-layer address
)

// Flags of an advertisement (RFC 4861, section 4.4).
const (
	ndRouter    = 0x80
	ndSolicited = 0x40
	ndOverride  = 0x20
)

// ND is a neighbour solicitation or advertisement.
type ND struct {
	Type                        uint8 // ICMP6Solicit or ICMP6Advert
	Target                      netip.Addr
	LinkAddr                    MAC // of the sender (solicitation) or target (advertisement)
	HasLinkAddr                 bool
	Router, Solicited, Override bool
}

// ParseND reads the neighbour solicitation or advertisement in v. It is false
// for all else and for messages that RFC 4861, sections 7.1.1 and 7.1.2, or
// RFC 6980 (no fragments) want discarded.
func ParseND(v *View) (ND, bool) {
	if icmpFamily(v) != 6 || v.ICMPType != ICMP6Solicit && v.ICMPType != ICMP6Advert {
		return ND{}, false
	}
	h := v.B[v.L4:v.End]
	if v.TTL != ndHopLimit || v.ICMPCode != 0 || v.FragHeader != 0 || len(h) < ndLen || !VerifyL4(v) {
		return ND{}, false
	}
	target := Addr(h[8:])
	if target.IsMulticast() || target.Is4() {
		return ND{}, false
	}
	nd := ND{Type: v.ICMPType, Target: netip.AddrFrom16(target)}
	kind := uint8(ndOptSource)
	if nd.Type == ICMP6Advert {
		kind = ndOptTarget
		nd.Router = h[4]&ndRouter != 0
		nd.Solicited = h[4]&ndSolicited != 0
		nd.Override = h[4]&ndOverride != 0
	}
	if !ndOptions(&nd, kind, h[ndLen:]) || !ndAddresses(v, &nd) {
		return ND{}, false
	}
	return nd, true
}

// ndOptions walks the options and takes the link-layer address of the given
// kind. Options of no length make the message invalid.
func ndOptions(nd *ND, kind uint8, o []byte) bool {
	for len(o) > 0 {
		if len(o) < 2 || o[1] == 0 || int(o[1])*8 > len(o) {
			return false
		}
		if o[0] == kind && o[1] == 1 && !nd.HasLinkAddr {
			nd.LinkAddr, nd.HasLinkAddr = MAC(o[2:]), true
		}
		o = o[int(o[1])*8:]
	}
	return true
}

// ndAddresses checks what the message's addresses must be like.
func ndAddresses(v *View, nd *ND) bool {
	if nd.Type == ICMP6Advert {
		return !(v.Dst.IsMulticast() && nd.Solicited)
	}
	if !v.Src.IsUnspecified() {
		return true
	}
	// Duplicate address detection goes to the solicited-node group and says no
	// link-layer address.
	return !nd.HasLinkAddr && [13]byte(v.Dst[:]) == [13]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff}
}

// AppendNS appends the frame of a neighbour solicitation for target. With
// withLinkAddr it says srcMAC; that must not be asked for an unspecified src.
func AppendNS(dst []byte, srcMAC, dstMAC MAC, src, dstIP, target netip.Addr, withLinkAddr bool) []byte {
	if !withLinkAddr {
		return appendND(dst, srcMAC, dstMAC, src, dstIP, target, ICMP6Solicit, 0, 0, MAC{})
	}
	return appendND(dst, srcMAC, dstMAC, src, dstIP, target, ICMP6Solicit, 0, ndOptSource, srcMAC)
}

// AppendNA appends the frame of a neighbour advertisement: target is at
// linkAddr.
func AppendNA(dst []byte, srcMAC, dstMAC MAC, src, dstIP, target netip.Addr, linkAddr MAC, router, solicited, override bool) []byte {
	var flags uint8
	if router {
		flags |= ndRouter
	}
	if solicited {
		flags |= ndSolicited
	}
	if override {
		flags |= ndOverride
	}
	return appendND(dst, srcMAC, dstMAC, src, dstIP, target, ICMP6Advert, flags, ndOptTarget, linkAddr)
}

// appendND appends either message; option 0 is none.
func appendND(dst []byte, srcMAC, dstMAC MAC, src, dstIP, target netip.Addr, typ, flags, option uint8, linkAddr MAC) []byte {
	length := ndLen
	if option != 0 {
		length += ndOptionLen
	}
	t := Tuple{Src: AddrFrom(src), Dst: AddrFrom(dstIP), Proto: ProtoICMPv6, Family: 6}
	a := target.As16()
	dst = appendEthernet(dst, dstMAC, srcMAC, EtherTypeIPv6)
	dst = appendIP(dst, &t, ipFields{ttl: ndHopLimit}, length)
	at := len(dst)
	dst = append(dst, typ, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(flags)<<24)
	dst = append(dst, a[:]...)
	if option != 0 {
		dst = append(dst, option, 1)
		dst = append(dst, linkAddr[:]...)
	}
	finishL4(dst[at:], icmpSum, &t)
	return dst
}
