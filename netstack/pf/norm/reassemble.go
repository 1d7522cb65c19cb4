package norm

import (
	"bytes"
	"time"

	"tandem/netstack/packet"
)

// Config is the limits of a [Reassembler]; a zero takes the default.
type Config struct {
	MaxFragments int           // held at once, of all datagrams; default 5000
	MaxBytes     int           // of memory for them; default 16 MiB
	MaxPerSource int           // unfinished datagrams of one source address; default 256
	Timeout      time.Duration // from the first fragment that came; default 30 s
}

const (
	// piecesMax bounds the fragments of one datagram: 64 KiB in links of 296
	// bytes, which nothing has been below for decades.
	piecesMax = 256
	// pieceBytes is the least that a fragment takes: its buffer is used again.
	pieceBytes = 2048
	// piecesKept is for how many fragments an unused entry keeps its list.
	piecesKept = 64

	datagramBytesMax = 65535 // IP header included, in either family
)

// Stats counts what a [Reassembler] holds and did.
type Stats struct {
	Datagrams, Fragments, Bytes int    // held now
	Completed                   uint64 // datagrams handed out
	Evicted                     uint64 // datagrams that had to make room
	Expired                     uint64 // datagrams that did not come whole in time
}

// Datagram is what is worth knowing of a datagram that was put together.
type Datagram struct {
	Largest  int    // IP bytes of its longest fragment: its parts fit the way until here
	DontFrag bool   // one of its fragments said DF, which the datagram itself does not
	ID       uint32 // the identification of its fragments
}

// Reassembler puts datagrams together. Make one with [New]; it belongs to one
// goroutine or lock.
type Reassembler struct {
	cfg       Config
	index     map[key]int32
	sources   map[packet.Addr]source
	datagrams []datagram // entry 0 is never used, so that 0 is none
	pieces    []piece    // likewise
	age       chain      // all datagrams
	freeData  int32      // by links[byAge].older
	freePiece int32
	whole     []byte // the frame that Add returned last
	joined    Datagram
	stats     Stats
}

// key tells datagrams apart (RFC 791, section 3.2; RFC 8200, section 4.5).
// Fragments that came in at different interfaces never meet.
type key struct {
	src, dst packet.Addr
	id       uint32
	iface    uint16
	family   uint8
	proto    uint8 // IPv4 only: of IPv6 fragments only the first one knows
}

// piece is one fragment.
type piece struct {
	frame     []byte // a copy, up to the end of the datagram
	l3, start int    // offsets of its IP header and its data
	off       int    // where its data belongs
	more      bool
	free      int32
}

func (p *piece) data() []byte { return p.frame[p.start:] }
func (p *piece) end() int     { return p.off + len(p.frame) - p.start }

// datagram is one that is not whole yet, or one that never will be: then
// refused says why, and it stays to catch what still comes of it.
type datagram struct {
	key      key
	deadline int64
	pieces   []int32 // in order of their offsets
	bytes    int     // of data that has come
	total    int     // of data in all; -1: the last fragment has not come
	marks    uint8   // set of the congestion marks seen
	refused  Reason
	about    Datagram
	links    [2]links
}

// New returns an empty Reassembler.
func New(cfg Config) *Reassembler {
	setDefault := func(n *int, val int) {
		if *n <= 0 {
			*n = val
		}
	}
	setDefault(&cfg.MaxFragments, 5000)
	setDefault(&cfg.MaxBytes, 16<<20)
	setDefault(&cfg.MaxPerSource, 256)
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	return &Reassembler{
		cfg:       cfg,
		index:     make(map[key]int32),
		sources:   make(map[packet.Addr]source),
		datagrams: make([]datagram, 1),
		pieces:    make([]piece, 1),
	}
}

// Stats returns the counters.
func (r *Reassembler) Stats() Stats { return r.stats }

// Joined is about the frame that Add returned last.
func (r *Reassembler) Joined() Datagram { return r.joined }

// Add takes the fragment v, which came in at iface, and returns the whole
// Ethernet frame if v was the last one missing, else nil. The frame is good
// until the next call. A packet that is no fragment comes back as it is. v's
// bytes are copied; an unfinished checksum must have been completed before.
//
// The datagram has the header of its first fragment, without DF and without
// the IPv6 fragment header. now is in nanoseconds.
func (r *Reassembler) Add(now int64, iface uint16, v *packet.View) ([]byte, Reason) {
	if !v.Fragment {
		return v.B[:v.End], OK
	}
	k := keyOf(iface, v)
	i := r.index[k]
	if i != 0 && r.datagrams[i].deadline <= now {
		r.stats.Expired++
		r.forget(i)
		i = 0
	}
	if i == 0 {
		i = r.open(now, k)
	}
	if why := r.datagrams[i].refused; why != OK {
		return nil, why
	}
	if why := r.insert(i, v); why != OK {
		r.refuse(i, why)
		return nil, why
	}
	d := &r.datagrams[i]
	if d.bytes != d.total {
		return nil, OK
	}
	whole, why := r.join(d)
	if why != OK {
		r.refuse(i, why)
		return nil, why
	}
	r.joined = d.about
	r.stats.Completed++
	r.forget(i)
	return whole, OK
}

func keyOf(iface uint16, v *packet.View) key {
	k := key{src: v.Src, dst: v.Dst, id: v.FragID, iface: iface, family: v.Family}
	if v.Family == 4 {
		k.proto = v.Proto
	}
	return k
}

// dataStart is the offset of a fragment's data in its frame.
func dataStart(v *packet.View) int {
	if v.Family == 6 {
		return v.FragHeader + fragmentHeaderLen
	}
	return v.L3 + int(v.B[v.L3]&0x0f)*4
}

// insert puts v into datagram i. An exact copy of a fragment that is there is
// no fault (RFC 8200, section 4.5): networks do duplicate packets.
func (r *Reassembler) insert(i int32, v *packet.View) Reason {
	d := &r.datagrams[i]
	start := dataStart(v)
	off, end := v.FragOffset, v.FragOffset+v.End-start
	at := r.place(d, off)
	if at < len(d.pieces) {
		next := &r.pieces[d.pieces[at]]
		if next.off == off && next.more == v.MoreFrags && bytes.Equal(next.data(), v.B[start:v.End]) {
			return OK
		}
		if end > next.off {
			return FragmentOverlap
		}
		if !v.MoreFrags {
			return FragmentLength
		}
	}
	if at > 0 && r.pieces[d.pieces[at-1]].end() > off {
		return FragmentOverlap
	}
	if d.total >= 0 && end > d.total {
		return FragmentLength
	}
	if len(d.pieces) == piecesMax {
		return FragmentLimit
	}
	p := r.keep(i, v, start)
	if p == 0 {
		return FragmentLimit
	}
	d.pieces = append(d.pieces, 0)
	copy(d.pieces[at+1:], d.pieces[at:])
	d.pieces[at] = p
	d.bytes += end - off
	if !v.MoreFrags {
		d.total = end
	}
	d.marks |= 1 << (v.TOS & 3)
	d.about.Largest = max(d.about.Largest, v.End-v.L3)
	d.about.DontFrag = d.about.DontFrag || v.Family == 4 && v.DontFrag
	return OK
}

// place is the position of the first piece of d at or behind off. Fragments
// mostly come in order, so it looks from the end.
func (r *Reassembler) place(d *datagram, off int) int {
	at := len(d.pieces)
	for at > 0 && r.pieces[d.pieces[at-1]].off >= off {
		at--
	}
	return at
}

// keep copies v into a free piece, for which older datagrams than i may have
// to go, and returns it, or 0 if there is no room even so.
func (r *Reassembler) keep(i int32, v *packet.View, start int) int32 {
	need := max(v.End, pieceBytes)
	for r.stats.Fragments >= r.cfg.MaxFragments || r.stats.Bytes+need > r.cfg.MaxBytes {
		victim := r.age.oldest
		if victim == i {
			victim = r.datagrams[i].links[byAge].newer
		}
		if victim == 0 {
			return 0
		}
		r.evict(victim)
	}
	n := r.freePiece
	if n == 0 {
		n = int32(len(r.pieces))
		r.pieces = append(r.pieces, piece{})
	} else {
		r.freePiece = r.pieces[n].free
	}
	p := &r.pieces[n]
	if cap(p.frame) < need {
		p.frame = make([]byte, 0, need)
	}
	p.frame = append(p.frame[:0], v.B[:v.End]...)
	p.l3, p.start, p.off, p.more = v.L3, start, v.FragOffset, v.MoreFrags
	r.stats.Fragments++
	r.stats.Bytes += cap(p.frame)
	return n
}

// Sweep forgets the datagrams whose time is over and says how many there were.
func (r *Reassembler) Sweep(now int64) int { return r.Expire(now, nil) }

// Expire is Sweep, and hands report the first fragment of each of them, where
// it has come: its sender may be sent an ICMP time exceeded, code 1 (RFC 792;
// RFC 8200, section 4.5). The frame is good until report returns; report must
// not call r.
func (r *Reassembler) Expire(now int64, report func(iface uint16, first []byte)) int {
	n := 0
	for r.age.oldest != 0 && r.datagrams[r.age.oldest].deadline <= now {
		i := r.age.oldest
		d := &r.datagrams[i]
		if report != nil && len(d.pieces) > 0 {
			if first := &r.pieces[d.pieces[0]]; first.off == 0 {
				report(d.key.iface, first.frame)
			}
		}
		r.forget(i)
		n++
	}
	r.stats.Expired += uint64(n)
	return n
}
