package rule

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"tandem/netstack/packet"
)

// mixed makes n rules of the kinds that people write: prefixes, ranges,
// negations, ports, protocols, interfaces, both families. The rules are quick
// unless slow says that some are not.
func mixed(rng *rand.Rand, n int, slow bool) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		r := &rules[i]
		r.ID, r.Number = fmt.Sprintf("r%d", i), i+1
		r.Quick = !slow || rng.IntN(3) > 0
		r.Action = []Action{Block, Pass, Pass, Reject}[rng.IntN(4)]
		r.Direction = []Direction{In, In, In, Out, Any}[rng.IntN(5)]
		r.State = []StateMode{Keep, Keep, Sloppy, None}[rng.IntN(4)]
		if rng.IntN(4) > 0 {
			for range 1 + rng.IntN(2) {
				r.Interfaces = append(r.Interfaces, uint16(1+rng.IntN(6)))
			}
		}
		if rng.IntN(5) == 0 {
			r.Family = []uint8{4, 6}[rng.IntN(2)]
		}
		r.Source, r.Destination = randomMatch(rng, 5), randomMatch(rng, 2)
		randomService(rng, r)
		if rng.IntN(10) == 0 {
			r.Role = []Role{RoleMaster, RoleBackup}[rng.IntN(2)]
		}
	}
	return rules
}

func randomService(rng *rand.Rand, r *Rule) {
	switch rng.IntN(8) {
	case 0:
		r.Protos = []uint8{packet.ProtoICMP, packet.ProtoICMPv6}
		if rng.IntN(2) == 0 {
			r.ICMPTypes = []ICMPType{{Family: 4, Type: 8}, {Family: 6, Type: 128}, {Family: 4, Type: 3, Code: 1, HasCode: true}}
		}
	case 1:
		r.Protos = []uint8{packet.ProtoGRE}
	case 2:
	default:
		r.Protos = [][]uint8{{packet.ProtoTCP}, {packet.ProtoUDP}, {packet.ProtoTCP, packet.ProtoUDP}}[rng.IntN(3)]
		for range rng.IntN(3) {
			r.DestinationPorts = append(r.DestinationPorts, randomPorts(rng))
		}
		if rng.IntN(12) == 0 {
			r.SourcePorts = []PortRange{randomPorts(rng)}
		}
	}
}

func randomPorts(rng *rand.Rand) PortRange {
	p := uint16(rng.IntN(1000))
	switch rng.IntN(8) {
	case 0:
		return PortRange{p, p + uint16(rng.IntN(200))}
	case 1:
		return PortRange{1024, 65535}
	}
	return PortRange{p, p}
}

// randomMatch names addresses, but anyOf times in ten all of them.
func randomMatch(rng *rand.Rand, anyOf int) AddrMatch {
	if rng.IntN(10) < anyOf {
		return AnyAddr()
	}
	var m AddrMatch
	switch rng.IntN(12) {
	case 0:
		a, b := randomAddr(rng), randomAddr(rng)
		for a.Is4() != b.Is4() {
			b = randomAddr(rng)
		}
		if b.Less(a) {
			a, b = b, a
		}
		m.Ranges = [][2]netip.Addr{{a, b}}
	case 1:
		m.Prefixes = []netip.Prefix{randomPrefix(rng)}
		m.Negate = true
	case 2:
		m.Prefixes = []netip.Prefix{randomPrefix(rng), randomPrefix(rng)}
		m.Except = []AddrMatch{{Prefixes: []netip.Prefix{randomPrefix(rng)}}}
	case 3:
		m.Lists = []AddrMatch{randomMatch(rng, 0), randomMatch(rng, 0)}
	case 4:
		m.Except = []AddrMatch{randomMatch(rng, 0)}
	default:
		m.Prefixes = []netip.Prefix{randomPrefix(rng)}
	}
	return m
}

// randomAddr draws from few networks, so that packets meet rules.
func randomAddr(rng *rand.Rand) netip.Addr {
	x := rng.Uint32()
	if rng.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0xd, 0xb8, 0, byte(x % 8), byte(x >> 8 % 16), 15: byte(x >> 16 % 64)})
	}
	return netip.AddrFrom4([4]byte{10, byte(x % 8), byte(x >> 8 % 64), byte(x >> 16)})
}

func randomPrefix(rng *rand.Rand) netip.Prefix {
	a := randomAddr(rng)
	if a.Is4() {
		return netip.PrefixFrom(a, []int{8, 14, 16, 20, 24, 24, 24, 28, 32, 32}[rng.IntN(10)]).Masked()
	}
	return netip.PrefixFrom(a, []int{32, 48, 56, 64, 128}[rng.IntN(5)]).Masked()
}

func randomQuery(rng *rand.Rand) Query {
	src, dst := randomAddr(rng), randomAddr(rng)
	for src.Is4() != dst.Is4() {
		dst = randomAddr(rng)
	}
	q := Query{Iface: uint16(rng.IntN(8)), Direction: Direction(rng.IntN(2)), Master: rng.IntN(2) == 0}
	q.Src, q.Dst, q.Family = packet.AddrFrom(src), packet.AddrFrom(dst), 6
	if src.Is4() {
		q.Family = 4
	}
	q.Proto = []uint8{packet.ProtoTCP, packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP,
		packet.ProtoICMPv6, packet.ProtoGRE, packet.ProtoESP}[rng.IntN(7)]
	switch q.Proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		q.SrcPort, q.DstPort = uint16(rng.IntN(1200)), uint16(rng.IntN(1200))
		if rng.IntN(16) == 0 {
			q.Fragment, q.SrcPort, q.DstPort = true, 0, 0
		}
		if q.Proto == packet.ProtoTCP && !q.Fragment {
			q.TCPFlags = []uint8{packet.SYN, packet.SYN, packet.SYN, packet.SYN | packet.ACK, packet.ACK}[rng.IntN(5)]
		}
	case packet.ProtoICMP, packet.ProtoICMPv6:
		q.ICMPType, q.ICMPCode = []uint8{8, 3, 128, 0}[rng.IntN(4)], uint8(rng.IntN(2))
	}
	q.Forwarded = q.Direction == Out && rng.IntN(2) == 0
	return q
}
