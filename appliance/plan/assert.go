package plan

import (
	"net/netip"

	"tandem/appliance/config"
	"tandem/netstack/packet"
	"tandem/netstack/pf/rule"
)

// samplePort is the source port of packets that are asked about: one that
// clients use.
const samplePort = 49152

// asserts judges what the file says must hold, as the master unless it says
// otherwise.
func (b *builder) asserts() {
	for n := range b.doc.Asserts {
		if a := &b.doc.Asserts[n]; !a.Disabled {
			b.hold(a)
		}
	}
}

// hold reports each way in which a packet fares otherwise than asserted.
func (b *builder) hold(a *config.Assert) {
	pkt := Packet{
		Iface: b.numbers[a.From.Interface], Source: a.From.Source, Destination: a.To.Destination,
		Proto: a.To.Number(), Port: a.To.Port, Backup: a.Role == config.RoleBackup,
	}
	switch {
	case a.To.Port != 0:
		pkt.SourcePort = samplePort
	case pkt.Proto == packet.ProtoICMP:
		pkt.ICMPType = 8 // An echo request, RFC 792.
	case pkt.Proto == packet.ProtoICMPv6:
		pkt.ICMPType = 128 // RFC 4443, section 4.1.
	}
	got := b.plan.Judge(pkt)
	if got.Action.String() != string(a.Expect) {
		why := got.Why
		if got.Action == rule.Pass {
			why = "nothing stops it"
			if got.Rule >= 0 {
				r := b.plan.Rules.Rule(got.Rule)
				why = "rule " + r.ID + describe(r.Description) + " passes it"
			}
		}
		b.errorf(a.Key+".expect", "%v to %v does not %s: %s; change the rules, or what is expected", a.From, a.To, a.Expect, why)
		return
	}
	if got.Action != rule.Pass {
		return
	}
	b.target(a.Key+".nat_source", "source", a.NATSource, got.From, got.Source)
	b.target(a.Key+".nat_destination", "destination", a.NATDestination, pkt.Destination, got.Destination)
	if out := b.outName(got.Out); a.OutInterface != "" && a.OutInterface != out {
		b.errorf(a.Key+".out_interface", "the packet leaves by %s; change the routes, or what is expected", out)
	}
}

// outName is the name of an interface, "self" for the node itself.
func (b *builder) outName(number uint16) string {
	for _, i := range b.plan.Interfaces {
		if i.Index == number {
			return i.Name
		}
	}
	return "self"
}

// target compares an address with what an assert says it becomes.
func (b *builder) target(key, what string, want config.AssertTarget, before, after netip.Addr) {
	switch {
	case !want.Set:
	case want.None && before != after:
		b.errorf(key, "the %s becomes %v; change the translations, or what is expected", what, after)
	case !want.None && before == after && after != want.Addr:
		b.errorf(key, "the %s is not translated; change the translations, or what is expected", what)
	case !want.None && after != want.Addr:
		b.errorf(key, "the %s becomes %v; change the translations, or what is expected", what, after)
	}
}

// hidden warns of rules that come with a port forward and that an earlier rule
// of the file stops, so that the forward does nothing. Each is asked about one
// packet that it should pass.
func (b *builder) hidden() {
	for n := range b.rules {
		r := &b.rules[n]
		if !r.Automatic || b.keys[n] == "" || len(r.Interfaces) == 0 {
			continue
		}
		q := rule.Query{Iface: r.Interfaces[0], Direction: rule.In, Master: true, Dry: true}
		q.Tuple = packet.Tuple{
			Src: packet.AddrFrom(sample(r.Source)), Dst: packet.AddrFrom(sample(r.Destination)),
			SrcPort: samplePort, Proto: packet.ProtoTCP, Family: 4,
		}
		if r.Protos != nil {
			q.Proto = r.Protos[0]
		}
		if len(r.SourcePorts) > 0 {
			q.SrcPort = r.SourcePorts[0].First
		}
		if len(r.DestinationPorts) > 0 {
			q.DstPort = r.DestinationPorts[0].First
		}
		if q.Proto == packet.ProtoTCP {
			q.TCPFlags = packet.SYN
		}
		i, ok := b.plan.Rules.Match(&q)
		if ok && i < n && b.rules[i].Action != rule.Pass && !b.rules[i].Automatic {
			b.warnf(b.keys[n], "%s stops what this forward lets in, since the forward's rule comes after it; let it pass before, or set rule = \"pass\"", b.keys[i])
		}
	}
}

// anybody is an address on the Internet that no special network holds.
var anybody = netip.AddrFrom4([4]byte{11, 22, 33, 44})

// sample is an IPv4 address that m holds, a public one where it can be any.
func sample(m rule.AddrMatch) netip.Addr {
	candidates := []netip.Addr{anybody}
	collect(m, &candidates)
	set, err := m.Compile()
	if err != nil {
		return anybody
	}
	for _, a := range candidates {
		if set.Contains(a) {
			return a
		}
	}
	return anybody
}

// collect appends the ends of what m names.
func collect(m rule.AddrMatch, out *[]netip.Addr) {
	for _, p := range m.Prefixes {
		*out = append(*out, p.Addr(), p.Addr().Next())
	}
	for _, r := range m.Ranges {
		*out = append(*out, r[0], r[1])
	}
	for _, l := range m.Lists {
		collect(l, out)
	}
}
