package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"tandem/netstack/packet"
)

// timeLayout is how stamps are printed, in the zone of Packet.Time.
const timeLayout = "15:04:05.000000"

// AppendText appends one line about p, without a line end: when, where, which
// way, and what it says. What it cannot read it names as far as it gets.
func AppendText(dst []byte, p *Packet) []byte {
	dst = p.Time.AppendFormat(dst, timeLayout)
	dst = fmt.Appendf(dst, " %s %-3s ", p.Iface, p.Dir)
	var f frame
	f.decode(p.Data, p.Iface, p.Dir)
	if !f.ethernet {
		return fmt.Appendf(dst, "short frame, length %d", p.Len)
	}
	for _, t := range f.tags[:f.tagCount] {
		dst = fmt.Appendf(dst, "vlan %d ", t&0xfff)
	}
	switch {
	case f.ip:
		return appendIP(dst, &f)
	case f.etherType == packet.EtherTypeARP:
		return appendARP(dst, &f)
	case f.reason != packet.OK:
		dst = fmt.Appendf(dst, "%s %s", familyName(f.etherType), f.reason)
		if len(p.Data) < p.Len {
			dst = append(dst, " (cut by the snap length)"...)
		}
		return fmt.Appendf(dst, ", length %d", p.Len)
	}
	dst = appendMAC(dst, f.src())
	dst = append(dst, " > "...)
	dst = appendMAC(dst, f.dst())
	if f.etherType < 0x0600 { // IEEE 802.3: a length, no type
		return fmt.Appendf(dst, " 802.3, length %d", p.Len)
	}
	return fmt.Appendf(dst, " ethertype 0x%04x, length %d", f.etherType, p.Len)
}

func familyName(etherType uint16) string {
	if etherType == packet.EtherTypeIPv6 {
		return "IP6"
	}
	return "IP"
}

func appendMAC(dst []byte, m packet.MAC) []byte {
	return fmt.Appendf(dst, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

func appendARP(dst []byte, f *frame) []byte {
	a, ok := f.arp()
	if !ok {
		return append(dst, "ARP, not for IPv4 or not whole"...)
	}
	if a.Op == packet.ARPReply {
		dst = fmt.Appendf(dst, "ARP %s is-at ", a.Sender)
		dst = appendMAC(dst, a.SenderMAC)
		if a.Sender == a.Target {
			dst = append(dst, " (announcement)"...)
		}
		return dst
	}
	switch {
	case a.Sender == a.Target: // RFC 5227, section 3
		dst = fmt.Appendf(dst, "ARP %s is-at ", a.Sender)
		dst = appendMAC(dst, a.SenderMAC)
		return append(dst, " (announcement)"...)
	case a.Sender == netip.IPv4Unspecified():
		return fmt.Appendf(dst, "ARP who-has %s (probe)", a.Target)
	}
	return fmt.Appendf(dst, "ARP who-has %s tell %s", a.Target, a.Sender)
}

// appendEnd appends an address, with a port where there is one.
func appendEnd(dst []byte, a packet.Addr, port uint16, withPort bool) []byte {
	dst = a.Netip().AppendTo(dst)
	if withPort {
		dst = append(dst, '.')
		dst = strconv.AppendUint(dst, uint64(port), 10)
	}
	return dst
}

func appendIP(dst []byte, f *frame) []byte {
	v := &f.view
	dst = append(dst, familyName(f.etherType)...)
	dst = append(dst, ' ')
	dst = appendEnd(dst, v.Src, v.SrcPort, f.hasPorts())
	dst = append(dst, " > "...)
	dst = appendEnd(dst, v.Dst, v.DstPort, f.hasPorts())
	dst = append(dst, ": "...)
	if v.Fragment {
		dst = fmt.Appendf(dst, "fragment %d at %d", v.FragID, v.FragOffset)
		if v.MoreFrags {
			dst = append(dst, '+')
		}
		dst = append(dst, ' ')
	}
	return appendUpper(dst, v)
}

// appendUpper appends what the packet carries.
func appendUpper(dst []byte, v *packet.View) []byte {
	body := v.B[v.L3:v.End]
	if v.L4 > 0 {
		body = v.B[v.L4:v.End]
	}
	if v.L4 == 0 || v.FragOffset > 0 {
		return fmt.Appendf(dst, "%s length %d", protoName(v.Proto), v.End-v.Payload)
	}
	switch v.Proto {
	case packet.ProtoTCP:
		return appendTCP(dst, v)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return appendICMP(dst, v)
	case packet.ProtoCARP:
		return appendCARP(dst, body)
	case packet.ProtoPfsync:
		return appendPfsync(dst, body)
	case packet.ProtoUDP:
		return fmt.Appendf(dst, "udp length %d", v.DataLen)
	}
	return fmt.Appendf(dst, "%s length %d", protoName(v.Proto), len(body))
}

func protoName(proto uint8) string {
	switch proto {
	case packet.ProtoTCP:
		return "tcp"
	case packet.ProtoUDP:
		return "udp"
	case packet.ProtoICMP:
		return "icmp"
	case packet.ProtoICMPv6:
		return "icmp6"
	case packet.ProtoIGMP:
		return "igmp"
	case packet.ProtoGRE:
		return "gre"
	case packet.ProtoESP:
		return "esp"
	case packet.ProtoAH:
		return "ah"
	case packet.ProtoCARP:
		return "carp"
	case packet.ProtoSCTP:
		return "sctp"
	case packet.ProtoPfsync:
		return "pfsync"
	}
	return "proto " + strconv.Itoa(int(proto))
}

func appendTCP(dst []byte, v *packet.View) []byte {
	dst = append(dst, "tcp "...)
	before := len(dst)
	for _, flag := range [...]struct {
		bit  uint8
		mark byte
	}{{packet.SYN, 'S'}, {packet.FIN, 'F'}, {packet.RST, 'R'}, {packet.PSH, 'P'},
		{packet.URG, 'U'}, {packet.ECE, 'E'}, {packet.CWR, 'W'}, {packet.ACK, '.'}} {
		if v.TCPFlags&flag.bit != 0 {
			dst = append(dst, flag.mark)
		}
	}
	if len(dst) == before {
		dst = append(dst, "none"...)
	}
	dst = fmt.Appendf(dst, " seq %d", v.Seq)
	if v.TCPFlags&packet.ACK != 0 {
		dst = fmt.Appendf(dst, " ack %d", v.Ack)
	}
	return fmt.Appendf(dst, " win %d length %d", v.Window, v.DataLen)
}

// appendCARP appends an advertisement. VRRP has the same protocol number; a
// CARP header is told by its version, its fixed length and the length of its
// digest in words (carp(4)), which no VRRP packet of that size has.
func appendCARP(dst []byte, b []byte) []byte {
	const carpBytes, carpAuthWords = 36, 7
	switch {
	case len(b) < 8:
		return fmt.Appendf(dst, "carp, short, length %d", len(b))
	case b[0]>>4 != 2 || len(b) < carpBytes || b[3] != carpAuthWords:
		return fmt.Appendf(dst, "VRRPv%d vrid %d prio %d length %d", b[0]>>4, b[1], b[2], len(b))
	}
	return fmt.Appendf(dst, "CARPv2 vhid %d advbase %d advskew %d demote %d counter %d",
		b[1], b[5], b[2], b[4], binary.BigEndian.Uint64(b[8:]))
}

// appendPfsync appends the header of a state synchronisation packet and the
// first of its messages (pfsync(4)).
func appendPfsync(dst []byte, b []byte) []byte {
	const headerBytes, subheaderBytes = 20, 4
	if len(b) < headerBytes {
		return fmt.Appendf(dst, "pfsync, short, length %d", len(b))
	}
	dst = fmt.Appendf(dst, "pfsync version %d length %d", b[0], len(b))
	if sub := b[headerBytes:]; len(sub) >= subheaderBytes {
		dst = fmt.Appendf(dst, ", action %d count %d", sub[0], binary.BigEndian.Uint16(sub[2:]))
	}
	return dst
}
