package carp

import (
	"net/netip"
	"time"
)

const (
	// risesTrusted is how often running a source's counter must have risen
	// before its past is held against an advert.
	risesTrusted = 10
	// stepMax is the largest rise that counts: lost adverts leave gaps, but a
	// sender that draws a random number each time must never look trusted.
	stepMax = 1 << 32
	// duplicateWithin: the same advert again so soon is the network's doing.
	duplicateWithin = 100 * time.Millisecond

	replaySourcesMax = 8  // per vhid
	replaySpansMax   = 16 // former ranges per source
)

// span is a range of counters, both ends included; it may wrap.
type span struct{ low, high uint64 }

func (s span) contains(c uint64) bool { return c-s.low <= s.high-s.low }

// replaySource is what we remember of one source of adverts of a vhid.
type replaySource struct {
	addr  netip.Addr
	last  time.Time
	now   span // the range in use
	rises int  // in a row
	past  []span
}

func (s *replaySource) used(c uint64) bool {
	if s.rises >= risesTrusted && s.now.contains(c) {
		return true
	}
	for _, p := range s.past {
		if p.contains(c) {
			return true
		}
	}
	return false
}

// advance takes a counter that is not a replay.
func (s *replaySource) advance(c uint64) {
	if step := c - s.now.high; step > 0 && step <= stepMax {
		s.now.high = c
		s.rises++
		return
	}
	if s.rises >= risesTrusted { // A restart: the next range begins elsewhere.
		if len(s.past) == replaySpansMax {
			s.past = append(s.past[:0], s.past[1:]...)
		}
		s.past = append(s.past, s.now)
	}
	s.now, s.rises = span{c, c}, 0
}

// freshness is what a counter says about an advert.
type freshness uint8

const (
	fresh freshness = iota
	duplicate
	replayed
)

// replayGuard remembers, for one vhid, which counters its speakers have used.
// Only verified adverts reach it, so nobody without the password can fill it
// with anything but repetitions.
type replayGuard struct{ sources []replaySource }

// judge looks at the counter of a verified advert and remembers it. With
// across set, what any source has used counts against every source: right
// where none adopts another's counter, as the BSDs do.
func (g *replayGuard) judge(now time.Time, from netip.Addr, c uint64, across bool) freshness {
	var s *replaySource
	for i := range g.sources {
		other := &g.sources[i]
		if other.addr == from {
			s = other
		} else if across && other.used(c) {
			return replayed
		}
	}
	if s == nil {
		s = g.add(from, c)
		s.last = now
		return fresh
	}
	if s.used(c) {
		if c == s.now.high && now.Sub(s.last) < duplicateWithin {
			return duplicate
		}
		return replayed
	}
	s.advance(c)
	s.last = now
	return fresh
}

// add makes room by forgetting the least trusted source, among equals the one
// silent longest.
func (g *replayGuard) add(from netip.Addr, c uint64) *replaySource {
	s := replaySource{addr: from, now: span{c, c}}
	if len(g.sources) < replaySourcesMax {
		g.sources = append(g.sources, s)
		return &g.sources[len(g.sources)-1]
	}
	victim := &g.sources[0]
	for i := range g.sources {
		o := &g.sources[i]
		trusted, best := o.rises >= risesTrusted, victim.rises >= risesTrusted
		if best && !trusted || best == trusted && o.last.Before(victim.last) {
			victim = o
		}
	}
	*victim = s
	return victim
}
