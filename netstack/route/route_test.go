package route

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"tandem/netstack/packet"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func key(s string) packet.Addr     { return packet.AddrFrom(addr(s)) }

// pair is a firewall between wan (1), lan (2) and a second lan (3).
var pair = Config{
	Connected: []Network{
		{prefix("198.51.100.2/24"), 1},
		{prefix("192.168.1.2/24"), 2},
		{prefix("10.0.0.0/31"), 3},
		{prefix("2001:db8:1::2/64"), 2},
		{prefix("fe80::/64"), 1},
	},
	Static: []Static{
		{Prefix: prefix("10.0.0.0/8"), Blackhole: true},
		{Prefix: prefix("10.20.0.0/16"), Gateway: addr("192.168.1.254")},
		{Prefix: prefix("10.20.30.0/24"), Iface: 3},
		{Prefix: prefix("192.168.1.0/24"), Gateway: addr("198.51.100.9")}, // hidden by the connected one
		{Prefix: prefix("10.20.0.0/16"), Gateway: addr("192.168.1.253")},  // hidden by the first
		{Prefix: prefix("2001:db8:ff::/48"), Gateway: addr("2001:db8:1::fe")},
	},
	Default4: Static{Gateway: addr("198.51.100.1")},
	Default6: Static{Gateway: addr("fe80::1"), Iface: 1},
}

func build(t testing.TB, cfg Config) *Table {
	t.Helper()
	table, err := Build(cfg)
	if err != nil {
		t.Fatalf("Build: %v", err)
	}
	return table
}

func TestLookupTakesTheLongestPrefixOfTheFamily(t *testing.T) {
	table := build(t, pair)
	tests := []struct {
		dst  string
		want Next
	}{
		{"198.51.100.77", Next{Kind: Connected, Iface: 1}},
		{"192.168.1.77", Next{Kind: Connected, Iface: 2}},
		{"10.0.0.1", Next{Kind: Connected, Iface: 3}},
		{"10.0.0.2", Next{Kind: Blackhole}},
		{"10.20.1.1", Next{Via, 2, key("192.168.1.254")}},
		{"10.20.30.1", Next{Kind: Connected, Iface: 3}},
		{"8.8.8.8", Next{Via, 1, key("198.51.100.1")}},
		{"2001:db8:1::77", Next{Kind: Connected, Iface: 2}},
		{"2001:db8:ff::1", Next{Via, 2, key("2001:db8:1::fe")}},
		{"2001:db8:fe::1", Next{Via, 1, key("fe80::1")}},
		{"fe80::99", Next{Kind: Connected, Iface: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.dst, func(t *testing.T) {
			if got, ok := table.Lookup(key(tt.dst)); !ok || got != tt.want {
				t.Errorf("Lookup = %+v, %v, want %+v", got, ok, tt.want)
			}
		})
	}
}

func TestLookupWithoutARoute(t *testing.T) {
	only6 := build(t, Config{
		Connected: []Network{{prefix("fe80::/64"), 1}},
		Default6:  Static{Gateway: addr("fe80::1"), Iface: 1},
	})
	// A mapped address is IPv4 and must not fall into ::/0.
	if next, ok := only6.Lookup(key("192.0.2.1")); ok {
		t.Errorf("IPv4 address found the IPv6 default route: %+v", next)
	}
	var zero Table
	if _, ok := zero.Lookup(key("192.0.2.1")); ok || zero.Broadcast(1, key("192.0.2.1")) || len(zero.List()) != 0 {
		t.Error("the zero table has routes")
	}
}

func TestBuildNamesEveryFault(t *testing.T) {
	lan := Network{prefix("192.168.1.2/24"), 2}
	lan6 := Network{prefix("2001:db8::/64"), 2}
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"network without prefix", Config{Connected: []Network{{netip.Prefix{}, 1}}}, "no valid prefix"},
		{"network of no interface", Config{Connected: []Network{{prefix("10.0.0.0/8"), 0}}}, "connected network 10.0.0.0/8: no interface"},
		{"mapped network", Config{Connected: []Network{{prefix("::ffff:10.0.0.0/104"), 1}}}, "written as IPv4"},
		{"empty route", Config{Static: []Static{{Prefix: prefix("10.0.0.0/8")}}}, "route 10.0.0.0/8: needs a gateway"},
		{"no prefix", Config{Static: []Static{{Blackhole: true}}}, "no valid prefix"},
		{"gateway far away", Config{Connected: []Network{lan}, Static: []Static{{Prefix: prefix("10.0.0.0/8"), Gateway: addr("172.16.0.1")}}},
			"route 10.0.0.0/8: gateway 172.16.0.1 is on no connected network"},
		{"gateway on another interface", Config{Connected: []Network{lan}, Static: []Static{{Prefix: prefix("10.0.0.0/8"), Gateway: addr("192.168.1.1"), Iface: 3}}},
			"gateway 192.168.1.1 is on no network of its interface"},
		{"gateway is the broadcast address", Config{Connected: []Network{lan}, Static: []Static{{Prefix: prefix("10.0.0.0/8"), Gateway: addr("192.168.1.255")}}},
			"gateway 192.168.1.255 is a broadcast address"},
		{"gateway is a group", Config{Connected: []Network{lan}, Default4: Static{Gateway: addr("224.0.0.1")}}, "gateway 224.0.0.1 is no neighbour's address"},
		{"gateway of the other family", Config{Connected: []Network{lan, lan6}, Default4: Static{Gateway: addr("2001:db8::1")}}, "of the other family"},
		{"link-local without interface", Config{Default6: Static{Gateway: addr("fe80::1")}}, "route ::/0: gateway fe80::1 is link-local and needs an interface"},
		{"blackhole with a gateway", Config{Connected: []Network{lan}, Static: []Static{{Prefix: prefix("10.0.0.0/8"), Gateway: addr("192.168.1.1"), Blackhole: true}}},
			"takes neither"},
		{"default for a part", Config{Default4: Static{Prefix: prefix("10.0.0.0/8"), Blackhole: true}}, "default route 10.0.0.0/8: is not for 0.0.0.0/0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Build(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Build error = %v, want one with %q", err, tt.want)
			}
		})
	}
	_, err := Build(Config{Static: []Static{{Prefix: prefix("10.0.0.0/8")}, {Prefix: prefix("10.1.0.0/16")}}})
	if err == nil || !strings.Contains(err.Error(), "10.0.0.0/8") || !strings.Contains(err.Error(), "10.1.0.0/16") {
		t.Errorf("Build error = %v, want both faults", err)
	}
}

func TestBroadcastKnowsBothFormsOfEachNetwork(t *testing.T) {
	table := build(t, pair)
	tests := []struct {
		iface uint16
		addr  string
		want  bool
	}{
		{1, "198.51.100.255", true},
		{1, "198.51.100.0", true},
		{2, "198.51.100.255", false},
		{1, "198.51.100.254", false},
		{3, "10.0.0.1", false}, // of a /31
		{3, "10.0.0.0", false},
		{9, "255.255.255.255", true},
		{2, "2001:db8:1::", false},
		{2, "2001:db8:1:0:ffff:ffff:ffff:ffff", false},
	}
	for _, tt := range tests {
		if got := table.Broadcast(tt.iface, key(tt.addr)); got != tt.want {
			t.Errorf("Broadcast(%d, %s) = %v, want %v", tt.iface, tt.addr, got, tt.want)
		}
	}
}

func TestListIsSortedAndLeavesOutHiddenRoutes(t *testing.T) {
	table := build(t, pair)
	var got []string
	for _, r := range table.List() {
		got = append(got, fmt.Sprintf("%v %v %d %v %v", r.Prefix, r.Kind, r.Iface, r.Gateway, r.Static))
	}
	want := []string{
		"0.0.0.0/0 via 1 198.51.100.1 true",
		"10.0.0.0/8 blackhole 0 invalid IP true",
		"10.0.0.0/31 connected 3 invalid IP false",
		"10.20.0.0/16 via 2 192.168.1.254 true",
		"10.20.30.0/24 connected 3 invalid IP true",
		"192.168.1.0/24 connected 2 invalid IP false",
		"198.51.100.0/24 connected 1 invalid IP false",
		"::/0 via 1 fe80::1 true",
		"2001:db8:1::/64 connected 2 invalid IP false",
		"2001:db8:ff::/48 via 2 2001:db8:1::fe true",
		"fe80::/64 connected 1 invalid IP false",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("List =\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	table.List()[0].Iface = 99
	if table.List()[0].Iface == 99 {
		t.Error("the list is not the caller's own")
	}
}

// TestLookupAgreesWithALinearSearch compares the trie with the definition.
func TestLookupAgreesWithALinearSearch(t *testing.T) {
	seed := uint64(1)
	next := func() uint64 { // xorshift
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		return seed
	}
	cfg := many(next, 500)
	table := build(t, cfg)
	for range 5000 {
		a := netip.AddrFrom4([4]byte{10, byte(next() % 4), byte(next()), byte(next())})
		want, bits := uint16(0), -1
		for _, s := range cfg.Static {
			if s.Prefix.Contains(a) && s.Prefix.Bits() > bits {
				want, bits = s.Iface, s.Prefix.Bits()
			}
		}
		got, ok := table.Lookup(packet.AddrFrom(a))
		if ok != (bits >= 0) || got.Iface != want {
			t.Fatalf("Lookup(%v) = %+v, %v, want interface %d", a, got, ok, want)
		}
	}
}

// many returns n random routes inside 10.0.0.0/14, each by its own interface.
func many(next func() uint64, n int) (cfg Config) {
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(next() % 4), byte(next()), byte(next())})
		p := netip.PrefixFrom(a, 14+int(next()%19)).Masked()
		cfg.Static = append(cfg.Static, Static{Prefix: p, Iface: uint16(i + 1)})
	}
	return cfg
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := build(t, pair)
	dst4, dst6 := key("10.20.1.1"), key("2001:db8:ff::1")
	if n := testing.AllocsPerRun(100, func() {
		table.Lookup(dst4)
		table.Lookup(dst6)
		table.Broadcast(1, dst4)
	}); n != 0 {
		t.Errorf("%v allocations per lookup, want none", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	seed := uint64(7)
	next := func() uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return seed >> 16 }
	for _, bb := range []struct {
		name string
		cfg  Config
	}{{"pair", pair}, {"10000 routes", many(next, 10000)}} {
		table := build(b, bb.cfg)
		dsts := make([]packet.Addr, 1024)
		for i := range dsts {
			dsts[i] = packet.AddrFrom(netip.AddrFrom4([4]byte{10, byte(next() % 4), byte(next()), byte(next())}))
		}
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				table.Lookup(dsts[i%len(dsts)])
			}
		})
	}
}

func BenchmarkBroadcast(b *testing.B) {
	table, dst := build(b, pair), key("198.51.100.255")
	for range b.N {
		table.Broadcast(1, dst)
	}
}
