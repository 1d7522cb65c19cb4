package packet

import "net/netip"

// MAC is an Ethernet address.
type MAC [6]byte

// Addr is an IPv4 address in its mapped form (::ffff:a.b.c.d, RFC 4291
// section 2.5.5.2) or an IPv6 address. It holds no pointer, so that tables of
// it cost the garbage collector nothing.
type Addr [16]byte

// AddrFrom converts a; the zone is dropped.
func AddrFrom(a netip.Addr) Addr { return Addr(a.As16()) }

// Netip converts back; a mapped address comes out as IPv4.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// Is4 says whether a holds an IPv4 address.
func (a Addr) Is4() bool {
	return a[10] == 0xff && a[11] == 0xff && [10]byte(a[:10]) == [10]byte{}
}

// IsZero says whether a is the zero value (::).
func (a Addr) IsZero() bool { return a == Addr{} }

// Ethernet types (IEEE 802).
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeVLAN = 0x8100
	EtherTypeQinQ = 0x88a8
	EtherTypeIPv6 = 0x86dd
)

// Protocol numbers (IANA) that the node looks into or names.
const (
	ProtoICMP   = 1
	ProtoIGMP   = 2
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoGRE    = 47
	ProtoESP    = 50
	ProtoAH     = 51
	ProtoICMPv6 = 58
	ProtoCARP   = 112
	ProtoSCTP   = 132
	ProtoPfsync = 240
)

// TCP flags as they stand in byte 13 of the header (RFC 9293).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Tuple identifies a flow as seen in one direction. Ports are host order. For
// an ICMP query both ports hold the identifier (so that reversing keeps it);
// for all else without ports they are zero.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            uint8
	Family           uint8 // 4 or 6
}

// Reverse is the tuple of the answers.
func (t Tuple) Reverse() Tuple {
	t.Src, t.Dst = t.Dst, t.Src
	t.SrcPort, t.DstPort = t.DstPort, t.SrcPort
	return t
}

// View is one decoded packet: offsets into its bytes and the fields that
// filtering and routing ask for. It is reused from packet to packet and holds
// no reference but B. Header fields are in host order.
type View struct {
	B []byte // from the Ethernet header (or, decoded by DecodeIP, the IP header)

	EtherType uint16
	L3        int // offset of the IP (or ARP) header
	L4        int // offset of the upper-layer header; 0: there is none in this packet
	Payload   int // offset of what follows the TCP, UDP or ICMP header, or of a later fragment's data
	End       int // offset behind the IP datagram; what follows is padding

	Tuple       // Src, Dst, SrcPort, DstPort, Proto, Family; Family 0: not IP
	TTL, TOS    uint8
	DontFrag    bool   // IPv4 DF; true for IPv6
	Options     bool   // IPv4 options, or IPv6 hop-by-hop, routing or destination headers
	SourceRoute bool   // ... and one of them is a source route (RFC 791; RFC 5095)
	RouterAlert bool   // ... and one of them is router alert (RFC 2113, 2711)
	Fragment    bool   // one part of a datagram
	MoreFrags   bool   // ... not the last
	FragOffset  int    // ... in bytes
	FragID      uint32 // IPv4 or IPv6 identification
	FragHeader  int    // offset of the IPv6 fragment header; 0: there is none

	TCPFlags uint8
	Seq, Ack uint32
	Window   uint16 // unscaled
	DataLen  int    // layer-4 payload bytes; of a fragment, those in it
	ICMPType uint8
	ICMPCode uint8

	// Set by the caller from the frame's offload facts, after Decode.
	PartialSum bool // the layer-4 checksum covers the pseudo header only
	SegSize    int  // payload bytes of each segment of a coalesced packet; 0: not coalesced
}
