package norm

import (
	"encoding/binary"

	"tandem/netstack/packet"
)

const (
	ipv6Len           = 40
	fragmentHeaderLen = 8

	// Congestion marks, as bits of a set (RFC 3168, section 5).
	notCapable  = 1 << 0
	experienced = 1 << 3
)

// join makes the frame of d, whose pieces are all there.
func (r *Reassembler) join(d *datagram) ([]byte, Reason) {
	if d.marks&experienced != 0 && d.marks&notCapable != 0 {
		return nil, FragmentMark // RFC 3168, section 5.3
	}
	first := &r.pieces[d.pieces[0]]
	head := first.start
	if d.key.family == 6 {
		head -= fragmentHeaderLen
	}
	if head-first.l3+d.total > datagramBytesMax {
		return nil, FragmentOversize
	}
	b := append(r.whole[:0], first.frame[:head]...)
	for _, n := range d.pieces {
		b = append(b, r.pieces[n].data()...)
	}
	r.whole = b
	marked := d.marks&experienced != 0
	if d.key.family == 6 {
		finish6(b[first.l3:], head-first.l3, first.frame[head], marked)
	} else {
		finish4(b[first.l3:head], len(b)-first.l3, marked)
	}
	return b, OK
}

// finish4 makes h, the header of a first fragment, that of a datagram of total
// bytes.
func finish4(h []byte, total int, marked bool) {
	if marked {
		h[1] |= 3
	}
	binary.BigEndian.PutUint16(h[2:], uint16(total))
	clear(h[6:8])   // flags and offset
	clear(h[10:12]) // checksum
	binary.BigEndian.PutUint16(h[10:], packet.Checksum(h, 0))
}

// finish6 makes b, which begins with the headers ahead of a fragment header,
// of head bytes, a datagram; next is what follows those headers now.
func finish6(b []byte, head int, next uint8, marked bool) {
	if marked {
		b[1] |= 3 << 4
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6Len))
	nextAt := 6
	for at := ipv6Len; at < head; {
		size := 8 + int(b[at+1])*8
		if b[nextAt] == packet.ProtoAH {
			size = 8 + int(b[at+1])*4
		}
		nextAt, at = at, at+size
	}
	b[nextAt] = next
}
