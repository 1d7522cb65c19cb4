package config

import (
	"encoding"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want time.Duration // negative: refused
	}{
		{"1s", time.Second}, {"1m30s", 90 * time.Second}, {"2d", 48 * time.Hour}, {"1d12h", 36 * time.Hour}, {"0s", 0},
		{"250ms", 250 * time.Millisecond}, {"", -1}, {"10", -1}, {"d", -1}, {"-1s", -1}, {"1d-1h", -1}, {"1h1d", -1}, {"99999d", -1},
	} {
		var d Duration
		err := d.UnmarshalText([]byte(tt.in))
		if err != nil && tt.want >= 0 || err == nil && d.Duration != tt.want {
			t.Errorf("%q is %v, %v, want %v", tt.in, d.Duration, err, tt.want)
		}
	}
}

func TestValuesThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		into encoding.TextUnmarshaler
		in   string
		says string
	}{
		{new(Addr), "fe80::1%eth0", "zone"},
		{new(Addr), "::ffff:10.0.0.1", "write it as 10.0.0.1"},
		{new(Addr), "localhost", "no IP address"},
		{new(Prefix), "192.168.1.1", "192.168.1.1/24"},
		{new(Prefix), "2001:db8::1", "2001:db8::1/64"},
		{new(Prefix), "10.0.0.0/033", "prefix length"},
		{new(Network), "10.0.0.1/8", "write 10.0.0.0/8"},
		{new(MAC), "02:00:00:00:00", "six bytes"},
		{new(MAC), "2:0:0:0:0:1", "six bytes"},
		{new(MAC), "00:00:00:00:00:00", "zero address"},
		{new(TCPFlags), "S", "S/SA"},
		{new(TCPFlags), "X/SA", "S/SA"},
		{new(TCPFlags), "S/", "S/SA"},
		{new(Target), "!10.0.0.1", "negated"},
		{new(Target), "10.0.0.0/24", "pool"},
		{new(Target), "self", "no single address"},
		{new(AssertFrom), "lan", "INTERFACE:ADDRESS"},
		{new(AssertTo), "tcp", "PROTOCOL ADDRESS"},
		{new(AssertTo), "tcp 10.0.0.1:0", "1 to 65535"},
		{new(AssertTo), "icmp6 10.0.0.1", "not one protocol"},
	} {
		err := tt.into.UnmarshalText([]byte(tt.in))
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%T of %q: %v, want a fault with %q", tt.into, tt.in, err, tt.says)
		}
	}
}

func TestValuesPrintAsTheyAreWritten(t *testing.T) {
	for _, tt := range []struct {
		into encoding.TextUnmarshaler
		in   string
	}{
		{new(AddressTerm), "any"}, {new(AddressTerm), "!self"}, {new(AddressTerm), "lan:net"}, {new(AddressTerm), "!wan:address"},
		{new(AddressTerm), "10.0.0.0/8"}, {new(AddressTerm), "10.0.0.1"}, {new(AddressTerm), "10.0.0.1-10.0.0.9"},
		{new(AddressTerm), "2001:db8::1"}, {new(AddressTerm), "web-servers"}, {new(Target), "none"}, {new(Target), "wan:address"},
		{new(TCPFlags), "S/SA"}, {new(TCPFlags), "/FSRPAUEW"}, {new(TCPFlags), "any"}, {new(MAC), "02:00:00:12:34:ab"},
		{new(AssertFrom), "self"}, {new(AssertFrom), "lan:2001:db8::1"}, {new(AssertTo), "tcp 10.0.0.1:443"},
		{new(AssertTo), "udp [2001:db8::1]:53"}, {new(AssertTo), "icmp 10.0.0.1"}, {new(AssertTo), "pfsync 172.16.1.2"},
	} {
		if err := tt.into.UnmarshalText([]byte(tt.in)); err != nil {
			t.Errorf("%T of %q: %v", tt.into, tt.in, err)
			continue
		}
		if got := fmt.Sprint(tt.into); got != tt.in {
			t.Errorf("%T of %q prints %q", tt.into, tt.in, got)
		}
	}
}

func TestPorts(t *testing.T) {
	for _, tt := range []struct {
		in   any
		want string // empty: refused
	}{
		{int64(443), "443"}, {"443", "443"}, {"https", "443"}, {"8000-8100", "8000-8100"}, {" 80 - 90 ", "80-90"},
		{"netbios-ns", "137"}, {"web-ports", "web-ports"}, {"ftp-data", "20"}, {int64(0), ""}, {int64(65536), ""},
		{"0", ""}, {"90-80", ""}, {"80-", "80-"}, {"1.5", ""}, {true, ""}, {"", ""}, {"a b", ""},
	} {
		var p PortTerm
		err := p.UnmarshalTOML(tt.in)
		if (err == nil) != (tt.want != "") || err == nil && p.String() != tt.want {
			t.Errorf("%v is %v, %v, want %q", tt.in, p, err, tt.want)
		}
	}
	if n := len(services); n < 100 {
		t.Errorf("%d services, want about a hundred", n)
	}
}

// resolving is a document with everything that a word can stand for.
const resolving = minimal + `
[interfaces.wan]
link = { driver = "tap", device = "wan" }
addresses = ["198.51.100.2/24", "2001:db8::2/64", "fe80::2/64"]
gateway = "198.51.100.1"
[interface_groups]
both = ["lan", "wan"]
[high_availability]
host_id = 1
[[virtual_ips]]
type = "carp"
interface = "wan"
address = "198.51.100.200/24"
vhid = 200
password = "lab-only"
[[virtual_ips]]
type = "ip_alias"
interface = "lan"
address = "10.7.0.1/16"
[aliases]
nobody = []
but = ["!192.168.1.66"]
some = ["lan:net", "!192.168.1.66"]
more = ["some", "10.9.0.1-10.9.0.5", "nobody"]
one = ["198.51.100.9"]
same = ["one"]
ports = [80, "81-90", 443]
all_ports = ["ports", 91, "ssh"]
`

func TestWordsResolve(t *testing.T) {
	doc, problems := Load(Config{Name: "x.toml", Text: []byte(resolving)})
	if HasErrors(problems) {
		t.Fatal(problems)
	}
	tests := []struct {
		terms, addr string
		want        bool
	}{
		{"", "10.0.0.1", true}, {"any", "::1", true}, {"nobody", "10.0.0.1", false}, {"!nobody", "10.0.0.1", true},
		{"lan:net", "192.168.1.9", true}, {"lan:net", "10.7.3.3", true}, {"lan:net", "10.8.0.1", false},
		{"wan:net", "2001:db8::9", true}, {"wan:net", "fe80::9", false}, {"both:net", "198.51.100.9", true},
		{"wan:address", "198.51.100.2", true}, {"wan:address", "198.51.100.200", false}, {"self", "198.51.100.200", true},
		{"self", "10.7.0.1", true}, {"some", "192.168.1.5", true}, {"some", "192.168.1.66", false},
		{"!some", "192.168.1.66", true}, {"more", "192.168.1.66", false}, {"more", "10.9.0.5", true}, {"more", "10.9.0.6", false},
		{"but", "10.0.0.1", true}, {"but", "192.168.1.66", false}, {"more !10.9.0.3", "10.9.0.3", false},
		{"10.0.0.0/8 !10.1.0.0/16", "10.1.2.3", false}, {"10.0.0.0/8 !10.1.0.0/16", "10.2.2.3", true}, {"10.0.0.1-10.0.0.9", "::10", false},
	}
	for _, tt := range tests {
		var terms []AddressTerm
		for word := range strings.FieldsSeq(tt.terms) {
			var term AddressTerm
			if err := term.UnmarshalText([]byte(word)); err != nil {
				t.Fatal(err)
			}
			terms = append(terms, term)
		}
		if got := doc.Matches(terms, netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("[%s] holds %s: %v, want %v", tt.terms, tt.addr, got, tt.want)
		}
	}
	if got := doc.PortRanges([]PortTerm{{Name: "all_ports"}}); !slices.Equal(got, []PortRange{{22, 22}, {80, 91}, {443, 443}}) {
		t.Errorf("all_ports is %v", got)
	}
	for name, want := range map[string]string{"one": "198.51.100.9", "same": "198.51.100.9", "some": "", "nobody": ""} {
		got, ok := doc.SingleAddress(Target{Term: AddressTerm{Kind: TermAlias, Name: name}})
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("alias %s is the address %v, want %q", name, got, want)
		}
	}
	if g, ok := doc.Gateway("wan_gw"); !ok || g.Address.String() != "198.51.100.1" || g.Key != "interfaces.wan.gateway" {
		t.Errorf("wan_gw is %+v", g)
	}
}

// TestAliasesThatGrowAreStopped: without a bound these would take the rest of
// the day.
func TestAliasesThatGrowAreStopped(t *testing.T) {
	text := minimal + "[aliases]\na0 = [\"10.0.0.1\"]\n"
	for i := 1; i < 60; i++ {
		text += fmt.Sprintf("a%d = [\"a%d\", \"a%d\"]\n", i, i-1, i-1)
	}
	_, problems := Load(Config{Name: "x.toml", Text: []byte(text)})
	if len(problems) == 0 || !strings.Contains(problems[0].Text, "make it smaller") {
		t.Errorf("problems: %v", problems)
	}
}

func TestSuggestions(t *testing.T) {
	known := []string{"protocol", "source", "source_port", "interface"}
	for got, want := range map[string]string{
		"protocoll": "protocol", "sorce": "source", "soruce": "source", "interfaces": "interface", "prot": "protocol",
		"zzz": "", "x": "",
	} {
		hint := didYouMean(got, known)
		if want == "" && hint != "" || want != "" && !strings.Contains(hint, fmt.Sprintf("%q", want)) {
			t.Errorf("%q gets %q, want %q", got, hint, want)
		}
	}
}
