package state

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tandem/netstack/packet"
)

// simPeer is one end of an honest TCP connection: it goes back to the first
// unacknowledged octet when something is lost, and keeps nothing that comes
// out of order. Numbers are 64 bits wide and count from its SYN.
type simPeer struct {
	iss           uint32
	una, nxt, end uint64 // sent and acknowledged, sent, all there is including FIN
	rcv           uint64 // next expected from the other
	edge          uint64 // what the other lets it send: number behind the last
	buffer        int    // octets of receive buffer
	unread        int
	shift         int // none: no window scale option
	scaled        bool
	synced, done  bool // has the other's SYN, its FIN
}

// simSegment is on its way.
type simSegment struct {
	flags    uint8
	seq, ack uint64
	data     int
	window   uint16
	shift    int
	passed   bool // the node has let it through
}

// sim is two peers, and the table between them.
type sim struct {
	*testing.T
	r     *rand.Rand
	c     *tcpTalk
	peers [2]simPeer
	wires [2][]simSegment // by sender
	loss  float64
	// shuffle: segments overtake each other. Then an old one may come so late
	// that the node drops it, but the transfer must end all the same.
	shuffle bool
}

func (p *simPeer) shiftNow() int {
	if p.scaled {
		return p.shift
	}
	return 0
}

func (p *simPeer) segment(flags uint8, seq uint64, data int) simSegment {
	s := simSegment{flags: flags, seq: seq, ack: p.rcv, data: data, shift: none}
	free := p.buffer - p.unread
	if flags&packet.SYN != 0 {
		s.shift, s.window = p.shift, uint16(min(free, 0xffff))
	} else {
		s.window = uint16(min(free>>p.shiftNow(), 0xffff))
	}
	return s
}

// send lets peer d send what it may: a SYN, data, or its FIN.
func (s *sim) send(d int) {
	p := &s.peers[d]
	if p.nxt == 0 {
		flags := uint8(packet.SYN)
		if p.synced {
			flags |= packet.ACK
		}
		s.put(d, p.segment(flags, 0, 0))
		p.nxt = 1
		return
	}
	room := min(p.edge, p.end-1) // the last number is the FIN's
	switch {
	case !p.synced || p.una == 0:
	case p.nxt < room:
		n := int(min(room-p.nxt, uint64(1+s.r.IntN(40000))))
		s.put(d, p.segment(packet.ACK|packet.PSH, p.nxt, n))
		p.nxt += uint64(n)
	case p.nxt == p.end-1 && p.nxt < p.edge:
		s.put(d, p.segment(packet.ACK|packet.FIN, p.nxt, 0))
		p.nxt++
	case s.r.IntN(8) == 0 && p.una > 0:
		s.put(d, p.segment(packet.ACK, p.nxt-1, 0)) // keepalive
	case s.r.IntN(8) == 0 && p.nxt < p.end-1 && p.nxt == p.edge && p.una == p.nxt:
		s.put(d, p.segment(packet.ACK, p.nxt, 1)) // window probe
	}
}

func (s *sim) put(d int, seg simSegment) {
	if s.r.Float64() >= s.loss/2 {
		s.wires[d] = append(s.wires[d], seg)
	}
}

// deliver gives peer d a segment of the other.
func (s *sim) deliver(d int, seg simSegment) {
	p := &s.peers[d]
	if seg.flags&packet.SYN != 0 {
		if !p.synced {
			p.synced, p.rcv = true, 1
			p.scaled = p.shift != none && seg.shift != none
		}
	}
	if !p.synced {
		return
	}
	if seg.flags&packet.ACK != 0 {
		p.una = max(p.una, seg.ack)
		p.nxt = max(p.nxt, p.una)
		window := uint64(seg.window)
		if o := &s.peers[1-d]; seg.flags&packet.SYN == 0 {
			window <<= o.shiftNow()
		}
		p.edge = max(p.edge, seg.ack+window)
	}
	if n := uint64(seg.data); seg.seq <= p.rcv && seg.seq+n > p.rcv && int(seg.seq+n-p.rcv) <= p.buffer-p.unread {
		p.unread += int(seg.seq + n - p.rcv)
		p.rcv = seg.seq + n
	}
	if seg.flags&packet.FIN != 0 && seg.seq+uint64(seg.data) == p.rcv && !p.done {
		p.rcv++
		p.done = true
	}
	if seg.data > 0 || seg.flags&(packet.SYN|packet.FIN) != 0 {
		if p.nxt > 0 && (p.una > 0 || d == 0) && s.r.IntN(3) > 0 {
			s.put(d, p.segment(packet.ACK, p.nxt, 0))
		}
	}
}

// filter sends a segment of peer d through the table.
func (s *sim) filter(d int, seg simSegment) {
	from := segment{from: "cs"[d], data: seg.data, win: seg.window, scale: seg.shift}
	tuple, iface := s.c.spec.In, uint16(lan)
	if d == 1 {
		tuple, iface = s.c.spec.Out.Reverse(), wan
	}
	v := from.view(tuple)
	v.TCPFlags = seg.flags
	if seg.flags&packet.SYN != 0 && seg.shift != none {
		addOptions(v, 1, 3, 3, byte(seg.shift))
	}
	v.Seq = s.peers[d].iss + uint32(seg.seq)
	if v.Ack = 0; seg.flags&packet.ACK != 0 {
		v.Ack = s.peers[1-d].iss + uint32(seg.ack)
	}
	if s.c.id == 0 {
		s.c.spec.View = v
		s.c.id = mustInsert(s, s.c.table, s.c.now, s.c.spec)
		return
	}
	if h := match(s.c.table, s.c.now, iface, v); h.Verdict != Pass && !s.shuffle {
		f, _ := s.c.table.First(s.c.id)
		s.Fatalf("dropped (%v) %+v of %+v\nto %+v\nstate %s %+v", h.Reason, seg, s.peers[d], s.peers[1-d], f.State(),
			s.c.table.body(s.c.id.Place()).peers)
	}
}

// step does one thing: a segment goes on, or a peer acts.
func (s *sim) step() {
	d := s.r.IntN(2)
	s.c.now += int64(s.r.IntN(1 << 24))
	switch what := s.r.IntN(10); {
	case what < 7 && len(s.wires[d]) > 0:
		i := 0
		if s.shuffle && s.wires[d][0].flags&packet.SYN == 0 {
			i = s.r.IntN(min(len(s.wires[d]), 3))
		}
		seg := s.wires[d][i]
		s.wires[d] = append(s.wires[d][:i], s.wires[d][i+1:]...)
		if seg.passed {
			s.deliver(1-d, seg)
			return
		}
		s.filter(d, seg)
		if seg.passed = true; s.r.Float64() >= s.loss/2 {
			s.wires[d] = append(s.wires[d], seg)
		}
	case what == 7:
		p := &s.peers[d]
		if p.unread -= min(p.unread, s.r.IntN(1<<20)); p.synced && p.una > 0 {
			s.put(d, p.segment(packet.ACK, p.nxt, 0)) // window update
		}
	case what == 8 && len(s.wires[0])+len(s.wires[1]) == 0:
		s.peers[d].nxt = s.peers[d].una // time-out: go back
	case d == 1 && !s.peers[1].synced: // the server waits for a SYN
	default:
		if len(s.wires[d]) < 20 {
			s.send(d)
		}
	}
}

// TestHonestConnectionsAreNeverHindered runs random transfers with loss on
// both sides of the node, reordering (every second seed), closed windows, keepalives and probes.
func TestHonestConnectionsAreNeverHindered(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			s := &sim{T: t, r: r, c: newTalk(t, false), loss: r.Float64() * 0.2, shuffle: seed%2 == 1}
			for i := range s.peers {
				p := &s.peers[i]
				p.iss, p.end = r.Uint32(), 2+uint64(r.IntN(3_000_000))
				p.buffer = 1000 << r.IntN(14)
				if p.shift = none; r.IntN(3) > 0 {
					for p.shift = 0; p.buffer>>p.shift > 0xffff; p.shift++ {
					}
					p.shift = min(14, p.shift+r.IntN(3))
				}
			}
			for steps := 0; !s.over(); steps++ {
				if steps == 2_000_000 {
					t.Fatalf("no end: %+v", s.peers)
				}
				s.step()
			}
			f, _ := s.c.table.First(s.c.id)
			if f.State() != "FIN_WAIT_2:FIN_WAIT_2" {
				t.Errorf("ended as %s", f.State())
			}
			if n, sum := s.c.table.Stats().Reasons[BadWindow], f.Packets[0]+f.Packets[1]; 50*n > sum {
				t.Errorf("%d of %d segments dropped", n, n+sum)
			}
		})
	}
}

func (s *sim) over() bool {
	a, b := &s.peers[0], &s.peers[1]
	return a.una == a.end && b.una == b.end && a.done && b.done
}

// TestNumbersWrap sends 10 GiB each way, with the largest windows, and a long
// pause in the middle.
func TestNumbersWrap(t *testing.T) {
	c := newTalk(t, false)
	c.run([]segment{
		{'c', "S", 0, 0, 0, 65535, 14, OK, ""},
		{'s', "SA", 0, 1, 0, 65535, 14, OK, ""},
		{'c', "A", 1, 1, 0, 65535, none, OK, ""},
		{'s', "A", 1, 1, 0, 65535, none, OK, ""}})
	const piece = 1 << 16
	up, down := 1, 1
	for i := range 10 << 30 / piece {
		from, seq, ack := byte('c'), &up, &down
		if i%2 == 1 {
			from, seq, ack = 's', &down, &up
		}
		s := segment{from: from, flags: "A", seq: *seq, ack: *ack, data: 2 * piece, win: 65535, scale: none}
		c.now -= second - 1000 // say adds one
		if h := c.say(s); h.Verdict != Pass {
			t.Fatalf("after %d octets: %v", *seq, h.Reason)
		}
		*seq += 2 * piece
		if i == 1000 {
			c.now += 20 * 3600 * second
		}
		if i%4096 == 0 { // half the ring away
			s.seq += 1 << 31
			if h := c.say(s); h.Reason != BadWindow {
				t.Fatalf("after %d octets a segment from far away: %v", *seq, h.Verdict)
			}
		}
	}
}

func FuzzFollow(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00"), uint32(1), uint32(2), uint8(7))
	f.Add([]byte("\x12\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\x00\x00\x90\x00\x00\x00\x01\x00\x00\x00\x01\x01\x00\x02\x00"), uint32(0xffffffff), uint32(0x80000000), uint8(0x8e))
	f.Fuzz(func(t *testing.T, b []byte, iss, irs uint32, scale uint8) {
		first := packet.View{Seq: iss, TCPFlags: packet.SYN, Window: 1000}
		addOptions(&first, 3, 3, scale, 0)
		p, _ := firstPeers(packet.ProtoTCP, &first)
		for len(b) >= 13 {
			v := packet.View{TCPFlags: b[0]}
			d := b[0] >> 7
			if v.TCPFlags &= 0x3f; !flagsFit(v.TCPFlags) {
				v.TCPFlags = packet.ACK
			}
			num := func(o int) uint32 {
				return uint32(b[o])<<24 | uint32(b[o+1])<<16 | uint32(b[o+2])<<8 | uint32(b[o+3])
			}
			v.Seq, v.Ack = iss+num(1), irs+num(5)
			v.Window, v.DataLen = uint16(num(9)>>16), int(uint16(num(9)))
			if addOptions(&v, 3, 3, b[0], 0); d == 1 {
				v.Seq, v.Ack = irs+num(1), iss+num(5)
			}
			before := p
			result := follow(&p[d], &p[1-d], &v)
			b = b[13:]
			if result == outside || result == mixedUp {
				p = before // as trackTCP does
				continue
			}
			for i := range p {
				if p[i].shift() > 14 || p[i].state > tcpsTimeWait || p[i].state < before[i].state {
					t.Fatalf("%+v became %+v", before, p)
				}
			}
			if v.TCPFlags&packet.RST != 0 && result == tolerated && before[0].state < tcpsFinWait2 {
				t.Fatalf("an RST was tolerated by %+v", before)
			}
			if p[d].spoke() && int32(p[d].lo-before[d].lo) < 0 && before[d].spoke() {
				t.Fatalf("%+v went back to %+v", before, p)
			}
			classTCP(&p[0], &p[1])
		}
	})
}
