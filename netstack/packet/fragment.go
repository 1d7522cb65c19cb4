package packet

import "encoding/binary"

// FragmentIPv4 cuts v into fragments of at most mtu bytes of IP and hands them
// to emit in order (RFC 791, section 3.2). A packet that fits comes out as it
// is. v may be a fragment itself. An unfinished checksum is completed in v
// first, since no fragment has all of what it covers.
//
// It is false, and nothing is emitted, where DF is set, the packet is
// coalesced ([Segment] it), or mtu leaves no room. The frames are built in
// scratch, which must be as long as v.B: a frame is good only until emit
// returns.
func FragmentIPv4(v *View, mtu int, emit func(frame []byte), scratch []byte) bool {
	if v.Family != 4 || v.SegSize > 0 {
		return false
	}
	if v.End-v.L3 <= mtu {
		emit(v.B[:v.End])
		return true
	}
	hlen := int(v.B[v.L3]&0x0f) * 4
	if v.DontFrag || mtu < hlen+8 {
		return false
	}
	CompleteChecksum(v)
	data := v.B[v.L3+hlen : v.End]
	head := append(scratch[:0], v.B[:v.L3+hlen]...)
	for off := 0; off < len(data); {
		size := len(data) - off
		more := v.MoreFrags
		if hlen+size > mtu {
			size, more = (mtu-hlen)&^7, true
		}
		f := append(head, data[off:off+size]...)
		fragmentHeader4(f[v.L3:], hlen, v.FragOffset+off, more)
		emit(f)
		if off == 0 {
			hlen = laterOptions(head[v.L3:])
			head = head[:v.L3+hlen]
		}
		off += size
	}
	return true
}

// fragmentHeader4 finishes the header of a fragment; b ends with it.
func fragmentHeader4(b []byte, hlen, off int, more bool) {
	frag := uint16(off / 8)
	if more {
		frag |= ip4MF
	}
	binary.BigEndian.PutUint16(b[ip4TotalLen:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[ip4Frag:], frag)
	binary.BigEndian.PutUint16(b[ip4Sum:], 0)
	binary.BigEndian.PutUint16(b[ip4Sum:], Checksum(b[:hlen], 0))
}

// laterOptions takes from the header h the options that only the first
// fragment has (RFC 791, section 3.1: those without the copied flag) and
// returns the length that remains.
func laterOptions(h []byte) int {
	const copied = 0x80
	end := ipv4Len
	for o := h[ipv4Len:]; len(o) > 0 && o[0] != optEnd; {
		if o[0] == optNop {
			o = o[1:]
			continue
		}
		n := int(o[1]) // Decode has walked them before.
		if o[0]&copied != 0 {
			end += copy(h[end:], o[:n])
		}
		o = o[n:]
	}
	for end%4 != 0 {
		h[end] = optEnd
		end++
	}
	h[0] = 0x40 | uint8(end/4)
	return end
}

// FragmentIPv6 cuts v into fragments of at most mtu bytes of IP, all with
// identification id, and hands them to emit in order (RFC 8200, section 4.5).
// Only a datagram that this node put together out of fragments, or made, may
// be given to it: routers do not fragment IPv6. A packet that fits comes out
// as it is.
//
// It is false where v has a fragment header already, is coalesced, or mtu
// leaves no room. scratch must be longer than v.B by 8 bytes; else as
// [FragmentIPv4].
func FragmentIPv6(v *View, mtu int, id uint32, emit func(frame []byte), scratch []byte) bool {
	if v.Family != 6 || v.SegSize > 0 || v.FragHeader != 0 {
		return false
	}
	if v.End-v.L3 <= mtu {
		emit(v.B[:v.End])
		return true
	}
	cut, nextAt := unfragmentable(v)
	room := (mtu - (cut - v.L3) - fragmentLen) &^ 7
	if room < 8 {
		return false
	}
	CompleteChecksum(v)
	head := append(scratch[:0], v.B[:cut]...)
	head = append(head, head[nextAt], 0, 0, 0)
	head = binary.BigEndian.AppendUint32(head, id)
	head[nextAt] = nextFragment
	data := v.B[cut:v.End]
	for off := 0; off < len(data); off += room {
		size, more := len(data)-off, uint16(0)
		if size > room {
			size, more = room, 1
		}
		f := append(head, data[off:off+size]...)
		binary.BigEndian.PutUint16(f[cut+2:], uint16(off)|more)
		binary.BigEndian.PutUint16(f[v.L3+ip6PayloadLen:], uint16(len(f)-v.L3-ipv6Len))
		emit(f)
	}
	return true
}

// unfragmentable returns the offset behind the headers that every fragment
// must have, those up to a routing header, or else the hop-by-hop options, and
// the offset of the byte that names what follows them.
func unfragmentable(v *View) (cut, nextAt int) {
	cut, nextAt = v.L3+ipv6Len, v.L3+ip6Next
	next, at := v.B[nextAt], cut
	for next == nextHopByHop || next == nextRouting || next == nextDestination {
		size := 8 + int(v.B[at+1])*8
		if next != nextDestination {
			cut, nextAt = at+size, at
		}
		next, at = v.B[at], at+size
	}
	return cut, nextAt
}
