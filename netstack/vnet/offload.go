package vnet

import (
	"encoding/binary"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// finishLocked does what a frame's sender left to the device: it sums, or it
// cuts the frame into such of wire size.
func (d *Device) finishLocked(f *link.Frame) {
	if !d.takes(&f.Offload) {
		d.stats.Refused++
		return
	}
	if f.Offload.Segment == link.SegmentNone {
		data := append([]byte(nil), f.Bytes()...)
		if !completeChecksum(data, int(f.Offload.ChecksumStart), int(f.Offload.ChecksumOffset)) {
			d.stats.Refused++
			return
		}
		d.queueLocked(data)
		return
	}
	if !d.segmentLocked(f) {
		d.stats.Refused++
	}
}

func (d *Device) takes(o *link.Offload) bool {
	has := d.cfg.Features
	switch o.Segment {
	case link.SegmentTCP4:
		return has.TCP4
	case link.SegmentTCP6:
		return has.TCP6
	case link.SegmentUDP:
		return has.UDP
	}
	return has.Checksum
}

func (d *Device) segmentLocked(f *link.Frame) bool {
	b := f.Bytes()
	l2 := headerLen(b)
	var v packet.View
	if l2 == 0 || f.Offload.SegSize == 0 || packet.DecodeIP(b[l2:], &v) != 0 || v.L4 == 0 {
		return false
	}
	v.PartialSum, v.SegSize = f.Offload.NeedsChecksum, int(f.Offload.SegSize)
	packet.Segment(&v, func(ip []byte) {
		if len(d.tx) >= sendQueueLen {
			d.stats.SendDrops++
			return
		}
		d.queueLocked(append(b[:l2:l2], ip...))
	}, make([]byte, len(v.B)))
	return true
}

// headerLen is the length of the Ethernet header with its tags; zero where the
// frame ends before.
func headerLen(b []byte) int {
	for at := 12; at+2 <= len(b); at += 4 {
		t := binary.BigEndian.Uint16(b[at:])
		if t != packet.EtherTypeVLAN && t != packet.EtherTypeQinQ {
			return at + 2
		}
	}
	return 0
}

// completeChecksum replaces the pseudo-header sum at start+offset by the sum of
// all from start (virtio 1.2, section 5.1.6.2).
func completeChecksum(b []byte, start, offset int) bool {
	at := start + offset
	if start < frameBytesMin || at+2 > len(b) {
		return false
	}
	sum := packet.Checksum(b[start:], 0)
	const udpOffset = 6
	if sum == 0 && offset == udpOffset {
		sum = 0xffff // Zero would say that there is none (RFC 768).
	}
	binary.BigEndian.PutUint16(b[at:], sum)
	return true
}
