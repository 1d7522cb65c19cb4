package vnet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"tandem/netstack/packet"
)

const (
	// PingTimeout is how long after it was due a probe may still be answered;
	// after that it is lost, even if an answer comes.
	PingTimeout = time.Second
	// pingPayloadLen is how much a probe carries, its number first.
	pingPayloadLen = 56
	// probesMax is how many probes a Pinger remembers: three hours at 10 ms.
	probesMax = 1 << 20
)

// Pinger asks a host for an echo again and again, and counts the frames in
// which its questions left and the answers came.
type Pinger struct {
	h        *Host
	dst      netip.AddrPort // of ICMP without port
	interval time.Duration
	sock     *socket
	ident    uint16
	timer    *timer
	payload  [header.ICMPv4MinimumSize + pingPayloadLen]byte

	probes     []probe
	first      uint64 // number of probes[0]
	duplicates uint64
	late       uint64
}

// probe is one question; times are in nanoseconds since the world's start,
// never where it did not happen.
type probe struct{ due, sent, received int64 }

const never = int64(-1)

// Pinger sends ICMP echo requests to dst, the first one now, then one each
// interval.
func (h *Host) Pinger(dst netip.Addr, interval time.Duration) (*Pinger, error) {
	transport := icmp.ProtocolNumber6
	if dst.Is4() {
		transport = icmp.ProtocolNumber4
	}
	return h.newPinger(transport, netip.AddrPortFrom(dst, 0), interval)
}

// UDPPinger does the same by UDP, for a host with an [Host.EchoUDP] server.
func (h *Host) UDPPinger(dst netip.AddrPort, interval time.Duration) (*Pinger, error) {
	return h.newPinger(udp.ProtocolNumber, dst, interval)
}

func (h *Host) newPinger(transport tcpip.TransportProtocolNumber, dst netip.AddrPort, interval time.Duration) (*Pinger, error) {
	p := &Pinger{h: h, dst: dst, interval: interval}
	sock, err := h.open(transport, netProto(dst.Addr()), func(s *socket) { s.read(1 << 16) })
	if err != nil {
		return nil, err
	}
	p.sock = sock
	if err := sock.ep.Bind(tcpip.FullAddress{NIC: hostNIC}); err != nil {
		sock.close()
		return nil, fmt.Errorf("host %s: ping %v: %v", h.name, dst, err)
	}
	local, _ := sock.ep.GetLocalAddress()
	p.ident = local.Port
	p.watch()[p.ident] = p
	p.timer = h.w.root.newTimer(p.send)
	p.timer.Reset(0)
	return p, nil
}

// Stop ends the asking. Answers to what was asked are still counted.
func (p *Pinger) Stop() {
	p.timer.Stop()
	p.h.w.After(PingTimeout, func() {
		p.sock.close()
		delete(p.watch(), p.ident)
	})
}

func (p *Pinger) watch() map[uint16]*Pinger {
	if p.dst.Port() != 0 {
		return p.h.datagrams
	}
	return p.h.echoes
}

func (p *Pinger) send() {
	if p.h.closed {
		return
	}
	p.timer.Reset(p.interval)
	if len(p.probes) == probesMax {
		p.probes = append(p.probes[:0], p.probes[probesMax/2:]...)
		p.first += probesMax / 2
	}
	number := p.first + uint64(len(p.probes))
	p.probes = append(p.probes, probe{due: p.h.w.instant(), sent: never, received: never})

	b := p.payload[:]
	binary.BigEndian.PutUint64(b[header.ICMPv4MinimumSize:], number)
	if p.dst.Port() != 0 {
		b = b[header.ICMPv4MinimumSize:]
	} else if p.dst.Addr().Is4() {
		b[0] = byte(header.ICMPv4Echo)
		binary.BigEndian.PutUint16(b[6:], uint16(number))
	} else {
		b[0] = byte(header.ICMPv6EchoRequest)
		binary.BigEndian.PutUint16(b[6:], uint16(number))
	}
	to := fullAddr(p.dst)
	// An error (no route, no neighbour) leaves a probe that was due and not sent.
	_, _ = p.sock.ep.Write(bytes.NewReader(b), tcpip.WriteOptions{To: &to})
}

// observe counts a frame with the pinger's identifier.
func (p *Pinger) observe(dir Direction, v *packet.View) {
	if v.DataLen < 8 {
		return
	}
	at := binary.BigEndian.Uint64(v.B[v.Payload:]) - p.first
	if at >= uint64(len(p.probes)) {
		return
	}
	one, now := &p.probes[at], p.h.w.instant()
	switch {
	case dir == Sent:
		if one.sent == never {
			one.sent = now
		}
	case packet.AddrFrom(p.dst.Addr()) != v.Src || p.dst.Port() != 0 && p.dst.Port() != v.SrcPort:
		// Somebody else's answer is none.
	case one.received != never:
		p.duplicates++
	case now-one.due > int64(PingTimeout):
		p.late++
	default:
		one.received = now
	}
}

// Probe is one question of a [Pinger]; what has not happened has the zero time.
type Probe struct {
	Number              uint64
	Due, Sent, Received time.Time
}

// Probes lists the questions that were due from from up to, not including, to.
// Zero times stand for the beginning and the present.
func (p *Pinger) Probes(from, to time.Time) []Probe {
	var list []Probe
	lo, hi := p.h.w.window(from, to)
	for i, one := range p.probes {
		if one.due >= lo && one.due < hi {
			list = append(list, Probe{
				Number: p.first + uint64(i),
				Due:    p.h.w.time(one.due), Sent: p.h.w.time(one.sent), Received: p.h.w.time(one.received),
			})
		}
	}
	return list
}

// Gap is a time in which every probe was lost.
type Gap struct {
	Start time.Time // when the first lost probe was due
	End   time.Time // when the next answered one was due, or the end of the report
	Lost  int
	Open  bool // no answered probe came after it
}

// Length is how long the gap lasted.
func (g Gap) Length() time.Duration { return g.End.Sub(g.Start) }

// PingReport sums up the probes of a time.
type PingReport struct {
	Due      int // probes that should have been sent
	Sent     int // that left as a frame
	Answered int // within PingTimeout
	Lost     int
	Pending  int // not answered and not lost yet
	Gaps     []Gap
	Longest  Gap // of Gaps; zero where there is none
	RTTMean  time.Duration
	RTTMax   time.Duration

	// Over the pinger's whole life.
	Duplicates, Late uint64
}

// Report sums up the probes due from from up to, not including, to. Zero times
// stand for the beginning and the present.
func (p *Pinger) Report(from, to time.Time) PingReport {
	w := p.h.w
	lo, hi := w.window(from, to)
	r := PingReport{Duplicates: p.duplicates, Late: p.late}
	now, sum, open := w.instant(), time.Duration(0), false
	for _, one := range p.probes {
		if one.due < lo || one.due >= hi {
			continue
		}
		r.Due++
		if one.sent != never {
			r.Sent++
		}
		switch {
		case one.received != never:
			r.Answered++
			rtt := time.Duration(one.received - one.due)
			sum, r.RTTMax = sum+rtt, max(r.RTTMax, rtt)
			if open {
				r.Gaps[len(r.Gaps)-1].End, open = w.time(one.due), false
			}
		case now-one.due <= int64(PingTimeout):
			r.Pending++
		case open:
			r.Lost++
			r.Gaps[len(r.Gaps)-1].Lost++
		default:
			r.Lost++
			r.Gaps, open = append(r.Gaps, Gap{Start: w.time(one.due), Lost: 1}), true
		}
	}
	if open {
		last := &r.Gaps[len(r.Gaps)-1]
		last.End, last.Open = w.time(min(hi, now)), true
	}
	for _, g := range r.Gaps {
		if g.Length() > r.Longest.Length() {
			r.Longest = g
		}
	}
	if r.Answered > 0 {
		r.RTTMean = sum / time.Duration(r.Answered)
	}
	return r
}

// window is a span of time in nanoseconds since the world's start.
func (w *World) window(from, to time.Time) (lo, hi int64) {
	lo, hi = 0, forever
	if !from.IsZero() {
		lo = int64(from.Sub(w.cfg.Start))
	}
	if !to.IsZero() {
		hi = int64(to.Sub(w.cfg.Start))
	}
	return lo, hi
}

// time converts nanoseconds since the world's start; never is the zero time.
func (w *World) time(at int64) time.Time {
	if at == never {
		return time.Time{}
	}
	return w.cfg.Start.Add(time.Duration(at))
}
