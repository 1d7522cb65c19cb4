package link

import "encoding/binary"

// Lengths of the header in front of every frame of a descriptor with
// IFF_VNET_HDR or PACKET_VNET_HDR: struct virtio_net_hdr, and the same with
// the field num_buffers (virtio 1.2, section 5.1.6).
const (
	VnetBytes      = 12
	VnetBytesShort = 10
)

// Fields of struct virtio_net_hdr. The numbers are in the byte order of the
// host, as in the legacy interface, which is what the kernel speaks unless
// told otherwise (TUNSETVNETLE).
const (
	vnetFlags       = 0
	vnetGSOType     = 1
	vnetHdrLen      = 2
	vnetGSOSize     = 4
	vnetCsumStart   = 6
	vnetCsumOffset  = 8
	vnetFlagCsum    = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	vnetFlagValid   = 2 // VIRTIO_NET_HDR_F_DATA_VALID
	vnetGSONone     = 0
	vnetGSOTCP4     = 1
	vnetGSOTCP6     = 4
	vnetGSOUDP      = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
	vnetGSOECN      = 0x80
	segmentsMax     = 8192   // no honest sender cuts finer: Linux stops at 8 bytes of TCP payload
	segSizeReserved = 0xffff // means something else inside Linux and is refused by it
)

const (
	ethernetBytes   = 14
	tcpHeaderBytes  = 20
	tcpSumOffset    = 16
	udpHeaderBytes  = 8
	udpSumOffset    = 6
	protoTCP        = 6
	protoUDP        = 17
	etherTypeIPv4   = 0x0800
	etherTypeIPv6   = 0x86dd
	ipv4HeaderBytes = 20
	ipv6HeaderBytes = 40
)

// DecodeVnet sets f.Offload from the virtio header h, which came with the
// frame f. shift is added to the header's offsets: how far its origin lies
// behind f's Ethernet header (14 for a TUN device). It says false when h
// contradicts itself or the frame; such a frame must be dropped, since the
// kernel may have the header from a guest. The segment size decides what is
// sent in the end, so it is the one thing taken as it is; a frame that has no
// more payload than that is not coalesced.
func DecodeVnet(h []byte, f *Frame, shift int) bool {
	f.Offload = Offload{}
	o := &f.Offload
	flags := h[vnetFlags]
	if flags&vnetFlagCsum != 0 {
		start := int(binary.NativeEndian.Uint16(h[vnetCsumStart:])) + shift
		offset := int(binary.NativeEndian.Uint16(h[vnetCsumOffset:]))
		if start < ethernetBytes || start > 0xffff || start+offset+2 > f.Len {
			return false
		}
		o.NeedsChecksum = true
		o.ChecksumStart, o.ChecksumOffset = uint16(start), uint16(offset)
	}
	// A sum that is not there yet cannot be vouched for, but it needs no proof either.
	o.Validated = flags&vnetFlagValid != 0 && !o.NeedsChecksum

	gso := h[vnetGSOType]
	if gso == vnetGSONone {
		return true
	}
	kind := SegmentNone
	switch gso &^ vnetGSOECN {
	case vnetGSOTCP4:
		kind = SegmentTCP4
	case vnetGSOTCP6:
		kind = SegmentTCP6
	case vnetGSOUDP:
		kind = SegmentUDP
	default:
		return false
	}
	return decodeSegments(f, kind, binary.NativeEndian.Uint16(h[vnetGSOSize:]), gso&vnetGSOECN != 0)
}

// decodeSegments sets what concerns a coalesced frame. The header's own
// hdr_len is not used: it says only how much of the frame lay in one piece.
func decodeSegments(f *Frame, kind Segmentation, size uint16, ecn bool) bool {
	o := &f.Offload
	head := headerLen(f.Bytes(), kind, o)
	if head == 0 || head >= f.Len || head > 0xffff || size == 0 || size == segSizeReserved {
		return false
	}
	payload := f.Len - head
	if payload/int(size) > segmentsMax {
		return false
	}
	if payload <= int(size) {
		return true
	}
	o.Segment, o.SegSize, o.HeaderLen = kind, size, uint16(head)
	o.ECN = ecn && kind != SegmentUDP
	return true
}

// headerLen is the length of all headers of the coalesced frame b, 0 where b
// is not what kind says.
func headerLen(b []byte, kind Segmentation, o *Offload) int {
	l3, ok := ipHeader(b, kind)
	if !ok {
		return 0
	}
	proto, sum := byte(protoTCP), uint16(tcpSumOffset)
	if kind == SegmentUDP {
		proto, sum = protoUDP, udpSumOffset
	}
	l4 := int(o.ChecksumStart)
	switch {
	case !o.NeedsChecksum:
		// A NIC has put it together (large receive offload) and has seen to the sums.
		if l4 = upperHeader(b, l3, proto); l4 == 0 {
			return 0
		}
	case o.ChecksumOffset != sum, l4 < l3+ipv4HeaderBytes:
		return 0
	}
	if kind == SegmentUDP {
		return l4 + udpHeaderBytes
	}
	if l4+tcpHeaderBytes > len(b) {
		return 0
	}
	n := int(b[l4+12]>>4) * 4
	if n < tcpHeaderBytes {
		return 0
	}
	return l4 + n
}

// ipHeader is the offset of the IP header in b, behind at most two tags, if
// its version fits kind.
func ipHeader(b []byte, kind Segmentation) (int, bool) {
	l3 := ethernetBytes
	for range 2 {
		if len(b) < l3 {
			return 0, false
		}
		if t := binary.BigEndian.Uint16(b[l3-2:]); t != TPID8021Q && t != TPID8021AD {
			break
		}
		l3 += TagBytes
	}
	if len(b) < l3+ipv4HeaderBytes {
		return 0, false
	}
	switch version, t := b[l3]>>4, binary.BigEndian.Uint16(b[l3-2:]); {
	case version == 4 && t == etherTypeIPv4:
		return l3, kind != SegmentTCP6
	case version == 6 && t == etherTypeIPv6:
		return l3, kind != SegmentTCP4
	}
	return 0, false
}

// upperHeader is the offset of the header of proto behind the IP header at l3,
// or 0. IPv6 extension headers are not walked: no NIC coalesces behind them.
func upperHeader(b []byte, l3 int, proto byte) int {
	if b[l3]>>4 == 4 {
		n := int(b[l3]&15) * 4
		if n < ipv4HeaderBytes || b[l3+9] != proto {
			return 0
		}
		return l3 + n
	}
	if b[l3+6] != proto {
		return 0
	}
	return l3 + ipv6HeaderBytes
}

// EncodeVnet fills the virtio header h (10 or 12 bytes) from f.Offload; shift
// is as in [DecodeVnet]. What the offload facts do not say is zero.
func EncodeVnet(h []byte, f *Frame, shift int) {
	clear(h)
	o := &f.Offload
	if o.NeedsChecksum {
		h[vnetFlags] = vnetFlagCsum
		binary.NativeEndian.PutUint16(h[vnetCsumStart:], o.ChecksumStart-uint16(shift))
		binary.NativeEndian.PutUint16(h[vnetCsumOffset:], o.ChecksumOffset)
	} else if o.Validated {
		h[vnetFlags] = vnetFlagValid
	}
	switch o.Segment {
	case SegmentNone:
		return
	case SegmentTCP4:
		h[vnetGSOType] = vnetGSOTCP4
	case SegmentTCP6:
		h[vnetGSOType] = vnetGSOTCP6
	case SegmentUDP:
		h[vnetGSOType] = vnetGSOUDP
	}
	if o.ECN {
		h[vnetGSOType] |= vnetGSOECN
	}
	binary.NativeEndian.PutUint16(h[vnetHdrLen:], o.HeaderLen-uint16(shift))
	binary.NativeEndian.PutUint16(h[vnetGSOSize:], o.SegSize)
}
