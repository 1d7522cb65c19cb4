package packet

import (
	"encoding/binary"
	"net/netip"
)

// Membership says what a report tells of a group (RFC 3376, section 4.2.12;
// RFC 3810, section 5.2.12). Sources are not chosen.
type Membership uint8

// The three of use to a host that wants all sources or none.
const (
	Member Membership = 2 // mode is exclude: the answer to a query
	Leave  Membership = 3 // changed to include (of nothing)
	Join   Membership = 4 // changed to exclude (of nothing)
)

const igmp3Report = 0x22

// Where reports go.
var (
	allIGMPRouters = netip.AddrFrom4([4]byte{224, 0, 0, 22})
	allMLDRouters  = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x16})
)

// AppendIGMPReport appends the frame of an IGMPv3 report from src that says
// the same of all IPv4 groups, of which there may be some hundred.
func AppendIGMPReport(dst []byte, srcMAC MAC, src netip.Addr, what Membership, groups []netip.Addr) []byte {
	t := Tuple{Src: AddrFrom(src), Dst: AddrFrom(allIGMPRouters), Proto: ProtoIGMP, Family: 4}
	dst = appendEthernet(dst, MulticastMAC(allIGMPRouters), srcMAC, EtherTypeIPv4)
	at := len(dst)
	dst = appendIPv4(dst, &t, ipFields{ttl: 1, tos: tosControl, df: true}, 8+8*len(groups))
	dst = append(dst, optRouterAlert, 4, 0, 0)
	finishL3(dst[at:])

	at = len(dst)
	dst = append(dst, igmp3Report, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(groups)))
	for _, g := range groups {
		a := g.As4()
		dst = append(dst, uint8(what), 0, 0, 0)
		dst = append(dst, a[:]...)
	}
	binary.BigEndian.PutUint16(dst[at+2:], Checksum(dst[at:], 0))
	return dst
}

// AppendMLDReport appends the frame of an MLDv2 report from src, a link-local
// address or :: (RFC 3810, section 5.2.13), that says the same of all IPv6
// groups, of which there may be some dozen.
func AppendMLDReport(dst []byte, srcMAC MAC, src netip.Addr, what Membership, groups []netip.Addr) []byte {
	const hopLen = 8
	length := 8 + 20*len(groups)
	t := Tuple{Src: AddrFrom(src), Dst: AddrFrom(allMLDRouters), Proto: nextHopByHop, Family: 6}
	dst = appendEthernet(dst, MulticastMAC(allMLDRouters), srcMAC, EtherTypeIPv6)
	dst = appendIP(dst, &t, ipFields{ttl: 1}, hopLen+length)
	dst = append(dst, ProtoICMPv6, 0, hopRouterAlert, 2, 0, 0, 1, 0) // router alert: MLD; two bytes of padding

	t.Proto = ProtoICMPv6
	at := len(dst)
	dst = append(dst, ICMP6MLD2Report, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(groups)))
	for _, g := range groups {
		a := g.As16()
		dst = append(dst, uint8(what), 0, 0, 0)
		dst = append(dst, a[:]...)
	}
	finishL4(dst[at:], icmpSum, &t)
	return dst
}
