package packet

import "encoding/binary"

// AppendTCPReset appends the frame of the reset that answers orig as if no
// connection existed (RFC 9293, section 3.10.7.1). It appends nothing where
// there is nothing to answer: a reset, a fragment, another protocol. The
// Ethernet addresses are zero; see [SetMACs].
func AppendTCPReset(dst []byte, orig *View) []byte {
	if orig.Proto != ProtoTCP || orig.L4 == 0 || orig.Fragment || orig.TCPFlags&RST != 0 {
		return dst
	}
	seq, ack, flags := orig.Ack, uint32(0), uint8(RST)
	if orig.TCPFlags&ACK == 0 {
		seq, ack, flags = 0, orig.Seq+segmentLen(orig), RST|ACK
	}
	t := orig.Tuple.Reverse()
	dst = appendEthernet(dst, MAC{}, MAC{}, etherTypeOf(t.Family))
	dst = appendIP(dst, &t, ipFields{ttl: ttlDefault, df: true}, tcpLen)
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, t.SrcPort)
	dst = binary.BigEndian.AppendUint16(dst, t.DstPort)
	dst = binary.BigEndian.AppendUint32(dst, seq)
	dst = binary.BigEndian.AppendUint32(dst, ack)
	dst = append(dst, tcpLen/4<<4, flags, 0, 0, 0, 0, 0, 0)
	finishL4(dst[at:], tcpSum, &t)
	return dst
}

// segmentLen is what v takes of the sequence space.
func segmentLen(v *View) uint32 {
	n := uint32(v.DataLen)
	if v.TCPFlags&SYN != 0 {
		n++
	}
	if v.TCPFlags&FIN != 0 {
		n++
	}
	return n
}
