package pf

import (
	"bytes"

	"tandem/netstack/packet"
	"tandem/netstack/pf/norm"
)

const (
	sweepEvery = 10_000_000    // nanoseconds between two looks for what has expired
	sweepTurn  = 5_000_000_000 // nanoseconds in which all states are looked at
	sweepMin   = 256           // states looked at each time, however few that takes

	// expiredMax is how many datagrams of one sweep are reported as expired.
	expiredMax = 8
)

// normOf is the normalisation of an interface; nil: none.
func (p *Policy) normOf(iface uint16) *norm.Policy {
	if int(iface) >= len(p.Norm) {
		return nil
	}
	return &p.Norm[iface]
}

// Sane drops what no receiver should see, whatever the rules are, before the
// state table looks at it. False: v was dropped and counted.
func (f *Filter) Sane(v *packet.View) bool {
	if why := norm.Check(v); why != norm.OK {
		f.normDrops[why].Add(1)
		return false
	}
	return true
}

// Scrub changes a packet as the interface that it came in by asks. False: it
// was dropped and counted.
func (f *Filter) Scrub(iface uint16, v *packet.View) bool {
	if p := f.policy.Load().normOf(iface); p != nil {
		if why := p.Apply(v, f.env.Rand); why != norm.OK {
			f.normDrops[why].Add(1)
			return false
		}
	}
	return true
}

// Touches says whether normalisation at an interface would change a packet
// without options.
func (p *Policy) Touches(iface uint16, v *packet.View) bool {
	n := p.normOf(iface)
	return n != nil && (n.NoDF || n.RandomID || n.MSS != 0 && v.Proto == packet.ProtoTCP && v.TCPFlags&packet.SYN != 0)
}

// Shape applies what normalisation asks of packets that leave by an interface:
// the MSS that connections across it may use.
func (f *Filter) Shape(iface uint16, v *packet.View) {
	if v.Proto != packet.ProtoTCP || v.TCPFlags&packet.SYN == 0 {
		return
	}
	if p := f.policy.Load().normOf(iface); p != nil && p.MSS != 0 {
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

// FragmentStats counts what reassembly holds and did.
func (f *Filter) FragmentStats() norm.Stats {
	f.fragMu.Lock()
	defer f.fragMu.Unlock()
	return f.frags.Stats()
}

// Expired is the first fragment of a datagram that did not come whole in time,
// of which its sender may be told.
type Expired struct {
	Iface uint16
	Frame []byte
}

// Sweep forgets states and fragments whose time is over. It does nothing if it
// was called a moment ago. It returns the first fragments of some of the
// datagrams that were given up.
func (f *Filter) Sweep(mono int64) []Expired {
	last := f.swept.Load()
	if mono-last < sweepEvery || !f.swept.CompareAndSwap(last, mono) {
		return nil
	}
	share := float64(min(mono-last, sweepTurn)) / sweepTurn
	f.states.Sweep(mono, max(sweepMin, int(share*float64(f.states.Places()))))
	f.fragMu.Lock()
	defer f.fragMu.Unlock()
	var out []Expired
	f.frags.Expire(mono, func(iface uint16, first []byte) {
		if len(out) < expiredMax {
			out = append(out, Expired{iface, bytes.Clone(first)})
		}
	})
	return out
}
