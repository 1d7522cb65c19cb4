package packet

import "encoding/binary"

// decode4 reads the IPv4 header at v.L3 and what it carries.
func decode4(v *View) Reason {
	h := v.B[v.L3:]
	if len(h) < ipv4Len {
		return Short
	}
	if h[0]>>4 != 4 {
		return BadVersion
	}
	hlen := int(h[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(h[ip4TotalLen:]))
	switch {
	case hlen < ipv4Len:
		return BadHeaderLength
	case total < hlen || total > len(h):
		return BadLength
	case sum(h[:hlen], 0) != 0xffff:
		return BadHeaderChecksum
	}
	header4(v, h)
	v.End = v.L3 + total
	if hlen > ipv4Len {
		if r := options4(v, h[ipv4Len:hlen]); r != OK {
			return r
		}
	}
	if v.Fragment {
		// Only the last fragment may have an odd length; none may be empty or
		// reach beyond what the length of a datagram can say.
		data := total - hlen
		if data == 0 || v.MoreFrags && data%8 != 0 || v.FragOffset+data+hlen > datagramBytesMax {
			return BadFragment
		}
		if v.FragOffset > 0 {
			v.Payload, v.DataLen = v.L3+hlen, data
			return OK
		}
	}
	return decodeL4(v, v.L3+hlen)
}

// header4 takes the fixed fields of h.
func header4(v *View, h []byte) {
	_ = h[ipv4Len-1]
	v.Family = 4
	v.Proto = h[ip4Proto]
	v.TOS, v.TTL = h[1], h[ip4TTL]
	v.FragID = uint32(binary.BigEndian.Uint16(h[ip4ID:]))
	if f := binary.BigEndian.Uint16(h[ip4Frag:]); f != 0 {
		v.DontFrag = f&ip4DF != 0
		v.MoreFrags = f&ip4MF != 0
		v.FragOffset = int(f&ip4OffsetMask) * 8
		v.Fragment = f&(ip4MF|ip4OffsetMask) != 0
	}
	mapped4(&v.Src, h[ip4Src:])
	mapped4(&v.Dst, h[ip4Dst:])
}

// mapped4 puts the IPv4 address at the start of b into a.
func mapped4(a *Addr, b []byte) {
	binary.BigEndian.PutUint64(a[:], 0)
	binary.BigEndian.PutUint32(a[8:], 0xffff)
	*(*[4]byte)(a[12:]) = [4]byte(b)
}

// IPv4 option types (IANA), with the copied flag.
const (
	optEnd         = 0
	optNop         = 1
	optLooseRoute  = 131
	optStrictRoute = 137
	optRouterAlert = 148
)

// options4 walks the options o (RFC 791, section 3.1).
func options4(v *View, o []byte) Reason {
	v.Options = true
	for len(o) > 0 {
		switch o[0] {
		case optEnd:
			return OK
		case optNop:
			o = o[1:]
			continue
		case optLooseRoute, optStrictRoute:
			v.SourceRoute = true
		case optRouterAlert:
			v.RouterAlert = true
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return BadOption
		}
		o = o[o[1]:]
	}
	return OK
}
