package state

import "tandem/netstack/packet"

// Connection states of a TCP peer, numbered as in pf and pfsync(4). pf uses
// them loosely: SYN_SENT means has spoken, ESTABLISHED has been acknowledged,
// CLOSING has sent FIN, FIN_WAIT_2 that the FIN was acknowledged, TIME_WAIT
// that somebody sent an RST.
const (
	tcpsClosed      = 0
	tcpsSynSent     = 2
	tcpsEstablished = 4
	tcpsClosing     = 7
	tcpsFinWait2    = 9
	tcpsTimeWait    = 10
)

var tcpNames = [...]string{
	"CLOSED", "LISTEN", "SYN_SENT", "SYN_RCVD", "ESTABLISHED", "CLOSE_WAIT",
	"FIN_WAIT_1", "CLOSING", "LAST_ACK", "FIN_WAIT_2", "TIME_WAIT",
}

// States of a peer of any other protocol.
const (
	pseudoNone = iota // has sent nothing
	pseudoSingle
	pseudoMultiple // has sent, and was answered
)

var pseudoNames = [...]string{"NO_TRAFFIC", "SINGLE", "MULTIPLE"}

// peer is one end of a flow, as its packets show it. Numbers are TCP's, modulo
// 2^32; for other protocols only state is used.
type peer struct {
	lo    uint32 // one behind the highest octet it has sent
	hi    uint32 // one behind the highest octet it may send: the other's last promise
	win   uint16 // largest window it has offered, in units of 1<<shift octets
	scale uint8
	state uint8
}

// Bits of peer.scale beside the shift count.
const (
	scaleShift = 0x0f
	scaleSpoke = 0x40 // lo is valid: the peer has sent a segment
	scaleAgree = 0x80 // its SYN had the window scale option (RFC 7323)
)

func (p *peer) spoke() bool    { return p.scale&scaleSpoke != 0 }
func (p *peer) scales() bool   { return p.scale&scaleAgree != 0 }
func (p *peer) shift() uint8   { return p.scale & scaleShift }
func (p *peer) window() uint32 { return uint32(p.win) << p.shift() } // octets

// offer notes a window of that many octets, if it is the largest so far.
func (p *peer) offer(octets uint32) {
	u := (octets + 1<<p.shift() - 1) >> p.shift()
	if u = min(u, 0xffff); uint16(u) > p.win {
		p.win = uint16(u)
	}
}

// maxAckWindow is how far pf lets acknowledgements stray: the largest window
// without scaling, and a segment for good measure.
const maxAckWindow = 0xffff + 1500

// Comparison modulo 2^32 (RFC 9293, section 3.4).
func after(a, b uint32) bool   { return int32(a-b) > 0 }
func atLeast(a, b uint32) bool { return int32(a-b) >= 0 }

// flagsFit says whether flags are those of a segment that TCP sends: some of
// SYN, ACK and RST, and SYN never with RST or FIN.
func flagsFit(flags uint8) bool {
	if flags&packet.SYN != 0 {
		return flags&(packet.RST|packet.FIN) == 0
	}
	return flags&(packet.ACK|packet.RST) != 0
}

// over says whether the connection is closed from both sides, or reset.
func (b *body) over() bool {
	return b.peers[0].state >= tcpsFinWait2 && b.peers[1].state >= tcpsFinWait2
}

// trackTCP judges a segment and, if it passes, advances the state.
func (f *found) trackTCP(now tick, v *packet.View, hit *Hit) Reason {
	if !flagsFit(v.TCPFlags) {
		return BadFlags
	}
	if f.flags&flagSloppy != 0 {
		src, dst := &f.peers[f.dir], &f.peers[1-f.dir]
		followSloppy(src, dst, v.TCPFlags)
		f.seen, f.class = now, classTCP(src, dst)
		hit.Closed = f.over()
		return OK
	}
	src, dst := f.peers[f.dir], f.peers[1-f.dir] // copies: a segment that is dropped leaves no trace
	switch follow(&src, &dst, v) {
	case fits:
		f.seen, f.class = now, classTCP(&src, &dst)
	case tolerated:
		// The clock is not set back, so that a flood of such keeps nothing alive.
	case mixedUp:
		hit.Reset = true
		return BadWindow
	default:
		if v.TCPFlags&packet.RST != 0 {
			return BadReset
		}
		return BadWindow
	}
	f.peers[f.dir], f.peers[1-f.dir] = src, dst
	hit.Closed = f.over()
	return OK
}

// classTCP is the timeout that the states of both peers ask for.
func classTCP(a, b *peer) class {
	lo, hi := min(a.state, b.state), max(a.state, b.state)
	switch {
	case lo >= tcpsFinWait2:
		return tcpClosed
	case lo >= tcpsClosing:
		return tcpFinWait
	case lo < tcpsEstablished:
		return tcpOpening
	case hi >= tcpsClosing:
		return tcpClosing
	}
	return tcpEstablished
}

// fit is how a segment lies to the windows.
type fit uint8

const (
	outside   fit = iota
	fits          // inside
	tolerated     // outside, at a time when pf is not strict
	mixedUp       // outside, and speaks of another connection than the SYN
)

// open notes the first segment that src sends, and what its SYN says about
// window scale, which is in force only if both SYNs had it (RFC 7323, 2.2).
func (src *peer) open(dst *peer, v *packet.View) {
	src.lo = v.Seq
	if v.TCPFlags&packet.SYN != 0 && dst.scales() {
		if src.scale = windowScale(v); !src.scales() {
			dst.win = uint16(min(dst.window(), 0xffff))
			dst.scale = scaleSpoke
		}
	}
	src.scale |= scaleSpoke
	src.state = max(src.state, tcpsSynSent)
	_, end := extent(v)
	src.hi = end + max(1, dst.window())
	src.offer(offered(src, dst, v))
}

// extent is the numbers behind a segment's last octet of data, and behind its
// FIN. A coalesced segment counts as the one that it was.
func extent(v *packet.View) (data, end uint32) {
	data = v.Seq + uint32(v.DataLen)
	if v.TCPFlags&packet.SYN != 0 {
		data++
	}
	end = data
	if v.TCPFlags&packet.FIN != 0 {
		end++
	}
	return data, end
}

// offered is the window in a segment of src, in octets.
func offered(src, dst *peer, v *packet.View) uint32 {
	if v.TCPFlags&packet.SYN == 0 && src.scales() && dst.scales() {
		return uint32(v.Window) << src.shift()
	}
	return uint32(v.Window)
}

// follow is pf's tracking by sequence numbers: a segment passes if its data
// lies in the window that the receiver has opened, and if what it
// acknowledges is near what the receiver has sent. It differs from pf in four
// points, all of which only forged segments can notice: windows in
// retransmitted SYNs are not taken for scaled ones; a promise to a peer that has
// not spoken is kept as window, not as number; an RST that answers a SYN must
// acknowledge it (RFC 9293, section 3.10.7.3); and an RST is never merely
// tolerated while the connection lives.
func follow(src, dst *peer, v *packet.View) fit {
	flags := v.TCPFlags
	first := !src.spoke()
	if first {
		src.open(dst, v)
	}
	seq := v.Seq
	data, end := extent(v)
	ack := v.Ack
	if flags&packet.ACK == 0 || dst.state < tcpsSynSent ||
		ack == 0 && flags&packet.RST != 0 { // some stacks give up a SYN like that
		ack = dst.lo
	}
	if seq == end { // no data: a keepalive, a probe, a bare acknowledgement
		seq, data, end = src.lo, src.lo, src.lo
	}
	win := offered(src, dst, v)
	shift := uint8(0)
	if flags&packet.SYN == 0 && src.scales() && dst.scales() {
		shift = src.shift()
	}
	skew := int32(dst.lo - ack)
	switch {
	case atLeast(src.hi, data) && atLeast(seq, src.lo-dst.window()) &&
		skew >= -maxAckWindow && skew <= maxAckWindow<<shift &&
		(flags&packet.RST == 0 || resetFits(src, dst, v, first)):
		src.advance(dst, end, ack, win)
		step(src, dst, flags, false)
		return fits
	case (dst.state < tcpsSynSent || dst.state >= tcpsFinWait2 || src.state >= tcpsFinWait2) &&
		atLeast(src.hi+maxAckWindow, data) && atLeast(seq, src.lo-maxAckWindow) &&
		(flags&packet.RST == 0 || src.state >= tcpsFinWait2 && dst.state >= tcpsFinWait2):
		src.advance(dst, end, ack, win)
		if flags&packet.FIN != 0 {
			src.state = max(src.state, tcpsClosing)
		}
		return tolerated
	case src.state == tcpsSynSent && dst.state == tcpsSynSent && flags&packet.RST == 0:
		return mixedUp
	}
	return outside
}

// resetFits says whether an RST bears the one number that its receiver takes,
// or one of its neighbours, since a SYN or FIN may not have arrived.
func resetFits(src, dst *peer, v *packet.View, first bool) bool {
	if first && dst.state == tcpsSynSent {
		return v.TCPFlags&packet.ACK != 0 && v.Ack-dst.lo <= dst.hi-dst.lo
	}
	return v.Seq-src.lo+1 <= 2
}

// advance moves the windows: src has sent up to end, and lets dst send up to
// win octets behind ack.
func (src *peer) advance(dst *peer, end, ack, win uint32) {
	src.offer(win)
	if after(end, src.lo) {
		src.lo = end
	}
	if dst.spoke() && atLeast(ack+win, dst.hi) {
		dst.hi = ack + max(win, 1) // one octet may always go, as a probe
	}
}

// step moves the states of both peers by the flags of a good segment. alone
// means that dst may be out of sight: then src's own segments must tell that
// it was answered.
func step(src, dst *peer, flags uint8, alone bool) {
	if flags&packet.SYN != 0 {
		src.state = max(src.state, tcpsSynSent)
	}
	if flags&packet.FIN != 0 {
		src.state = max(src.state, tcpsClosing)
	}
	if flags&packet.ACK != 0 {
		switch {
		case dst.state == tcpsSynSent:
			dst.state = tcpsEstablished
		case dst.state == tcpsClosing:
			dst.state = tcpsFinWait2
		case alone && src.state == tcpsSynSent:
			src.state, dst.state = tcpsEstablished, tcpsEstablished
		case alone && src.state == tcpsClosing && dst.state == tcpsEstablished:
			dst.state = tcpsClosing
		}
	}
	if flags&packet.RST != 0 {
		src.state, dst.state = tcpsTimeWait, tcpsTimeWait
	}
}

// followSloppy is pf's tracking by flags alone, for connections of which the
// node may see one direction only.
func followSloppy(src, dst *peer, flags uint8) {
	src.scale |= scaleSpoke
	step(src, dst, flags, !dst.spoke())
}

// mayHaveSent says whether the peer that sends in direction d may have sent a
// segment that began with seq: one in its window, or up to a window back.
func (b *body) mayHaveSent(d Dir, seq uint32) bool {
	src, dst := &b.peers[d], &b.peers[1-d]
	return src.spoke() && atLeast(src.hi, seq) && atLeast(seq, src.lo-dst.window())
}

// windowScale reads the window scale option of a SYN: the shift, at most 14
// (RFC 7323, section 2.3), with scaleAgree, or zero if there is none.
func windowScale(v *packet.View) uint8 {
	const headerLen, kindEnd, kindNop, kindScale = 20, 0, 1, 3
	if v.L4 <= 0 || v.L4+headerLen > v.Payload || v.Payload > len(v.B) {
		return 0
	}
	for o := v.B[v.L4+headerLen : v.Payload]; len(o) > 0; {
		switch {
		case o[0] == kindEnd:
			return 0
		case o[0] == kindNop:
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return 0
		case o[0] == kindScale && o[1] == 3:
			return min(o[2], 14) | scaleAgree
		}
		o = o[o[1]:]
	}
	return 0
}

// trackPseudo is pf's tracking of protocols without connections: a side is
// MULTIPLE once it has been answered.
func (f *found) trackPseudo(now tick, single, multiple class) {
	src, dst := &f.peers[f.dir], &f.peers[1-f.dir]
	src.state = max(src.state, pseudoSingle)
	if dst.state == pseudoSingle {
		dst.state = pseudoMultiple
	}
	f.seen, f.class = now, single
	if src.state == pseudoMultiple && dst.state == pseudoMultiple {
		f.class = multiple
	}
}
