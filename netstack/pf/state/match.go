package state

import (
	"sync/atomic"

	"tandem/netstack/packet"
)

// Dir is a packet's direction along its flow.
type Dir uint8

const (
	Forward Dir = iota // as the first packet went
	Reverse            // as the answers go
)

// String is the direction in one word.
func (d Dir) String() string {
	if d == Forward {
		return "forward"
	}
	return "reverse"
}

// Path is how the router forwards one direction of a flow, in its own terms.
// The zero Path means that it is not known.
type Path struct {
	Out uint16
	Hop uint32
	Gen uint32
}

// Hit is what the table knows about a packet. On Miss only Verdict is set.
type Hit struct {
	ID      ID
	Verdict Verdict
	Reason  Reason // why Drop
	Dir     Dir
	// Closed: with this packet, or before, both ends have closed the
	// connection or one has reset it.
	Closed bool
	// Reset: the segment answers a SYN with the numbers of an older
	// connection. pf sends its sender an RST, so that it forgets that one.
	Reset   bool
	Sloppy  bool
	Log     bool
	In, Out uint16 // interfaces of this direction: where it comes in, where it leaves; 0 is the node
	Rule    uint32
	RuleGen uint32 // generation of the rules that allowed it last; 0: none of this node's
	Path    Path
	To      packet.Tuple // what the packet, or for MatchInner the quoted one, must become
}

// Match finds the state of a packet that came in at iface or, if out is set,
// that the node itself sends. It judges the packet by the state's protocol and
// binding; one that passes advances the state and is counted in it.
//
// A state that the rules refused drops with NotAllowed; RuleGen tells whether
// they have changed since, in which case the caller may ask them again and
// call SetRule. A SYN of the initiator on a connection that is over ends the
// old state and is a Miss, so that ports can be used again.
func (t *Table) Match(now int64, iface uint16, out bool, v *packet.View, hit *Hit) {
	if out {
		iface = 0
	}
	var k key
	if !k.set(&v.Tuple, v.ICMPType) {
		*hit = Hit{}
		return
	}
	hash := t.secret.hash(&k)
	var f found
	if !t.acquire(&k, hash, &f) {
		t.shardOf(hash).misses.Add(1)
		*hit = Hit{}
		return
	}
	t.settle(now, iface, v, &f, hit)
}

// settle judges a packet by the state found, and unlocks it.
func (t *Table) settle(now int64, iface uint16, v *packet.View, f *found, hit *Hit) {
	f.lock.hits++
	again := t.judge(tickOf(now), iface, v, f, hit)
	f.lock.mu.Unlock()
	if again {
		t.remove(hit.ID)
		*hit = Hit{}
	}
	if hit.Verdict == Drop {
		t.reasons[hit.Reason].Add(1)
	}
}

// judge decides on one packet; the record is locked. It says whether the
// state must make room for a new connection.
func (t *Table) judge(now tick, iface uint16, v *packet.View, f *found, hit *Hit) (again bool) {
	if t.ages.Load().expired(now, f.seen, f.class) {
		*hit = Hit{}
		return false
	}
	f.fill(hit)
	if f.flags&flagPlain != 0 {
		hit.To = v.Tuple
	} else {
		t.answer(f.place, 1-f.dir, &hit.To)
	}
	reason := OK
	switch {
	case iface != f.iface[f.dir]:
		reason = WrongInterface
	case f.flags&flagRefused != 0:
		reason = NotAllowed
	case f.proto == packet.ProtoTCP:
		if f.dir == Forward && f.over() && v.TCPFlags&(packet.SYN|packet.ACK) == packet.SYN {
			return true
		}
		reason = f.trackTCP(now, v, hit)
	case f.proto == packet.ProtoICMP || f.proto == packet.ProtoICMPv6:
		f.seen, f.class = now, icmpError
	case f.proto == packet.ProtoUDP:
		f.trackPseudo(now, udpSingle, udpMultiple)
	default:
		f.trackPseudo(now, otherSingle, otherMultiple)
	}
	if reason != OK {
		hit.Verdict, hit.Reason = Drop, reason
		return false
	}
	f.count(f.dir, v)
	return false
}

// fill copies into hit what does not depend on the packet; To is left alone.
// It sets field by field, since a literal would be made elsewhere and copied.
func (f *found) fill(hit *Hit) {
	d := f.dir & 1
	hit.ID = f.id()
	hit.Verdict, hit.Reason, hit.Dir = Pass, OK, d
	hit.Closed, hit.Reset = false, false
	hit.Sloppy, hit.Log = f.flags&flagSloppy != 0, f.flags&flagLog != 0
	hit.In, hit.Out = f.iface[d], f.iface[1-d]
	hit.Rule, hit.RuleGen = f.rule, f.ruleGen
	hit.Path.Out, hit.Path.Hop, hit.Path.Gen = f.out[d], f.hop[d], f.gen[d]
}

// count adds a packet to its direction, a coalesced one as the segments that
// the wire carries.
func (b *body) count(d Dir, v *packet.View) {
	n, bytes := 1, v.End-v.L3
	if v.SegSize > 0 && v.DataLen > v.SegSize {
		n = (v.DataLen + v.SegSize - 1) / v.SegSize
		bytes += (n - 1) * (v.Payload - v.L3)
	}
	b.packets[d] += uint64(n)
	b.bytes[d] += uint64(bytes)
}

// batchLen is how many packets MatchBatch takes through its stages at once.
const batchLen = 16

// MatchBatch does what Match does for each of vs, in order: vs[i] came in at
// ifaces[i], 0 if the node sends it. It is faster than single calls, since the
// waits for memory overlap: first all hashes, then all slots, then all
// records, and only then the packets. hits must be as long as vs.
func (t *Table) MatchBatch(now int64, ifaces []uint16, vs []*packet.View, hits []Hit) {
	for len(vs) > batchLen {
		t.matchBatch(now, ifaces[:batchLen], vs[:batchLen], hits[:batchLen])
		ifaces, vs, hits = ifaces[batchLen:], vs[batchLen:], hits[batchLen:]
	}
	t.matchBatch(now, ifaces, vs, hits)
}

func (t *Table) matchBatch(now int64, ifaces []uint16, vs []*packet.View, hits []Hit) {
	var keys [batchLen]key
	var hashes [batchLen]uint64
	var places [batchLen]uint32
	for i, v := range vs {
		keys[i].set(&v.Tuple, v.ICMPType)
		hashes[i] = t.secret.hash(&keys[i])
	}
	t.preload(hashes[:len(vs)], places[:len(vs)])
	for i, v := range vs {
		var f found
		switch {
		case v.Family == 0:
			hits[i] = Hit{}
		case places[i] != nowhere && t.lockIf(places[i], &keys[i], &f),
			places[i] != nowhere && t.acquire(&keys[i], hashes[i], &f):
			t.settle(now, ifaces[i], v, &f, &hits[i])
		default:
			t.shardOf(hashes[i]).misses.Add(1)
			hits[i] = Hit{}
		}
	}
}

// nowhere is not a place: there is no state.
const nowhere = ^uint32(0)

// preload brings the slots and then the records of a batch near, and names the
// likely place of each, or nowhere if there is none for sure. Loads of one
// stage do not wait for each other; that values of some go nowhere is no
// mistake, since atomic loads are always made.
func (t *Table) preload(hashes []uint64, places []uint32) {
	for _, h := range hashes {
		s := *t.shardOf(h).slots.Load()
		atomic.LoadUint64(&s[home(uint32(h), len(s))])
	}
	for i, h := range hashes {
		places[i] = t.shardOf(h).peek(uint32(h))
	}
	for _, p := range places {
		if p != 0 && p != nowhere {
			t.touch(p)
		}
	}
}

// touch reads one word of each cache line of a record.
func (t *Table) touch(place uint32) {
	if place&class6 != 0 {
		r := t.slab6.hot(place &^ class6)
		atomic.LoadUint64(&r.addr[0][0])
		atomic.LoadUint32(&r.epoch)
		atomic.LoadUint32(&r.gen[0])
		return
	}
	r := t.slab4.hot(place)
	atomic.LoadUint32(&r.epoch)
	atomic.LoadUint32(&r.gen[0])
}

// MatchInner finds the state that an ICMP error is about, by the packet that
// it quotes, which must be as it stood on the wire where the error was made.
// Nothing is advanced or counted in the state. On Pass:
//
//   - Dir is the direction in which the error travels, against the quoted packet;
//   - In is the interface where it must have come in: the caller compares;
//   - To is what the quoted tuple must become for the error's receiver, which
//     is To.Src; the error's own destination must become that address, too;
//   - the quoted sequence number is one that the flow may have sent.
func (t *Table) MatchInner(now int64, in *packet.View, hit *Hit) {
	*hit = Hit{}
	var k key
	if !k.set(&in.Tuple, in.ICMPType) {
		return
	}
	k = k.reverse()
	hash := t.secret.hash(&k)
	var f found
	if !t.acquire(&k, hash, &f) {
		t.shardOf(hash).misses.Add(1)
		return
	}
	defer f.lock.mu.Unlock()
	f.lock.hits++
	if t.ages.Load().expired(tickOf(now), f.seen, f.class) {
		return
	}
	f.fill(hit)
	t.tuple(f.place, 1-f.dir, &hit.To)
	switch {
	case f.flags&flagRefused != 0:
		hit.Verdict, hit.Reason = Drop, NotAllowed
	case f.proto == packet.ProtoTCP && f.flags&flagSloppy == 0 && !f.mayHaveSent(1-f.dir, in.Seq):
		hit.Verdict, hit.Reason = Drop, BadQuote
	default:
		return
	}
	t.reasons[hit.Reason].Add(1)
}
