package plan

import (
	"net/netip"
	"slices"

	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
	"tandem/netstack/route"
)

// Packet is the first packet of a flow that nobody has seen yet.
type Packet struct {
	Iface               uint16     // where it comes in; 0: the node itself sends it
	Source, Destination netip.Addr // an invalid source of the node's own is chosen as it would be
	Proto               uint8      // IANA number
	SourcePort, Port    uint16     // TCP and UDP
	ICMPType            uint8
	Backup              bool // the node holds none of its VIPs
}

// Outcome is what becomes of a packet.
type Outcome struct {
	Action      rule.Action // Pass, Block or Reject
	Why         string      // in words, for a packet that does not pass
	Rule        int         // index of the rule that decided, -1: none
	Out         uint16      // interface it leaves by; 0: it is for the node, or stopped
	From        netip.Addr  // its source before translation
	Source      netip.Addr  // and after
	Destination netip.Addr  // after translation
}

// judge is one judging of one packet.
type judge struct {
	plan  *Plan
	pkt   Packet
	query rule.Query
}

// Judge follows a packet through the plan as the node would: translation of
// the destination, rules in, route, translation of the source, rules out. It
// counts nothing and makes no state.
func (p *Plan) Judge(pkt Packet) Outcome {
	return (&judge{plan: p, pkt: pkt}).run()
}

func (j *judge) run() Outcome {
	j.fill()
	out := Outcome{Action: rule.Pass, Rule: -1, From: j.pkt.Source, Source: j.pkt.Source, Destination: j.pkt.Destination}
	if j.pkt.Iface != 0 {
		if !j.in(&out) || j.isLocal(out.Destination) {
			return out
		}
	}
	next, ok := j.plan.table.Lookup(packet.AddrFrom(out.Destination))
	switch {
	case j.pkt.Iface == 0 && j.isLocal(out.Destination):
		return out
	case !ok:
		return stop(out, "there is no route to "+out.Destination.String())
	case next.Kind == route.Blackhole:
		return stop(out, "the route to "+out.Destination.String()+" is a blackhole")
	}
	out.Out = next.Iface
	j.leave(&out)
	if out.Action != rule.Pass {
		out.Out = 0
	}
	return out
}

// fill writes the packet into the query.
func (j *judge) fill() {
	p := &j.pkt
	version := uint8(6)
	if p.Destination.Is4() {
		version = 4
	}
	if p.Iface == 0 && !p.Source.IsValid() {
		p.Source = j.ownSource(version)
	}
	q := &j.query
	q.Iface, q.Direction, q.Master, q.Dry = p.Iface, rule.In, !p.Backup, true
	q.Tuple = packet.Tuple{
		Src: packet.AddrFrom(p.Source), Dst: packet.AddrFrom(p.Destination),
		SrcPort: p.SourcePort, DstPort: p.Port, Proto: p.Proto, Family: version,
	}
	q.ICMPType = p.ICMPType
	if p.Proto == packet.ProtoTCP {
		q.TCPFlags = packet.SYN
	}
}

// ownSource is the address that the node's own packet would have: the first
// of its family on the interface that it leaves by.
func (j *judge) ownSource(version uint8) netip.Addr {
	next, _ := j.plan.table.Lookup(packet.AddrFrom(j.pkt.Destination))
	for _, i := range j.plan.Interfaces {
		for _, a := range i.Addresses {
			if i.Index == next.Iface && a.Addr().Is4() == (version == 4) && !(a.Addr().Is6() && a.Addr().IsLinkLocalUnicast()) {
				return a.Addr()
			}
		}
	}
	if version == 4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// in takes the packet past translation of the destination and the rules with
// direction in; false: it is stopped.
func (j *judge) in(out *Outcome) bool {
	q := &j.query
	if j.pkt.Backup && j.isVIP(j.pkt.Destination) {
		*out = stop(*out, j.pkt.Destination.String()+" is a VIP that a backup does not hold")
		return false
	}
	addr, port, i, ok := j.plan.NAT.Destination(q)
	if ok {
		q.Dst, q.DstPort = addr, port
		out.Destination = addr.Netip()
		if j.plan.PassForward[j.plan.NAT.Entries()[i].ID] {
			return true
		}
	}
	return j.rules(out, rule.Block)
}

// rules asks the rules; false: the packet is stopped.
func (j *judge) rules(out *Outcome, otherwise rule.Action) bool {
	i, ok := j.plan.Rules.Match(&j.query)
	if !ok {
		out.Action = otherwise
		if otherwise != rule.Pass {
			out.Why = "no rule passes it"
		}
		return otherwise == rule.Pass
	}
	out.Rule = i
	r := j.plan.Rules.Rule(i)
	if out.Action = r.Action; r.Action != rule.Pass {
		out.Why = "rule " + r.ID + describe(r.Description) + " stops it"
	}
	return r.Action == rule.Pass
}

func describe(description string) string {
	if description == "" {
		return ""
	}
	return " (" + description + ")"
}

// leave takes the packet past translation of the source and the rules with
// direction out.
func (j *judge) leave(out *Outcome) {
	q := &j.query
	ports := nat.Ports{
		InUse:  func(*packet.Tuple) bool { return false },
		Rand:   func() uint64 { return 0 },
		HostID: j.plan.HostID,
		Held:   func(a packet.Addr) bool { return !j.pkt.Backup || !j.isVIP(a.Netip()) },
	}
	addr, port, _, outcome := j.plan.NAT.Source(q, out.Out, &ports)
	switch outcome {
	case nat.Translated:
		q.Src, q.SrcPort = addr, port
		out.Source = addr.Netip()
	case nat.Unchanged:
	default:
		*out = stop(*out, "its source would become "+addr.Netip().String()+", and that fails: "+outcome.String())
		return
	}
	inside := out.Rule
	q.Forwarded = q.Iface != 0
	q.Iface, q.Direction = out.Out, rule.Out
	if j.rules(out, rule.Pass) && out.Rule < 0 {
		out.Rule = inside
	}
}

func stop(out Outcome, why string) Outcome {
	out.Action, out.Why, out.Out = rule.Block, why, 0
	return out
}

// isLocal says whether the node takes packets for an address itself: its own,
// and those of groups and broadcast, which are never forwarded.
func (j *judge) isLocal(a netip.Addr) bool {
	return a.IsMulticast() || j.plan.table.Broadcast(j.pkt.Iface, packet.AddrFrom(a)) || slices.Contains(j.plan.Doc.Self(), a)
}

func (j *judge) isVIP(a netip.Addr) bool {
	return slices.ContainsFunc(j.plan.VIPs, func(v VIP) bool { return v.Address.Addr() == a })
}
