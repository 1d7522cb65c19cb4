package state

import (
	"errors"
	"fmt"
	"time"
)

// Timeouts says how long a state lives after its last packet, by the names of
// pf.conf(5), "set timeout".
type Timeouts struct {
	TCPFirst       time.Duration // tcp.first: after the first packet
	TCPOpening     time.Duration // tcp.opening: before the other side has answered
	TCPEstablished time.Duration // tcp.established
	TCPClosing     time.Duration // tcp.closing: after the first FIN
	TCPFinWait     time.Duration // tcp.finwait: after both FINs
	TCPClosed      time.Duration // tcp.closed: after an end has sent an RST, or both FINs are acknowledged
	UDPFirst       time.Duration // udp.first: after the first packet
	UDPSingle      time.Duration // udp.single: only one side has sent more than one packet
	UDPMultiple    time.Duration // udp.multiple: both have
	ICMPFirst      time.Duration // icmp.first: after the first packet
	ICMPError      time.Duration // icmp.error: after an answer
	OtherFirst     time.Duration // other.first, as for UDP, for all other protocols
	OtherSingle    time.Duration // other.single
	OtherMultiple  time.Duration // other.multiple
}

// class numbers the timeouts in pf's order, which is also that of pfsync(4).
type class uint8

const (
	tcpFirst class = iota
	tcpOpening
	tcpEstablished
	tcpClosing
	tcpFinWait
	tcpClosed
	udpFirst
	udpSingle
	udpMultiple
	icmpFirst
	icmpError
	otherFirst
	otherSingle
	otherMultiple
	classCount
)

// classNames are pf's names as our configuration writes them.
var classNames = [classCount]string{
	"tcp_first", "tcp_opening", "tcp_established", "tcp_closing", "tcp_finwait", "tcp_closed",
	"udp_first", "udp_single", "udp_multiple", "icmp_first", "icmp_error",
	"other_first", "other_single", "other_multiple",
}

// Normal is pf's default.
func Normal() Timeouts {
	return Timeouts{
		TCPFirst:       120 * time.Second,
		TCPOpening:     30 * time.Second,
		TCPEstablished: 24 * time.Hour,
		TCPClosing:     15 * time.Minute,
		TCPFinWait:     45 * time.Second,
		TCPClosed:      90 * time.Second,
		UDPFirst:       60 * time.Second,
		UDPSingle:      30 * time.Second,
		UDPMultiple:    60 * time.Second,
		ICMPFirst:      20 * time.Second,
		ICMPError:      10 * time.Second,
		OtherFirst:     60 * time.Second,
		OtherSingle:    30 * time.Second,
		OtherMultiple:  60 * time.Second,
	}
}

// Conservative keeps idle connections longer, at the cost of memory.
func Conservative() Timeouts {
	t := Normal()
	t.TCPFirst = time.Hour
	t.TCPOpening = 15 * time.Minute
	t.TCPEstablished = 5 * 24 * time.Hour
	t.TCPClosing = time.Hour
	t.TCPFinWait = 10 * time.Minute
	t.TCPClosed = 3 * time.Minute
	return t
}

// Aggressive forgets idle connections sooner, to save memory.
func Aggressive() Timeouts {
	t := Normal()
	t.TCPFirst = 30 * time.Second
	t.TCPOpening = 5 * time.Second
	t.TCPEstablished = 5 * time.Hour
	t.TCPClosing = time.Minute
	t.TCPFinWait = 30 * time.Second
	t.TCPClosed = 30 * time.Second
	return t
}

// HighLatency suits links by satellite.
func HighLatency() Timeouts {
	t := Normal()
	t.TCPFirst = 3 * time.Minute
	t.TCPOpening = 35 * time.Second
	t.TCPClosing = 15*time.Minute + 5*time.Second
	t.TCPFinWait = 50 * time.Second
	t.TCPClosed = 95 * time.Second
	return t
}

// Preset is the set of timeouts with the given name: normal, conservative,
// aggressive or high_latency.
func Preset(name string) (Timeouts, bool) {
	switch name {
	case "normal":
		return Normal(), true
	case "conservative":
		return Conservative(), true
	case "aggressive":
		return Aggressive(), true
	case "high_latency":
		return HighLatency(), true
	}
	return Timeouts{}, false
}

// Field is the timeout with pf's name, an underscore for its dot
// ("tcp_established"), or nil if there is none of that name.
func (t *Timeouts) Field(name string) *time.Duration {
	for c, p := range t.all() {
		if classNames[c] == name {
			return p
		}
	}
	return nil
}

// TimeoutNames lists the names that [Timeouts.Field] knows, in pf's order.
func TimeoutNames() []string { return append([]string(nil), classNames[:]...) }

func (t *Timeouts) all() [classCount]*time.Duration {
	return [classCount]*time.Duration{
		&t.TCPFirst, &t.TCPOpening, &t.TCPEstablished, &t.TCPClosing, &t.TCPFinWait, &t.TCPClosed,
		&t.UDPFirst, &t.UDPSingle, &t.UDPMultiple, &t.ICMPFirst, &t.ICMPError,
		&t.OtherFirst, &t.OtherSingle, &t.OtherMultiple,
	}
}

// TimeoutMax is the longest timeout that a table takes: twice that is still
// less than half of what a tick counter can tell apart.
const TimeoutMax = 2 * 365 * 24 * time.Hour

var errTimeout = errors.New("must be more than 0 and at most two years")

func (t *Timeouts) check() error {
	for c, p := range t.all() {
		if *p <= 0 || *p > TimeoutMax {
			return fmt.Errorf("timeout %s: %v: %w", classNames[c], *p, errTimeout)
		}
	}
	return nil
}

// tickShift makes ticks of nanoseconds: a tick is 2^26 ns, about 67 ms, so
// that 32 bits last for nine years and no timeout of pf's is a tenth off.
const tickShift = 26

// tick is a point in time, counted in 2^26 ns.
type tick uint32

func tickOf(now int64) tick { return tick(now >> tickShift) }

// nanos is the beginning of a tick on the node's clock.
func (t tick) nanos() int64 { return int64(t) << tickShift }

// since is how many ticks have passed since earlier. Workers read the clock
// once for a batch, so now may be a little before earlier; that counts as none.
func (t tick) since(earlier tick) uint32 {
	if d := int32(t - earlier); d > 0 {
		return uint32(d)
	}
	return 0
}

// ages is what a state of each class may reach, in ticks, under the present
// settings and load. It does not change once made.
type ages struct {
	ticks [classCount]uint32
	scale uint64 // left of each timeout, in scaleFull-ths
}

const scaleFull = 1 << 10

// newAges rounds up, and a state is old only when more ticks have passed than
// that: it never goes too early, and at most two ticks late.
func newAges(t *Timeouts, scale uint64) *ages {
	a := &ages{scale: scale}
	for c, p := range t.all() {
		a.ticks[c] = uint32((uint64(*p)/scaleFull*scale + 1<<tickShift - 1) >> tickShift)
	}
	return a
}

// expired says whether a state of class c, last used at seen, is over.
func (a *ages) expired(now, seen tick, c class) bool {
	return now.since(seen) > a.ticks[c]
}

// scaleFor is pf's adaptive scaling: from start states on timeouts shrink in
// proportion, and at end states they are zero (pf.conf(5), adaptive.start).
func scaleFor(states, start, end int) uint64 {
	switch {
	case start < 0 || end <= start || states <= start:
		return scaleFull
	case states >= end:
		return 0
	}
	return uint64(end-states) * scaleFull / uint64(end-start)
}
