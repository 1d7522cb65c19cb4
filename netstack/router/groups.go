package router

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tandem/netstack/packet"
)

// Switches that snoop pass multicast only to who has said that it listens. So
// the node reports the groups that its neighbours reach it by: CARP's where it
// has virtual addresses, and the solicited-node groups of its IPv6 addresses
// (RFC 3376 and RFC 3810, as a host that wants all sources). It reports when
// addresses change, when a querier asks, and now and then unasked, since not
// every segment has a querier. All nodes' groups are never reported.

const (
	groupsEvery   = int64(time.Minute) // between two reports that nobody asked for
	groupsPause   = int64(time.Second) // at least between two of an interface and family
	changeTold    = 2                  // how often a change is told (the robustness variable)
	groupsAtOnce  = 50                 // groups in one report
	answerMax     = 10 * time.Second   // the longest that a querier may make us wait
	never         = math.MaxInt64
	igmpQuery     = 0x11
	linkHopLimit  = 1
	igmpQueryLen  = 8
	mldQueryLen   = 24
	mldMaxRespAt  = 4
	igmpMaxRespAt = 1
)

// CARP's groups.
var (
	carpGroup4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	carpGroup6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x12})
)

// member is what the node listens to on an interface, in one family.
type member struct {
	joined []netip.Addr // sorted
	left   []netip.Addr // was joined, and that has yet to be told
	fresh  []netip.Addr // joined lately
	untold int          // how often the change is still to be told
	due    int64        // when to report next
	last   int64        // when that was done
}

// groups is the node's membership by interface and family (0: IPv4).
type groups struct {
	deadline atomic.Int64 // of the first report; never: none
	mu       sync.Mutex   // guards what follows
	of       [][2]member
}

func (g *groups) init() { g.deadline.Store(never) }

// set brings the membership in line with the node's addresses. Changes are
// reported at the next step.
func (g *groups) set(ports []*port, addresses []Address) {
	want := make([][2][]netip.Addr, len(ports))
	for _, a := range addresses {
		if int(a.Iface) >= len(ports) || ports[a.Iface] == nil || ports[a.Iface].layer3() {
			continue
		}
		w := &want[a.Iface]
		virtual := a.Kind == Held || a.Kind == Draining || a.Kind == NotHeld
		switch four := a.Addr.Is4(); {
		case four && virtual:
			w[0] = append(w[0], carpGroup4)
		case !four && virtual:
			w[1] = append(w[1], carpGroup6)
		}
		if !a.Addr.Is4() && (a.Kind == Own || a.Kind == Held || a.Kind == Unusable) {
			w[1] = append(w[1], packet.SolicitedNode(a.Addr.Netip()))
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.of) < len(want) {
		g.of = append(g.of, [2]member{{due: never}, {due: never}})
	}
	for i := range g.of {
		for family := range g.of[i] {
			var list []netip.Addr
			if i < len(want) {
				list = want[i][family]
			}
			slices.SortFunc(list, netip.Addr.Compare)
			g.of[i][family].change(slices.Compact(list))
		}
	}
	g.settle()
}

// change replaces what is joined and notes what is to be told of it.
func (m *member) change(list []netip.Addr) {
	if slices.Equal(m.joined, list) {
		return
	}
	for _, a := range m.joined {
		if !slices.Contains(list, a) {
			m.left = append(m.left, a)
		}
	}
	for _, a := range list {
		if !slices.Contains(m.joined, a) {
			m.fresh = append(m.fresh, a)
		}
	}
	m.left = slices.DeleteFunc(m.left, func(a netip.Addr) bool { return slices.Contains(list, a) })
	m.fresh = slices.DeleteFunc(m.fresh, func(a netip.Addr) bool { return !slices.Contains(list, a) })
	m.joined, m.untold, m.due = list, changeTold, 0
}

// settle finds the deadline; g is locked.
func (g *groups) settle() {
	first := int64(never)
	for i := range g.of {
		for family := range g.of[i] {
			first = min(first, g.of[i][family].due)
		}
	}
	g.deadline.Store(first)
}

// asked has a report sent within the time that a querier gave. Not all
// listeners should answer at once, so when is as good as random.
func (g *groups) asked(p *port, family int, mono int64, within time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int(p.Index) >= len(g.of) {
		return
	}
	m := &g.of[p.Index][family]
	if len(m.joined) == 0 {
		return
	}
	spread := binary.BigEndian.Uint32(p.MAC[2:]) * 0x9e3779b1
	wait := int64(within) / 1024 * int64((spread^uint32(mono))>>22)
	m.due = min(m.due, max(mono+wait, m.last+groupsPause))
	g.settle()
}

// again has everything on an interface reported anew: its link was away.
func (g *groups) again(iface uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int(iface) >= len(g.of) {
		return
	}
	for family := range g.of[iface] {
		if m := &g.of[iface][family]; len(m.joined) > 0 {
			m.due = min(m.due, m.last+groupsPause)
		}
	}
	g.settle()
}

// report is one that is to be sent.
type report struct {
	port   *port
	family int
	what   packet.Membership
	groups []netip.Addr
}

// take returns the reports that are due. Ports without a link wait for it.
func (g *groups) take(mono int64, ports []*port) (out []report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.of {
		for family := range g.of[i] {
			m := &g.of[i][family]
			if m.due > mono {
				continue
			}
			if i >= len(ports) || ports[i] == nil || len(m.joined)+len(m.left) == 0 {
				m.due = never
				continue
			}
			if !ports[i].device().Up() {
				m.due = mono + groupsPause
				continue
			}
			out = m.tell(mono, ports[i], family, out)
		}
	}
	g.settle()
	return out
}

// tell adds what m has to say.
func (m *member) tell(mono int64, p *port, family int, out []report) []report {
	add := func(what packet.Membership, list []netip.Addr) {
		for part := range slices.Chunk(list, groupsAtOnce) {
			out = append(out, report{p, family, what, slices.Clone(part)})
		}
	}
	m.last, m.due = mono, mono+groupsEvery
	if m.untold == 0 {
		add(packet.Member, m.joined)
		return out
	}
	add(packet.Leave, m.left)
	add(packet.Join, m.fresh)
	if m.untold--; m.untold > 0 {
		m.due = mono + groupsPause
		return out
	}
	m.left, m.fresh = nil, nil
	if len(m.joined) == 0 {
		m.due = never
	}
	return out
}

// report sends the membership reports that are due.
func (w *Worker) report() {
	if w.r.groups.deadline.Load() > w.mono {
		return
	}
	for _, g := range w.r.groups.take(w.mono, w.snap.ports) {
		f := w.spare()
		b, mac := f.Buf[f.Off:f.Off], packet.MAC(g.port.MAC)
		if g.family == 0 {
			src := netip.IPv4Unspecified()
			if !g.port.Source4.IsZero() {
				src = g.port.Source4.Netip()
			}
			b = packet.AppendIGMPReport(b, mac, src, g.what, g.groups)
		} else {
			b = packet.AppendMLDReport(b, mac, w.snap.linkLocal(g.port), g.what, g.groups)
		}
		if len(b) > len(f.Buf)-f.Off {
			w.r.drop(NoRoom)
			continue
		}
		f.Len = len(b)
		w.emit(g.port, f)
	}
}

// linkLocal is the interface's own link-local address, or :: while it has none
// that may be used.
func (s *snapshot) linkLocal(p *port) netip.Addr {
	for _, a := range s.addresses {
		if a.Iface == p.Index && a.Kind == Own && isLinkLocal(a.Addr) {
			return a.Addr.Netip()
		}
	}
	return netip.IPv6Unspecified()
}

// igmp takes what is said of IPv4 groups on a link. Of that only queries are
// for hosts (RFC 3376, section 4.1; older ones are shorter).
func (w *Worker) igmp(p *port, v *packet.View) {
	b := v.B[v.L4:v.End]
	if v.TTL != linkHopLimit || len(b) < igmpQueryLen || b[0] != igmpQuery || packet.Checksum(b, 0) != 0 {
		w.r.drop(ForeignND)
		return
	}
	tenths := int(b[igmpMaxRespAt])
	if tenths >= 128 { // a floating point number (section 4.1.1), if it is version 3
		tenths = (tenths&15 | 16) << (tenths>>4&7 + 3)
	}
	w.r.groups.asked(p, 0, w.mono, min(time.Duration(tenths)*100*time.Millisecond, answerMax))
}

// mldQuery takes a question about IPv6 groups (RFC 3810, section 5.1).
func (w *Worker) mldQuery(p *port, v *packet.View) {
	b := v.B[v.L4:v.End]
	if v.TTL != linkHopLimit || len(b) < mldQueryLen || !isLinkLocal(v.Src) || !packet.VerifyL4(v) {
		w.r.drop(ForeignND)
		return
	}
	ms := int(binary.BigEndian.Uint16(b[mldMaxRespAt:]))
	if ms >= 32768 {
		ms = (ms&0xfff | 0x1000) << (ms>>12&7 + 3)
	}
	w.r.groups.asked(p, 1, w.mono, min(time.Duration(ms)*time.Millisecond, answerMax))
}
