package neigh

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"tandem/netstack/packet"
)

// entriesPerBucket is how many entries share a bucket when the index is full.
const entriesPerBucket = 4

// index finds entries by address. One writer at a time, under the port's
// lock; any number of readers without one: chains are linked by atomic
// pointers, an entry's address never changes, and an entry that was unlinked
// still leads a reader on to the rest of its chain.
type index struct {
	key     [2]uint64
	buckets []atomic.Pointer[entry] // a power of two of them
}

// newIndex returns an index for up to n entries, hashed with a secret key, so
// that nobody outside can pick addresses that share a bucket.
func newIndex(key [2]uint64, n int) index {
	size := 1 << bits.Len(uint(max(n/entriesPerBucket, 1)-1))
	return index{key: key, buckets: make([]atomic.Pointer[entry], size)}
}

func (x *index) bucket(a packet.Addr) *atomic.Pointer[entry] {
	hi, lo := bits.Mul64(
		binary.LittleEndian.Uint64(a[:8])^x.key[0]^0x9e3779b97f4a7c15,
		binary.LittleEndian.Uint64(a[8:])^x.key[1]^0xd1b54a32d192ed03)
	return &x.buckets[(hi^lo)&uint64(len(x.buckets)-1)]
}

// find returns the entry of a, or nil.
func (x *index) find(a packet.Addr) *entry {
	for e := x.bucket(a).Load(); e != nil; e = e.chain.Load() {
		if e.addr == a {
			return e
		}
	}
	return nil
}

// insert adds e, whose address must not be there.
func (x *index) insert(e *entry) {
	head := x.bucket(e.addr)
	e.chain.Store(head.Load())
	head.Store(e)
}

// remove unlinks e.
func (x *index) remove(e *entry) {
	for link := x.bucket(e.addr); link.Load() != nil; link = &link.Load().chain {
		if link.Load() == e {
			link.Store(e.chain.Load())
			return
		}
	}
}
