package rule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"tandem/netstack/packet"
)

// AddrMatch says which addresses a rule means: any of its positive members
// (Prefixes, Ranges, Lists, Sets) and none of Except; with Except alone, all but
// those. The zero value, an empty alias, matches nothing, and with Negate
// everything. A member that stands for no address at the moment (a name not
// resolved yet) is an empty list in Lists, not left out.
//
// Families do not mix: 0.0.0.0/0 holds no IPv6 address. But a negation has
// every address of the other family; a rule that means one says so in Family.
type AddrMatch struct {
	Any      bool // a positive member that holds everything
	Prefixes []netip.Prefix
	Ranges   [][2]netip.Addr // first and last, both included
	Lists    []AddrMatch     // aliases, and what else is made of several
	Sets     []*AddrSet      // the same, compiled: a large alias of many rules is so kept once
	Except   []AddrMatch     // the members written with "!"
	Negate   bool            // the whole of it, after all else
}

// AnyAddr matches every address.
func AnyAddr() AddrMatch { return AddrMatch{Any: true} }

// Addrs matches exactly the addresses given.
func Addrs(addrs ...netip.Addr) AddrMatch {
	m := AddrMatch{Prefixes: make([]netip.Prefix, 0, len(addrs))}
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		m.Prefixes = append(m.Prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return m
}

// addrDepthMax bounds how deep lists may lie in lists.
const addrDepthMax = 64

var (
	errAddrDepth = errors.New("address lists are nested too deep")
	errAddrRange = errors.New("is no range of addresses")
)

// AddrSet is a compiled AddrMatch: sorted ranges of each family that neither
// overlap nor touch, so that equal sets have equal ranges.
type AddrSet struct {
	v4, v6     []span
	all4, all6 bool
}

// Compile works out which addresses m holds. It errs on members that are no
// valid prefix or range.
func (m AddrMatch) Compile() (*AddrSet, error) {
	if set, ok := m.compiled(); ok {
		return set, nil
	}
	v4, v6, err := m.spans(0)
	if err != nil {
		return nil, err
	}
	return &AddrSet{
		v4: v4, v6: v6,
		all4: len(v4) == 1 && v4[0] == all4,
		all6: len(v6) == 1 && v6[0] == all6,
	}, nil
}

// compiled is the set that m consists of, if it is nothing else.
func (m *AddrMatch) compiled() (*AddrSet, bool) {
	if len(m.Sets) != 1 || m.Any || m.Negate || len(m.Prefixes)+len(m.Ranges)+len(m.Lists)+len(m.Except) > 0 {
		return nil, false
	}
	return m.Sets[0], true
}

// sets keeps equal sets of a compilation once.
type sets struct {
	byName map[string]*AddrSet
	name   []byte // scratch
}

func (s *sets) compile(m *AddrMatch) (*AddrSet, error) {
	set, err := m.Compile()
	if err != nil {
		return nil, err
	}
	s.name = binary.BigEndian.AppendUint32(s.name[:0], uint32(len(set.v4)))
	for _, spans := range [][]span{set.v4, set.v6} {
		for _, r := range spans {
			for _, n := range [...]uint64{r.first.hi, r.first.lo, r.last.hi, r.last.lo} {
				s.name = binary.BigEndian.AppendUint64(s.name, n)
			}
		}
	}
	if known, ok := s.byName[string(s.name)]; ok {
		return known, nil
	}
	s.byName[string(s.name)] = set
	return set, nil
}

// Contains says whether a is in the set.
func (s *AddrSet) Contains(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() {
		return false
	}
	return s.has(a.Is6(), number(packet.AddrFrom(a), a.Is6()))
}

// Empty says whether no address at all is in the set.
func (s *AddrSet) Empty() bool { return len(s.v4)+len(s.v6) == 0 }

// All says whether every address of the family (4 or 6; 0: of both) is in it.
func (s *AddrSet) All(family uint8) bool {
	return (family == 6 || s.all4) && (family == 4 || s.all6)
}

// has looks a up in the ranges of its family.
func (s *AddrSet) has(v6 bool, a u128) bool {
	spans := s.v4
	if v6 {
		spans = s.v6
	}
	// The first span that ends at or behind a is the only one that can hold it.
	lo, hi := 0, len(spans)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if spans[mid].last.less(a) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(spans) && !a.less(spans[lo].first)
}

// spans works m out, depth lists below the rule.
func (m *AddrMatch) spans(depth int) (v4, v6 []span, err error) {
	if depth > addrDepthMax {
		return nil, nil, errAddrDepth
	}
	if v4, v6, err = m.positive(depth); err != nil {
		return nil, nil, err
	}
	if len(m.Except) > 0 {
		x4, x6, err := unite(m.Except, depth)
		if err != nil {
			return nil, nil, err
		}
		v4, v6 = subtract(v4, x4, all4), subtract(v6, x6, all6)
	}
	if m.Negate {
		v4, v6 = complement(v4, all4), complement(v6, all6)
	}
	return v4, v6, nil
}

// positive works out the members without "!".
func (m *AddrMatch) positive(depth int) (v4, v6 []span, err error) {
	members := len(m.Prefixes) + len(m.Ranges) + len(m.Lists) + len(m.Sets)
	if m.Any || members == 0 && len(m.Except) > 0 {
		return []span{all4}, []span{all6}, nil
	}
	if v4, v6, err = unite(m.Lists, depth); err != nil {
		return nil, nil, err
	}
	add := func(first, last netip.Addr) error {
		first, last = first.WithZone(""), last.WithZone("")
		if a, b := first.Unmap(), last.Unmap(); a.Is4() && b.Is4() {
			first, last = a, b
		}
		if !first.IsValid() || first.BitLen() != last.BitLen() || last.Less(first) {
			return fmt.Errorf("%v-%v %w", first, last, errAddrRange)
		}
		s := span{
			number(packet.AddrFrom(first), first.Is6()),
			number(packet.AddrFrom(last), first.Is6()),
		}
		if first.Is6() {
			v6 = append(v6, s)
		} else {
			v4 = append(v4, s)
		}
		return nil
	}
	for _, p := range m.Prefixes {
		if err := add(p.Masked().Addr(), lastOf(p)); err != nil {
			return nil, nil, fmt.Errorf("prefix %v: %w", p, err)
		}
	}
	for _, set := range m.Sets {
		v4, v6 = append(v4, set.v4...), append(v6, set.v6...)
	}
	for _, r := range m.Ranges {
		if err := add(r[0], r[1]); err != nil {
			return nil, nil, err
		}
	}
	return normalise(v4), normalise(v6), nil
}

// unite is the union of lists.
func unite(lists []AddrMatch, depth int) (v4, v6 []span, err error) {
	for i := range lists {
		l4, l6, err := lists[i].spans(depth + 1)
		if err != nil {
			return nil, nil, err
		}
		v4, v6 = append(v4, l4...), append(v6, l6...)
	}
	return normalise(v4), normalise(v6), nil
}

// lastOf is the last address of p; invalid if p is.
func lastOf(p netip.Prefix) netip.Addr {
	if !p.IsValid() {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As16()
	for i := 128 - p.Addr().BitLen() + p.Bits(); i < 128; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	if p.Addr().Is4() {
		return netip.AddrFrom16(b).Unmap()
	}
	return netip.AddrFrom16(b)
}

// u128 is an address as a number; an IPv4 address fills the low 32 bits.
type u128 struct{ hi, lo uint64 }

// span is a range of addresses, both ends included.
type span struct{ first, last u128 }

var (
	all4 = span{last: u128{0, 1<<32 - 1}}
	all6 = span{last: u128{^uint64(0), ^uint64(0)}}
)

// number converts a, which is IPv6 if v6 says so, whatever its bytes look like.
func number(a packet.Addr, v6 bool) u128 {
	if v6 {
		return u128{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
	}
	return u128{0, uint64(binary.BigEndian.Uint32(a[12:]))}
}

func (a u128) less(b u128) bool {
	return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo
}

func (a u128) next() u128 {
	a.lo++
	if a.lo == 0 {
		a.hi++
	}
	return a
}

func (a u128) prev() u128 {
	if a.lo == 0 {
		a.hi--
	}
	a.lo--
	return a
}

// normalise sorts spans and joins those that overlap or touch, in place.
func normalise(spans []span) []span {
	if len(spans) < 2 {
		return spans
	}
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.first.less(b.first):
			return -1
		case b.first.less(a.first):
			return 1
		}
		return 0
	})
	out := spans[:1]
	for _, s := range spans[1:] {
		end := &out[len(out)-1].last
		if *end == all6.last || !end.next().less(s.first) {
			if end.less(s.last) {
				*end = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// complement is what of whole is in none of spans, which are normalised.
func complement(spans []span, whole span) []span {
	var out []span
	first := whole.first
	for _, s := range spans {
		if first.less(s.first) {
			out = append(out, span{first, s.first.prev()})
		}
		if s.last == whole.last {
			return out
		}
		first = s.last.next()
	}
	return append(out, span{first, whole.last})
}

// subtract is what of a is not in b; both are normalised.
func subtract(a, b []span, whole span) []span {
	// a minus b is the complement of (the complement of a, or b).
	return complement(normalise(append(complement(a, whole), b...)), whole)
}
