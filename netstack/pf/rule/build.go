package rule

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"tandem/netstack/packet"
)

// place is a member: the group in the upper three bits, the position in the
// group in the others. Places sort by group first.
type place uint32

const placeBits = 29

func (p place) group() int    { return int(p >> placeBits) }
func (p place) position() int { return int(p & (1<<placeBits - 1)) }

// builder makes one classifier.
type builder struct {
	*classifier
	places []place           // by rank
	stored map[string]uint32 // offset of each set that is stored
	bitmap []uint64          // scratch
	name   []byte            // scratch
}

// newClassifier compiles the rules of order, in which the first match wins,
// for the packets of one direction and family (0: IPv4, 1: IPv6); nil if no
// rule can match any.
func newClassifier(matchers []matcher, order []int32, dir Direction, fam int) *classifier {
	c := &classifier{matchers: matchers, sets: make([]uint64, setFirst)}
	for _, r := range order {
		if matchers[r].mayMatch(dir, fam) {
			c.order = append(c.order, r)
		}
	}
	if len(c.order) == 0 {
		return nil
	}
	b := &builder{classifier: c, stored: make(map[string]uint32)}
	b.divide(fam)
	b.interfaces()
	b.protocols(fam)
	c.src = b.addresses(namesSource, fam, func(m *matcher) *AddrSet { return m.src })
	c.dst = b.addresses(namesDestination, fam, func(m *matcher) *AddrSet { return m.dst })
	return c
}

// mayMatch says whether any packet of this direction and family can match.
func (m *matcher) mayMatch(dir Direction, fam int) bool {
	family := [2]uint8{4, 6}[fam]
	return m.dirs&(1<<dir) != 0 && (m.family == 0 || m.family == family) &&
		len(m.src.of(fam)) > 0 && len(m.dst.of(fam)) > 0 &&
		(m.dstPorts == nil || len(m.dstPorts) > 0)
}

func (s *AddrSet) of(fam int) []span {
	if fam == 1 {
		return s.v6
	}
	return s.v4
}

// divide puts each rule into its group.
func (b *builder) divide(fam int) {
	for rank, r := range b.order {
		m := &b.matchers[r]
		mem := member{rank: uint32(rank), flagSet: m.flagSet, mask: m.flagMask}
		names := 0
		switch {
		case !wideAddrs(m.src.of(fam), fam):
			names |= namesSource
		case !m.anySrc[fam]:
			mem.check |= checkSource
		}
		switch {
		case !wideAddrs(m.dst.of(fam), fam):
			names |= namesDestination
		case !m.anyDst[fam]:
			mem.check |= checkDestination
		}
		switch {
		case m.dstPorts == nil:
		case !widePorts(m.dstPorts):
			names |= namesPort
		default:
			mem.check |= checkPort
		}
		if m.flagMask != 0 {
			mem.check |= checkFlags
		}
		if m.unsaid {
			mem.check |= checkUnsaid
		}
		if m.srcPorts != nil || m.icmpTypes != nil || m.tagged != 0 || m.role != AnyRole {
			mem.check |= checkRare
		}
		g := &b.groups[names]
		b.places = append(b.places, place(names<<placeBits|len(g.members)))
		g.members = append(g.members, mem)
	}
	for i := range b.groups {
		g := &b.groups[i]
		if len(g.members) == 0 {
			continue
		}
		b.live |= 1 << i
		g.summaries = uint32((len(g.members) + 64*64 - 1) / (64 * 64))
		every := make([]place, len(g.members))
		for j := range every {
			every[j] = place(i<<placeBits | j)
		}
		g.all = b.store(g, every)
	}
}

// wideAddrs says whether spans hold more than half of a family's addresses.
func wideAddrs(spans []span, fam int) bool {
	size := 0.0
	for _, s := range spans {
		size += float64(s.last.hi-s.first.hi)*(1<<64) + float64(s.last.lo) - float64(s.first.lo) + 1
	}
	return size > math.Ldexp(1, [2]int{31, 127}[fam])
}

// widePorts says whether ranges hold more than half of all ports.
func widePorts(ranges []PortRange) bool {
	size := 0
	for _, r := range ranges {
		size += int(r.Last) - int(r.First) + 1
	}
	return size > 1<<15
}

// row makes the row that allows the places given, which are sorted; the groups
// that do not have all bits of names in their number allow all their members.
func (b *builder) row(names int, places []place) row {
	var r row
	for i := range b.groups {
		g := &b.groups[i]
		n := 0
		for n < len(places) && places[n].group() == i {
			n++
		}
		of := places[:n]
		places = places[n:]
		switch {
		case len(g.members) == 0:
			r.off[i] = setEmpty
			continue
		case i&names != names || len(of) == len(g.members):
			r.off[i] = setFull
		case len(of) == 0:
			r.off[i] = setEmpty
			continue
		default:
			r.off[i] = b.store(g, of)
		}
		r.live |= 1 << i
	}
	return r
}

// store gives the offset of the set of places, all of group g, and stores it
// if there is no equal one.
func (b *builder) store(g *group, places []place) uint32 {
	summaries := int(g.summaries)
	words := summaries * 64
	b.bitmap = slices.Grow(b.bitmap[:0], words)[:words]
	clear(b.bitmap)
	for _, p := range places {
		b.bitmap[p.position()/64] |= 1 << (p.position() % 64)
	}
	b.name = binary.LittleEndian.AppendUint32(b.name[:0], g.summaries)
	for i, w := range b.bitmap {
		if w != 0 {
			b.name = binary.LittleEndian.AppendUint32(b.name, uint32(i))
			b.name = binary.LittleEndian.AppendUint64(b.name, w)
		}
	}
	if off, ok := b.stored[string(b.name)]; ok {
		return off
	}
	off := uint32(len(b.sets))
	b.stored[string(b.name)] = off
	b.sets = append(b.sets, make([]uint64, 2*summaries)...)
	for s := range summaries {
		head := off + uint32(2*s)
		b.sets[head+1] = uint64(len(b.sets))
		for i, w := range b.bitmap[s*64 : s*64+64] {
			if w != 0 {
				b.sets[head] |= 1 << i
				b.sets = append(b.sets, w)
			}
		}
	}
	return off
}

// rows gathers the different rows of a feature.
type rows struct {
	list   []row
	number map[row]uint32
}

func (rs *rows) add(r row) uint32 {
	n, ok := rs.number[r]
	if !ok {
		if rs.number == nil {
			rs.number = make(map[row]uint32)
		}
		n = uint32(len(rs.list))
		rs.list = append(rs.list, r)
		rs.number[r] = n
	}
	return n
}

// having lists the places of the members that have what has asks, sorted.
func (b *builder) having(has func(m *matcher) bool) []place {
	var out []place
	for rank, r := range b.order {
		if has(&b.matchers[r]) {
			out = append(out, b.places[rank])
		}
	}
	slices.Sort(out)
	return out
}

// interfaces fills the feature interface.
func (b *builder) interfaces() {
	var rs rows
	rs.add(b.row(0, b.having(func(m *matcher) bool { return m.ifaces == nil })))
	var named []uint64 // union of all rules' bit sets
	for _, r := range b.order {
		for i, w := range b.matchers[r].ifaces {
			if i == len(named) {
				named = append(named, 0)
			}
			named[i] |= w
		}
	}
	b.ifaceRow = make([]uint32, len(named)*64)
	for i, w := range named {
		for ; w != 0; w &= w - 1 {
			n := i*64 + bits.TrailingZeros64(w)
			b.ifaceRow[n] = rs.add(b.row(0, b.having(func(m *matcher) bool {
				return m.ifaces == nil || m.onIface(uint16(n))
			})))
		}
	}
	b.ifaces = rs.list
}

// protocols fills the feature service.
func (b *builder) protocols(fam int) {
	var rs rows
	var named [256]bool
	named[packet.ProtoTCP], named[packet.ProtoUDP] = true, true
	for _, r := range b.order {
		m := &b.matchers[r]
		for p := range named {
			named[p] = named[p] || m.protos != nil && m.protos[p/64]&(1<<(p%64)) != 0
		}
	}
	k := key{Query: &Query{}, v6: fam == 1}
	having := func() []place {
		return b.having(func(m *matcher) bool {
			return (m.protos == nil || m.hasProto(&k)) && (m.dstPorts == nil || widePorts(m.dstPorts))
		})
	}
	rest := rs.add(b.row(0, b.having(func(m *matcher) bool {
		return m.protos == nil && (m.dstPorts == nil || widePorts(m.dstPorts))
	})))
	for p := range b.protoRow {
		b.protoRow[p] = rest
		if named[p] {
			k.Proto = uint8(p)
			b.protoRow[p] = rs.add(b.row(0, having()))
		}
	}
	known := make(map[[256]uint32]uint16)
	for i, p := range []uint8{packet.ProtoTCP, packet.ProtoUDP} {
		k.Proto = p
		b.ports(i, b.having(func(m *matcher) bool {
			return m.protos == nil || m.hasProto(&k)
		}), rs.list[b.protoRow[p]], &rs, known)
	}
	b.services = rs.list
}

// ports fills the pages of TCP (0) or UDP (1), for the places of the rules of
// that protocol; portless is the row of its packets that show no port.
func (b *builder) ports(proto int, places []place, portless row, rs *rows, known map[[256]uint32]uint16) {
	type event struct {
		port  int
		start bool
		place place
	}
	var events []event
	for _, p := range places {
		if p.group()&namesPort == 0 {
			continue
		}
		m := &b.matchers[b.order[b.groups[p.group()].members[p.position()].rank]]
		for _, r := range m.dstPorts {
			events = append(events, event{int(r.First), true, p}, event{int(r.Last) + 1, false, p})
		}
	}
	slices.SortStableFunc(events, func(x, y event) int { return x.port - y.port })
	var active []place // sorted; ranges of one rule do not touch
	var page [256]uint32
	current := rs.add(portless)
	for port, next := 0, 0; port < 1<<16; port++ {
		if next < len(events) && events[next].port == port {
			for ; next < len(events) && events[next].port == port; next++ {
				e := events[next]
				at, _ := slices.BinarySearch(active, e.place)
				if e.start {
					active = slices.Insert(active, at, e.place)
				} else {
					active = slices.Delete(active, at, at+1)
				}
			}
			current = rs.add(b.withPorts(portless, active))
		}
		page[port&0xff] = current
		if port&0xff == 0xff {
			n, ok := known[page]
			if !ok {
				n = uint16(len(b.pageRows))
				b.pageRows = append(b.pageRows, page)
				known[page] = n
			}
			b.pages[proto][port>>8] = n
		}
	}
}

// withPorts is portless with the places of active, which are all in groups
// that name ports.
func (b *builder) withPorts(portless row, active []place) row {
	r := b.row(0, active)
	for i := range r.off {
		if i&namesPort == 0 {
			r.off[i] = portless.off[i]
			r.live = r.live&^(1<<i) | portless.live&(1<<i)
		}
	}
	return r
}
