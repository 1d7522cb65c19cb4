package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/pf"
	"tandem/netstack/pf/rule"
)

const (
	eventsMax = 10000 // lines that `log` can show
	// packetsPerSecond is how many lines of the firewall log one reason may
	// cause each second; the rest is a sum.
	packetsPerSecond = 10
	watchersMax      = 64
	watchQueue       = 256
)

// ring keeps the newest values.
type ring[T any] struct {
	values []T
	next   int
}

func (r *ring[T]) add(v T) {
	if len(r.values) < eventsMax {
		r.values = append(r.values, v)
		return
	}
	r.values[r.next] = v
	r.next = (r.next + 1) % eventsMax
}

// all returns the values, the oldest first.
func (r *ring[T]) all() []T {
	return append(slices.Clone(r.values[r.next:]), r.values[:r.next]...)
}

// watcher is somebody who follows one of the logs.
type watcher struct {
	events  chan status.Event
	packets chan status.Packet
}

// events holds the node's two logs: what happened, and what the filter did.
type events struct {
	mu       sync.Mutex
	events   ring[status.Event]
	packets  ring[status.Packet]
	watchers []*watcher
	sink     *sink // nil: nobody takes the lines
	apart    bool  // the sink has a goroutine of its own

	second     int64
	seen       map[string]int // packets logged this second, by reason
	suppressed map[string]int
	packetID   uint64
}

// newEvents returns empty logs; apart says that whoever takes their lines may
// block, and must hold up nobody.
func newEvents(apart bool) *events {
	return &events{apart: apart, seen: make(map[string]int), suppressed: make(map[string]int)}
}

// add keeps an event, tells followers and the sink.
func (e *events) add(ev status.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events.add(ev)
	for _, w := range e.watchers {
		if w.events != nil {
			select {
			case w.events <- ev:
			default: // a reader who is too slow misses lines, never the node
			}
		}
	}
	if e.sink != nil {
		e.sink.take(ev)
	}
}

// event writes a line of the node's own.
func (n *Node) event(now time.Time, level, source, message string, fields map[string]string) {
	n.events.add(status.Event{Time: now, Level: level, Source: source, Message: message, Fields: fields})
}

// Note writes a line about something that was done to the node from outside,
// with who did it.
func (n *Node) Note(source, message, by string) {
	n.event(n.env.Clock.Now(), "info", source, message, map[string]string{"by": by})
}

// SetSink names who else gets every line of the log, those from the past
// included. It must not call the node. Under Run it has a goroutine of its
// own, so that a terminal that blocks holds up neither roles nor packets. A
// sink that was there before gets no more.
func (n *Node) SetSink(to func(status.Event)) {
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	if old := n.events.sink; old != nil {
		old.end()
	}
	n.events.sink = newSink(to, n.events.events.all(), n.events.apart)
}

// Events returns the log since a moment.
func (n *Node) Events(since time.Time) []status.Event {
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	out := []status.Event{}
	for _, e := range n.events.events.all() {
		if !e.Time.Before(since) {
			out = append(out, e)
		}
	}
	return out
}

// Packets returns the firewall log since a moment.
func (n *Node) Packets(since time.Time) []status.Packet {
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	out := []status.Packet{}
	for _, p := range n.events.packets.all() {
		if !p.Time.Before(since) {
			out = append(out, p)
		}
	}
	return out
}

// Watch follows one of the logs from now on: firewall chooses which channel is
// fed. The returned function ends it. It fails when too many follow already.
func (n *Node) Watch(firewall bool) (<-chan status.Event, <-chan status.Packet, func(), error) {
	w := &watcher{}
	if firewall {
		w.packets = make(chan status.Packet, watchQueue)
	} else {
		w.events = make(chan status.Event, watchQueue)
	}
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	if len(n.events.watchers) >= watchersMax {
		return nil, nil, nil, fmt.Errorf("%d others follow the log already", watchersMax)
	}
	n.events.watchers = append(n.events.watchers, w)
	stop := func() {
		n.events.mu.Lock()
		defer n.events.mu.Unlock()
		n.events.watchers = slices.DeleteFunc(n.events.watchers, func(o *watcher) bool { return o == w })
	}
	return w.events, w.packets, stop, nil
}

// logPacket takes a record of the filter. What packets can cause is bounded:
// so many lines a second for each reason, then a sum.
func (n *Node) logPacket(r *pf.Record) {
	e := n.events
	e.mu.Lock()
	defer e.mu.Unlock()
	reason := r.Reason.String()
	n.sumUpLocked(r.Mono)
	if e.seen[reason]++; e.seen[reason] > packetsPerSecond {
		e.suppressed[reason]++
		return
	}
	e.keepPacket(n.packetLine(r, reason))
}

// sumUp writes the sums of lines left out in a second that has passed.
func (n *Node) sumUp(now time.Time) {
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	n.sumUpLocked(n.router.Mono(now))
}

func (n *Node) sumUpLocked(mono int64) {
	e := n.events
	second := mono / int64(time.Second)
	if second == e.second {
		return
	}
	e.second = second
	for _, why := range slices.Sorted(maps.Keys(e.suppressed)) {
		e.keepPacket(status.Packet{Time: n.atMono(mono), Reason: why, Verdict: "summary", Length: e.suppressed[why]})
	}
	clear(e.seen)
	clear(e.suppressed)
}

// keepPacket adds a line of the firewall log and tells followers.
func (e *events) keepPacket(p status.Packet) {
	e.packetID++
	p.ID = fmt.Sprint(e.packetID)
	e.packets.add(p)
	for _, w := range e.watchers {
		if w.packets != nil {
			select {
			case w.packets <- p:
			default:
			}
		}
	}
}

// atMono converts the data path's time.
func (n *Node) atMono(mono int64) time.Time { return n.started.Add(time.Duration(mono) - time.Second) }

// packetLine puts a record in words.
func (n *Node) packetLine(r *pf.Record, reason string) status.Packet {
	p := status.Packet{
		Time: n.atMono(r.Mono), Interface: n.ifaceName(r.Iface), Direction: "in", Reason: reason, Length: r.Len,
		Verdict: [...]string{"block", "pass", "reject"}[r.Verdict], Protocol: protoName(r.Proto),
		Source: endpoint(r.Src, r.SrcPort, r.Proto), Destination: endpoint(r.Dst, r.DstPort, r.Proto),
		Rule: "default",
	}
	if r.Direction == rule.Out {
		p.Direction = "out"
	}
	if r.Rule != nil {
		p.Rule = r.Rule.ID
	}
	if p.Protocol == "tcp" {
		p.TCPFlags = flagLetters(r.TCPFlags)
	}
	return p
}

// flagLetters writes TCP flags as pf does: "SA".
func flagLetters(flags uint8) string {
	var b strings.Builder
	for i, c := range "FSRPAUEW" {
		if flags&(1<<i) != 0 {
			b.WriteRune(c)
		}
	}
	return b.String()
}
