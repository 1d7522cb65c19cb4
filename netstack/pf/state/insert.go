package state

import (
	"sync/atomic"

	"tandem/netstack/packet"
)

// Spec describes a state to be made.
type Spec struct {
	// In is the tuple of the first packet as it came in, Out as it goes out,
	// after all translation. Answers are Out.Reverse() and become In.Reverse().
	In, Out packet.Tuple
	// IfIn is where packets like the first come in, IfOut where they leave
	// and answers come in. 0 is the node itself, as source or as end.
	IfIn, IfOut uint16
	Rule        uint32 // number of the rule in its set
	RuleID      uint64 // the rule's identity across sets, for the peer
	Gen         uint32 // generation of the set
	Sloppy      bool   // follow TCP by flags only
	NoSync      bool   // not to be sent to the peer
	Log         bool
	View        *packet.View // the first packet, before or after translation
}

// Insert makes a state and counts its first packet in it; that packet does not
// go through Match. It fails with Full, with Collision if one of the keys
// belongs to a living state (try another port), or with BadKey.
func (t *Table) Insert(now int64, n *Spec) (ID, Reason) {
	var in, out key
	if !in.set(&n.In, n.View.ICMPType) || !out.set(&n.Out, n.View.ICMPType) ||
		in.v6 != out.v6 || in.meta != out.meta {
		return 0, t.refuse(BadKey)
	}
	back := out.reverse()
	if in == back {
		return 0, t.refuse(BadKey)
	}
	for {
		id, stale, reason := t.insert(tickOf(now), n, &in, &back)
		if reason == OK {
			t.inserts.Add(1)
			return id, OK
		}
		if stale == 0 {
			return 0, t.refuse(reason)
		}
		if t.remove(stale) { // its time was over, only the sweep had not come yet
			t.expired.Add(1)
		}
	}
}

func (t *Table) refuse(r Reason) Reason {
	t.reasons[r].Add(1)
	return r
}

// insert does Insert's work under the locks of both keys' shards. On Collision
// it names the state in the way if that one is over.
func (t *Table) insert(now tick, n *Spec, in, back *key) (id, stale ID, reason Reason) {
	hashIn, hashBack := t.secret.hash(in), t.secret.hash(back)
	t.lockShards(hashIn, hashBack)
	defer t.unlockShards(hashIn, hashBack)
	if holder, over := t.holder(now, in, hashIn); holder != 0 {
		return 0, holder & over, Collision
	}
	if holder, over := t.holder(now, back, hashBack); holder != 0 {
		return 0, holder & over, Collision
	}
	place, ok := t.take(in.v6)
	if !ok {
		return 0, 0, Full
	}
	id = t.write(now, place, n, in, back)
	t.shardOf(hashIn).put(hashIn, place)
	t.shardOf(hashBack).put(hashBack, place)
	return id, 0, OK
}

// holder is the state that has k, whose shard is locked. over has all bits set
// if the state's time is over, none if it lives.
func (t *Table) holder(now tick, k *key, hash uint64) (id, over ID) {
	var f found
	if !t.search(t.shardOf(hash), k, hash, &f) {
		return 0, 0
	}
	defer f.lock.mu.Unlock()
	if t.ages.Load().expired(now, f.seen, f.class) {
		over = ^ID(0)
	}
	return f.id(), over
}

// id is the name of the state found.
func (f *found) id() ID { return ID(f.epoch)<<32 | ID(f.place) }

// write fills the record at a free place, under its stripe's lock, since
// searches that are late may still look there.
func (t *Table) write(now tick, place uint32, n *Spec, in, back *key) ID {
	st := t.stripeOf(place)
	st.mu.Lock()
	defer st.mu.Unlock()
	t.setKeys(place, in, back)
	b := t.body(place)
	b.seen = now
	b.rule, b.ruleGen = n.Rule, n.Gen
	b.hop, b.out = [2]uint32{}, [2]uint16{}
	b.iface = [2]uint16{n.IfIn, n.IfOut}
	b.proto, b.icmp = n.In.Proto, uint8(in.meta>>8)
	b.flags = n.flags(in)
	atomic.StoreUint32(&b.gen[0], 0)
	atomic.StoreUint32(&b.gen[1], 0)
	b.peers, b.class = firstPeers(n.In.Proto, n.View)
	b.packets, b.bytes = [2]uint64{}, [2]uint64{}
	b.count(Forward, n.View)
	c := t.cold(place)
	c.ruleID, c.created = n.RuleID, now
	c.wire, c.creator = t.wire.Add(2), t.creator.Load() // the odd id is the other half's
	epoch := b.epoch + 1
	atomic.StoreUint32(&b.epoch, epoch)
	return ID(epoch)<<32 | ID(place)
}

func (n *Spec) flags(in *key) (f flags) {
	for _, x := range [...]struct {
		set bool
		bit flags
	}{
		{n.Sloppy, flagSloppy},
		{n.NoSync, flagNoSync},
		{n.Log, flagLog},
		{n.In == n.Out, flagPlain},
		{in.meta&answerBit != 0, flagAnswer},
	} {
		if x.set {
			f |= x.bit
		}
	}
	return f
}

// firstPeers is both ends as they are after the first packet.
func firstPeers(proto uint8, v *packet.View) (p [2]peer, c class) {
	switch proto {
	case packet.ProtoTCP:
		_, end := extent(v)
		src := peer{lo: v.Seq, hi: end, scale: scaleSpoke, state: tcpsSynSent}
		if v.TCPFlags&packet.SYN != 0 {
			src.scale |= windowScale(v)
		} else {
			src.hi++
		}
		src.offer(max(uint32(v.Window), 1))
		return [2]peer{src, {hi: 1, win: 1, state: tcpsClosed}}, tcpFirst
	case packet.ProtoUDP:
		p[0].state, c = pseudoSingle, udpFirst
	case packet.ProtoICMP, packet.ProtoICMPv6:
		c = icmpFirst
	default:
		p[0].state, c = pseudoSingle, otherFirst
	}
	return p, c
}

// InUse says whether a living state has the answers to out, a tuple as it
// would leave, for its own. Of ICMP it asks about echo. Another worker may
// take the key meanwhile: Insert has the last word.
func (t *Table) InUse(now int64, out *packet.Tuple) bool {
	typ := uint8(echo4)
	if out.Family == 6 {
		typ = echo6
	}
	var k key
	if !k.set(out, typ) {
		return false
	}
	k = k.reverse()
	var f found
	if !t.acquire(&k, t.secret.hash(&k), &f) {
		return false
	}
	defer f.lock.mu.Unlock()
	return !t.ages.Load().expired(tickOf(now), f.seen, f.class)
}

// remove ends a state and says whether it was there to be ended.
func (t *Table) remove(id ID) bool {
	b, st := t.lockID(id)
	if b == nil {
		return false
	}
	in, back := t.key(id.Place(), Forward), t.key(id.Place(), Reverse)
	st.mu.Unlock() // shards come before stripes
	hashIn, hashBack := t.secret.hash(&in), t.secret.hash(&back)
	if !t.unlink(id, hashIn, hashBack) {
		return false
	}
	t.give(id.Place())
	t.removals.Add(1)
	return true
}

// unlink ends the life of a record and takes its slots out.
func (t *Table) unlink(id ID, hashIn, hashBack uint64) bool {
	t.lockShards(hashIn, hashBack)
	defer t.unlockShards(hashIn, hashBack)
	b, st := t.lockID(id)
	if b == nil {
		return false // another was faster
	}
	atomic.StoreUint32(&b.epoch, b.epoch+1)
	st.mu.Unlock()
	t.shardOf(hashIn).drop(hashIn, id.Place())
	t.shardOf(hashBack).drop(hashBack, id.Place())
	return true
}

// SetPath notes how the router forwards one direction. Of a state that is gone
// it does nothing.
func (t *Table) SetPath(id ID, d Dir, p Path) {
	b, st := t.lockID(id)
	if b == nil {
		return
	}
	defer st.mu.Unlock()
	d &= 1
	b.out[d], b.hop[d] = p.Out, p.Hop
	atomic.StoreUint32(&b.gen[d], p.Gen)
}

// SetRule notes what rules of generation gen said about a state: which rule,
// and whether they would let it in. A state that they would not stays until its
// time is over and passes nothing, unless later rules allow it again.
func (t *Table) SetRule(id ID, gen, rule uint32, ruleID uint64, allowed bool) {
	b, st := t.lockID(id)
	if b == nil {
		return
	}
	defer st.mu.Unlock()
	b.ruleGen, b.rule = gen, rule
	t.cold(id.Place()).ruleID = ruleID
	if allowed {
		b.flags &^= flagRefused
	} else {
		b.flags |= flagRefused
	}
}
