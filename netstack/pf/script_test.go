package pf

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
)

// The words of testdata/*.txt; its README tells what they mean.

// words takes a line apart from the left.
type words struct {
	t    *testing.T
	line string
	rest []string
}

// next is the next word; it fails at the end of the line.
func (w *words) next() string {
	w.t.Helper()
	if len(w.rest) == 0 {
		w.t.Fatalf("%q ends too early", w.line)
	}
	word := w.rest[0]
	w.rest = w.rest[1:]
	return word
}

func (w *words) number(s string) int {
	w.t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		w.t.Fatalf("%q: %v", w.line, err)
	}
	return n
}

// numbers reads a list of names or numbers.
func (w *words) numbers(names map[string]int) (out []int) {
	w.t.Helper()
	for _, s := range strings.Split(w.next(), ",") {
		n, ok := names[s]
		if !ok {
			n = w.number(s)
		}
		out = append(out, n)
	}
	return out
}

// addrs reads addresses: "any", or a list of prefixes, addresses and ranges,
// each with "!" before what is left out.
func (w *words) addrs() (m rule.AddrMatch) {
	w.t.Helper()
	for _, s := range strings.Split(w.next(), ",") {
		s, not := strings.CutPrefix(s, "!")
		one := rule.AddrMatch{}
		first, last, isRange := strings.Cut(s, "-")
		switch {
		case s == "any":
			one.Any = true
		case isRange:
			one.Ranges = [][2]netip.Addr{{netip.MustParseAddr(first), netip.MustParseAddr(last)}}
		case strings.Contains(s, "/"):
			one.Prefixes = []netip.Prefix{netip.MustParsePrefix(s)}
		default:
			one = rule.Addrs(netip.MustParseAddr(s))
		}
		switch {
		case not:
			m.Except = append(m.Except, one)
		case one.Any:
			m.Any = true
		default:
			m.Prefixes, m.Ranges = append(m.Prefixes, one.Prefixes...), append(m.Ranges, one.Ranges...)
		}
	}
	return m
}

// ports reads a list of ports and ranges.
func (w *words) ports() (out []rule.PortRange) {
	w.t.Helper()
	for _, s := range strings.Split(w.next(), ",") {
		first, last, isRange := strings.Cut(s, "-")
		if !isRange {
			last = first
		}
		out = append(out, rule.PortRange{First: uint16(w.number(first)), Last: uint16(w.number(last))})
	}
	return out
}

var (
	ifaceNumbers = map[string]int{"wan": 1, "lan": 2, "dmz": 3}
	protoNumbers = map[string]int{"icmp": packet.ProtoICMP, "tcp": packet.ProtoTCP, "udp": packet.ProtoUDP, "esp": packet.ProtoESP, "icmp6": packet.ProtoICMPv6}
	flagBits     = map[rune]uint8{'F': packet.FIN, 'S': packet.SYN, 'R': packet.RST, 'P': packet.PSH, 'A': packet.ACK, 'U': packet.URG}
)

func narrow[N uint8 | uint16](in []int) (out []N) {
	for _, n := range in {
		out = append(out, N(n))
	}
	return out
}

func flagsOf(s string) (f uint8) {
	for _, c := range s {
		f |= flagBits[c]
	}
	return f
}

// match reads the words that rules and translations share; ok is false for
// others, which w is left at.
func (w *words) match(m *nat.Match, ifaces *[]uint16) (ok bool) {
	w.t.Helper()
	switch w.rest[0] {
	case "on":
		w.next()
		*ifaces = narrow[uint16](w.numbers(ifaceNumbers))
	case "inet", "inet6":
		m.Family = map[string]uint8{"inet": 4, "inet6": 6}[w.next()]
	case "proto":
		w.next()
		m.Protos = narrow[uint8](w.numbers(protoNumbers))
	case "from":
		w.next()
		m.Source = w.addrs()
		if len(w.rest) > 0 && w.rest[0] == "port" {
			w.next()
			m.SourcePorts = w.ports()
		}
	case "to":
		w.next()
		m.Destination = w.addrs()
		if len(w.rest) > 0 && w.rest[0] == "port" {
			w.next()
			m.DestinationPorts = w.ports()
		}
	default:
		return false
	}
	return true
}

// rule reads the rest of a line that begins with "rule".
func (w *words) rule() rule.Rule {
	w.t.Helper()
	r := rule.Rule{ID: w.next(), Quick: true}
	r.Action = rule.Action(slices.Index([]string{"block", "reject", "pass", "match"}, w.next()))
	m := nat.Match{Source: rule.AnyAddr(), Destination: rule.AnyAddr()}
	for len(w.rest) > 0 {
		if w.match(&m, &r.Interfaces) {
			continue
		}
		switch word := w.next(); word {
		case "in", "out", "any":
			r.Direction = rule.Direction(slices.Index([]string{"in", "out", "any"}, word))
		case "icmp-type":
			for _, n := range w.numbers(nil) {
				family := uint8(4)
				if n >= 128 || m.Family == 6 {
					family = 6
				}
				r.ICMPTypes = append(r.ICMPTypes, rule.ICMPType{Family: family, Type: uint8(n)})
			}
		case "flags":
			set, mask, _ := strings.Cut(w.next(), "/")
			r.TCPFlags = rule.Flags{Set: flagsOf(set), Mask: flagsOf(mask)}
		case "tag":
			r.Tag = w.next()
		case "tagged":
			r.Tagged = w.next()
		case "state":
			r.State = rule.StateMode(slices.Index([]string{"keep", "sloppy", "none"}, w.next()))
		case "role":
			r.Role = rule.Role(w.next())
		case "slow":
			r.Quick = false
		case "log":
			r.Log = true
		case "options":
			r.AllowOptions = true
		default:
			w.t.Fatalf("%q: %s?", w.line, word)
		}
	}
	r.Family, r.Protos = m.Family, m.Protos
	r.Source, r.SourcePorts, r.Destination, r.DestinationPorts = m.Source, m.SourcePorts, m.Destination, m.DestinationPorts
	return r
}

// translation reads the rest of a line that begins with "forward", "nat" or
// "binat".
func (w *words) translation(kind string, cfg *nat.Config, pass map[string]bool) {
	w.t.Helper()
	id := w.next()
	m := nat.Match{Source: rule.AnyAddr(), Destination: rule.AnyAddr()}
	var ifaces []uint16
	for len(w.rest) > 0 && w.match(&m, &ifaces) {
	}
	switch kind {
	case "binat":
		external, _ := w.next(), w.next()
		cfg.OneToOne = append(cfg.OneToOne, nat.OneToOne{ID: id, Interfaces: ifaces, Peers: m.Destination,
			External: netip.MustParsePrefix(external), Internal: netip.MustParsePrefix(w.next())})
		return
	case "forward":
		f := nat.Forward{ID: id, Interfaces: ifaces, Match: m}
		w.target(&f.Target, &f.None)
		for len(w.rest) > 0 {
			if w.next() == "pass" {
				pass[id] = true
			} else {
				f.TargetPort = uint16(w.number(w.next()))
			}
		}
		cfg.Forwards = append(cfg.Forwards, f)
		return
	}
	o := nat.Outbound{ID: id, Interfaces: ifaces, Match: m}
	w.target(&o.Translation, &o.None)
	for len(w.rest) > 0 {
		switch w.next() {
		case "static":
			o.StaticPort = true
		case "self":
			o.Self = true
		case "ports":
			p := w.ports()
			o.PortLow, o.PortHigh = p[0].First, p[0].Last
		}
	}
	cfg.Outbound = append(cfg.Outbound, o)
}

// target reads "-> ADDRESS" or "-> none".
func (w *words) target(addr *netip.Addr, none *bool) {
	w.t.Helper()
	if w.next() != "->" {
		w.t.Fatalf("%q has no ->", w.line)
	}
	if s := w.next(); s == "none" {
		*none = true
	} else {
		*addr = netip.MustParseAddr(s)
	}
}

// shown is a packet's tuple as lines have it.
func shown(t *packet.Tuple) string {
	ports := t.Proto == packet.ProtoTCP || t.Proto == packet.ProtoUDP
	end := func(a packet.Addr, port uint16) string {
		if ports || port != 0 {
			return netip.AddrPortFrom(a.Netip(), port).String()
		}
		return a.Netip().String()
	}
	return fmt.Sprintf("%s > %s", end(t.Src, t.SrcPort), end(t.Dst, t.DstPort))
}
