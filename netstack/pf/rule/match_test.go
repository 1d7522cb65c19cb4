package rule

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tandem/netstack/packet"
)

// tcp is a query for a SYN that comes in by interface 1.
func tcp(src, dst string) Query {
	q := Query{Iface: 1, TCPFlags: packet.SYN}
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	q.Src, q.Dst = packet.AddrFrom(from.Addr()), packet.AddrFrom(to.Addr())
	q.SrcPort, q.DstPort, q.Proto, q.Family = from.Port(), to.Port(), packet.ProtoTCP, 6
	if from.Addr().Is4() {
		q.Family = 4
	}
	return q
}

func with(q Query, change func(*Query)) Query {
	change(&q)
	return q
}

// pass is a quick rule that passes everything in, changed by change.
func pass(change func(*Rule)) Rule {
	r := Rule{Action: Pass, Quick: true, Source: AnyAddr(), Destination: AnyAddr()}
	change(&r)
	return r
}

// padded puts rules that match nothing around r, so that it is looked up. It
// stands at index linearMax.
func padded(r ...Rule) []Rule {
	var rules []Rule
	for range linearMax {
		rules = append(rules, pass(func(r *Rule) { r.Destination = prefixes("203.0.113.99/32", "2001:db8:99::99/128") }))
	}
	return append(rules, r...)
}

// criterionTest holds one packet against one rule.
type criterionTest struct {
	name string
	r    Rule
	q    Query
	want Criterion
}

// check asks the rule alone and among others that are looked up.
func (tt *criterionTest) check(t *testing.T) {
	k := makeKey(&tt.q)
	s := mustCompile(t, []Rule{tt.r})
	if got := s.matchers[0].differs(&k); got != tt.want {
		t.Errorf("differs by %q, want %q", got, tt.want)
	}
	for _, rules := range [][]Rule{{tt.r}, padded(tt.r)} {
		q := tt.q
		i, ok := mustCompile(t, rules).Match(&q)
		if ok != (tt.want == Same) || ok && i != len(rules)-1 {
			t.Errorf("among %d: Match = %d, %v", len(rules), i, ok)
		}
	}
}

func TestPlaceProtocolAndAddresses(t *testing.T) {
	q4, q6 := tcp("10.0.0.5:1025", "192.0.2.7:443"), tcp("[2001:db8::5]:1025", "[2001:db8:1::7]:443")
	ping := with(q4, func(q *Query) {
		q.Proto, q.ICMPType, q.TCPFlags, q.SrcPort, q.DstPort = packet.ProtoICMP, 8, 0, 9, 9
	})
	ping6 := with(q6, func(q *Query) {
		q.Proto, q.ICMPType, q.TCPFlags, q.SrcPort, q.DstPort = packet.ProtoICMPv6, 128, 0, 9, 9
	})
	out := with(q4, func(q *Query) { q.Direction = Out })
	any := pass(func(*Rule) {})
	iface := pass(func(r *Rule) { r.Interfaces = []uint16{3, 1, 200} })
	none := pass(func(r *Rule) { r.Interfaces = []uint16{} })
	icmp := pass(func(r *Rule) { r.Protos = []uint8{packet.ProtoICMP, packet.ProtoICMPv6} })
	inside := pass(func(r *Rule) { r.Source = prefixes("10.0.0.0/8") })
	outside := pass(func(r *Rule) { r.Destination = not(prefixes("10.0.0.0/8")) })
	outward := pass(func(r *Rule) { r.Direction = Out })
	for _, tt := range []criterionTest{
		{"any", any, q4, Same},
		{"any, IPv6", any, q6, Same},
		{"wrong direction", any, out, ByDirection},
		{"out", outward, out, Same},
		{"direction any", pass(func(r *Rule) { r.Direction = Any }), out, Same},
		{"one of the interfaces", iface, q4, Same},
		{"highest interface", iface, with(q4, func(q *Query) { q.Iface = 200 }), Same},
		{"other interface", iface, with(q4, func(q *Query) { q.Iface = 2 }), ByInterface},
		{"interface beyond all", iface, with(q4, func(q *Query) { q.Iface = 65535 }), ByInterface},
		{"no interface", none, q4, ByInterface},
		{"family", pass(func(r *Rule) { r.Family = 6 }), q4, ByFamily},
		{"protocol", icmp, q4, ByProtocol},
		{"icmp", icmp, ping, Same},
		{"icmp in IPv6", icmp, ping6, Same},
		{"protocol 1 in IPv6 is not ICMP", icmp, with(ping6, func(q *Query) { q.Proto = packet.ProtoICMP }), ByProtocol},
		{"protocol 58 in IPv4 is not ICMPv6", icmp, with(ping, func(q *Query) { q.Proto = packet.ProtoICMPv6 }), ByProtocol},
		{"empty protocol list", pass(func(r *Rule) { r.Protos = []uint8{} }), q4, ByProtocol},
		{"source", inside, q4, Same},
		{"other source", inside, tcp("11.0.0.1:1025", "192.0.2.7:443"), BySource},
		{"IPv4 source, IPv6 packet", inside, q6, BySource},
		{"negated destination", outside, q4, Same},
		{"in the negated destination", outside, tcp("10.0.0.5:1025", "10.255.0.7:443"), ByDestination},
		{"empty alias", pass(func(r *Rule) { r.Destination = AddrMatch{} }), q4, ByDestination},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestPortsAndICMPTypes(t *testing.T) {
	q4, q6 := tcp("10.0.0.5:1025", "192.0.2.7:443"), tcp("[2001:db8::5]:1025", "[2001:db8:1::7]:443")
	ping := with(q4, func(q *Query) {
		q.Proto, q.ICMPType, q.TCPFlags, q.SrcPort, q.DstPort = packet.ProtoICMP, 8, 0, 9, 9
	})
	ping6 := with(q6, func(q *Query) {
		q.Proto, q.ICMPType, q.TCPFlags, q.SrcPort, q.DstPort = packet.ProtoICMPv6, 128, 0, 9, 9
	})
	udp := with(q4, func(q *Query) { q.Proto, q.TCPFlags = packet.ProtoUDP, 0 })
	later := with(q4, func(q *Query) { q.Fragment, q.SrcPort, q.DstPort, q.TCPFlags = true, 0, 0, 0 })
	echo := pass(func(r *Rule) { r.ICMPTypes = []ICMPType{{Family: 4, Type: 8}, {Family: 6, Type: 128}} })
	code := pass(func(r *Rule) { r.ICMPTypes = []ICMPType{{Family: 4, Type: 8, Code: 1, HasCode: true}} })
	web := pass(func(r *Rule) { r.DestinationPorts = []PortRange{{8000, 8100}, {80, 80}, {443, 443}} })
	high := pass(func(r *Rule) { r.DestinationPorts = []PortRange{{444, 65535}} })
	from := pass(func(r *Rule) { r.SourcePorts = []PortRange{{1024, 2000}} })
	for _, tt := range []criterionTest{
		{"port", web, q4, Same},
		{"port in a range", web, with(q4, func(q *Query) { q.DstPort = 8100 }), Same},
		{"port behind a range", web, with(q4, func(q *Query) { q.DstPort = 8101 }), ByDestinationPort},
		{"port of UDP", web, udp, Same},
		{"port in a wide range", high, with(q4, func(q *Query) { q.DstPort = 65535 }), Same},
		{"port before a wide range", high, q4, ByDestinationPort},
		{"empty port alias", pass(func(r *Rule) { r.DestinationPorts = []PortRange{} }), q4, ByDestinationPort},
		{"an identifier is no port", web, with(ping, func(q *Query) { q.SrcPort, q.DstPort = 443, 443 }), ByDestinationPort},
		{"a later fragment has no port", web, later, ByDestinationPort},
		{"nor one of a range that holds 0", pass(func(r *Rule) { r.DestinationPorts = []PortRange{{0, 65535}} }), later, ByDestinationPort},
		{"source port", from, q4, Same},
		{"other source port", from, with(q4, func(q *Query) { q.SrcPort = 1023 }), BySourcePort},
		{"echo", echo, ping, Same},
		{"echo in IPv6", echo, ping6, Same},
		{"unreachable", echo, with(ping, func(q *Query) { q.ICMPType = 3 }), ByICMPType},
		{"type 8 in IPv6", echo, with(ping6, func(q *Query) { q.ICMPType = 8 }), ByICMPType},
		{"types ask for ICMP", echo, q4, ByICMPType},
		{"a later fragment has no type", echo, with(ping, func(q *Query) { q.Fragment = true }), ByICMPType},
		{"other code", code, ping, ByICMPType},
		{"code", code, with(ping, func(q *Query) { q.ICMPCode = 1 }), Same},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestFlagsRolesAndTags(t *testing.T) {
	q4 := tcp("10.0.0.5:1025", "192.0.2.7:443")
	udp := with(q4, func(q *Query) { q.Proto, q.TCPFlags = packet.ProtoUDP, 0 })
	later := with(q4, func(q *Query) { q.Fragment, q.SrcPort, q.DstPort, q.TCPFlags = true, 0, 0, 0 })
	ack := with(q4, func(q *Query) { q.TCPFlags = packet.ACK })
	any := pass(func(*Rule) {})
	sloppy := pass(func(r *Rule) { r.State = Sloppy })
	acks := pass(func(r *Rule) { r.TCPFlags = Flags{packet.ACK, packet.ACK | packet.SYN} })
	outward := pass(func(r *Rule) { r.Direction = Out })
	master := pass(func(r *Rule) { r.Role = RoleMaster })
	backup := pass(func(r *Rule) { r.Role = RoleBackup })
	for _, tt := range []criterionTest{
		{"states begin with SYN", any, ack, ByTCPFlags},
		{"SYN with ACK begins nothing", any, with(q4, func(q *Query) { q.TCPFlags |= packet.ACK }), ByTCPFlags},
		{"ECN set-up begins", any, with(q4, func(q *Query) { q.TCPFlags |= packet.ECE | packet.CWR }), Same},
		{"fragment of TCP begins nothing", any, later, ByTCPFlags},
		{"flags do not ask UDP", any, udp, Same},
		{"sloppy", sloppy, ack, Same},
		{"no state", pass(func(r *Rule) { r.State = None }), ack, Same},
		{"a block has no flags", pass(func(r *Rule) { r.Action = Block }), ack, Same},
		{"flags", acks, ack, Same},
		{"other flags", acks, q4, ByTCPFlags},
		{"second half of a forwarded packet", outward, with(ack, func(q *Query) { q.Direction, q.Forwarded = Out, true }), Same},
		{"flags that are written ask it too", pass(func(r *Rule) { r.Direction, r.TCPFlags = Out, acks.TCPFlags }),
			with(q4, func(q *Query) { q.Direction, q.Forwarded = Out, true }), ByTCPFlags},
		{"master", master, with(q4, func(q *Query) { q.Master = true }), Same},
		{"not master", master, q4, ByRole},
		{"backup", backup, q4, Same},
		{"not backup", backup, with(q4, func(q *Query) { q.Master = true }), ByRole},
		{"tag that nobody sets", pass(func(r *Rule) { r.Tagged = "x" }), q4, ByTag},
		{"not that tag", pass(func(r *Rule) { r.Tagged = "!x" }), q4, Same},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestOrderOfRules(t *testing.T) {
	rule := func(id, dst string, quick bool) Rule {
		return pass(func(r *Rule) { r.ID, r.Destination, r.Quick = id, prefixes(dst), quick })
	}
	rules := []Rule{
		rule("slow-net", "192.0.2.0/24", false),
		rule("quick-host", "192.0.2.7/32", true),
		rule("slow-host", "192.0.2.8/32", false),
		rule("quick-net", "192.0.2.0/28", true),
		rule("slow-last", "192.0.2.128/25", false),
	}
	tests := []struct{ dst, want string }{
		{"192.0.2.7", "quick-host"},
		{"192.0.2.8", "quick-net"},
		{"192.0.2.100", "slow-net"},
		{"192.0.2.200", "slow-last"},
		{"192.0.3.1", ""},
	}
	for _, set := range [][]Rule{rules, padded(rules...)} {
		s := mustCompile(t, set)
		for _, tt := range tests {
			q := tcp("10.0.0.1:1", tt.dst+":80")
			got := ""
			if i, ok := s.Match(&q); ok {
				got = s.Rule(i).ID
			}
			if got != tt.want {
				t.Errorf("%d rules: to %s by %q, want %q", len(set), tt.dst, got, tt.want)
			}
		}
	}
}

func TestMatchRulesTagAndLog(t *testing.T) {
	mark := func(tag, tagged, dst string, log bool) Rule {
		return pass(func(r *Rule) {
			r.Action, r.Tag, r.Tagged, r.Log, r.Destination = Match, tag, tagged, log, prefixes(dst)
		})
	}
	plain := []Rule{
		mark("a", "", "192.0.2.0/24", false),
		mark("", "", "192.0.2.0/25", true),
		pass(func(r *Rule) { r.Destination = prefixes("192.0.2.0/26") }),
		mark("b", "", "192.0.2.0/24", false),
		pass(func(r *Rule) { r.Quick, r.Destination = false, prefixes("192.0.2.128/25") }),
	}
	deciding := append(append([]Rule{}, plain[:4]...),
		mark("c", "b", "192.0.2.0/24", false),
		pass(func(r *Rule) { r.Tagged, r.Destination = "c", prefixes("192.0.2.128/25") }))
	tests := []struct {
		name     string
		rules    []Rule
		dst, tag string
		log      bool
		decides  int
	}{
		{"quick decision hides what follows", plain, "192.0.2.1", "a", true, 2},
		{"no decision", plain, "192.0.2.100", "b", true, -1},
		{"slow decision", plain, "192.0.2.200", "b", false, 4},
		{"untouched", plain, "192.0.3.1", "", false, -1},
		{"a tag leads to a tag and that to a rule", deciding, "192.0.2.200", "c", false, 5},
	}
	for _, tt := range tests {
		for _, rules := range [][]Rule{tt.rules, padded(tt.rules...)} {
			t.Run(fmt.Sprintf("%s, %d rules", tt.name, len(rules)), func(t *testing.T) {
				s := mustCompile(t, rules)
				q := tcp("10.0.0.1:1", tt.dst+":80")
				i, ok := s.Match(&q)
				if want := tt.decides; ok != (want >= 0) || ok && i != want+len(rules)-len(tt.rules) {
					t.Errorf("Match = %d, %v, want rule %d", i, ok, want)
				}
				if s.TagName(q.Tag) != tt.tag || q.Log != tt.log {
					t.Errorf("tag %q, log %v, want %q, %v", s.TagName(q.Tag), q.Log, tt.tag, tt.log)
				}
			})
		}
	}
}

func TestOptionsPassOnlyWhereAllowed(t *testing.T) {
	plain, allowing := pass(func(*Rule) {}), pass(func(r *Rule) { r.AllowOptions = true })
	blocking := pass(func(r *Rule) { r.Action = Block })
	q, opts := Query{}, Query{Options: true}
	for i, got := range []bool{plain.Accepts(&q), !plain.Accepts(&opts), allowing.Accepts(&opts), blocking.Accepts(&opts)} {
		if !got {
			t.Errorf("case %d is wrong", i)
		}
	}
}

func TestCompileNamesTheFault(t *testing.T) {
	tests := []struct {
		change func(*Rule)
		want   string
	}{
		{func(r *Rule) { r.ID = "first" }, "identifier is also that of rule 1"},
		{func(r *Rule) { r.Action = 9 }, "unknown"},
		{func(r *Rule) { r.Family = 5 }, "family 5"},
		{func(r *Rule) { r.Role = "king" }, `role "king"`},
		{func(r *Rule) { r.SourcePorts = []PortRange{{2, 1}} }, "2-1 run backwards"},
		{func(r *Rule) { r.ICMPTypes = []ICMPType{{Type: 8}} }, "ICMP type 8 of family 0"},
		{func(r *Rule) { r.TCPFlags = Flags{Set: packet.SYN} }, "never be seen"},
		{func(r *Rule) { r.Source = AddrMatch{Prefixes: []netip.Prefix{{}}} }, "source: prefix"},
		{func(r *Rule) { r.Destination = span4("10.0.0.2", "10.0.0.1") }, "destination: 10.0.0.2-10.0.0.1"},
	}
	for _, tt := range tests {
		first := pass(func(r *Rule) { r.ID, r.Number = "first", 1 })
		_, err := Compile([]Rule{first, pass(func(r *Rule) { r.Number = 2; tt.change(r) })})
		if !errors.Is(err, ErrRule) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "rule 2 (") {
			t.Errorf("error = %v, want rule 2 and %q", err, tt.want)
		}
	}
}
