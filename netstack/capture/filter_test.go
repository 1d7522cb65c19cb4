package capture

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"tandem/netstack/packet"
)

var (
	ours   = packet.MAC{2, 0, 0, 0, 0, 1}
	theirs = packet.MAC{2, 0, 0, 0, 0, 2}
	all    = packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

	a4, b4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	a6, b6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::7")
)

// tcpHeader is a header from port 40000 to 80 with flags, then payload.
func tcpHeader(flags byte, payload string) []byte {
	return append([]byte{0x9c, 0x40, 0, 80, 0, 0, 0, 5, 0, 0, 0, 9, 5 << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0}, payload...)
}

func udp(src, dst netip.Addr, srcPort, dstPort uint16, payload string) []byte {
	family := uint8(6)
	if src.Is4() {
		family = 4
	}
	return packet.AppendUDP(nil, ours, theirs, &packet.Tuple{Src: packet.AddrFrom(src), Dst: packet.AddrFrom(dst),
		SrcPort: srcPort, DstPort: dstPort, Proto: packet.ProtoUDP, Family: family}, 64, []byte(payload))
}

func ip(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	return packet.AppendIP(nil, ours, theirs, src, dst, proto, 64, 0, true, 7, payload)
}

// tag puts a VLAN tag into a frame.
func tag(frame []byte, id byte) []byte {
	return append(append(append([]byte(nil), frame[:12]...), 0x81, 0, 0, id), frame[12:]...)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

var (
	syn4   = ip(a4, b4, packet.ProtoTCP, tcpHeader(packet.SYN, "data"))
	syn6   = ip(a6, b6, packet.ProtoTCP, tcpHeader(packet.SYN|packet.ACK, ""))
	dns4   = udp(a4, b4, 53, 1234, "answer")
	arpWho = packet.AppendARP(nil, packet.ARPRequest, ours, all, ours, a4, packet.MAC{}, b4)
	carp4  = unhex("01005e00001200005e000101080045e0003800004000ff70d860c0000202e0000012" +
		"210100070001cdcf0123456789abcdef32df034f9894df0f92f517af6e17702400cc3b82")
)

// expressions and which of the frames of the test they match.
var expressions = []struct{ expr, want string }{
	{"", "syn4 syn6 dns4 arp carp vlan7 qinq ping broken tiny"},
	{"tcp", "syn4 syn6 vlan7"},
	{"udp", "dns4 qinq"},
	{"ip6", "syn6"},
	{"ip", "syn4 dns4 carp vlan7 qinq ping broken"},
	{"arp", "arp"},
	{"icmp", "ping"},
	{"icmp6 or igmp or gre or esp or ah or sctp or pfsync", ""},
	{"carp", "carp"},
	{"vrrp", "carp"},
	{"proto 112", "carp"},
	{"ip proto carp", "carp"},
	{"ip6 proto tcp", "syn6"},
	{"proto 6", "syn4 syn6 vlan7"},
	{"ip proto 6", "syn4 vlan7"},
	{"host 192.0.2.1", "syn4 dns4 arp vlan7 qinq ping"},
	{"192.0.2.1", "syn4 dns4 arp vlan7 qinq ping"},
	{"src 192.0.2.1 and udp", "dns4 qinq"},
	{"dst host 192.0.2.1", ""},
	{"arp host 198.51.100.7", "arp"},
	{"ip host 198.51.100.7 and not tcp", "dns4 qinq ping"},
	{"host 2001:db8::1", "syn6"},
	{"net 2001:db8::/32", "syn6"},
	{"dst net 224.0.0.0/4", "carp"},
	{"port 80", "syn4 syn6 vlan7"},
	{"src port 80", ""},
	{"tcp dst port 80", "syn4 syn6 vlan7"},
	{"udp port 80 or 53", "dns4 qinq"},
	{"portrange 50-60", "dns4 qinq"},
	{"dst portrange 1200-1300", "dns4 qinq"},
	{"vlan", "vlan7 qinq"},
	{"vlan 7", "vlan7 qinq"},
	{"vlan 9 and udp", "qinq"},
	{"not vlan and (tcp or udp)", "syn4 syn6 dns4"},
	{"!vlan&&(tcp||udp)", "syn4 syn6 dns4"},
	{"tcp or udp and vlan", "vlan7 qinq"}, // from left to right
	{"tcp or (udp and vlan)", "syn4 syn6 vlan7 qinq"},
	{"not tcp and not udp", "arp carp ping broken tiny"},
	{"not not arp", "arp"},
	{"ether host 02:00:00:00:00:01 and arp", "arp"},
	{"ether src 0:0:5e:0:1:1", "carp"},
	{"ether dst 02:00:00:00:00:01", ""},
	{"ether broadcast", "arp"},
	{"broadcast or carp", "arp carp"},
	{"multicast", "arp carp"},
	{"ether multicast and not ether broadcast", "carp"},
	{"ether proto 0x86dd", "syn6"},
	{"ether proto arp", "arp"},
	{"on wan and arp", "arp"},
	{"on lan", ""},
	{"in and arp", "arp"},
	{"out", ""},
	{"inbound and not outbound and arp", "arp"},
	{"less 20", "tiny"},
	{"greater 74", "syn6"},
}

func TestExpressions(t *testing.T) {
	frames := map[string][]byte{
		"syn4": syn4, "syn6": syn6, "dns4": dns4, "arp": arpWho, "carp": carp4,
		"vlan7": tag(syn4, 7), "qinq": tag(tag(dns4, 7), 9),
		"ping": ip(a4, b4, packet.ProtoICMP, []byte{8, 0, 0xf7, 0xfe, 0, 1, 0, 0}), "broken": syn4[:30], "tiny": {1, 2},
	}
	order := []string{"syn4", "syn6", "dns4", "arp", "carp", "vlan7", "qinq", "ping", "broken", "tiny"}
	for _, tt := range expressions {
		t.Run(tt.expr, func(t *testing.T) {
			f, err := Compile(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, name := range order {
				if f.Match("wan", In, frames[name]) {
					got = append(got, name)
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("matches %q, want %q", s, tt.want)
			}
		})
	}
}

func TestBadExpressionsNameTheWord(t *testing.T) {
	tests := []struct{ expr, want string }{
		{"tpc port 80", `at "tpc" (word 1): an address is expected`},
		{"port http", `at "http" (word 2): a port, 0 to 65535 is expected`},
		{"port 65536", `at "65536" (word 2)`},
		{"port 80-90", `at "80-90" (word 2): a port`},
		{"portrange 80", `at "80" (word 2): two ports`},
		{"portrange 90-80", `at "90-80" (word 2)`},
		{"host", `at the end: an address`},
		{"host example.org", `names are not looked up`},
		{"host fe80::1%eth0", `at "fe80::1%eth0"`},
		{"net 10", `a network is expected`},
		{"tcp udp", `at "udp" (word 2): and, or or the end is expected`},
		{"(tcp", `at the end: a closing parenthesis`},
		{"tcp)", `at ")" (word 2)`},
		{"tcp and", `at the end`},
		{"and tcp", `at "and" (word 1)`},
		{"not", `at the end`},
		{"ether host 1:2:3", `an Ethernet address`},
		{"ether", `an Ethernet address`},
		{"vlan 4096", `0 to 4095`},
		{"proto 256", `0 to 255`},
		{"tcp proto 6", `proto goes alone`},
		{"less x", `a number`},
		{"on", `the name of an interface`},
		{"on (", `the name of an interface`},
		{strings.Repeat("(", 60) + "tcp" + strings.Repeat(")", 60), `nested deeper`},
		{strings.Repeat("not ", 60) + "tcp", `nested deeper`},
		{strings.Repeat("tcp or ", 1000) + "tcp", `longer than`},
	}
	for _, tt := range tests {
		_, err := Compile(tt.expr)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Compile(%.40q) = %v, want %q", tt.expr, err, tt.want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"tcp port 80 or 443", "(host 192.0.2.1 and not net 2001:db8::/32) || vlan 7",
		"ether src 2:0:0:0:0:1 && on wan", "ip proto 112 or proto carp and less 100", "!arp"} {
		f.Add(s, []byte(syn4))
	}
	f.Fuzz(func(t *testing.T, expr string, frame []byte) {
		filter, err := Compile(expr)
		if err != nil {
			return
		}
		got := filter.Match("wan", In, frame)
		if strings.TrimSpace(expr) == "" {
			return
		}
		negated, err := Compile("not (" + expr + ")")
		if err != nil {
			return // too long or too deep by now
		}
		if negated.Match("wan", In, frame) == got {
			t.Errorf("%q and its negation agree", expr)
		}
	})
}
