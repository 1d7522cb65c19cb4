package rule

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// block is a prefix that a rule names.
type block struct {
	first u128
	bits  int
	place place
}

// addresses fills the feature source or destination.
func (b *builder) addresses(names, fam int, set func(*matcher) *AddrSet) addrIndex {
	var blocks []block
	for rank, r := range b.order {
		p := b.places[rank]
		if p.group()&names == 0 {
			continue
		}
		for _, s := range set(&b.matchers[r]).of(fam) {
			blocks = s.appendBlocks(blocks, fam, p)
		}
	}
	var rs rows
	rs.add(b.row(names, nil))
	if len(blocks) == 0 {
		return addrIndex{rows: rs.list}
	}
	slices.SortFunc(blocks, func(x, y block) int {
		switch {
		case x.first != y.first && x.first.less(y.first):
			return -1
		case x.first != y.first:
			return 1
		case x.bits != y.bits:
			return x.bits - y.bits
		case x.place < y.place:
			return -1
		}
		return 1
	})
	table := new(bart.Fast[uint32])
	b.nest(blocks, fam, func(x block, places []place) {
		table.Insert(prefix(x, fam), rs.add(b.row(names, places)))
	})
	return addrIndex{table: table, rows: rs.list}
}

// nest calls emit once for each different prefix of the sorted blocks, with
// the places of all blocks that hold it.
func (b *builder) nest(blocks []block, fam int, emit func(block, []place)) {
	type level struct {
		last   u128
		places []place
	}
	var open []level // prefixes around the current one, the widest first
	for len(blocks) > 0 {
		x, n := blocks[0], 1
		for n < len(blocks) && blocks[n].first == x.first && blocks[n].bits == x.bits {
			n++
		}
		for len(open) > 0 && open[len(open)-1].last.less(x.first) {
			open = open[:len(open)-1]
		}
		var places []place
		if len(open) > 0 {
			places = slices.Clone(open[len(open)-1].places)
		}
		for _, y := range blocks[:n] {
			places = append(places, y.place)
		}
		slices.Sort(places)
		emit(x, places)
		open = append(open, level{x.first.or(low(width(fam) - x.bits)), places})
		blocks = blocks[n:]
	}
}

func width(fam int) int { return [2]int{32, 128}[fam] }

// appendBlocks cuts s into the fewest prefixes.
func (s span) appendBlocks(blocks []block, fam int, p place) []block {
	first := s.first
	for {
		free := min(first.trailingZeros(), width(fam))
		for free > 0 && s.last.less(first.or(low(free))) {
			free--
		}
		blocks = append(blocks, block{first, width(fam) - free, p})
		end := first.or(low(free))
		if end == s.last {
			return blocks
		}
		first = end.next()
	}
}

func prefix(x block, fam int) netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], x.first.hi)
	binary.BigEndian.PutUint64(a[8:], x.first.lo)
	if fam == 1 {
		return netip.PrefixFrom(netip.AddrFrom16(a), x.bits)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(a[12:])), x.bits)
}

// low is the number whose n lowest bits are set.
func low(n int) u128 {
	if n <= 64 {
		return u128{0, 1<<n - 1}
	}
	return u128{1<<(n-64) - 1, ^uint64(0)}
}

func (a u128) or(b u128) u128 { return u128{a.hi | b.hi, a.lo | b.lo} }

func (a u128) trailingZeros() int {
	if a.lo != 0 {
		return bits.TrailingZeros64(a.lo)
	}
	return 64 + bits.TrailingZeros64(a.hi)
}
