package rule

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func prefixes(texts ...string) AddrMatch {
	var m AddrMatch
	for _, t := range texts {
		m.Prefixes = append(m.Prefixes, netip.MustParsePrefix(t))
	}
	return m
}

func span4(first, last string) AddrMatch {
	return AddrMatch{Ranges: [][2]netip.Addr{{netip.MustParseAddr(first), netip.MustParseAddr(last)}}}
}

func not(m AddrMatch) AddrMatch {
	m.Negate = true
	return m
}

func compiled(t testing.TB, m AddrMatch) *AddrSet {
	t.Helper()
	s, err := m.Compile()
	if err != nil {
		t.Fatalf("Compile(%+v): %v", m, err)
	}
	return s
}

func TestAddrMatchMeansWhatIsWritten(t *testing.T) {
	clients := AddrMatch{
		Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")},
		Ranges:   span4("10.9.0.10", "10.9.0.99").Ranges,
		Except:   []AddrMatch{prefixes("192.168.1.66/32")},
	}
	tests := []struct {
		name    string
		m       AddrMatch
		in, out []string
	}{
		{"any", AnyAddr(), []string{"0.0.0.0", "255.255.255.255", "::", "ffff::1"}, nil},
		{"empty alias", AddrMatch{}, nil, []string{"0.0.0.0", "10.0.0.1", "::", "2001:db8::1"}},
		{"negated empty alias", not(AddrMatch{}), []string{"0.0.0.0", "10.0.0.1", "::", "2001:db8::1"}, nil},
		{"address", Addrs(netip.MustParseAddr("10.0.0.1")), []string{"10.0.0.1"}, []string{"10.0.0.0", "10.0.0.2", "::ffff:10.0.0.2", "::a00:1"}},
		{"list", prefixes("10.0.0.0/8", "2001:db8::/32"), []string{"10.0.0.0", "10.255.255.255", "2001:db8:ffff::1"},
			[]string{"9.255.255.255", "11.0.0.0", "2001:db9::"}},
		{"negated network has the other family", not(prefixes("10.0.0.0/8")), []string{"9.255.255.255", "11.0.0.0", "2001:db8::1"}, []string{"10.1.2.3"}},
		{"all of IPv4", prefixes("0.0.0.0/0"), []string{"0.0.0.0", "255.255.255.255"}, []string{"::", "2001:db8::1"}},
		{"all of IPv6", prefixes("::/0"), []string{"::", "2001:db8::1"}, []string{"0.0.0.0", "10.0.0.1"}},
		{"only exceptions", AddrMatch{Except: []AddrMatch{prefixes("10.0.0.0/8"), prefixes("192.168.0.0/16")}},
			[]string{"172.16.0.1", "::1"}, []string{"10.0.0.1", "192.168.255.255"}},
		{"range and exception", clients, []string{"192.168.1.65", "192.168.1.67", "10.9.0.10", "10.9.0.99"},
			[]string{"192.168.1.66", "10.9.0.9", "10.9.0.100"}},
		{"negated alias has its exceptions", not(clients), []string{"192.168.1.66", "10.9.0.9"}, []string{"192.168.1.65", "10.9.0.10"}},
		{"alias in a list", AddrMatch{Lists: []AddrMatch{clients, prefixes("172.16.0.0/12")}}, []string{"192.168.1.1", "172.31.0.1"}, []string{"192.168.1.66"}},
		{"compiled alias in a list", AddrMatch{Sets: []*AddrSet{compiled(t, clients), compiled(t, prefixes("172.16.0.0/12"))}},
			[]string{"192.168.1.1", "172.31.0.1"}, []string{"192.168.1.66"}},
		{"excepted alias with an exception", AddrMatch{Prefixes: prefixes("192.168.0.0/16").Prefixes, Except: []AddrMatch{clients}},
			[]string{"192.168.0.1", "192.168.1.66"}, []string{"192.168.1.65", "10.9.0.10"}},
		{"a list of one empty alias", AddrMatch{Lists: []AddrMatch{{}}}, nil, []string{"10.0.0.1", "::1"}},
		{"an empty alias and an exception", AddrMatch{Lists: []AddrMatch{{}}, Except: []AddrMatch{prefixes("10.0.0.0/8")}}, nil, []string{"10.0.0.1", "11.0.0.1"}},
		{"everything excepted", AddrMatch{Except: []AddrMatch{AnyAddr()}}, nil, []string{"10.0.0.1", "::1"}},
		{"host bits do not count", prefixes("10.1.2.3/8"), []string{"10.0.0.0", "10.255.255.255"}, []string{"11.0.0.0"}},
		{"mapped addresses are IPv4", prefixes("::ffff:10.0.0.0/104"), []string{"10.0.0.1", "::ffff:10.0.0.1"}, []string{"11.0.0.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := compiled(t, tt.m)
			for _, a := range tt.in {
				if !s.Contains(netip.MustParseAddr(a)) {
					t.Errorf("%s is out, want in", a)
				}
			}
			for _, a := range tt.out {
				if s.Contains(netip.MustParseAddr(a)) {
					t.Errorf("%s is in, want out", a)
				}
			}
			if all := tt.out == nil; s.All(0) != all || s.Empty() != (tt.in == nil) {
				t.Errorf("All = %v, Empty = %v", s.All(0), s.Empty())
			}
		})
	}
}

func TestAddrMatchRefusesWhatIsNoRange(t *testing.T) {
	deep := AddrMatch{}
	for range addrDepthMax + 2 {
		deep = AddrMatch{Lists: []AddrMatch{deep}}
	}
	tests := []struct {
		name string
		m    AddrMatch
		err  error
	}{
		{"zero prefix", AddrMatch{Prefixes: []netip.Prefix{{}}}, errAddrRange},
		{"zero address", AddrMatch{Ranges: [][2]netip.Addr{{}}}, errAddrRange},
		{"backwards", span4("10.0.0.2", "10.0.0.1"), errAddrRange},
		{"two families", span4("10.0.0.2", "2001:db8::1"), errAddrRange},
		{"in an exception", AddrMatch{Except: []AddrMatch{span4("10.0.0.2", "10.0.0.1")}}, errAddrRange},
		{"too deep", deep, errAddrDepth},
	}
	for _, tt := range tests {
		if _, err := tt.m.Compile(); !errors.Is(err, tt.err) {
			t.Errorf("%s: error = %v, want %v", tt.name, err, tt.err)
		}
	}
}

// TestSpansAreExact checks the arithmetic of sets against sets of single
// numbers, at both ends of the address space.
func TestSpansAreExact(t *testing.T) {
	whole := span{u128{0, ^uint64(0) - 7}, u128{1, 7}} // 16 numbers across the carry
	nth := func(i int) u128 {
		a := whole.first
		for range i {
			a = a.next()
		}
		return a
	}
	of := func(mask int) (spans []span) {
		for i := range 16 {
			if mask&(1<<i) != 0 {
				spans = append(spans, span{nth(i), nth(i)})
			}
		}
		slices.Reverse(spans)
		return normalise(spans)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		a, b := rng.IntN(1<<16), rng.IntN(1<<16)
		if got, want := complement(of(a), whole), of(^a&0xffff); !slices.Equal(got, want) {
			t.Fatalf("complement of %016b = %v, want %v", a, got, want)
		}
		if got, want := subtract(of(a), of(b), whole), of(a&^b); !slices.Equal(got, want) {
			t.Fatalf("%016b minus %016b = %v, want %v", a, b, got, want)
		}
	}
	for _, w := range []span{all4, all6} {
		if got := complement(nil, w); len(got) != 1 || got[0] != w {
			t.Errorf("complement of nothing = %v", got)
		}
		if got := complement([]span{w}, w); len(got) != 0 {
			t.Errorf("complement of everything = %v", got)
		}
	}
}

func TestSpansAreCutIntoFewestPrefixes(t *testing.T) {
	tests := []struct {
		first, last string
		want        []string
	}{
		{"0.0.0.0", "255.255.255.255", []string{"0.0.0.0/0"}},
		{"10.0.0.1", "10.0.0.6", []string{"10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"}},
		{"255.255.255.254", "255.255.255.255", []string{"255.255.255.254/31"}},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", []string{"::/0"}},
		{"2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::1", []string{"2001:db8::ffff:ffff:ffff:ffff/128", "2001:db8:0:1::/127"}},
	}
	for _, tt := range tests {
		s := compiled(t, span4(tt.first, tt.last))
		fam := 0
		if len(s.v6) > 0 {
			fam = 1
		}
		var got []string
		for _, b := range s.of(fam)[0].appendBlocks(nil, fam, 0) {
			got = append(got, prefix(b, fam).String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s-%s = %v, want %v", tt.first, tt.last, got, tt.want)
		}
	}
}
