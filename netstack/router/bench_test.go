package router

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/rule"
)

// treadmill is a device that has a batch of frames whenever it is asked and
// loses what is written: the cost of a walk without system calls. Of each
// frame only the first headBytes are written anew, for nobody looks at more.
type treadmill struct {
	info    link.Info
	frames  []wireFrame
	next    int
	left    int // frames still to be had; below zero: no end
	written int
}

// headBytes covers all headers of the frames that benchmarks use.
const headBytes = 96

func (d *treadmill) Info() link.Info      { return d.info }
func (d *treadmill) Queue(int) link.Queue { return d }
func (d *treadmill) Up() bool             { return true }
func (d *treadmill) Close() error         { return nil }
func (d *treadmill) FD() int              { return -1 }

func (d *treadmill) Read(frames []*link.Frame) (int, error) {
	n := 0
	for n < len(frames) && d.left != 0 && len(d.frames) > 0 {
		src := &d.frames[d.next]
		if d.next++; d.next == len(d.frames) {
			d.next = 0
		}
		f := frames[n]
		f.Off, f.Len, f.Offload = link.HeadRoom, len(src.b), src.offload
		copy(f.Buf[f.Off:], src.b[:min(len(src.b), headBytes)])
		d.left--
		n++
	}
	return n, nil
}

func (d *treadmill) Write(frames []*link.Frame) (int, error) {
	d.written += len(frames)
	return len(frames), nil
}

// mill is a lab whose LAN and WAN are treadmills.
func mill(t testing.TB, cfg labConfig, features link.Features) (l *lab, in, out *treadmill) {
	l = newLab(t, cfg)
	in = &treadmill{info: link.Info{Features: features, Queues: 1}}
	out = &treadmill{info: link.Info{Features: features, Queues: 1}}
	for i := range l.ports {
		switch l.ports[i].Index {
		case lan:
			l.ports[i].Device = in
		case wan:
			l.ports[i].Device = out
		}
	}
	if err := l.router.SetPorts(l.ports); err != nil {
		t.Fatal(err)
	}
	acts := l.neigh.Hint(l.now, wan, server4, macOf(server4), l.now.Add(10000*time.Hour), nil)
	acts = l.neigh.Hint(l.now, wan, server6, macOf(server6), l.now.Add(10000*time.Hour), acts)
	l.router.NeighActions(l.now, acts)
	l.step() // membership reports
	out.written = 0
	return l, in, out
}

// established is what a benchmark of the short walk sends.
type established struct {
	name     string
	src, dst netip.Addr
	flows    int
	payload  int
	coalesce bool
	proto    uint8
}

var establishedCases = []established{
	{"udp4/60B/flows=64", client4, far4, 64, 18, false, packet.ProtoUDP},
	{"udp4/60B/flows=10000", client4, far4, 10000, 18, false, packet.ProtoUDP},
	{"tcp4/60B/flows=64", client4, far4, 64, 6, false, packet.ProtoTCP},
	{"tcp4/64KB/flows=64", client4, far4, 64, 64000, true, packet.ProtoTCP},
	{"tcp6/60B/flows=64", client6, far6, 64, 6, false, packet.ProtoTCP},
}

// frames are the flows' packets: first a packet each that begins them, then
// one each as they come ever after.
func (e *established) frames() (first, later []wireFrame) {
	for i := range e.flows {
		src, dst := ap(e.src, uint16(1024+i)), ap(e.dst, 443)
		payload := make([]byte, e.payload)
		if e.proto == packet.ProtoUDP {
			f := wireFrame{b: udp(lan, src, dst, payload)}
			first, later = append(first, f), append(later, f)
			continue
		}
		first = append(first, wireFrame{b: tcp(lan, src, dst, segment{flags: packet.SYN, seq: 1, options: []byte{3, 3, 14, 0}})})
		f := wireFrame{b: tcp(lan, src, dst, segment{flags: packet.ACK, seq: 2, ack: 1, df: true, payload: payload})}
		if e.coalesce {
			partial(&f, 1448)
		}
		later = append(later, f)
	}
	return first, later
}

// partial makes f a coalesced frame with an unfinished checksum.
func partial(f *wireFrame, size int) {
	var v packet.View
	packet.Decode(f.b, &v)
	at := uint16(16)
	if v.Proto == packet.ProtoUDP {
		at = 6
	}
	binary.BigEndian.PutUint16(f.b[v.L4+int(at):], ^packet.Checksum(nil, packet.PseudoSum(&v.Tuple, v.End-v.L4)))
	f.offload = link.Offload{NeedsChecksum: true, ChecksumStart: uint16(v.L4), ChecksumOffset: at}
	if size > 0 && v.DataLen > size {
		f.offload.Segment, f.offload.HeaderLen, f.offload.SegSize = link.SegmentTCP4, uint16(v.Payload), uint16(size)
		switch {
		case v.Proto == packet.ProtoUDP:
			f.offload.Segment = link.SegmentUDP
		case v.Family == 6:
			f.offload.Segment = link.SegmentTCP6
		}
	}
}

// warm begins the flows and returns the router ready for more of them.
func (e *established) warm(t testing.TB) (l *lab, in, out *treadmill) {
	l, in, out = mill(t, labConfig{Rules: passLAN(), NAT: wide(), States: 100_000},
		link.Features{Checksum: true, TCP4: true, TCP6: true, UDP: true})
	first, later := e.frames()
	in.frames, in.left = first, len(first)
	l.step()
	if out.written != len(first) {
		t.Fatalf("%d of %d first packets left; drops %v %v", out.written, len(first), l.router.Drops(), l.filter.Drops())
	}
	in.frames, in.next, in.left = later, 0, 2*len(later)
	l.step() // the way is noted
	out.written = 0
	return l, in, out
}

// wide is outbound translation without a limit that a benchmark could reach.
func wide() nat.Config {
	n := masquerade()
	n.Outbound[0].PortLow, n.Outbound[0].PortHigh = 1024, 65535
	return n
}

// BenchmarkEstablishedWalk is the price of one packet of a known flow, from
// the device's Read to its Write, without either.
func BenchmarkEstablishedWalk(b *testing.B) {
	for _, e := range establishedCases {
		b.Run(e.name, func(b *testing.B) {
			l, in, out := e.warm(b)
			w := l.router.Worker(0)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += batchMax {
				in.left = batchMax
				w.Step(l.now)
			}
			b.StopTimer()
			if out.written < b.N {
				b.Fatalf("%d of %d packets left; drops %v %v", out.written, b.N, l.router.Drops(), l.filter.Drops())
			}
		})
	}
}

// BenchmarkFirstWalk is the price of the first packet of a flow: rules, a
// translation, a state, a route and a neighbour.
func BenchmarkFirstWalk(b *testing.B) {
	rules := passLAN()
	for i := range 20 {
		rules = append([]rule.Rule{{ID: string(rune('a' + i)), Quick: true, Direction: rule.In, Interfaces: []uint16{wan},
			Source: rule.AnyAddr(), Destination: rule.AnyAddr()}}, rules...)
	}
	l, in, out := mill(b, labConfig{Rules: rules, NAT: wide(), States: 1 << 22}, link.Features{Checksum: true})
	const flows = 4096
	for i := range flows {
		in.frames = append(in.frames, wireFrame{b: udpWith(lan, ap(client4, uint16(1024+i)), ap(far4, 53), 64, false, 0, make([]byte, 18))})
	}
	w := l.router.Worker(0)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += batchMax {
		if done%flows == 0 {
			// The clock leaps, so that all flows of before are over.
			l.now = l.now.Add(10 * time.Minute)
			b.StopTimer()
			in.left = 0
			for range 40 {
				l.now = l.now.Add(time.Second)
				w.Step(l.now)
			}
			b.StartTimer()
		}
		in.left = batchMax
		w.Step(l.now)
	}
	b.StopTimer()
	if out.written < b.N {
		b.Fatalf("%d of %d packets left; drops %v %v", out.written, b.N, l.router.Drops(), l.filter.Drops())
	}
}

func TestEstablishedWalkDoesNotAllocate(t *testing.T) {
	for _, e := range establishedCases {
		l, in, out := e.warm(t)
		w := l.router.Worker(0)
		const runs = 200
		n := testing.AllocsPerRun(runs, func() {
			in.left = batchMax
			w.Step(l.now)
		})
		if n != 0 || out.written < runs*batchMax {
			t.Errorf("%s: %v allocations for a batch, %d packets left", e.name, n, out.written)
		}
	}
}
