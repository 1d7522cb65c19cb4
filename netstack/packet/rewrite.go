package packet

import "encoding/binary"

// SetTuple makes t the packet's tuple, in place, with its checksums mended by
// difference, and updates v. Family and protocol of t must be the packet's.
// Where v has no layer-4 header (a later fragment) only addresses change. For
// an ICMP query t.SrcPort is the identifier.
//
// An unfinished checksum (v.PartialSum) takes the difference of the addresses
// alone, since ports are not yet in it. A UDP checksum of zero stays zero.
func SetTuple(v *View, t *Tuple) { rewrite(v, t) }

// rewrite does SetTuple's work. It returns by how much the sum of all bytes
// from v.L3 on has grown, for a checksum further out that covers them.
func rewrite(v *View, t *Tuple) uint64 {
	addr, all := setAddrs(v, t)
	if v.L4 == 0 {
		return all
	}
	port := setPorts(v, t)
	at, pseudo := checksumAt(v)
	// Of a TCP segment quoted in an ICMP error the checksum is often cut off.
	if at == 0 || at+2 > v.End || addr|port == 0 {
		return all + port
	}
	if !pseudo {
		addr = 0
	}
	switch b := v.B[at:]; {
	case v.PartialSum:
		if pseudo {
			adjustPartial(b, addr)
		}
	case v.Proto == ProtoUDP:
		all += adjustUDP(b, addr+port)
	default:
		all += adjust(b, addr+port)
	}
	return all + port
}

// setAddrs writes both addresses. It returns the difference of the addresses,
// and that of the whole IP header; 0 if nothing changed.
func setAddrs(v *View, t *Tuple) (addr, all uint64) {
	if v.Src == t.Src && v.Dst == t.Dst {
		return 0, 0
	}
	h := v.B[v.L3:]
	if v.Family == 4 {
		addr = diff32(binary.BigEndian.Uint32(h[ip4Src:]), binary.BigEndian.Uint32(t.Src[12:])) +
			diff32(binary.BigEndian.Uint32(h[ip4Dst:]), binary.BigEndian.Uint32(t.Dst[12:]))
		copy(h[ip4Src:ip4Dst], t.Src[12:])
		copy(h[ip4Dst:ipv4Len], t.Dst[12:])
		all = addr + adjust(h[ip4Sum:], addr)
	} else {
		addr = diffAddr(&v.Src, &t.Src) + diffAddr(&v.Dst, &t.Dst)
		copy(h[ip6Src:ip6Dst], t.Src[:])
		copy(h[ip6Dst:ipv6Len], t.Dst[:])
		all = addr
	}
	v.Src, v.Dst = t.Src, t.Dst
	return addr, all
}

func diffAddr(old, new *Addr) uint64 {
	const all = 4 * 0xffffffff // Four words, each complemented.
	return all - words(old) + words(new)
}

// setPorts writes both ports, or the identifier of an ICMP query, and returns
// the difference; 0 if nothing changed.
func setPorts(v *View, t *Tuple) uint64 {
	if v.SrcPort == t.SrcPort && v.DstPort == t.DstPort {
		return 0
	}
	h := v.B[v.L4:]
	switch v.Proto {
	case ProtoTCP, ProtoUDP:
		d := diff16(v.SrcPort, t.SrcPort) + diff16(v.DstPort, t.DstPort)
		binary.BigEndian.PutUint16(h, t.SrcPort)
		binary.BigEndian.PutUint16(h[2:], t.DstPort)
		v.SrcPort, v.DstPort = t.SrcPort, t.DstPort
		return d
	}
	if !IsICMPQuery(v) {
		return 0
	}
	d := diff16(v.SrcPort, t.SrcPort)
	binary.BigEndian.PutUint16(h[icmpID:], t.SrcPort)
	v.SrcPort, v.DstPort = t.SrcPort, t.SrcPort
	return d
}

// SetInnerTuple makes t the tuple of the packet quoted in the ICMP error v:
// its addresses and ports, its own checksums as far as they are quoted, and
// the checksum of the error. Other packets are left alone.
func SetInnerTuple(v *View, t *Tuple) {
	var in View
	if !DecodeInner(v, &in) {
		return
	}
	d := rewrite(&in, t)
	if d != 0 && !v.PartialSum {
		adjust(v.B[v.L4+icmpSum:], d)
	}
}

// DecTTL takes one from the IPv4 time to live or the IPv6 hop limit. The
// caller has seen that it is more than 1.
func DecTTL(v *View) {
	if v.TTL == 0 {
		return
	}
	h := v.B[v.L3:]
	v.TTL--
	if v.Family == 6 {
		h[ip6HopLimit] = v.TTL
		return
	}
	old := binary.BigEndian.Uint16(h[ip4TTL:]) // TTL and protocol share a word.
	h[ip4TTL] = v.TTL
	adjust(h[ip4Sum:], diff16(old, old-0x100))
}

// ClearDF takes the don't-fragment flag from an IPv4 packet.
func ClearDF(v *View) {
	if v.Family != 4 || !v.DontFrag {
		return
	}
	v.DontFrag = false
	old := binary.BigEndian.Uint16(v.B[v.L3+ip4Frag:])
	setWord4(v, ip4Frag, old&^ip4DF)
}

// SetID writes the identification of an IPv4 packet.
func SetID(v *View, id uint16) {
	if v.Family != 4 {
		return
	}
	v.FragID = uint32(id)
	setWord4(v, ip4ID, id)
}

// setWord4 writes the 16 bits at offset at of the IPv4 header.
func setWord4(v *View, at int, val uint16) {
	h := v.B[v.L3:]
	d := diff16(binary.BigEndian.Uint16(h[at:]), val)
	binary.BigEndian.PutUint16(h[at:], val)
	adjust(h[ip4Sum:], d)
}

// SetMACs writes the Ethernet addresses of a frame that has an Ethernet header.
func SetMACs(v *View, dst, src MAC) {
	_ = v.B[ethernetLen-1]
	*(*MAC)(v.B) = dst
	*(*MAC)(v.B[6:]) = src
}
