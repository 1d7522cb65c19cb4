package state

import (
	"sync"
	"sync/atomic"
)

const (
	shardBits = 8
	shardsLen = 1 << shardBits
	// slotsMin is a shard's first size: 16 slots in each make 32 KiB.
	slotsMin = 16
)

// shard is a part of the index, chosen by the top bits of a key's hash. A slot
// is the low half of the hash over the place of the state, zero if empty. The
// slot where a key belongs is its hash scaled to the number of slots; from
// there on the first empty slot ends the search.
//
// Since the slots say all that placing them asks for, a shard grows without a
// look at any record: a walk over two arrays in order.
type shard struct {
	mu sync.Mutex // for whoever changes slots
	// moves is odd while slots move towards their homes: a reader may then
	// miss one that was there all the time.
	moves  atomic.Uint32
	slots  atomic.Pointer[[]uint64]
	used   int
	misses atomic.Uint64
	_      [64 - 40]byte
}

// shardOf is the shard of a hash.
func (t *Table) shardOf(hash uint64) *shard { return &t.shards[hash>>(64-shardBits)] }

// home is where a key with that low half of its hash belongs among n slots.
func home(tag uint32, n int) int { return int(uint64(tag) * uint64(n) >> 32) }

// next is the slot after i.
func next(i, n int) int {
	if i++; i == n {
		return 0
	}
	return i
}

// put adds a slot; the shard's lock is held. The old array stays as it is for
// readers that still walk it: what they find there they verify, and what came
// later they may miss, as if they had been earlier.
func (sh *shard) put(hash uint64, place uint32) {
	s := *sh.slots.Load()
	if 3*(sh.used+1) > 2*len(s) {
		s = sh.grow(s)
	}
	i := home(uint32(hash), len(s))
	for s[i] != 0 {
		i = next(i, len(s))
	}
	atomic.StoreUint64(&s[i], hash<<32|uint64(place))
	sh.used++
}

// grow moves to half as many slots again: load then goes from 4/9 to 2/3.
func (sh *shard) grow(old []uint64) []uint64 {
	s := make([]uint64, len(old)+len(old)/2)
	for _, w := range old {
		if w == 0 {
			continue
		}
		i := home(uint32(w>>32), len(s))
		for s[i] != 0 {
			i = next(i, len(s))
		}
		s[i] = w
	}
	sh.slots.Store(&s)
	return s
}

// drop takes out the slot of a place and closes the gap, so that no search
// ever passes over graves. The shard's lock is held.
func (sh *shard) drop(hash uint64, place uint32) {
	s := *sh.slots.Load()
	n := len(s)
	w := hash<<32 | uint64(place)
	i := home(uint32(hash), n)
	for s[i] != w {
		if s[i] == 0 {
			panic("state: a state's slot is missing") // our mistake, never a packet's
		}
		i = next(i, n)
	}
	sh.moves.Add(1)
	for j := next(i, n); s[j] != 0; j = next(j, n) {
		// A slot may fill the gap unless its home lies behind the gap.
		if h := home(uint32(s[j]>>32), n); distance(h, j, n) >= distance(i, j, n) {
			atomic.StoreUint64(&s[i], s[j])
			i = j
		}
	}
	atomic.StoreUint64(&s[i], 0)
	sh.moves.Add(1)
	sh.used--
}

// distance is how many slots lie between a and b, going forward.
func distance(a, b, n int) int {
	if b < a {
		b += n
	}
	return b - a
}

// stripe is the lock of every record whose place has the same low bits.
type stripe struct {
	mu   sync.Mutex
	hits uint64
	_    [64 - 16]byte
}

const stripesLen = 256

func (t *Table) stripeOf(place uint32) *stripe { return &t.stripes[place%stripesLen] }

// found is a record whose stripe is locked.
type found struct {
	*body
	lock  *stripe
	place uint32
	dir   Dir
}

// acquire looks k up; if it says true, the caller must unlock f.lock.
func (t *Table) acquire(k *key, hash uint64, f *found) bool {
	sh := t.shardOf(hash)
	before := sh.moves.Load()
	if t.search(sh, k, hash, f) {
		return true
	}
	if before&1 == 0 && sh.moves.Load() == before {
		return false
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return t.search(sh, k, hash, f)
}

// search walks the slots once.
func (t *Table) search(sh *shard, k *key, hash uint64, f *found) bool {
	s := *sh.slots.Load()
	i := home(uint32(hash), len(s))
	for range s { // ends at an empty slot, of which there is always one
		w := atomic.LoadUint64(&s[i])
		if w == 0 {
			return false
		}
		if uint32(w>>32) == uint32(hash) && t.lockIf(uint32(w), k, f) {
			return true
		}
		i = next(i, len(s))
	}
	return false
}

// peek is the place in the first slot with that tag, nowhere if there surely
// is none, or zero if slots moved meanwhile.
func (sh *shard) peek(tag uint32) uint32 {
	before := sh.moves.Load()
	s := *sh.slots.Load()
	i := home(tag, len(s))
	for range s {
		w := atomic.LoadUint64(&s[i])
		if w == 0 {
			break
		}
		if uint32(w>>32) == tag {
			return uint32(w)
		}
		i = next(i, len(s))
	}
	if before&1 == 0 && sh.moves.Load() == before {
		return nowhere
	}
	return 0
}

// lockIf locks the record at a place and keeps it if it is a living state with key k.
func (t *Table) lockIf(place uint32, k *key, f *found) bool {
	if place == 0 {
		return false
	}
	st := t.stripeOf(place)
	st.mu.Lock()
	if b, d, ok := t.match(place, k); ok && b.epoch&1 == 1 {
		f.body, f.lock, f.place, f.dir = b, st, place, d
		return true
	}
	st.mu.Unlock()
	return false
}

// lockID locks the record that id names, if it still lives.
func (t *Table) lockID(id ID) (*body, *stripe) {
	place := id.Place()
	if !t.taken(place) || id.epoch()&1 == 0 {
		return nil, nil
	}
	st := t.stripeOf(place)
	st.mu.Lock()
	if b := t.body(place); b.epoch == id.epoch() {
		return b, st
	}
	st.mu.Unlock()
	return nil, nil
}

// taken says whether a place was ever used, so that asking for it is safe.
func (t *Table) taken(place uint32) bool {
	i := place &^ class6
	if place&class6 != 0 {
		return i > 0 && i < t.slab6.used.Load()
	}
	return i > 0 && i < t.slab4.used.Load()
}

// lockShards locks the shards of two hashes, in order.
func (t *Table) lockShards(a, b uint64) {
	x, y := t.shardOf(a), t.shardOf(b)
	switch {
	case x == y:
		x.mu.Lock()
	case a>>(64-shardBits) < b>>(64-shardBits):
		x.mu.Lock()
		y.mu.Lock()
	default:
		y.mu.Lock()
		x.mu.Lock()
	}
}

func (t *Table) unlockShards(a, b uint64) {
	x, y := t.shardOf(a), t.shardOf(b)
	x.mu.Unlock()
	if x != y {
		y.mu.Unlock()
	}
}
