package rule

import "sync/atomic"

// Counters is what a rule has seen.
type Counters struct {
	// Evaluations is how many packets without a state, in the rule's
	// direction, came as far as this rule: those that no quick rule before it
	// had decided on. It is derived from the decisions (packets judged, less
	// those decided earlier) and so means the same whether rules are walked
	// or looked up. Rules of other interfaces do not hide a packet.
	Evaluations uint64
	Packets     uint64
	Bytes       uint64
	States      int64 // now; for the owner of the state table to fill in
}

// cell holds the counters that outlive a set.
type cell struct {
	packets, bytes atomic.Uint64
}

// decisions counts the packets of each direction that one rule decided on;
// earlier is how many evaluations it had in the sets before this one.
type decisions struct {
	by      [2]atomic.Uint64
	earlier atomic.Uint64
}

// count notes that rule i (-1: none) decided on a packet.
func (s *Set) count(d Direction, i int) {
	d &= 1
	s.queries[d].Add(1)
	if i >= 0 {
		s.decided[i].by[d].Add(1)
	}
}

// AddPackets counts packets that followed rule i, with their bytes.
func (s *Set) AddPackets(i int, packets, bytes uint64) {
	s.cells[i].packets.Add(packets)
	s.cells[i].bytes.Add(bytes)
}

// Decided is how many packets rule i decided on in this set.
func (s *Set) Decided(i int) uint64 {
	return s.decided[i].by[In].Load() + s.decided[i].by[Out].Load()
}

// Counters gives the counters of all rules, in order. It costs one walk over
// the set; the values are of slightly different moments.
func (s *Set) Counters() []Counters {
	out := make([]Counters, len(s.rules))
	reached := [2]uint64{s.queries[In].Load(), s.queries[Out].Load()}
	for i := range out {
		m, d, c := &s.matchers[i], &s.decided[i], s.cells[i]
		out[i] = Counters{
			Evaluations: d.earlier.Load(),
			Packets:     c.packets.Load(),
			Bytes:       c.bytes.Load(),
		}
		for dir := range reached {
			if m.dirs&(1<<dir) != 0 {
				out[i].Evaluations += reached[dir]
			}
			if m.quick && m.action != Match {
				// A decision made since queries was read must not wrap.
				reached[dir] -= min(reached[dir], d.by[dir].Load())
			}
		}
	}
	return out
}

// Carry lets the rules of s go on counting where those of from with the same
// identifier are. It is called once, before s judges its first packet; from
// may go on judging meanwhile, and shares the counters of packets.
func (s *Set) Carry(from *Set) {
	if from == nil {
		return
	}
	old := from.Counters()
	for i := range s.rules {
		j, ok := from.byID[s.rules[i].ID]
		if !ok {
			continue
		}
		s.cells[i] = from.cells[j]
		s.decided[i].earlier.Store(old[j].Evaluations)
	}
}
