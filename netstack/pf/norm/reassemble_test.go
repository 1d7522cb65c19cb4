package norm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"tandem/netstack/packet"
)

var (
	addr     = netip.MustParseAddr
	macA     = packet.MAC{2, 0, 0, 0, 0, 1}
	macB     = packet.MAC{2, 0, 0, 0, 0, 2}
	ends     = map[uint8][2]netip.Addr{4: {addr("192.0.2.1"), addr("198.51.100.1")}, 6: {addr("2001:db8::1"), addr("2001:db8::2")}}
	families = []uint8{4, 6}
)

func decode(t testing.TB, b []byte) *packet.View {
	t.Helper()
	v := new(packet.View)
	if r := packet.Decode(b, v); r != packet.OK {
		t.Fatalf("Decode(%x) = %v", b, r)
	}
	return v
}

// numbered is n bytes of which no two stretches look alike.
func numbered(n int) []byte {
	b := make([]byte, 0, n+4)
	for i := 0; len(b) < n; i++ {
		b = append(b, byte(i>>16), byte(i>>8), byte(i), 0x55)
	}
	return b[:n]
}

// whole is a frame around data, of a protocol without header; DF is clear.
func whole(family uint8, data []byte) []byte {
	e := ends[family]
	return packet.AppendIP(nil, macA, macB, e[0], e[1], packet.ProtoESP, 61, 0, false, 77, data)
}

// summed gives the IPv4 frame b a right header checksum.
func summed(b []byte) []byte {
	h := b[14 : 14+int(b[14]&15)*4]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], packet.Checksum(h, 0))
	return b
}

// fragment is one that holds data at off; from is the last byte of its source,
// so that a test can have many.
func fragment(family, from uint8, id uint32, off int, more bool, data []byte) []byte {
	b := whole(family, data)
	if family == 4 {
		b[29], b[18], b[19] = from, byte(id>>8), byte(id)
		b[20], b[21] = byte(off>>11), byte(off>>3)
		if more {
			b[20] |= 0x20
		}
		return summed(b)
	}
	head := []byte{packet.ProtoESP, 0, byte(off >> 8), byte(off), byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
	if more {
		head[3] |= 1
	}
	b = bytes.Join([][]byte{b[:54], head, b[54:]}, nil)
	b[37], b[20] = from, 44
	n := len(b) - 54
	b[18], b[19] = byte(n>>8), byte(n)
	return b
}

// cut makes the fragments of frame.
func cut(t testing.TB, frame []byte, mtu int) [][]byte {
	t.Helper()
	v := decode(t, frame)
	var out [][]byte
	emit := func(f []byte) { out = append(out, bytes.Clone(f)) }
	scratch := make([]byte, len(frame)+8)
	ok := packet.FragmentIPv4(v, mtu, emit, scratch) || packet.FragmentIPv6(v, mtu, 77, emit, scratch)
	if !ok || len(out) < 2 {
		t.Fatalf("%d fragments for MTU %d", len(out), mtu)
	}
	return out
}

func TestReassemblerRestoresTheDatagramInAnyOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, family := range families {
		r := New(Config{})
		for i := range 300 {
			want := whole(family, numbered(200+rnd.IntN(6000)))
			frags := cut(t, want, 100+rnd.IntN(100))
			largest := 0
			for _, f := range frags {
				largest = max(largest, len(f)-14)
			}
			frags = append(frags, frags[rnd.IntN(len(frags)-1)]) // a duplicate
			rnd.Shuffle(len(frags), func(a, b int) { frags[a], frags[b] = frags[b], frags[a] })
			var got []byte
			for _, f := range frags {
				b, why := r.Add(1, 1, decode(t, append(bytes.Clone(f), 0, 0)))
				if why != OK {
					t.Fatalf("IPv%d, %d: %v", family, i, why)
				}
				if b != nil {
					got = bytes.Clone(b)
				}
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("IPv%d, %d:\ngot  %x\nwant %x", family, i, got, want)
			}
			if j := r.Joined(); j != (Datagram{Largest: largest, ID: 77}) {
				t.Fatalf("IPv%d, %d: %+v, largest was %d", family, i, j, largest)
			}
			// What is left is the duplicate that came after the last one missing.
			r.Sweep(1 << 62)
			if s := r.Stats(); s.Datagrams != 0 || s.Fragments != 0 || s.Bytes != 0 {
				t.Fatalf("IPv%d, %d: still holds %+v", family, i, s)
			}
		}
	}
}

func TestReassemblerJoinsWhatLinuxSent(t *testing.T) {
	f, err := os.Open("../../packet/testdata/linux.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	frames, name := map[string][]byte{}, ""
	for s := bufio.NewScanner(f); s.Scan(); {
		if n, ok := strings.CutSuffix(s.Text(), ":"); ok {
			name = n
		} else if b, err := hex.DecodeString(s.Text()); err == nil {
			frames[name] = append(frames[name], b...)
		}
	}
	for _, family := range families {
		r := New(Config{})
		for _, n := range []int{3, 1, 2} {
			b, why := r.Add(1, 1, decode(t, frames[fmt.Sprintf("fragment%d-%d", family, n)]))
			if why != OK || (b != nil) != (n == 2) {
				t.Fatalf("IPv%d, fragment %d: %v, whole %v", family, n, why, b != nil)
			}
			if b == nil {
				continue
			}
			v := decode(t, b)
			if v.Fragment || v.FragHeader != 0 || v.DataLen != 3072 || v.DstPort != 9999 || !packet.VerifyL4(v) {
				t.Errorf("IPv%d: %+v", family, v.Tuple)
			}
		}
	}
}

func TestReassemblerKeepsHeadersOfTheFirstFragment(t *testing.T) {
	// IPv4 options; IPv6 hop-by-hop and routing headers, which stay ahead of
	// the fragment header.
	options := bytes.Join([][]byte{whole(4, nil)[:34], {148, 4, 0, 0}, numbered(500)}, nil)
	options[14], options[16], options[17] = 0x46, 2, 12
	summed(options)

	six := bytes.Join([][]byte{whole(6, nil)[:54], {43, 0, 5, 2, 0, 0, 1, 0}, {packet.ProtoESP, 0, 2, 0, 0, 0, 0, 0}, numbered(500)}, nil)
	six[18], six[19], six[20] = 2, 4, 0
	for _, want := range [][]byte{options, six} {
		r := New(Config{})
		frags := cut(t, want, 200)
		for i := len(frags) - 1; i >= 0; i-- {
			got, why := r.Add(1, 1, decode(t, frags[i]))
			if why != OK || i == 0 && !bytes.Equal(got, want) {
				t.Errorf("fragment %d: %v\ngot  %x\nwant %x", i, why, got, want)
			}
		}
	}
}

func TestReassemblerWalksAnAuthenticationHeader(t *testing.T) {
	r := New(Config{})
	ah := []byte{44, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9, 9, 9}
	var got []byte
	for i, b := range [][]byte{fragment(6, 1, 5, 0, true, numbered(16)), fragment(6, 1, 5, 16, false, numbered(3))} {
		b = bytes.Join([][]byte{b[:54], ah, b[54:]}, nil)
		b[19], b[20] = byte(len(b)-54), packet.ProtoAH
		whole, why := r.Add(1, 1, decode(t, b))
		if why != OK {
			t.Fatalf("fragment %d: %v", i, why)
		}
		got = whole
	}
	if v := decode(t, got); v.Proto != packet.ProtoESP || v.L4 != 70 || v.DataLen != 19 {
		t.Errorf("protocol %d at %d, %d bytes", v.Proto, v.L4, v.DataLen)
	}
}

func TestReassemblerRefuses(t *testing.T) {
	type part struct {
		off, n int
		more   bool
	}
	tests := []struct {
		name  string
		parts []part
		want  Reason // of the last part
	}{
		{"overlap from behind", []part{{0, 16, true}, {8, 16, true}}, FragmentOverlap},
		{"overlap from ahead", []part{{8, 16, true}, {0, 16, true}}, FragmentOverlap},
		{"overlap inside", []part{{0, 32, true}, {8, 8, true}}, FragmentOverlap},
		{"overlap around", []part{{8, 8, true}, {0, 32, true}}, FragmentOverlap},
		{"the same place, longer", []part{{8, 8, true}, {8, 16, true}}, FragmentOverlap},
		{"the same place, but the last", []part{{8, 8, true}, {8, 8, false}}, FragmentOverlap},
		{"another last, longer", []part{{16, 8, false}, {24, 8, false}}, FragmentLength},
		{"another last, shorter", []part{{16, 8, false}, {8, 8, false}}, FragmentLength},
		{"more behind the last", []part{{16, 8, false}, {24, 8, true}}, FragmentLength},
		{"the last ahead of others", []part{{24, 8, true}, {8, 8, false}}, FragmentLength},
		{"all is well", []part{{24, 8, true}, {8, 16, true}, {32, 3, false}, {0, 8, true}}, OK},
	}
	for _, tt := range tests {
		for _, family := range families {
			r := New(Config{})
			data := numbered(64)
			for i, p := range tt.parts {
				_, why := r.Add(1, 1, decode(t, fragment(family, 1, 5, p.off, p.more, data[p.off:p.off+p.n])))
				if i < len(tt.parts)-1 && why != OK || i == len(tt.parts)-1 && why != tt.want {
					t.Errorf("%s, IPv%d, part %d: %v, want %v at the end", tt.name, family, i, why, tt.want)
				}
			}
			if tt.want == OK {
				continue
			}
			if s := r.Stats(); s.Fragments != 0 || s.Bytes != 0 || s.Datagrams != 1 {
				t.Errorf("%s, IPv%d: holds %+v", tt.name, family, s)
			}
			// RFC 5722: what is yet to come is dropped as well.
			for _, p := range []part{{0, 32, true}, {32, 8, false}} {
				if b, why := r.Add(2, 1, decode(t, fragment(family, 1, 5, p.off, p.more, data[p.off:p.off+p.n]))); b != nil || why != tt.want {
					t.Errorf("%s, IPv%d, later: %v, want %v", tt.name, family, why, tt.want)
				}
			}
			// After the deadline the identification may be used anew.
			if _, why := r.Add(2+int64(30*time.Second), 1, decode(t, fragment(family, 1, 5, 0, true, data[:8]))); why != OK {
				t.Errorf("%s, IPv%d, after the deadline: %v", tt.name, family, why)
			}
		}
	}
}

func TestReassemblerRefusesChangedDuplicate(t *testing.T) {
	r := New(Config{})
	r.Add(1, 1, decode(t, fragment(4, 1, 5, 8, true, numbered(8))))
	if _, why := r.Add(1, 1, decode(t, fragment(4, 1, 5, 8, true, make([]byte, 8)))); why != FragmentOverlap {
		t.Errorf("%v, want %v", why, FragmentOverlap)
	}
}

func TestReassemblerRefusesMoreThanADatagramHolds(t *testing.T) {
	// 65504 bytes of data fit behind an IPv4 header, not behind one of IPv6.
	for _, family := range families {
		r := New(Config{})
		data := make([]byte, 65504)
		var why Reason
		for off := 0; off < len(data) && why == OK; off += 8000 {
			end := min(off+8000, len(data))
			_, why = r.Add(1, 1, decode(t, fragment(family, 1, 5, off, end < len(data), data[off:end])))
		}
		if want := map[uint8]Reason{4: OK, 6: FragmentOversize}[family]; why != want {
			t.Errorf("IPv%d: %v, want %v", family, why, want)
		}
	}
	// Only the first fragment tells how long the header is.
	r := New(Config{})
	first := fragment(4, 1, 5, 0, true, make([]byte, 40000))
	first = bytes.Join([][]byte{first[:34], {148, 4, 0, 0}, first[34:]}, nil)
	first[14] = 0x46
	binary.BigEndian.PutUint16(first[16:], 40024)
	if _, why := r.Add(1, 1, decode(t, fragment(4, 1, 5, 40000, false, make([]byte, 25512)))); why != OK {
		t.Errorf("last: %v", why)
	}
	if _, why := r.Add(1, 1, decode(t, summed(first))); why != FragmentOversize {
		t.Errorf("first with options: %v", why)
	}
}

func TestReassemblerKeepsApart(t *testing.T) {
	for _, family := range families {
		r := New(Config{})
		first, last := fragment(family, 1, 5, 0, true, numbered(8)), fragment(family, 1, 5, 8, false, numbered(8))
		r.Add(1, 1, decode(t, first))
		other := map[string][]byte{
			"source":         fragment(family, 2, 5, 8, false, numbered(8)),
			"identification": fragment(family, 1, 6, 8, false, numbered(8)),
		}
		for what, f := range other {
			if b, why := r.Add(1, 1, decode(t, f)); b != nil || why != OK {
				t.Errorf("IPv%d: joined across another %s", family, what)
			}
		}
		if b, _ := r.Add(1, 2, decode(t, last)); b != nil {
			t.Errorf("IPv%d: joined across interfaces", family)
		}
		if b, _ := r.Add(1, 1, decode(t, last)); b == nil {
			t.Errorf("IPv%d: not joined", family)
		}
	}
}

func TestReassemblerPassesWholePackets(t *testing.T) {
	b := whole(4, numbered(20))
	got, why := New(Config{}).Add(1, 1, decode(t, append(bytes.Clone(b), 0)))
	if why != OK || !bytes.Equal(got, b) {
		t.Errorf("%v, %x", why, got)
	}
}

func TestReassemblerCongestionMarks(t *testing.T) {
	const notECT, ect, ce = 0, 2, 3
	tests := []struct {
		a, b, want uint8
		why        Reason
	}{
		{notECT, notECT, notECT, OK},
		{ect, ect, ect, OK},
		{ect, ce, ce, OK},
		{ce, ect, ce, OK},
		{ce, notECT, 0, FragmentMark},
	}
	for _, tt := range tests {
		for _, family := range families {
			r := New(Config{})
			mark := func(b []byte, m uint8) *packet.View {
				if family == 6 {
					b[15] |= m << 4
					return decode(t, b)
				}
				b[15] = m
				return decode(t, summed(b))
			}
			r.Add(1, 1, mark(fragment(family, 1, 5, 0, true, numbered(8)), tt.a))
			b, why := r.Add(1, 1, mark(fragment(family, 1, 5, 8, false, numbered(8)), tt.b))
			if why != tt.why || why == OK && decode(t, b).TOS != tt.want {
				t.Errorf("IPv%d, %d and %d: %v", family, tt.a, tt.b, why)
			}
		}
	}
}

func TestReassemblerReportsDF(t *testing.T) {
	r := New(Config{})
	b := fragment(4, 1, 5, 0, true, numbered(16))
	b[20] |= 0x40
	r.Add(1, 1, decode(t, summed(b)))
	got, _ := r.Add(1, 1, decode(t, fragment(4, 1, 5, 16, false, numbered(1))))
	if v := decode(t, got); v.DontFrag || r.Joined() != (Datagram{Largest: 36, DontFrag: true, ID: 5}) {
		t.Errorf("DF %v, %+v", v.DontFrag, r.Joined())
	}
}

func TestExpireReportsFirstFragments(t *testing.T) {
	r := New(Config{Timeout: time.Second})
	first := fragment(4, 1, 5, 0, true, numbered(8))
	r.Add(0, 3, decode(t, first))
	r.Add(1, 3, decode(t, fragment(4, 1, 6, 8, true, numbered(8))))                     // the first has not come
	r.Add(2, 3, decode(t, fragment(6, 1, 7, 0, true, numbered(8))))                     // still has time
	r.Add(int64(time.Second)-1, 3, decode(t, fragment(4, 1, 5, 16, true, numbered(8)))) // does not prolong
	var got []string
	report := func(iface uint16, f []byte) { got = append(got, fmt.Sprintf("%d %x", iface, f)) }
	if n := r.Expire(int64(time.Second)-1, report); n != 0 || len(got) != 0 {
		t.Fatalf("too early: %d, %v", n, got)
	}
	if n := r.Expire(int64(time.Second)+1, report); n != 2 || len(got) != 1 || got[0] != fmt.Sprintf("3 %x", first) {
		t.Errorf("%d, %v", n, got)
	}
	if s := r.Stats(); s.Datagrams != 1 || s.Fragments != 1 || s.Expired != 2 {
		t.Errorf("%+v", s)
	}
}

func TestReassemblerForgetsTheExpiredWhenAsked(t *testing.T) {
	r := New(Config{Timeout: time.Second})
	r.Add(0, 1, decode(t, fragment(4, 1, 5, 0, true, numbered(8))))
	if b, why := r.Add(int64(time.Second), 1, decode(t, fragment(4, 1, 5, 8, false, numbered(8)))); b != nil || why != OK {
		t.Errorf("joined with what had expired: %v", why)
	}
	if s := r.Stats(); s.Expired != 1 || s.Fragments != 1 {
		t.Errorf("%+v", s)
	}
}

func TestReassemblerMakesRoomAtTheOldest(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		held int // datagrams of one fragment each
	}{
		{"fragments", Config{MaxFragments: 3}, 3},
		{"bytes", Config{MaxBytes: 3*pieceBytes + 100}, 3},
		{"of a source", Config{MaxPerSource: 3}, 3},
	}
	for _, tt := range tests {
		r := New(tt.cfg)
		for id := range uint32(5) {
			r.Add(int64(id), 1, decode(t, fragment(4, 1, id, 0, true, numbered(8))))
		}
		if s := r.Stats(); s.Datagrams != tt.held || s.Fragments != tt.held || s.Evicted != 2 {
			t.Errorf("%s: %+v", tt.name, s)
		}
		for _, id := range []uint32{4, 3} { // The youngest are there; a last fragment takes room too.
			if b, _ := r.Add(9, 1, decode(t, fragment(4, 1, id, 8, false, numbered(8)))); b == nil {
				t.Errorf("%s: datagram %d is gone", tt.name, id)
			}
		}
	}
}

func TestReassemblerLeavesOtherSourcesAlone(t *testing.T) {
	r := New(Config{MaxPerSource: 2})
	r.Add(0, 1, decode(t, fragment(4, 9, 1, 0, true, numbered(8))))
	for id := range uint32(50) {
		r.Add(1, 1, decode(t, fragment(4, 1, id, 0, true, numbered(8))))
	}
	if s := r.Stats(); s.Datagrams != 3 || s.Evicted != 48 {
		t.Errorf("%+v", s)
	}
	if b, _ := r.Add(2, 1, decode(t, fragment(4, 9, 1, 8, false, numbered(8)))); b == nil {
		t.Error("the other source's datagram is gone")
	}
}

func TestReassemblerBoundsOneDatagram(t *testing.T) {
	r := New(Config{})
	var why Reason
	n := 0
	for why == OK {
		_, why = r.Add(1, 1, decode(t, fragment(6, 1, 5, n*16, true, numbered(8))))
		n++
	}
	if why != FragmentLimit || n != piecesMax+1 {
		t.Errorf("%v after %d", why, n)
	}
	r = New(Config{MaxFragments: 2})
	for i := range 2 {
		r.Add(1, 1, decode(t, fragment(6, 1, 5, i*16, true, numbered(8))))
	}
	if _, why := r.Add(1, 1, decode(t, fragment(6, 1, 5, 32, true, numbered(8)))); why != FragmentLimit {
		t.Errorf("alone in a small table: %v", why)
	}
}

func TestReassemblerKeepsNoMemoryOfJumboFrames(t *testing.T) {
	r := New(Config{MaxBytes: 100_000})
	for i := range 100 {
		for off := range 5 {
			r.Add(1, 1, decode(t, fragment(4, 1, uint32(i), off*13600, true, make([]byte, 9000))))
			if s := r.Stats(); s.Bytes > 100_000 {
				t.Fatalf("%+v", s)
			}
		}
	}
	r.Sweep(1 << 62)
	for i := range r.pieces {
		if cap(r.pieces[i].frame) > pieceBytes {
			t.Fatalf("a free piece keeps %d bytes", cap(r.pieces[i].frame))
		}
	}
}

func TestReassemblyDoesNotAllocate(t *testing.T) {
	r := New(Config{})
	var views []*packet.View
	for _, family := range families {
		for _, f := range cut(t, whole(family, numbered(4000)), 1500) {
			views = append(views, decode(t, f))
		}
	}
	now := int64(0)
	add := func() {
		for _, v := range views {
			now++
			r.Add(now, 1, v)
		}
		r.Expire(now, func(uint16, []byte) {})
	}
	add()
	if n := testing.AllocsPerRun(100, add); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkReassemble(b *testing.B) {
	r := New(Config{})
	var views []*packet.View
	for _, f := range cut(b, whole(4, numbered(4000)), 1500) {
		views = append(views, decode(b, f))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, v := range views {
			r.Add(1, 1, v)
		}
	}
}
