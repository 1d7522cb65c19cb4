package neigh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/netstack/packet"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func key(s string) packet.Addr { return packet.AddrFrom(ip(s)) }

// mac is a locally administered address that ends in n.
func mac(n byte) packet.MAC { return packet.MAC{0x02, 0, 0, 0, 0, n} }

// vmac is the virtual MAC of vhid 7.
var vmac = packet.MAC{0x00, 0x00, 0x5e, 0x00, 0x01, 7}

var networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}

// start is an arbitrary moment.
var start = time.Unix(1_000_000, 0)

// shortTiming is what a test that does not look at probing uses.
var shortTiming = Timing{Count: 3, Min: 200 * time.Millisecond, Max: 200 * time.Millisecond,
	Settle: 200 * time.Millisecond, DADCount: 1, DADWait: 500 * time.Millisecond}

// node is one node on the segment, at port 1 of its table.
type node struct {
	*Table
	name string
	n    byte
	owns []Own
	acts []Action // what it was told other than Send, for the test to look at
	mute bool     // its cable is cut
}

// world is a segment with nodes, in virtual time. Frames arrive at once.
type world struct {
	t     testing.TB
	now   time.Time
	nodes []*node
	sent  []string // every frame, described, with the sender's name
}

func newWorld(t testing.TB) *world { return &world{t: t, now: start} }

// add puts a node with MAC mac(n) and own addresses 10.0.0.n and
// 2001:db8::n on the segment; with probe they are probed for.
func (w *world) add(name string, n byte, probe bool) *node {
	seed := uint64(n)
	m := &node{name: name, n: n, Table: New(Config{Now: w.now, Probe: shortTiming,
		Rand: func() uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return seed >> 13 }})}
	link := packet.LinkLocal(mac(n))
	m.AddPort(1, PortConfig{MAC: mac(n), LinkLocal: link, Networks: networks})
	for _, a := range []netip.Addr{ip(fmt.Sprintf("10.0.0.%d", n)), ip(fmt.Sprintf("2001:db8::%x", n)), link} {
		m.owns = append(m.owns, Own{Addr: a, MAC: mac(n), Probe: probe})
	}
	w.nodes = append(w.nodes, m)
	w.do(m, m.SetOwn(w.now, 1, m.owns, nil))
	return m
}

// vip is an own entry for a held virtual address.
func vip(a string) Own { return Own{Addr: ip(a), MAC: vmac, Virtual: true} }

// hold makes m answer for the virtual addresses and announce them.
func (w *world) hold(m *node, vips ...Own) {
	w.do(m, m.SetOwn(w.now, 1, append(slices.Clone(m.owns), vips...), nil))
	w.do(m, m.Announce(w.now, 1, vips, nil))
}

// release makes m answer for its own addresses alone.
func (w *world) release(m *node) { w.do(m, m.SetOwn(w.now, 1, m.owns, nil)) }

// resolve asks m for a neighbour.
func (w *world) resolve(m *node, addr string) Status {
	_, status, acts := m.Resolve(w.now, 1, ip(addr), netip.Addr{}, nil)
	w.do(m, acts)
	return status
}

// do performs what m was told to; frames reach all others at once.
func (w *world) do(m *node, acts []Action) {
	for _, a := range acts {
		if a.Kind != Send {
			m.acts = append(m.acts, a)
			continue
		}
		w.sent = append(w.sent, m.name+": "+describe(w.t, a.Frame))
		if m.mute {
			continue
		}
		for _, other := range w.nodes {
			if other != m && !other.mute {
				w.deliver(other, a.Frame)
			}
		}
	}
}

// deliver gives a frame to m if its Ethernet address is one that m takes.
func (w *world) deliver(m *node, frame []byte) {
	dst := packet.MAC(frame[:6])
	if dst[0]&1 == 0 && !m.port(1).answers(dst) {
		return
	}
	w.do(m, m.Receive(w.now, 1, view(w.t, frame), nil))
}

// run lets time pass, deadline by deadline.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for {
		next := end
		for _, m := range w.nodes {
			if at := m.Deadline(); !at.IsZero() && at.Before(next) {
				next = at
			}
		}
		if next.After(w.now) {
			w.now = next
		}
		for _, m := range w.nodes {
			w.do(m, m.Tick(w.now, nil))
		}
		if !w.now.Before(end) {
			return
		}
	}
}

// take returns and clears what was sent.
func (w *world) take() []string {
	out := w.sent
	w.sent = nil
	return out
}

// told returns and clears what m was told, as text.
func (m *node) told() []string {
	var out []string
	for _, a := range m.acts {
		s := fmt.Sprintf("%v %v", a.Kind, a.Addr)
		if a.MAC != (packet.MAC{}) {
			s += " " + macName(a.MAC)
		}
		if a.Kind == ProbeDone {
			s += fmt.Sprintf(" ok=%v", a.OK)
		}
		out = append(out, s)
	}
	m.acts = nil
	return out
}

func (m *node) count(c Counter) uint64 { return m.Counts(1)[c] }

func view(t testing.TB, frame []byte) *packet.View {
	t.Helper()
	v := new(packet.View)
	if why := packet.Decode(frame, v); why != packet.OK {
		t.Fatalf("frame % x: %v", frame, why)
	}
	return v
}

func macName(m packet.MAC) string {
	switch {
	case m == vmac:
		return "VMAC"
	case m == broadcastMAC:
		return "all"
	case m == packet.MAC{}:
		return "0"
	case m[0] == 0x33:
		return "group"
	}
	return fmt.Sprint(m[5])
}

// describe writes a frame as "arp request 1>all sender 10.0.0.1@1 target 10.0.0.2@0".
func describe(t testing.TB, frame []byte) string {
	v := view(t, frame)
	path := macName(packet.MAC(frame[6:12])) + ">" + macName(packet.MAC(frame[:6]))
	if a, ok := packet.ParseARP(v); ok {
		op := map[uint16]string{1: "request", 2: "reply"}[a.Op]
		return fmt.Sprintf("arp %s %s sender %v@%s target %v@%s", op, path, a.Sender, macName(a.SenderMAC), a.Target, macName(a.TargetMAC))
	}
	n, ok := packet.ParseND(v)
	if !ok {
		t.Fatalf("frame % x is neither ARP nor ND", frame)
	}
	s := fmt.Sprintf("%s %s %v>%v target %v", map[uint8]string{135: "ns", 136: "na"}[n.Type], path, v.Src.Netip(), v.Dst.Netip(), n.Target)
	if n.HasLinkAddr {
		s += "@" + macName(n.LinkAddr)
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{n.Router, " router"}, {n.Solicited, " solicited"}, {n.Override, " override"}} {
		if f.set {
			s += f.name
		}
	}
	return s
}

// same compares lines.
func same(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n  %s\nwant:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// arp builds a frame whose Ethernet source is the sender's MAC.
func arp(op uint16, dst, senderMAC packet.MAC, sender string, targetMAC packet.MAC, target string) []byte {
	return packet.AppendARP(nil, op, senderMAC, dst, senderMAC, ip(sender), targetMAC, ip(target))
}
