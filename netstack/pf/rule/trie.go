package rule

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// block is a prefix of a set, which goes by its number.
type block struct {
	first u128
	bits  int
	set   uint32
}

// naming are the different sets that rules name in one feature, with the
// places of the rules.
type naming struct {
	b      *builder
	names  int
	sets   []*AddrSet
	places [][]place
	rows   rows
	known  map[string]uint32 // rows by the numbers of the sets
	key    []byte            // scratch
}

// addresses fills the feature source or destination.
func (b *builder) addresses(names, fam int, set func(*matcher) *AddrSet) addrIndex {
	n := naming{b: b, names: names, known: make(map[string]uint32)}
	numbers := make(map[*AddrSet]int)
	for rank, r := range b.order {
		if b.places[rank].group()&names == 0 {
			continue
		}
		s := set(&b.matchers[r])
		i, ok := numbers[s]
		if !ok {
			i = len(n.sets)
			numbers[s] = i
			n.sets, n.places = append(n.sets, s), append(n.places, nil)
		}
		n.places[i] = append(n.places[i], b.places[rank])
	}
	n.row(nil)
	if len(n.sets) == 0 {
		return addrIndex{rows: n.rows.list}
	}
	table := new(bart.Fast[uint32])
	nest(n.blocks(fam), fam, func(x block, sets []uint32) {
		table.Insert(prefix(x, fam), n.row(sets))
	})
	return addrIndex{table: table, rows: n.rows.list}
}

// row numbers the row of the addresses that are in the sets given.
func (n *naming) row(sets []uint32) uint32 {
	n.key = n.key[:0]
	for _, s := range sets {
		n.key = binary.BigEndian.AppendUint32(n.key, s)
	}
	if i, ok := n.known[string(n.key)]; ok {
		return i
	}
	var places []place
	for _, s := range sets {
		places = append(places, n.places[s]...)
	}
	slices.Sort(places)
	i := n.rows.add(n.b.row(n.names, places))
	n.known[string(n.key)] = i
	return i
}

// blocks cuts all sets into prefixes, and sorts these: a wider one before all
// that it holds.
func (n *naming) blocks(fam int) []block {
	var blocks []block
	for i, set := range n.sets {
		for _, s := range set.of(fam) {
			blocks = s.appendBlocks(blocks, fam, uint32(i))
		}
	}
	slices.SortFunc(blocks, func(x, y block) int {
		return cmp.Or(cmp.Compare(x.first.hi, y.first.hi), cmp.Compare(x.first.lo, y.first.lo),
			cmp.Compare(x.bits, y.bits), cmp.Compare(x.set, y.set))
	})
	return blocks
}

// nest calls emit once for each different prefix of the sorted blocks, with
// the numbers of all sets that hold it, in an order that is always the same.
func nest(blocks []block, fam int, emit func(block, []uint32)) {
	type level struct {
		last u128
		sets []uint32
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
		var sets []uint32
		if len(open) > 0 {
			sets = slices.Clone(open[len(open)-1].sets)
		}
		for _, y := range blocks[:n] {
			sets = append(sets, y.set)
		}
		emit(x, sets)
		open = append(open, level{x.first.or(low(width(fam) - x.bits)), sets})
		blocks = blocks[n:]
	}
}

func width(fam int) int { return [2]int{32, 128}[fam] }

// appendBlocks cuts s into the fewest prefixes.
func (s span) appendBlocks(blocks []block, fam int, set uint32) []block {
	first := s.first
	for {
		free := min(first.trailingZeros(), width(fam))
		for free > 0 && s.last.less(first.or(low(free))) {
			free--
		}
		blocks = append(blocks, block{first, width(fam) - free, set})
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
