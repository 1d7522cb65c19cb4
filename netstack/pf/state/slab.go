package state

import (
	"math/bits"
	"sync/atomic"

	"tandem/netstack/packet"
)

// ID names a state. The low half is its place in the slabs (the top bit of
// that says IPv6), the high half how often the place was taken or given back,
// so that an ID held across the state's end names nothing, even when the place
// is in use again. Zero names no state.
type ID uint64

// Place is the state's place: a number that is dense enough to index bit maps
// and arrays, and is another state's once this one is gone.
func (id ID) Place() uint32 { return uint32(id) }

func (id ID) epoch() uint32 { return uint32(id >> 32) }

// body is what a record holds beside its keys. Arrays of two are by [Dir].
// Its order matters: the first 40 bytes and the rest of an IPv4 record are a
// cache line each.
type body struct {
	// epoch counts takings and givings back: odd means in use. It is stored
	// by atomics, under the stripe's lock, since batches touch it without.
	epoch   uint32
	seen    tick // last packet that passed
	rule    uint32
	ruleGen uint32
	next    uint32 // while free: the next free place
	hop     [2]uint32
	out     [2]uint16
	iface   [2]uint16 // where packets of each direction come in
	proto   uint8
	icmp    uint8 // ICMP: the type that asks
	class   class
	flags   flags

	gen     [2]uint32 // of the path; stored by atomics, as epoch
	peers   [2]peer   // the sender of each direction
	packets [2]uint64
	bytes   [2]uint64
}

// flags is a set of facts about a state.
type flags uint8

const (
	flagSloppy  flags = 1 << iota
	flagNoSync        // not to be sent by pfsync
	flagLog           // the rule logs
	flagRefused       // the rules in force do not allow it
	flagPlain         // both keys are of one tuple: nothing is translated
	flagAnswer        // ICMP: the first packet was an answer
)

// hot4 is an IPv4 record, two cache lines. Its second key is kept as answers
// bear it: the reverse of the outward tuple.
type hot4 struct {
	addr  [2]uint64
	ports [2]uint32
	body
}

// hot6 is an IPv6 record, three cache lines.
type hot6 struct {
	addr  [2][4]uint64 // addr[0][0] is stored by atomics, as epoch
	ports [2]uint32
	_     [2]uint64
	body
}

// cold is what the data path never asks for.
type cold struct {
	wire    uint64 // the wire id of the half that comes in; the other's is one more
	ruleID  uint64
	created tick
	creator uint32
}

const (
	chunkBits = 10
	chunkLen  = 1 << chunkBits
	// chunk sizes, 152 and 216 KiB, are whole pages of the allocator.

	class6 = 1 << 31 // in a place: the record is a hot6
	// statesMax is how many states a table can number.
	statesMax = 1 << 30
)

// chunk is a fixed block of records; it never moves and is never freed.
type chunk[R hot4 | hot6] struct {
	hot  [chunkLen]R
	cold [chunkLen]cold
}

// slab is the records of one family. Its directory is replaced when full, so
// readers need no lock; all else is guarded by Table.alloc.
type slab[R hot4 | hot6] struct {
	dir  atomic.Pointer[[]atomic.Pointer[chunk[R]]]
	used atomic.Uint32 // places ever taken, with the one that is never used
	free uint32        // first free place, 0: none
}

func (s *slab[R]) begin() {
	d := make([]atomic.Pointer[chunk[R]], 16)
	s.dir.Store(&d)
	s.used.Store(1) // place 0 would make an empty slot
}

// hot is the record at i, which must be a place that was taken once.
func (s *slab[R]) hot(i uint32) *R {
	return &(*s.dir.Load())[i>>chunkBits].Load().hot[i%chunkLen]
}

func (s *slab[R]) cold(i uint32) *cold {
	return &(*s.dir.Load())[i>>chunkBits].Load().cold[i%chunkLen]
}

// grow adds the place after the last one, and memory for it if need be.
func (s *slab[R]) grow() uint32 {
	i := s.used.Load()
	dir := *s.dir.Load()
	c := int(i >> chunkBits)
	if c == len(dir) {
		wider := make([]atomic.Pointer[chunk[R]], 2*len(dir))
		for j := range dir {
			wider[j].Store(dir[j].Load())
		}
		s.dir.Store(&wider)
		dir = wider
	}
	if dir[c].Load() == nil {
		dir[c].Store(new(chunk[R]))
	}
	s.used.Store(i + 1)
	return i
}

// body is the record's body at a place of either family.
func (t *Table) body(place uint32) *body {
	if place&class6 != 0 {
		return &t.slab6.hot(place &^ class6).body
	}
	return &t.slab4.hot(place).body
}

func (t *Table) cold(place uint32) *cold {
	if place&class6 != 0 {
		return t.slab6.cold(place &^ class6)
	}
	return t.slab4.cold(place)
}

// take gives a free place, or says that the table is full.
func (t *Table) take(v6 bool) (uint32, bool) {
	t.alloc.Lock()
	defer t.alloc.Unlock()
	if t.count >= t.max {
		return 0, false
	}
	t.count++
	if v6 {
		if i := t.slab6.free; i != 0 {
			t.slab6.free = t.slab6.hot(i).next
			return i | class6, true
		}
		return t.slab6.grow() | class6, true
	}
	if i := t.slab4.free; i != 0 {
		t.slab4.free = t.slab4.hot(i).next
		return i, true
	}
	return t.slab4.grow(), true
}

// give makes a place free; its record must be out of the index.
func (t *Table) give(place uint32) {
	t.alloc.Lock()
	defer t.alloc.Unlock()
	t.count--
	if i := place &^ class6; place&class6 != 0 {
		t.slab6.hot(i).next, t.slab6.free = t.slab6.free, i
	} else {
		t.slab4.hot(i).next, t.slab4.free = t.slab4.free, i
	}
}

// match compares key k with both keys of the record at a place. The family
// must be the key's: an index slot of the other one cannot have its hash but
// by chance.
func (t *Table) match(place uint32, k *key) (*body, Dir, bool) {
	var b *body
	var d Dir
	if place&class6 != 0 {
		r := t.slab6.hot(place &^ class6)
		switch {
		case !k.v6:
			return nil, 0, false
		case r.ports[0] == k.ports && r.addr[0] == k.addr:
		case r.ports[1] == k.ports && r.addr[1] == k.addr:
			d = Reverse
		default:
			return nil, 0, false
		}
		b = &r.body
	} else {
		r := t.slab4.hot(place)
		switch {
		case k.v6:
			return nil, 0, false
		case r.ports[0] == k.ports && r.addr[0] == k.addr[0]:
		case r.ports[1] == k.ports && r.addr[1] == k.addr[0]:
			d = Reverse
		default:
			return nil, 0, false
		}
		b = &r.body
	}
	return b, d, b.meta(d) == k.meta
}

// meta is what key.meta is for the record's key of direction d.
func (b *body) meta(d Dir) uint32 {
	if b.icmp == 0 {
		return uint32(b.proto)
	}
	m := uint32(b.proto) | uint32(b.icmp)<<8
	if (b.flags&flagAnswer != 0) != (d == Reverse) {
		m |= answerBit
	}
	return m
}

// key reads the record's key of direction d.
func (t *Table) key(place uint32, d Dir) (k key) {
	if place&class6 != 0 {
		r := t.slab6.hot(place &^ class6)
		k.v6, k.addr, k.ports, k.meta = true, r.addr[d], r.ports[d], r.meta(d)
	} else {
		r := t.slab4.hot(place)
		k.addr[0], k.ports, k.meta = r.addr[d], r.ports[d], r.meta(d)
	}
	return k
}

// tuple is the record's key of direction d as a tuple.
func (t *Table) tuple(place uint32, d Dir, to *packet.Tuple) {
	if place&class6 != 0 {
		r := t.slab6.hot(place &^ class6)
		tuple6(&r.addr[d], r.ports[d], r.proto, to)
	} else {
		r := t.slab4.hot(place)
		tuple4(r.addr[d], r.ports[d], r.proto, to)
	}
}

// answer is the reverse of the record's key of direction d as a tuple.
func (t *Table) answer(place uint32, d Dir, to *packet.Tuple) {
	if place&class6 != 0 {
		r := t.slab6.hot(place &^ class6)
		a := &r.addr[d]
		tuple6(&[4]uint64{a[2], a[3], a[0], a[1]}, bits.RotateLeft32(r.ports[d], 16), r.proto, to)
	} else {
		r := t.slab4.hot(place)
		tuple4(bits.RotateLeft64(r.addr[d], 32), bits.RotateLeft32(r.ports[d], 16), r.proto, to)
	}
}

// setKeys writes both keys into the record at a place.
func (t *Table) setKeys(place uint32, in, back *key) {
	if place&class6 != 0 {
		r := t.slab6.hot(place &^ class6)
		atomic.StoreUint64(&r.addr[0][0], in.addr[0])
		copy(r.addr[0][1:], in.addr[1:])
		r.addr[1] = back.addr
		r.ports = [2]uint32{in.ports, back.ports}
	} else {
		r := t.slab4.hot(place)
		r.addr = [2]uint64{in.addr[0], back.addr[0]}
		r.ports = [2]uint32{in.ports, back.ports}
	}
}
