package packet

import "encoding/binary"

// Segment cuts the coalesced TCP or UDP packet v into frames with v.SegSize
// bytes of payload each (the last may have less) and hands them to emit in
// order, checksums complete. A packet that is not coalesced comes out as one
// frame. v is not changed.
//
// The frames are built in scratch, which must be as long as v.B: a frame is
// good only until emit returns.
func Segment(v *View, emit func(frame []byte), scratch []byte) {
	if v.L4 == 0 || v.Fragment || v.Proto != ProtoTCP && v.Proto != ProtoUDP {
		emit(v.B[:v.End])
		return
	}
	seg := v.SegSize
	if seg <= 0 || seg > v.DataLen {
		seg = v.DataLen
	}
	for n, off := 0, 0; ; n++ {
		size := min(seg, v.DataLen-off)
		f := scratch[:v.Payload+size]
		copy(f, v.B[:v.Payload])
		copy(f[v.Payload:], v.B[v.Payload+off:])
		segmentL3(f[v.L3:], v, uint16(n))
		segmentL4(f[v.L4:], v, off, off+size == v.DataLen)
		emit(f)
		if off += size; off == v.DataLen {
			return
		}
	}
}

// segmentL3 finishes the IP header of the n-th frame; b begins with it and
// ends with the frame.
func segmentL3(b []byte, v *View, n uint16) {
	if v.Family == 6 {
		binary.BigEndian.PutUint16(b[ip6PayloadLen:], uint16(len(b)-ipv6Len))
		return
	}
	hlen := int(b[0]&0x0f) * 4
	binary.BigEndian.PutUint16(b[ip4TotalLen:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[ip4ID:], uint16(v.FragID)+n)
	binary.BigEndian.PutUint16(b[ip4Sum:], 0)
	binary.BigEndian.PutUint16(b[ip4Sum:], Checksum(b[:hlen], 0))
}

// segmentL4 finishes the TCP or UDP header of the frame whose payload began
// at off in the whole packet.
func segmentL4(b []byte, v *View, off int, last bool) {
	if v.Proto == ProtoUDP {
		binary.BigEndian.PutUint16(b[udpLenAt:], uint16(len(b)))
		if !v.PartialSum && b[udpSum] == 0 && b[udpSum+1] == 0 {
			return // The sender wants no checksum.
		}
		binary.BigEndian.PutUint16(b[udpSum:], 0)
		finishL4(b, udpSum, &v.Tuple)
		return
	}
	binary.BigEndian.PutUint32(b[tcpSeq:], v.Seq+uint32(off))
	if !last {
		b[tcpFlags] &^= FIN | PSH
	}
	if off > 0 {
		b[tcpFlags] &^= CWR // Said once (RFC 3168, section 6.1.2).
	}
	binary.BigEndian.PutUint16(b[tcpSum:], 0)
	finishL4(b, tcpSum, &v.Tuple)
}
