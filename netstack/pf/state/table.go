package state

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Config is what a table is built from.
type Config struct {
	Max      int      // states it may hold
	Timeouts Timeouts // the zero value means Normal
	// From AdaptiveStart states on timeouts shrink, towards zero at
	// AdaptiveEnd. Both zero mean pf's default, 60 % and 120 % of Max; a
	// negative start means never.
	AdaptiveStart, AdaptiveEnd int
	Key                        [2]uint64 // secret of the hash; must be random where foreign packets come in
	Creator                    uint32    // this node's host_id, for states it makes
	BootSeconds                uint32    // when the node started, for wire ids
}

// ErrMax says that a table cannot be as large as asked.
var ErrMax = errors.New("must be at least 1 and at most 2^30")

// Table is a state table. All methods may be called from any goroutine.
type Table struct {
	secret secret
	ages   atomic.Pointer[ages]

	shards  [shardsLen]shard
	stripes [stripesLen]stripe
	slab4   slab[hot4]
	slab6   slab[hot6]
	reasons [ReasonCount]atomic.Uint64

	alloc sync.Mutex // guards what follows, and the slabs' free lists
	max   int
	count int

	wire    atomic.Uint64 // wire id of the last state
	creator atomic.Uint32

	inserts, removals, expired atomic.Uint64

	sweep  sync.Mutex // guards what follows
	cursor uint32     // next place to sweep, IPv6 places behind IPv4's
	config Config
}

// New makes an empty table. It takes memory as states come, not before.
func New(c Config) (*Table, error) {
	t := &Table{secret: newSecret(c.Key)}
	t.wire.Store(uint64(c.BootSeconds) << 32)
	t.slab4.begin()
	t.slab6.begin()
	for i := range t.shards {
		s := make([]uint64, slotsMin)
		t.shards[i].slots.Store(&s)
	}
	if err := t.SetConfig(c); err != nil {
		return nil, err
	}
	return t, nil
}

// SetConfig changes the limit, the timeouts and the creator of new states. Key
// and boot time stay what they were. States above a lower limit stay, too.
func (t *Table) SetConfig(c Config) error {
	if c.Max < 1 || c.Max > statesMax {
		return fmt.Errorf("state table: max %d: %w", c.Max, ErrMax)
	}
	if c.Timeouts == (Timeouts{}) {
		c.Timeouts = Normal()
	}
	if err := c.Timeouts.check(); err != nil {
		return fmt.Errorf("state table: %w", err)
	}
	if c.AdaptiveStart == 0 && c.AdaptiveEnd == 0 {
		c.AdaptiveStart, c.AdaptiveEnd = c.Max/10*6, c.Max/10*12
	}
	t.sweep.Lock()
	defer t.sweep.Unlock()
	t.config = c
	t.creator.Store(c.Creator)
	t.alloc.Lock()
	t.max = c.Max
	n := t.count
	t.alloc.Unlock()
	t.ages.Store(newAges(&c.Timeouts, scaleFor(n, c.AdaptiveStart, c.AdaptiveEnd)))
	return nil
}

// Stats is the table's counters. Local states were made by Insert, Peer ones
// came from another node. Searches are look-ups of packets, Removals all ends
// of states, Expired those by timeout.
type Stats struct {
	States, Limit, Local, Peer int
	Inserts, Removals, Expired uint64
	Searches, Hits             uint64
	Reasons                    [ReasonCount]uint64 // packets dropped and states refused, by reason
}

// Stats adds up the counters.
func (t *Table) Stats() Stats {
	t.alloc.Lock()
	s := Stats{States: t.count, Limit: t.max, Local: t.count}
	t.alloc.Unlock()
	s.Inserts, s.Removals, s.Expired = t.inserts.Load(), t.removals.Load(), t.expired.Load()
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.Lock()
		s.Hits += st.hits
		st.mu.Unlock()
	}
	s.Searches = s.Hits
	for i := range t.shards {
		s.Searches += t.shards[i].misses.Load()
	}
	for i := range t.reasons {
		s.Reasons[i] = t.reasons[i].Load()
	}
	return s
}
