package rule

import "tandem/netstack/packet"

// Criterion is the first property in which a packet differs from a rule, in
// the order in which they are compared.
type Criterion uint8

const (
	Same Criterion = iota // the rule matches
	ByDirection
	ByInterface
	ByFamily
	ByProtocol
	BySource
	BySourcePort
	ByDestination
	ByDestinationPort
	ByICMPType
	ByTCPFlags
	ByTag
	ByRole
)

// String gives the key of the configuration that the criterion comes from.
func (c Criterion) String() string {
	names := [...]string{"", "direction", "interface", "family", "protocol", "source", "source_port",
		"destination", "destination_port", "icmp_types", "tcp_flags", "tagged", "role"}
	if int(c) >= len(names) {
		return "unknown"
	}
	return names[c]
}

// key is a query in the form in which it is held against rules.
type key struct {
	*Query
	src, dst u128
	fam      uint8 // 0: IPv4, 1: IPv6, for indexing
	v6       bool
	ports    bool
}

// Match finds the rule that decides on q: the first matching quick rule, else
// the last matching one that is not quick. ok is false if there is none. q.Tag
// and q.Log come out as the match rules before it left them; what the deciding
// rule itself tags and logs is the caller's to add.
func (s *Set) Match(q *Query) (i int, ok bool) {
	i = s.decide(q)
	if !q.Dry {
		s.count(q.Direction, i)
	}
	return i, i >= 0
}

// decide is Match without counting; -1: no rule.
func (s *Set) decide(q *Query) int {
	k := makeKey(q)
	if !s.classified {
		return s.walk(&k)
	}
	return s.lookUp(&k)
}

// lookUp does what walk does, by the classifiers.
func (s *Set) lookUp(k *key) int {
	i := -1
	if c := s.quick[k.Direction&1][k.fam]; c != nil {
		i = c.first(k)
	}
	end := int32(i) // match rules behind a quick decision are not reached
	if i < 0 {
		end = int32(len(s.rules))
		if c := s.slow[k.Direction&1][k.fam]; c != nil {
			i = c.first(k)
		}
	}
	for _, j := range s.matchRules {
		if j >= end {
			break
		}
		if m := &s.matchers[j]; m.differs(k) == Same {
			m.note(k)
		}
	}
	return i
}

func makeKey(q *Query) key {
	v6 := q.Family == 6
	k := key{
		Query: q,
		src:   number(q.Src, v6), dst: number(q.Dst, v6),
		v6: v6, ports: q.hasPorts(),
	}
	if v6 {
		k.fam = 1
	}
	return k
}

// walk holds k against one rule after the other.
func (s *Set) walk(k *key) int {
	last := -1
	for i := range s.matchers {
		m := &s.matchers[i]
		if m.differs(k) != Same {
			continue
		}
		switch {
		case m.action == Match:
			m.note(k)
		case m.quick:
			return i
		default:
			last = i
		}
	}
	return last
}

// note does what a match rule does to the packets it matches.
func (m *matcher) note(k *key) {
	if m.tag != 0 {
		k.Tag = m.tag
	}
	k.Log = k.Log || m.log
}

// differs gives the first criterion in which k differs from the rule.
func (m *matcher) differs(k *key) Criterion {
	switch {
	case m.dirs&(1<<k.Direction) == 0:
		return ByDirection
	case m.ifaces != nil && !m.onIface(k.Iface):
		return ByInterface
	case m.family != 0 && m.family != k.Family:
		return ByFamily
	case m.protos != nil && !m.hasProto(k):
		return ByProtocol
	case !m.anySrc[k.fam] && !m.src.has(k.v6, k.src):
		return BySource
	case m.srcPorts != nil && !(k.ports && inPorts(m.srcPorts, k.SrcPort)):
		return BySourcePort
	case !m.anyDst[k.fam] && !m.dst.has(k.v6, k.dst):
		return ByDestination
	case m.dstPorts != nil && !(k.ports && inPorts(m.dstPorts, k.DstPort)):
		return ByDestinationPort
	}
	return m.differsRarely(k)
}

// differsRarely compares what few rules ask for.
func (m *matcher) differsRarely(k *key) Criterion {
	switch {
	case m.icmpTypes != nil && !m.hasICMPType(k):
		return ByICMPType
	case m.flagMask != 0 && !m.hasFlags(k):
		return ByTCPFlags
	case m.tagged != 0 && (m.tagged == k.Tag) == m.notTagged:
		return ByTag
	case m.role != AnyRole && (m.role == RoleMaster) != k.Master:
		return ByRole
	}
	return Same
}

func (m *matcher) onIface(n uint16) bool {
	w := int(n / 64)
	return w < len(m.ifaces) && m.ifaces[w]&(1<<(n%64)) != 0
}

// hasProto: ICMP is a protocol of IPv4 and ICMPv6 one of IPv6, whatever number
// a packet of the other family carries.
func (m *matcher) hasProto(k *key) bool {
	if m.protos[k.Proto/64]&(1<<(k.Proto%64)) == 0 {
		return false
	}
	return !(k.v6 && k.Proto == packet.ProtoICMP) && !(!k.v6 && k.Proto == packet.ProtoICMPv6)
}

func (m *matcher) hasICMPType(k *key) bool {
	icmp := uint8(packet.ProtoICMP)
	if k.v6 {
		icmp = packet.ProtoICMPv6
	}
	if k.Proto != icmp || k.Fragment {
		return false
	}
	for _, t := range m.icmpTypes {
		if t.Family == k.Family && t.Type == k.ICMPType && (!t.HasCode || t.Code == k.ICMPCode) {
			return true
		}
	}
	return false
}

// hasFlags asks TCP packets only, as pf does: a rule for any protocol goes on
// to match the others.
func (m *matcher) hasFlags(k *key) bool {
	if k.Proto != packet.ProtoTCP || m.unsaid && k.Forwarded {
		return true
	}
	return !k.Fragment && k.TCPFlags&m.flagMask == m.flagSet
}

// inPorts looks p up in sorted ranges.
func inPorts(ranges []PortRange, p uint16) bool {
	lo, hi := 0, len(ranges)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if ranges[mid].Last < p {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(ranges) && ranges[lo].First <= p
}
