package link

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// vnetHeader is a header of 12 bytes in the host's order.
func vnetHeader(flags, gso byte, hdrLen, size, start, offset uint16) []byte {
	h := []byte{flags, gso}
	for _, v := range []uint16{hdrLen, size, start, offset, 0} {
		h = binary.NativeEndian.AppendUint16(h, v)
	}
	return h
}

// frameOf is an Ethernet frame of n bytes whose headers are set by the pairs
// of offset and value in fields.
func frameOf(n int, fields ...int) *Frame {
	f := NewFrame(n)
	b := make([]byte, n)
	for i := 0; i < len(fields); i += 2 {
		b[fields[i]] = byte(fields[i+1])
	}
	f.Set(b)
	return f
}

// Headers of the frames below: Ethernet type, IP version, protocol, and the
// length of the TCP header.
var (
	tcp4   = []int{12, 0x08, 13, 0x00, 14, 0x45, 14 + 9, 6, 34 + 12, 8 << 4}
	tcp6   = []int{12, 0x86, 13, 0xdd, 14, 0x60, 14 + 6, 6, 54 + 12, 5 << 4}
	udp4   = []int{12, 0x08, 13, 0x00, 14, 0x45, 14 + 9, 17}
	udp6   = []int{12, 0x86, 13, 0xdd, 14, 0x60, 14 + 6, 17}
	tagged = []int{12, 0x81, 16, 0x08, 17, 0x00, 18, 0x45, 18 + 9, 6, 38 + 12, 5 << 4}
)

func TestDecodeVnetKeepsWhatTheSenderLeft(t *testing.T) {
	tests := []struct {
		name   string
		header []byte
		frame  *Frame
		want   Offload
	}{
		{"nothing", vnetHeader(0, 0, 0, 0, 0, 0), frameOf(60), Offload{}},
		{"validated", vnetHeader(2, 0, 0, 0, 0, 0), frameOf(60), Offload{Validated: true}},
		{"unfinished sum", vnetHeader(1, 0, 66, 0, 34, 16), frameOf(100, tcp4...),
			Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}},
		{"an unfinished sum is not vouched for", vnetHeader(3, 0, 66, 0, 34, 16), frameOf(100, tcp4...),
			Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}},
		{"flags of later versions", vnetHeader(0xfc, 0, 0, 0, 0, 0), frameOf(60), Offload{}},
		{"tcp4, hdr_len is a hint", vnetHeader(1, 1, 9999, 1448, 34, 16), frameOf(34+32+3000, tcp4...),
			Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: SegmentTCP4, HeaderLen: 66, SegSize: 1448}},
		{"tcp4, ECN", vnetHeader(1, 0x81, 66, 1448, 34, 16), frameOf(34+32+3000, tcp4...),
			Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: SegmentTCP4, HeaderLen: 66, SegSize: 1448, ECN: true}},
		{"tcp6", vnetHeader(1, 4, 74, 1440, 54, 16), frameOf(54+20+3000, tcp6...),
			Offload{NeedsChecksum: true, ChecksumStart: 54, ChecksumOffset: 16, Segment: SegmentTCP6, HeaderLen: 74, SegSize: 1440}},
		{"udp4", vnetHeader(1, 5, 42, 1000, 34, 6), frameOf(34+8+3000, udp4...),
			Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6, Segment: SegmentUDP, HeaderLen: 42, SegSize: 1000}},
		{"udp6", vnetHeader(1, 5, 62, 1000, 54, 6), frameOf(54+8+3000, udp6...),
			Offload{NeedsChecksum: true, ChecksumStart: 54, ChecksumOffset: 6, Segment: SegmentUDP, HeaderLen: 62, SegSize: 1000}},
		{"tcp4 behind a tag", vnetHeader(1, 1, 58, 1448, 38, 16), frameOf(38+20+3000, tagged...),
			Offload{NeedsChecksum: true, ChecksumStart: 38, ChecksumOffset: 16, Segment: SegmentTCP4, HeaderLen: 58, SegSize: 1448}},
		{"put together by a NIC: no sum to finish", vnetHeader(2, 1, 66, 1448, 0, 0), frameOf(34+32+3000, tcp4...),
			Offload{Validated: true, Segment: SegmentTCP4, HeaderLen: 66, SegSize: 1448}},
		{"the same over IPv6", vnetHeader(2, 4, 74, 1440, 0, 0), frameOf(54+20+3000, tcp6...),
			Offload{Validated: true, Segment: SegmentTCP6, HeaderLen: 74, SegSize: 1440}},
		{"one segment is not coalesced", vnetHeader(1, 1, 66, 1448, 34, 16), frameOf(34+32+1448, tcp4...),
			Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !DecodeVnet(tt.header, tt.frame, 0) {
				t.Fatal("DecodeVnet() refused it")
			}
			if tt.frame.Offload != tt.want {
				t.Errorf("DecodeVnet() = %+v\nwant %+v", tt.frame.Offload, tt.want)
			}
		})
	}
}

func TestDecodeVnetRefusesWhatContradictsTheFrame(t *testing.T) {
	tests := []struct {
		name   string
		header []byte
		frame  *Frame
	}{
		{"sum starts inside the Ethernet header", vnetHeader(1, 0, 0, 0, 13, 16), frameOf(100, tcp4...)},
		{"sum field ends behind the frame", vnetHeader(1, 0, 0, 0, 34, 65), frameOf(100, tcp4...)},
		{"sum starts behind the frame", vnetHeader(1, 0, 0, 0, 0xffff, 0xffff), frameOf(100, tcp4...)},
		{"unknown kind", vnetHeader(1, 2, 66, 1448, 34, 16), frameOf(3066, tcp4...)},
		{"IP fragmentation, never asked for", vnetHeader(1, 3, 42, 1448, 34, 6), frameOf(3066, udp4...)},
		{"ECN of nothing", vnetHeader(0, 0x80, 0, 0, 0, 0), frameOf(60)},
		{"tcp4 said of IPv6", vnetHeader(1, 1, 74, 1440, 54, 16), frameOf(3074, tcp6...)},
		{"tcp6 said of IPv4", vnetHeader(1, 4, 66, 1440, 34, 16), frameOf(3066, tcp4...)},
		{"tcp said of ARP", vnetHeader(1, 1, 66, 1440, 34, 16), frameOf(3066, 12, 8, 13, 6)},
		{"segments of nothing", vnetHeader(1, 1, 66, 0, 34, 16), frameOf(3066, tcp4...)},
		{"a size the kernel keeps for itself", vnetHeader(1, 1, 66, 0xffff, 34, 16), frameOf(3066, tcp4...)},
		{"more segments than anybody sends", vnetHeader(1, 1, 66, 1, 34, 16), frameOf(34+32+9000, tcp4...)},
		{"sum field of another protocol", vnetHeader(1, 1, 66, 1448, 34, 6), frameOf(3066, tcp4...)},
		{"sum starts inside the IP header", vnetHeader(1, 1, 66, 1448, 20, 16), frameOf(3066, tcp4...)},
		{"short TCP header", vnetHeader(1, 1, 66, 1448, 34, 16), frameOf(3066, 12, 8, 14, 0x45, 46, 4<<4)},
		{"TCP header longer than the frame", vnetHeader(1, 1, 66, 1448, 34, 16), frameOf(60, tcp4...)},
		{"nothing behind the headers", vnetHeader(1, 1, 66, 10, 34, 16), frameOf(66, tcp4...)},
		{"put together by a NIC, but not TCP", vnetHeader(2, 1, 66, 1448, 0, 0), frameOf(3066, udp4...)},
		{"put together by a NIC, short IP header", vnetHeader(2, 1, 66, 1448, 0, 0), frameOf(3066, 12, 8, 14, 0x44, 23, 6)},
		{"a frame that ends in its tag", vnetHeader(0, 1, 0, 1448, 0, 0), frameOf(16, 12, 0x81)},
		{"a frame that ends in its Ethernet header", vnetHeader(0, 1, 0, 1448, 0, 0), frameOf(13)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if DecodeVnet(tt.header, tt.frame, 0) {
				t.Errorf("DecodeVnet() took it: %+v", tt.frame.Offload)
			}
		})
	}
}

func TestVnetOffsetsAreShiftedForATunnelDevice(t *testing.T) {
	f := frameOf(34+32+3000, tcp4...)
	h := vnetHeader(1, 1, 52, 1448, 20, 16) // as a TUN device counts: from the IP header
	if !DecodeVnet(h, f, 14) {
		t.Fatal("refused")
	}
	if f.Offload.ChecksumStart != 34 || f.Offload.HeaderLen != 66 {
		t.Errorf("DecodeVnet() = %+v", f.Offload)
	}
	got := make([]byte, VnetBytes)
	EncodeVnet(got, f, 14)
	if !bytes.Equal(got, h) {
		t.Errorf("EncodeVnet() = %x, want %x", got, h)
	}
}

func TestEncodeVnetGivesBackWhatWasDecoded(t *testing.T) {
	for name, tt := range map[string]struct {
		header []byte
		frame  *Frame
	}{
		"nothing":   {vnetHeader(0, 0, 0, 0, 0, 0), frameOf(60)},
		"validated": {vnetHeader(2, 0, 0, 0, 0, 0), frameOf(60)},
		"sum":       {vnetHeader(1, 0, 0, 0, 34, 16), frameOf(100, tcp4...)},
		"tcp4":      {vnetHeader(1, 1, 66, 1448, 34, 16), frameOf(3066, tcp4...)},
		"tcp4 ecn":  {vnetHeader(1, 0x81, 66, 1448, 34, 16), frameOf(3066, tcp4...)},
		"tcp6":      {vnetHeader(1, 4, 74, 1440, 54, 16), frameOf(3074, tcp6...)},
		"udp":       {vnetHeader(1, 5, 42, 1000, 34, 6), frameOf(3042, udp4...)},
	} {
		t.Run(name, func(t *testing.T) {
			if !DecodeVnet(tt.header, tt.frame, 0) {
				t.Fatal("refused")
			}
			got := bytes.Repeat([]byte{0xaa}, VnetBytes)
			EncodeVnet(got, tt.frame, 0)
			if !bytes.Equal(got, tt.header) {
				t.Errorf("EncodeVnet() = %x, want %x", got, tt.header)
			}
		})
	}
}

func FuzzDecodeVnet(f *testing.F) {
	f.Add(vnetHeader(1, 1, 66, 1448, 34, 16), frameOf(3066, tcp4...).Bytes(), false)
	f.Add(vnetHeader(2, 4, 74, 1440, 0, 0), frameOf(3074, tcp6...).Bytes(), false)
	f.Add(vnetHeader(1, 5, 28, 100, 20, 6), frameOf(400, udp4...).Bytes(), true)
	f.Add(vnetHeader(1, 1, 58, 1448, 38, 16), frameOf(3058, tagged...).Bytes(), false)
	f.Fuzz(func(t *testing.T, header, frame []byte, tun bool) {
		if len(header) < VnetBytesShort || len(frame) < ethernetBytes || len(frame) > FrameBytesMax {
			return
		}
		shift := 0
		if tun {
			shift = ethernetBytes
		}
		fr := NewFrame(len(frame))
		fr.Set(frame)
		if !DecodeVnet(header, fr, shift) {
			return
		}
		o := fr.Offload
		if o.NeedsChecksum && int(o.ChecksumStart)+int(o.ChecksumOffset)+2 > fr.Len {
			t.Fatalf("sum outside the frame: %+v of %d", o, fr.Len)
		}
		if o.Segment == SegmentNone {
			if o.SegSize != 0 || o.HeaderLen != 0 || o.ECN {
				t.Fatalf("leftovers: %+v", o)
			}
			return
		}
		if o.SegSize == 0 || int(o.HeaderLen)+int(o.SegSize) >= fr.Len || o.HeaderLen < ethernetBytes+ipv4HeaderBytes+udpHeaderBytes {
			t.Fatalf("not coalesced: %+v of %d", o, fr.Len)
		}
		// What was understood survives the way out and in again.
		h := make([]byte, VnetBytes)
		EncodeVnet(h, fr, shift)
		if !DecodeVnet(h, fr, shift) || fr.Offload != o {
			t.Fatalf("%+v became %+v", o, fr.Offload)
		}
	})
}
