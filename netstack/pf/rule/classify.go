package rule

import (
	"math/bits"
	"net/netip"

	"github.com/gaissmai/bart"

	"tandem/netstack/packet"
)

// How a large set is looked up.
//
// There is one classifier for each direction and family, once for the quick
// rules in their order and once for the others in reverse, so that the first
// match is always the one wanted. In it, a packet has four features: source,
// destination, service (protocol and destination port) and interface. Each
// feature is looked up once, in a prefix trie or a table, and gives the set of
// rules that it allows; the rule wanted is the first in all four sets that
// also passes the few checks that are no feature.
//
// Such sets are fast to intersect only if most are sparse, and a rule for any
// source is in every set of a source. Hence the rules are divided into eight
// groups, by whether they name a source, a destination and a port. A group
// that does not name a feature is not asked for it, and where it does, the set
// of one prefix holds little beside the rules of that prefix. A rule that
// names nearly everything, as "!" does, counts as naming nothing, and its
// candidates are checked one by one.
//
// A set is stored with a summary: one bit for each word of 64 rules that has
// any bit, and only those words. Sets that are equal are stored once.

const (
	groupCount = 8

	namesSource      = 1 << 0 // bits of a group's number
	namesDestination = 1 << 1
	namesPort        = 1 << 2
)

// Offsets of sets that are not stored.
const (
	setFull  uint32 = 0 // all rules of the group
	setEmpty uint32 = 1
	setFirst uint32 = 2 // the first real offset
)

// row is what one value of a feature allows, in each group.
type row struct {
	live uint8 // bit of each group whose set is not empty
	off  [groupCount]uint32
}

// What is left to check for a candidate.
const (
	checkFlags  uint8 = 1 << iota
	checkUnsaid       // the flags, but not of forwarded packets
	checkSource
	checkDestination
	checkPort
	checkRare
)

// member is a rule in a group. Members are in the order of their ranks.
type member struct {
	rank    uint32 // place in the order of judgement, over all groups
	check   uint8
	flagSet uint8 // of the packet, where checkFlags
	mask    uint8
}

// group is rules that name the same features.
type group struct {
	members   []member
	all       uint32 // offset of the stored set of all members
	summaries uint32 // summary words of each set
}

// addrIndex maps an address to a row.
type addrIndex struct {
	table *bart.Fast[uint32] // into rows; nil: no rule names an address
	rows  []row              // rows[0] is for addresses in no prefix
}

// classifier finds the first of its rules that matches.
type classifier struct {
	matchers []matcher
	order    []int32 // rule by rank
	groups   [groupCount]group
	live     uint8    // groups with members
	sets     []uint64 // see stored

	src, dst addrIndex

	ifaceRow []uint32 // by interface; beyond its end: row 0
	ifaces   []row

	protoRow [256]uint32 // packets that show no ports
	pages    [2][256]uint16
	pageRows [][256]uint32 // packets that do, by high and low byte of the port
	services []row
}

// first gives the index of the first rule that matches k, -1 if none does.
func (c *classifier) first(k *key) int {
	iface := &c.ifaces[0]
	if int(k.Iface) < len(c.ifaceRow) {
		iface = &c.ifaces[c.ifaceRow[k.Iface]]
	}
	service := c.service(k)
	live := iface.live & service.live
	if live == 0 {
		return -1
	}
	dst := c.dst.lookup(k.Dst, k.v6)
	if live &= dst.live; live == 0 {
		return -1
	}
	src := c.src.lookup(k.Src, k.v6)
	best := uint32(len(c.order))
	for live &= src.live; live != 0; live &= live - 1 {
		i := bits.TrailingZeros8(live)
		g := &c.groups[i]
		if g.members[0].rank >= best {
			continue
		}
		var in [4]uint32 // offsets of the sets to intersect
		n := 0
		for _, off := range [4]uint32{dst.off[i], src.off[i], service.off[i], iface.off[i]} {
			if off != setFull {
				in[n] = off
				n++
			}
		}
		if n == 0 {
			in[0], n = g.all, 1
		}
		best = c.intersect(g, in[:n], k, best)
	}
	if int(best) == len(c.order) {
		return -1
	}
	return int(c.order[best])
}

// lookup finds the row of a.
func (x *addrIndex) lookup(a packet.Addr, v6 bool) *row {
	if x.table == nil {
		return &x.rows[0]
	}
	ip := netip.AddrFrom16(a)
	if !v6 {
		ip = netip.AddrFrom4([4]byte(a[12:]))
	}
	i, _ := x.table.Lookup(ip)
	return &x.rows[i]
}

// service finds the row of k's protocol and port.
func (c *classifier) service(k *key) *row {
	if !k.ports {
		return &c.services[c.protoRow[k.Proto]]
	}
	p := 0
	if k.Proto == packet.ProtoUDP {
		p = 1
	}
	page := c.pages[p][k.DstPort>>8]
	return &c.services[c.pageRows[page][k.DstPort&0xff]]
}

// intersect gives the rank of the first member of all sets in that matches k,
// if it comes before best, else best.
//
// A stored set is, at its offset, a pair for every summary word: the word, and
// the offset of the first of the words for which it has a bit.
func (c *classifier) intersect(g *group, in []uint32, k *key, best uint32) uint32 {
	for s := range g.summaries {
		summary := ^uint64(0)
		for _, off := range in {
			summary &= c.sets[off+2*s]
		}
		for ; summary != 0; summary &= summary - 1 {
			w := bits.TrailingZeros64(summary)
			word := ^uint64(0)
			for _, off := range in {
				has, words := c.sets[off+2*s], c.sets[off+2*s+1]
				word &= c.sets[int(words)+bits.OnesCount64(has&(1<<w-1))]
			}
			for ; word != 0; word &= word - 1 {
				m := &g.members[int(s)<<12|w<<6|bits.TrailingZeros64(word)]
				if m.rank >= best {
					return best
				}
				if m.check == 0 || c.passes(m, k) {
					return m.rank
				}
			}
		}
	}
	return best
}

// passes checks what is no feature of the classifier.
func (c *classifier) passes(m *member, k *key) bool {
	if m.check&checkFlags != 0 && k.Proto == packet.ProtoTCP &&
		(m.check&checkUnsaid == 0 || !k.Forwarded) &&
		(k.Fragment || k.TCPFlags&m.mask != m.flagSet) {
		return false
	}
	if m.check&^(checkFlags|checkUnsaid) == 0 {
		return true
	}
	r := &c.matchers[c.order[m.rank]]
	switch {
	case m.check&checkSource != 0 && !r.src.has(k.v6, k.src),
		m.check&checkDestination != 0 && !r.dst.has(k.v6, k.dst),
		m.check&checkPort != 0 && !(k.ports && inPorts(r.dstPorts, k.DstPort)),
		r.srcPorts != nil && !(k.ports && inPorts(r.srcPorts, k.SrcPort)):
		return false
	}
	return m.check&checkRare == 0 || r.differsRarely(k) == Same
}
