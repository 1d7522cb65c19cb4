package norm

import "tandem/netstack/packet"

// Policy is what an interface asks of the packets that cross it. The zero
// Policy changes nothing and lets no IP options pass.
type Policy struct {
	// MSS is the largest segment, in bytes, that a TCP SYN may offer; 0: any.
	MSS uint16
	// NoDF takes the don't-fragment flag from IPv4 packets. Where senders set
	// it with an identification of zero, RandomID belongs to it.
	NoDF bool
	// RandomID gives IPv4 packets that are no fragments another identification,
	// so that nobody counts the hosts behind the node by theirs.
	RandomID bool
	// AllowOptions lets packets with IP options pass. Group membership
	// messages, which cannot be without a router alert, always pass.
	AllowOptions bool
}

// Apply changes v as the policy asks, checksums included, or says why v may
// not pass, unchanged. rand gives uniform random bits.
func (p *Policy) Apply(v *packet.View, rand func() uint64) Reason {
	if v.Options && !p.AllowOptions && !isMembership(v) {
		return OptionsRefused
	}
	if p.MSS != 0 {
		packet.ClampMSS(v, p.MSS)
	}
	if v.Family != 4 {
		return OK
	}
	if p.NoDF {
		packet.ClearDF(v)
	}
	if p.RandomID && !v.Fragment {
		packet.SetID(v, nonzero(rand()))
	}
	return OK
}

// nonzero takes 16 bits that are not all zero: an identification of zero looks
// like that of a packet which must not be fragmented.
func nonzero(bits uint64) uint16 {
	for ; bits != 0; bits >>= 16 {
		if id := uint16(bits); id != 0 {
			return id
		}
	}
	return 1
}

// isMembership says whether v is an IGMP or MLD message with router alert (RFC
// 3376, section 4; RFC 3810, section 5).
func isMembership(v *packet.View) bool {
	if !v.RouterAlert {
		return false
	}
	if v.Family == 4 {
		return v.Proto == packet.ProtoIGMP
	}
	if v.Proto != packet.ProtoICMPv6 || v.L4 == 0 {
		return false
	}
	return v.ICMPType >= 130 && v.ICMPType <= 132 || v.ICMPType == packet.ICMP6MLD2Report
}
