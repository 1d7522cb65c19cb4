package packet

import (
	"encoding/binary"
	"net/netip"
)

// ARP operations (RFC 826).
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is a request or a reply about IPv4 over Ethernet.
type ARP struct {
	Op                   uint16
	SenderMAC, TargetMAC MAC
	Sender, Target       netip.Addr
}

// arpHead is what every such message begins with: Ethernet, IPv4, 6 and 4
// bytes of address.
var arpHead = [6]byte{0, 1, 0x08, 0x00, 6, 4}

// ParseARP reads the ARP message in v; false if there is none, or one about
// other networks or of another operation.
func ParseARP(v *View) (ARP, bool) {
	if v.EtherType != EtherTypeARP || len(v.B) < v.L3+arpLen {
		return ARP{}, false
	}
	h := v.B[v.L3 : v.L3+arpLen]
	op := binary.BigEndian.Uint16(h[6:])
	if [6]byte(h) != arpHead || op != ARPRequest && op != ARPReply {
		return ARP{}, false
	}
	return ARP{
		Op:        op,
		SenderMAC: MAC(h[8:]),
		Sender:    netip.AddrFrom4([4]byte(h[14:])),
		TargetMAC: MAC(h[18:]),
		Target:    netip.AddrFrom4([4]byte(h[24:])),
	}, true
}

// AppendARP appends a frame with an ARP message. The Ethernet addresses are
// given beside those in the message, since announcements of virtual addresses
// may differ in them. sender and target are IPv4 addresses.
func AppendARP(dst []byte, op uint16, srcMAC, dstMAC, senderMAC MAC, sender netip.Addr, targetMAC MAC, target netip.Addr) []byte {
	s, t := sender.As4(), target.As4()
	dst = appendEthernet(dst, dstMAC, srcMAC, EtherTypeARP)
	dst = append(dst, arpHead[:]...)
	dst = binary.BigEndian.AppendUint16(dst, op)
	dst = append(dst, senderMAC[:]...)
	dst = append(dst, s[:]...)
	dst = append(dst, targetMAC[:]...)
	return append(dst, t[:]...)
}
