package nat

import (
	"net/netip"

	"tandem/netstack/packet"
	"tandem/netstack/pf/rule"
)

// Outcome is what became of a source.
type Outcome uint8

const (
	Unchanged  Outcome = iota // no entry, or one that says none
	Translated                // to the address and port returned
	NotHeld                   // the translation is a virtual address that another node holds
	PortsFull                 // no free port was found
	Collision                 // the port must stay as it is and is in use
)

// String names the outcome as counters and drop reasons do.
func (o Outcome) String() string {
	names := [...]string{"unchanged", "translated", "vip-not-held", "nat-ports-full", "nat-collision"}
	if int(o) >= len(names) {
		return "unknown"
	}
	return names[o]
}

// Ports is what Source needs from outside.
type Ports struct {
	// InUse says whether another flow already leaves with this tuple towards
	// its destination: whether the key of its answers is taken.
	InUse func(*packet.Tuple) bool
	Rand  func() uint64
	// HostID chooses the blocks that this node takes ports from first.
	HostID uint32
	// Held is false for a virtual address that this node does not hold, and
	// true for all other addresses. nil: all are held.
	Held func(packet.Addr) bool
}

// Destination translates the destination of q, which came in by q.Iface. ok
// says that the packet's destination becomes addr and port (host order; as it
// was where there are no ports). i is the entry that decided, -1 if none did;
// with ok false it is a forward to none, which also keeps the 1:1 entries out.
// The node's own packets (q.Iface 0) came in nowhere and match none.
func (s *Set) Destination(q *rule.Query) (addr packet.Addr, port uint16, i int, ok bool) {
	if q.Iface == 0 {
		return q.Dst, q.DstPort, -1, false
	}
	dir := q.Direction
	q.Direction = rule.In
	j, found := s.in.rules.Match(q)
	q.Direction = dir
	if !found {
		return q.Dst, q.DstPort, -1, false
	}
	i = s.in.entries[j]
	switch e := &s.entries[i]; {
	case e.None:
		return q.Dst, q.DstPort, i, false
	case e.Kind == KindOneToOne:
		return move(q.Dst, e.OneToOne.Internal), q.DstPort, i, true
	default:
		return packet.AddrFrom(e.Forward.Target), e.Forward.port(q.DstPort), i, true
	}
}

// port maps p from the range that holds it to the target's.
func (f *Forward) port(p uint16) uint16 {
	if f.TargetPort == 0 {
		return p
	}
	for _, r := range f.DestinationPorts {
		if r.First <= p && p <= r.Last {
			return f.TargetPort + p - r.First
		}
	}
	return p
}

// Source translates the source of q, which leaves by iface; q.Tuple is as the
// destination translation left it, and q.Iface where the packet came in, 0 for
// the node's own. On Translated the source becomes addr and port (for an ICMP
// query the identifier, in both ports of the tuple). i is the entry that
// decided, -1 if none did. Any other outcome than Unchanged and Translated
// means that the packet must not leave.
//
// q serves as scratch space for the questions and is as before afterwards. It
// is handed to env's functions, so callers keep it where they keep their other
// working memory, not on the stack.
func (s *Set) Source(q *rule.Query, iface uint16, env *Ports) (addr packet.Addr, port uint16, i int, outcome Outcome) {
	l := &s.out
	if q.Iface == 0 {
		l = &s.own
	}
	from, dir := q.Iface, q.Direction
	q.Iface, q.Direction = iface, rule.Out
	j, found := l.rules.Match(q)
	q.Iface, q.Direction = from, dir
	if !found {
		return q.Src, q.SrcPort, -1, Unchanged
	}
	i = l.entries[j]
	e := &s.entries[i]
	if e.None {
		return q.Src, q.SrcPort, i, Unchanged
	}
	if e.Kind == KindOneToOne {
		addr = move(q.Src, e.OneToOne.External)
	} else {
		addr = packet.AddrFrom(e.Outbound.Translation)
	}
	if env.Held != nil && !env.Held(addr) {
		return addr, q.SrcPort, i, NotHeld
	}
	tuple := q.Tuple
	q.Src = addr
	port, outcome = e.choosePort(q, env)
	q.Tuple = tuple
	return addr, port, i, outcome
}

// choosePort finds the source port for q, whose source is the translated one.
func (e *Entry) choosePort(q *rule.Query, env *Ports) (uint16, Outcome) {
	r, icmp := portRange{1024, 65535}, isQuery(q)
	switch {
	case e.Kind == KindOneToOne || e.Outbound.StaticPort || !icmp && !hasPorts(q):
		if env.InUse(&q.Tuple) {
			return q.SrcPort, Collision
		}
		return q.SrcPort, Translated
	case icmp:
		r = portRange{0, 65535}
	case e.Outbound.PortHigh != 0:
		r = portRange{e.Outbound.PortLow, e.Outbound.PortHigh}
	}
	return r.choose(q, icmp, env)
}

func hasPorts(q *rule.Query) bool {
	return !q.Fragment && (q.Proto == packet.ProtoTCP || q.Proto == packet.ProtoUDP)
}

// isQuery says whether q is an ICMP message with an identifier, as
// packet.IsICMPQuery does.
func isQuery(q *rule.Query) bool {
	switch {
	case q.Fragment:
		return false
	case q.Family == 4 && q.Proto == packet.ProtoICMP:
		switch q.ICMPType {
		case packet.ICMP4EchoReply, packet.ICMP4Echo, packet.ICMP4Timestamp, packet.ICMP4TimestampReply:
			return true
		}
	case q.Family == 6 && q.Proto == packet.ProtoICMPv6:
		return q.ICMPType == packet.ICMP6Echo || q.ICMPType == packet.ICMP6EchoReply
	}
	return false
}

// move puts the host part of a behind prefix p, which is of a's family.
func move(a packet.Addr, p netip.Prefix) packet.Addr {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	out := packet.AddrFrom(p.Addr())
	for i := bits / 8; i < len(a); i++ {
		keep := byte(0xff)
		if i == bits/8 {
			keep >>= bits % 8
		}
		out[i] = out[i]&^keep | a[i]&keep
	}
	return out
}
