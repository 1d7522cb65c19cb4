package link

import "encoding/binary"

// Tag protocol identifiers (IEEE 802.1Q-2022, table 9-1), and the bytes a tag
// adds to a frame.
const (
	TPID8021Q  = 0x8100 // customer tag
	TPID8021AD = 0x88a8 // service tag
	TagBytes   = 4
)

// PopTag takes the outer 802.1Q or 802.1ad tag off f, in place: the addresses
// move up to close the gap and the offload offsets follow. tci holds priority,
// drop bit and VLAN number (the low 12 bits), tpid which kind of tag it was.
// ok is false, and f unchanged, where there is no whole tag.
func PopTag(f *Frame) (tci, tpid uint16, ok bool) {
	b := f.Bytes()
	if len(b) < ethernetBytes+TagBytes {
		return 0, 0, false
	}
	tpid = binary.BigEndian.Uint16(b[12:])
	if tpid != TPID8021Q && tpid != TPID8021AD {
		return 0, 0, false
	}
	tci = binary.BigEndian.Uint16(b[14:])
	copy(b[TagBytes:], b[:12])
	f.Off += TagBytes
	f.Len -= TagBytes
	f.Offload.shift(-TagBytes)
	return tci, tpid, true
}

// PushTag puts a tag in front of f's Ethernet type, out of the head room. It
// panics where there is no head room left or f is no Ethernet frame: both are
// the caller's mistake.
func PushTag(f *Frame, tpid, tci uint16) {
	old := f.Bytes()[:12]
	f.Off -= TagBytes
	f.Len += TagBytes
	b := f.Bytes()
	copy(b, old)
	binary.BigEndian.PutUint16(b[12:], tpid)
	binary.BigEndian.PutUint16(b[14:], tci)
	f.Offload.shift(TagBytes)
}

// shift moves the offsets by n bytes; those that are not in use stay zero.
func (o *Offload) shift(n int) {
	if o.NeedsChecksum {
		o.ChecksumStart += uint16(n)
	}
	if o.Segment != SegmentNone {
		o.HeaderLen += uint16(n)
	}
}
