package carp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Protocols heard under IP protocol 112.
const (
	ProtocolCARP  = "carp"
	ProtocolVRRP2 = "vrrp2"
	ProtocolVRRP3 = "vrrp3"
)

const (
	vrrpHeaderLen = 8
	vrrp2AuthLen  = 8 // RFC 3768, section 5.3.10: always there
	vrrp2AuthMax  = 2 // none, simple text, IP authentication header
)

// Foreign is the advertisement of a VRRP router. One with a vhid's number uses
// the same virtual MAC address (00:00:5e:00:01:id) as that vhid.
type Foreign struct {
	Protocol  string // ProtocolVRRP2 or ProtocolVRRP3
	ID        uint8  // virtual router identifier
	Priority  uint8
	Interval  time.Duration
	Addresses []netip.Addr
}

// ParseForeign recognises VRRPv2 (RFC 3768; IPv4 only) and VRRPv3 (RFC 5798),
// for reporting. Version 2 looks like CARP in its first byte, so length,
// address count and authentication type must agree as they never do in an
// advert of ours (36 bytes with a 7 where VRRP counts). Version 3's checksum
// covers the pseudo header of src and dst.
func ParseForeign(b []byte, src, dst netip.Addr) (Foreign, bool) {
	if len(b) < vrrpHeaderLen {
		return Foreign{}, false
	}
	f := Foreign{ID: b[1], Priority: b[2]}
	count, addrLen := int(b[3]), 4
	switch b[0] {
	case 0x21:
		f.Protocol, f.Interval = ProtocolVRRP2, time.Duration(b[5])*time.Second
		if len(b) != vrrpHeaderLen+count*addrLen+vrrp2AuthLen || b[4] > vrrp2AuthMax || checksum(b, 0) != 0 {
			return Foreign{}, false
		}
	case 0x31:
		if src.Is6() && !src.Is4In6() {
			addrLen = 16
		}
		f.Protocol = ProtocolVRRP3
		f.Interval = time.Duration(binary.BigEndian.Uint16(b[4:])&0xfff) * 10 * time.Millisecond
		if len(b) != vrrpHeaderLen+count*addrLen || checksum(b, pseudoSum(src, dst, len(b))) != 0 {
			return Foreign{}, false
		}
	default:
		return Foreign{}, false
	}
	for i := range count {
		at := vrrpHeaderLen + i*addrLen
		addr, _ := netip.AddrFromSlice(b[at : at+addrLen])
		f.Addresses = append(f.Addresses, addr)
	}
	return f, true
}

// pseudoSum is the sum of the pseudo header (RFC 5798, section 5.2.8) for a
// message of n bytes.
func pseudoSum(src, dst netip.Addr, n int) uint32 {
	sum := uint32(Protocol) + uint32(n)
	for _, addr := range []netip.Addr{src.Unmap(), dst.Unmap()} {
		b := addr.AsSlice()
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(b[0])<<8 | uint32(b[1])
		}
	}
	return sum
}
