package capture

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"tandem/netstack/packet"
)

const (
	exprBytesMax = 4096
	exprDepthMax = 50
)

// Filter is a compiled expression.
type Filter struct{ root node } // nil: every frame

// Match says whether the filter wants the frame b, seen on iface.
func (f *Filter) Match(iface string, dir Direction, b []byte) bool {
	if f.root == nil {
		return true
	}
	var fr frame
	fr.decode(b, iface, dir)
	return f.root.match(&fr)
}

// Compile reads an expression as pcap-filter(7) has them, of these parts:
//
//	host A, net A/N, port P, portrange P-Q    each after src or dst, if wanted
//	ip, ip6, arp, tcp, udp, sctp, icmp, icmp6, igmp, gre, esp, ah, carp, vrrp, pfsync
//	proto N, ip proto N, ip6 proto N          N a number or one of these names
//	tcp port P, ip host A ...                 a protocol before one of the above
//	ether host M, ether proto N, ether broadcast, ether multicast
//	vlan, vlan N                              tagged; what is inside is seen without it
//	in, out (inbound, outbound), on NAME      as the node sees it
//	less N, greater N                         bytes of the frame
//
// joined by and (&&), or (||), not (!) and parentheses. And and or bind
// equally, from left to right; not binds most. A value that stands alone
// repeats what was before it: "port 80 or 443". Errors name the word.
//
// A parser of our own, since those at hand make BPF programs that know neither
// CARP nor an interface, and look at a tagged frame as if it were none.
func Compile(expr string) (*Filter, error) {
	if len(expr) > exprBytesMax {
		return nil, fmt.Errorf("filter: longer than %d bytes", exprBytesMax)
	}
	p := &parser{words: split(expr)}
	if len(p.words) == 0 {
		return &Filter{}, nil
	}
	root, err := p.expression()
	if err == nil && p.at < len(p.words) {
		err = fmt.Errorf("and, or or the end is expected")
	}
	if err != nil {
		return nil, fmt.Errorf("filter %q: at %s: %w", expr, p.place(), err)
	}
	return &Filter{root: root}, nil
}

// split makes words of expr; parentheses and ! are words of their own.
func split(expr string) []string {
	for _, mark := range []string{"(", ")", "&&", "||"} {
		expr = strings.ReplaceAll(expr, mark, " "+mark+" ")
	}
	expr = strings.ReplaceAll(expr, "!", " ! ")
	return strings.Fields(expr)
}

type parser struct {
	words []string
	at    int
	depth int
	last  qualifiers // of the primitive before, for values that stand alone
}

// qualifiers are what comes before a value.
type qualifiers struct {
	proto node // nil: none
	side  side
	kind  string // "" for none yet
}

// place names the word the parser is at.
func (p *parser) place() string {
	if p.at >= len(p.words) {
		return "the end"
	}
	return fmt.Sprintf("%q (word %d)", p.words[p.at], p.at+1)
}

// peek is the next word, "" at the end.
func (p *parser) peek() string {
	if p.at >= len(p.words) {
		return ""
	}
	return p.words[p.at]
}

// accept takes the next word if it is one of those.
func (p *parser) accept(words ...string) bool {
	for _, w := range words {
		if p.peek() == w && w != "" {
			p.at++
			return true
		}
	}
	return false
}

func (p *parser) expression() (node, error) {
	left, err := p.factor()
	for err == nil {
		var right node
		switch {
		case p.accept("and", "&&"):
			if right, err = p.factor(); err == nil {
				left = both{left, right}
			}
		case p.accept("or", "||"):
			if right, err = p.factor(); err == nil {
				left = either{left, right}
			}
		default:
			return left, nil
		}
	}
	return nil, err
}

func (p *parser) factor() (node, error) {
	if p.depth++; p.depth > exprDepthMax {
		return nil, fmt.Errorf("nested deeper than %d", exprDepthMax)
	}
	defer func() { p.depth-- }()
	switch {
	case p.accept("not", "!"):
		of, err := p.factor()
		return not{of}, err
	case p.accept("("):
		of, err := p.expression()
		if err == nil && !p.accept(")") {
			err = fmt.Errorf("a closing parenthesis is expected")
		}
		return of, err
	}
	return p.primitive()
}

// protocol looks up a name of a protocol inside IP.
func protocol(name string) (isProto, bool) {
	switch name {
	case "tcp":
		return isProto{proto: packet.ProtoTCP}, true
	case "udp":
		return isProto{proto: packet.ProtoUDP}, true
	case "sctp":
		return isProto{proto: packet.ProtoSCTP}, true
	case "icmp":
		return isProto{packet.ProtoICMP, 4}, true
	case "icmp6":
		return isProto{packet.ProtoICMPv6, 6}, true
	case "igmp":
		return isProto{packet.ProtoIGMP, 4}, true
	case "gre":
		return isProto{proto: packet.ProtoGRE}, true
	case "esp":
		return isProto{proto: packet.ProtoESP}, true
	case "ah":
		return isProto{proto: packet.ProtoAH}, true
	case "carp", "vrrp":
		return isProto{proto: packet.ProtoCARP}, true
	case "pfsync":
		return isProto{proto: packet.ProtoPfsync}, true
	}
	return isProto{}, false
}

// primitive reads one test: qualifiers and a value, or a word that says all.
func (p *parser) primitive() (node, error) {
	switch {
	case p.accept("ether"):
		return p.ether()
	case p.accept("vlan"):
		return p.vlan()
	case p.accept("in", "inbound"):
		return goes{In}, nil
	case p.accept("out", "outbound"):
		return goes{Out}, nil
	case p.accept("broadcast"):
		return groupFrame{broadcast: true}, nil
	case p.accept("multicast"):
		return groupFrame{}, nil
	case p.accept("on"):
		name, err := p.value("the name of an interface")
		return on{name}, err
	case p.accept("less"):
		n, err := p.number(math.MaxInt32)
		return longer{0, n}, err
	case p.accept("greater"):
		n, err := p.number(math.MaxInt32)
		return longer{n, math.MaxInt}, err
	}
	return p.qualified()
}

// qualified reads [protocol] [src|dst] [kind] value, or a protocol alone.
func (p *parser) qualified() (node, error) {
	var q qualifiers
	var family uint8
	q.proto, family = p.protoWord()
	if p.accept("src") {
		q.side = srcSide
	} else if p.accept("dst") {
		q.side = dstSide
	}
	for _, kind := range []string{"host", "net", "portrange", "port", "proto"} {
		if p.accept(kind) {
			q.kind = kind
			break
		}
	}
	switch {
	case q.kind == "proto":
		if q.side != anySide || q.proto != nil && family == 0 {
			return nil, fmt.Errorf("proto goes alone, or after ip or ip6")
		}
		return p.protoValue(family)
	case q.kind == "" && q.proto != nil && q.side == anySide:
		return q.proto, nil
	case q.kind == "" && (q.side != anySide || p.last.kind == ""):
		q.kind = "host" // "src 192.0.2.1"; an address that stands alone
	case q.kind == "":
		q = p.last
	}
	n, err := p.qualifiedValue(q)
	if err != nil {
		return nil, err
	}
	p.last = q
	if q.proto != nil {
		return both{q.proto, n}, nil
	}
	return n, nil
}

// protoWord takes a protocol, if one is next; family is set for ip and ip6.
func (p *parser) protoWord() (n node, family uint8) {
	switch w := p.peek(); w {
	case "ip":
		n, family = isEther{packet.EtherTypeIPv4}, 4
	case "ip6":
		n, family = isEther{packet.EtherTypeIPv6}, 6
	case "arp":
		n = isEther{packet.EtherTypeARP}
	default:
		proto, ok := protocol(w)
		if !ok {
			return nil, 0
		}
		n = proto
	}
	p.at++
	return n, family
}

func (p *parser) protoValue(family uint8) (node, error) {
	if n, ok := protocol(p.peek()); ok {
		p.at++
		if family != 0 {
			n.family = family
		}
		return n, nil
	}
	n, err := p.number(255)
	return isProto{uint8(n), family}, err
}

func (p *parser) qualifiedValue(q qualifiers) (node, error) {
	switch q.kind {
	case "host":
		return p.host(q.side)
	case "net":
		return p.net(q.side)
	}
	what := "a port, 0 to 65535"
	if q.kind == "portrange" {
		what = "two ports, as in 1000-1999"
	}
	low, high, isRange := strings.Cut(p.peek(), "-")
	if !isRange {
		high = low
	}
	a, errA := strconv.ParseUint(low, 10, 16)
	b, errB := strconv.ParseUint(high, 10, 16)
	if errA != nil || errB != nil || a > b || isRange != (q.kind == "portrange") {
		return nil, fmt.Errorf("%s is expected", what)
	}
	p.at++
	return inPorts{q.side, uint16(a), uint16(b)}, nil
}

func (p *parser) host(s side) (node, error) {
	a, err := netip.ParseAddr(p.peek())
	if err != nil || a.Zone() != "" {
		return nil, fmt.Errorf("an address is expected (names are not looked up)")
	}
	p.at++
	a = a.Unmap()
	return inPrefix{s, netip.PrefixFrom(a, a.BitLen())}, nil
}

func (p *parser) net(s side) (node, error) {
	prefix, err := netip.ParsePrefix(p.peek())
	if err != nil {
		return nil, fmt.Errorf("a network is expected, as in 192.0.2.0/24")
	}
	p.at++
	return inPrefix{s, prefix.Masked()}, nil
}

// ether reads what follows the word.
func (p *parser) ether() (node, error) {
	switch {
	case p.accept("broadcast"):
		return groupFrame{broadcast: true}, nil
	case p.accept("multicast"):
		return groupFrame{}, nil
	case p.accept("proto"):
		switch {
		case p.accept("ip"):
			return isEther{packet.EtherTypeIPv4}, nil
		case p.accept("ip6"):
			return isEther{packet.EtherTypeIPv6}, nil
		case p.accept("arp"):
			return isEther{packet.EtherTypeARP}, nil
		}
		n, err := p.number(math.MaxUint16)
		return isEther{uint16(n)}, err
	}
	s := anySide
	if p.accept("src") {
		s = srcSide
	} else if p.accept("dst") {
		s = dstSide
	}
	p.accept("host")
	mac, ok := parseMAC(p.peek())
	if !ok {
		return nil, fmt.Errorf("an Ethernet address is expected, as in 00:00:5e:00:01:01")
	}
	p.at++
	return hasMAC{s, mac}, nil
}

func (p *parser) vlan() (node, error) {
	if w := p.peek(); w == "" || w[0] < '0' || w[0] > '9' {
		return inVLAN{-1}, nil
	}
	id, err := p.number(4095)
	return inVLAN{id}, err
}

// value takes the next word, whatever it is.
func (p *parser) value(what string) (string, error) {
	w := p.peek()
	if w == "" || w == "(" || w == ")" {
		return "", fmt.Errorf("%s is expected", what)
	}
	p.at++
	return w, nil
}

// number takes a number, also a hexadecimal one.
func (p *parser) number(max int) (int, error) {
	n, err := strconv.ParseUint(p.peek(), 0, 32)
	if err != nil || n > uint64(max) {
		return 0, fmt.Errorf("a number is expected, 0 to %d", max)
	}
	p.at++
	return int(n), nil
}

func parseMAC(s string) (packet.MAC, bool) {
	var m packet.MAC
	parts := strings.Split(s, ":")
	if len(parts) != len(m) {
		return m, false
	}
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 16, 8)
		if err != nil || len(part) > 2 {
			return m, false
		}
		m[i] = byte(v)
	}
	return m, true
}
