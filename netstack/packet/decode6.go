package packet

import "encoding/binary"

// IPv6 next-header values (IANA) that are walked over.
const (
	nextHopByHop    = 0
	nextRouting     = 43
	nextFragment    = 44
	nextAH          = ProtoAH
	nextNone        = 59
	nextDestination = 60
)

// extensionsMax bounds the walk; real packets have three at most.
const extensionsMax = 8

// decode6 reads the IPv6 header at v.L3, its extension headers and what they
// carry.
func decode6(v *View) Reason {
	h := v.B[v.L3:]
	if len(h) < ipv6Len {
		return Short
	}
	if h[0]>>4 != 6 {
		return BadVersion
	}
	length := int(binary.BigEndian.Uint16(h[ip6PayloadLen:]))
	if ipv6Len+length > len(h) {
		return BadLength
	}
	if length == 0 && h[ip6Next] == nextHopByHop {
		return BadLength // A jumbogram (RFC 2675).
	}
	header6(v, h)
	if v.Src.Is4() || v.Dst.Is4() {
		// Off the wire a mapped address would be taken for the IPv4 host's (RFC
		// 4942, section 2.2); Addr cannot tell them apart either.
		return BadAddress
	}
	v.End = v.L3 + ipv6Len + length
	l4, r := extensions(v, h[ip6Next], v.L3+ipv6Len)
	if r != OK {
		return r
	}
	if v.Fragment {
		data := v.End - v.FragHeader - fragmentLen
		if data == 0 || v.MoreFrags && data%8 != 0 || v.FragOffset+data > datagramBytesMax {
			return BadFragment
		}
	}
	if v.FragOffset > 0 || v.Proto == nextNone {
		v.Payload, v.DataLen = l4, v.End-l4
		return OK
	}
	return decodeL4(v, l4)
}

// header6 takes the fixed fields of h.
func header6(v *View, h []byte) {
	_ = h[ipv6Len-1]
	v.Family = 6
	v.TOS = h[0]<<4 | h[1]>>4
	v.TTL = h[ip6HopLimit]
	v.DontFrag = true
	v.Src = Addr(h[ip6Src:])
	v.Dst = Addr(h[ip6Dst:])
}

// extensions walks the extension headers from offset at, whose type is next,
// and returns the offset behind them. It sets v.Proto to the type of what is
// there. The walk ends at the header of a later fragment, since what follows
// is not the next header but a piece out of the middle.
func extensions(v *View, next uint8, at int) (int, Reason) {
	for n := 0; n <= extensionsMax; n++ {
		switch next {
		case nextHopByHop, nextRouting, nextDestination, nextFragment, nextAH:
		default:
			v.Proto = next
			return at, OK
		}
		if at+8 > v.End {
			return 0, Short
		}
		h := v.B[at:v.End]
		size := 8 + int(h[1])*8
		if next == nextAH {
			size = 8 + int(h[1])*4
		} else if next == nextFragment {
			size = fragmentLen
		}
		if size > len(h) {
			return 0, Short
		}
		if !extension(v, next, at, size, n == 0) {
			return 0, BadExtension
		}
		next, at = h[0], at+size
		if v.FragOffset > 0 {
			v.Proto = next
			return at, OK
		}
	}
	return 0, BadExtension
}

// extension takes what the view wants from one extension header and says
// whether it may stand there (RFC 8200, section 4.1).
func extension(v *View, kind uint8, at, size int, first bool) bool {
	h := v.B[at : at+size]
	switch kind {
	case nextHopByHop:
		v.Options = true
		return first && hopByHop(v, h[2:])
	case nextRouting:
		v.Options = true
		if h[2] == 0 { // Type 0 may not be used any more (RFC 5095).
			v.SourceRoute = true
		}
	case nextDestination:
		v.Options = true
	case nextFragment:
		if v.FragHeader != 0 {
			return false
		}
		f := binary.BigEndian.Uint16(h[2:])
		v.FragHeader = at
		v.FragOffset = int(f &^ 7)
		v.MoreFrags = f&1 != 0
		v.Fragment = v.MoreFrags || v.FragOffset > 0 // A lone "atomic" fragment is none (RFC 6946).
		v.FragID = binary.BigEndian.Uint32(h[4:])
	}
	return true
}

// Hop-by-hop option types (IANA).
const (
	hopPad1        = 0
	hopRouterAlert = 0x05
	hopJumbo       = 0xc2
)

// hopByHop walks hop-by-hop options. Jumbograms are refused.
func hopByHop(v *View, o []byte) bool {
	for len(o) > 0 {
		if o[0] == hopPad1 {
			o = o[1:]
			continue
		}
		if len(o) < 2 || 2+int(o[1]) > len(o) || o[0] == hopJumbo {
			return false
		}
		if o[0] == hopRouterAlert {
			v.RouterAlert = true
		}
		o = o[2+int(o[1]):]
	}
	return true
}
