package pf

import (
	"tandem/netstack/packet"
	"tandem/netstack/pf/norm"
)

// sweepEvery is how often expired states and fragments are looked for.
const sweepEvery = 10_000_000 // nanoseconds

// normOf is the normalisation of an interface.
func (f *Filter) normOf(iface uint16) *norm.Policy {
	p := f.policy.Load()
	if int(iface) >= len(p.Norm) {
		return nil
	}
	return &p.Norm[iface]
}

// Normalise makes an incoming packet that does not follow a remembered way
// what later checks expect, and drops what no receiver should see. False: it
// was dropped and counted.
func (f *Filter) Normalise(iface uint16, v *packet.View) bool {
	if why := norm.Check(v); why != norm.OK {
		f.normDrops[why].Add(1)
		return false
	}
	if p := f.normOf(iface); p != nil {
		if why := p.Apply(v, f.env.Rand); why != norm.OK {
			f.normDrops[why].Add(1)
			return false
		}
	}
	return true
}

// Touches says whether normalisation at an interface would change a packet of
// an established flow, which then cannot take the short walk.
func (f *Filter) Touches(iface uint16, v *packet.View) bool {
	p := f.normOf(iface)
	return p != nil && (p.NoDF || p.RandomID || p.MSS != 0 && v.Proto == packet.ProtoTCP && v.TCPFlags&packet.SYN != 0)
}

// Shape applies what normalisation asks of packets that leave by an interface:
// the MSS that connections across it may use.
func (f *Filter) Shape(iface uint16, v *packet.View) {
	if v.Proto != packet.ProtoTCP || v.TCPFlags&packet.SYN == 0 {
		return
	}
	if p := f.normOf(iface); p != nil && p.MSS != 0 {
		packet.ClampMSS(v, p.MSS)
	}
}

// Reassemble keeps a fragment. Once all parts are there it appends the whole
// frame to dst and says what is worth knowing of its parts.
func (f *Filter) Reassemble(mono int64, iface uint16, v *packet.View, dst []byte) ([]byte, norm.Datagram) {
	f.fragMu.Lock()
	defer f.fragMu.Unlock()
	whole, why := f.frags.Add(mono, iface, v)
	if why != norm.OK {
		f.normDrops[why].Add(1)
	}
	return append(dst, whole...), f.frags.Joined()
}

// Sweep forgets up to budget states, and fragments, whose time is over. It
// does nothing if it was called a moment ago.
func (f *Filter) Sweep(mono int64, budget int) {
	last := f.swept.Load()
	if mono-last < sweepEvery || !f.swept.CompareAndSwap(last, mono) {
		return
	}
	f.states.Sweep(mono, budget)
	f.fragMu.Lock()
	defer f.fragMu.Unlock()
	f.frags.Sweep(mono)
}
