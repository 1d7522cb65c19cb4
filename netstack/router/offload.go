package router

import (
	"encoding/binary"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// noteOffloads tells v what the sender of f left to others. An unfinished
// checksum that is not that of v's own layer 4, but of something inside it (a
// tunnel's), is finished here, so that everything later knows but one kind. It
// is false for facts that contradict the packet.
func noteOffloads(f *link.Frame, v *packet.View) bool {
	return !f.Offload.NeedsChecksum && f.Offload.Segment == link.SegmentNone || noteThem(f, v)
}

func noteThem(f *link.Frame, v *packet.View) bool {
	o := &f.Offload
	if o.NeedsChecksum {
		switch at, ok := sumOffset(v); {
		case v.Fragment || v.Family == 0:
			return false
		case ok && int(o.ChecksumStart) == v.L4 && o.ChecksumOffset == at:
			v.PartialSum = true
		case o.Segment != link.SegmentNone || !finishSum(f, v.End):
			return false
		}
	}
	if o.Segment == link.SegmentNone {
		return true
	}
	if o.SegSize == 0 || !segmentFits(o.Segment, v) {
		return false
	}
	v.SegSize = int(o.SegSize)
	if !v.PartialSum {
		startSum(f, v)
	}
	return true
}

// sumOffset is where in its layer-4 header the checksum of v stands; false
// where the protocol is none that devices finish sums for.
func sumOffset(v *packet.View) (uint16, bool) {
	if v.L4 == 0 {
		return 0, false
	}
	switch v.Proto {
	case packet.ProtoTCP:
		return 16, true
	case packet.ProtoUDP:
		return 6, true
	}
	return 0, false
}

// segmentFits says whether v is what can be cut in this way.
func segmentFits(kind link.Segmentation, v *packet.View) bool {
	if v.L4 == 0 || v.Fragment {
		return false
	}
	switch kind {
	case link.SegmentTCP4:
		return v.Family == 4 && v.Proto == packet.ProtoTCP
	case link.SegmentTCP6:
		return v.Family == 6 && v.Proto == packet.ProtoTCP
	case link.SegmentUDP:
		return v.Proto == packet.ProtoUDP
	}
	return false
}

// finishSum completes the sum that f's offload facts speak of, over bytes up
// to end; false if it does not lie in them.
func finishSum(f *link.Frame, end int) bool {
	b := f.Bytes()[:end]
	start := int(f.Offload.ChecksumStart)
	at := start + int(f.Offload.ChecksumOffset)
	if start < 14 || at+2 > len(b) {
		return false
	}
	binary.BigEndian.PutUint16(b[at:], packet.Checksum(b[start:], 0))
	f.Offload.NeedsChecksum, f.Offload.ChecksumStart, f.Offload.ChecksumOffset = false, 0, 0
	return true
}

// startSum puts the sum of the pseudo header in the place of the checksum of a
// coalesced packet. A NIC that joins segments has verified theirs, and leaves
// one that is right for none of those it will be cut into again.
func startSum(f *link.Frame, v *packet.View) {
	at, _ := sumOffset(v)
	binary.BigEndian.PutUint16(v.B[v.L4+int(at):], uint16(packet.PseudoSum(&v.Tuple, v.End-v.L4)))
	v.PartialSum = true
	f.Offload.NeedsChecksum, f.Offload.ChecksumStart, f.Offload.ChecksumOffset = true, uint16(v.L4), at
	f.Offload.Validated = false
}
