package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Protocol is what a rule says of the IP protocol. The zero value is any.
type Protocol struct {
	Name string // as written, "any" if the key was not given
	V4   []uint8
	V6   []uint8 // for IPv6 packets; both nil: any protocol
}

// Numbers (IANA) that the rules of the language need.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoCARP   = 112
	protoPfsync = 240
)

// protocols are the names a rule may use, beside numbers.
var protocols = []struct {
	name   string
	v4, v6 []uint8
}{
	{"any", nil, nil},
	{"tcp", []uint8{protoTCP}, []uint8{protoTCP}},
	{"udp", []uint8{protoUDP}, []uint8{protoUDP}},
	{"tcp/udp", []uint8{protoTCP, protoUDP}, []uint8{protoTCP, protoUDP}},
	{"icmp", []uint8{protoICMP}, []uint8{protoICMPv6}},
	{"icmp6", []uint8{}, []uint8{protoICMPv6}},
	{"igmp", []uint8{2}, []uint8{2}},
	{"ipencap", []uint8{4}, []uint8{4}},
	{"ipv6", []uint8{41}, []uint8{41}},
	{"gre", []uint8{47}, []uint8{47}},
	{"esp", []uint8{50}, []uint8{50}},
	{"ah", []uint8{51}, []uint8{51}},
	{"eigrp", []uint8{88}, []uint8{88}},
	{"ospf", []uint8{89}, []uint8{89}},
	{"etherip", []uint8{97}, []uint8{97}},
	{"pim", []uint8{103}, []uint8{103}},
	{"carp", []uint8{protoCARP}, []uint8{protoCARP}},
	{"vrrp", []uint8{protoCARP}, []uint8{protoCARP}},
	{"l2tp", []uint8{115}, []uint8{115}},
	{"sctp", []uint8{132}, []uint8{132}},
	{"udplite", []uint8{136}, []uint8{136}},
	{"pfsync", []uint8{protoPfsync}, []uint8{protoPfsync}},
}

// UnmarshalTOML reads a name or a number from 0 to 255.
func (p *Protocol) UnmarshalTOML(raw any) error {
	switch x := raw.(type) {
	case int64:
		return p.number(x)
	case string:
		for _, known := range protocols {
			if known.name == x {
				*p = Protocol{Name: x, V4: known.v4, V6: known.v6}
				return nil
			}
		}
		if n, err := strconv.ParseInt(x, 10, 32); err == nil {
			return p.number(n)
		}
		return fmt.Errorf("%q is no protocol%s; give a name such as tcp, udp, tcp/udp, icmp, esp, or a number", x, didYouMean(x, protocolNames()))
	}
	return fmt.Errorf("%s is no protocol; give a name such as tcp, udp, tcp/udp, icmp, esp, or a number", show(raw))
}

func (p *Protocol) number(n int64) error {
	if n < 0 || n > 255 {
		return fmt.Errorf("%d is no protocol; give 0 to 255, or a name", n)
	}
	*p = Protocol{Name: strconv.FormatInt(n, 10), V4: []uint8{uint8(n)}, V6: []uint8{uint8(n)}}
	return nil
}

func protocolNames() []string {
	names := make([]string, len(protocols))
	for i, p := range protocols {
		names[i] = p.name
	}
	return names
}

// Any says whether all protocols match.
func (p Protocol) Any() bool { return p.V4 == nil && p.V6 == nil }

// HasPorts says whether every packet that matches has ports.
func (p Protocol) HasPorts() bool {
	return !p.Any() && !slices.ContainsFunc(slices.Concat(p.V4, p.V6), func(n uint8) bool {
		return n != protoTCP && n != protoUDP
	})
}

// IsICMP says whether only ICMP or ICMPv6 matches.
func (p Protocol) IsICMP() bool { return p.Name == "icmp" || p.Name == "icmp6" }

// String is the protocol as written.
func (p Protocol) String() string {
	if p.Name == "" {
		return "any"
	}
	return p.Name
}

// ICMPType is a type of ICMP message, by pf's names.
type ICMPType struct {
	Name string
	V4   int // the number in ICMP, -1: it has none
	V6   int // the number in ICMPv6, -1: it has none
}

// icmpTypes are pf's names (pf.conf(5), RFC 792, RFC 4443 and later).
var icmpTypes = []ICMPType{
	{"echorep", 0, 129}, {"unreach", 3, 1}, {"squench", 4, -1}, {"redir", 5, 137}, {"althost", 6, -1},
	{"echoreq", 8, 128}, {"routeradv", 9, 134}, {"routersol", 10, 133}, {"timex", 11, 3}, {"paramprob", 12, 4},
	{"timereq", 13, -1}, {"timerep", 14, -1}, {"inforeq", 15, -1}, {"inforep", 16, -1}, {"maskreq", 17, -1},
	{"maskrep", 18, -1}, {"trace", 30, -1}, {"dataconv", 31, -1}, {"mobredir", 32, -1}, {"ipv6-where", 33, -1},
	{"ipv6-here", 34, -1}, {"mobregreq", 35, -1}, {"mobregrep", 36, -1}, {"skip", 39, -1}, {"photuris", 40, -1},
	{"toobig", -1, 2}, {"listqry", -1, 130}, {"groupqry", -1, 130}, {"listenrep", -1, 131}, {"grouprep", -1, 131},
	{"listendone", -1, 132}, {"groupterm", -1, 132}, {"neighbrsol", -1, 135}, {"neighbradv", -1, 136},
	{"routrrenum", -1, 138}, {"fqdnreq", -1, 139}, {"niqry", -1, 139}, {"wrureq", -1, 139}, {"fqdnrep", -1, 140},
	{"nirep", -1, 140}, {"wrurep", -1, 140},
}

// UnmarshalTOML reads one of pf's names, or a number, which then counts in
// every family of the rule.
func (t *ICMPType) UnmarshalTOML(raw any) error {
	switch x := raw.(type) {
	case int64:
		if x < 0 || x > 255 {
			return fmt.Errorf("%d is no ICMP type; give 0 to 255, or a name such as echoreq", x)
		}
		*t = ICMPType{strconv.FormatInt(x, 10), int(x), int(x)}
		return nil
	case string:
		for _, known := range icmpTypes {
			if known.Name == x {
				*t = known
				return nil
			}
		}
		names := make([]string, len(icmpTypes))
		for i, known := range icmpTypes {
			names[i] = known.Name
		}
		return fmt.Errorf("%q is no ICMP type%s; give a name such as echoreq, unreach, timex, or a number", x, didYouMean(x, names))
	}
	return fmt.Errorf("%s is no ICMP type; give a name such as echoreq, or a number", show(raw))
}

// TCPFlags is pf's set/mask: of the flags in Mask exactly those in Set are on.
// A zero Mask matches whatever the flags are.
type TCPFlags struct{ Set, Mask uint8 }

// tcpFlagLetters are in the order of the bits, from FIN (RFC 9293, RFC 3168).
const tcpFlagLetters = "FSRPAUEW"

// UnmarshalText reads "S/SA" or "any".
func (f *TCPFlags) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "any" {
		*f = TCPFlags{}
		return nil
	}
	set, mask, found := strings.Cut(s, "/")
	x, okSet := flagBits(set)
	y, okMask := flagBits(mask)
	switch {
	case !found || !okSet || !okMask || y == 0:
		return fmt.Errorf("%q are no TCP flags; give those on, a slash and those looked at, such as \"S/SA\" (of %s), or \"any\"", s, tcpFlagLetters)
	case x&^y != 0:
		return fmt.Errorf("%q asks for flags that it does not look at, so it never matches; write them behind the slash too", s)
	}
	*f = TCPFlags{Set: x, Mask: y}
	return nil
}

func flagBits(s string) (bits uint8, ok bool) {
	for _, r := range s {
		i := strings.IndexRune(tcpFlagLetters, r)
		if i < 0 {
			return 0, false
		}
		bits |= 1 << i
	}
	return bits, true
}

// String writes set/mask, or "any".
func (f TCPFlags) String() string {
	if f.Mask == 0 {
		return "any"
	}
	return flagLetters(f.Set) + "/" + flagLetters(f.Mask)
}

func flagLetters(bits uint8) string {
	var b strings.Builder
	for i := range len(tcpFlagLetters) {
		if bits>>i&1 != 0 {
			b.WriteByte(tcpFlagLetters[i])
		}
	}
	return b.String()
}
