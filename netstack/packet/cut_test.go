package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// TestSegmentEqualsSeparatePackets: cutting a coalesced packet gives what the
// sender would have sent without coalescing.
func TestSegmentEqualsSeparatePackets(t *testing.T) {
	r := newRand(30)
	for i := range 600 {
		s := randomSpec(r)
		for s.Proto != ProtoTCP && s.Proto != ProtoUDP {
			s = randomSpec(r)
		}
		s.flags = uint8(r.Uint32())
		s.payload = randomBytes(r, 1+r.IntN(4000))
		if r.IntN(3) > 0 {
			s.partial, s.noSum = true, false
		}
		v := mustDecode(t, s.frame())
		v.PartialSum, v.SegSize = s.partial, 1+r.IntN(1500)
		if r.IntN(8) == 0 {
			v.SegSize = 0
		}
		before := bytes.Clone(v.B)
		want := separate(s, v.SegSize)
		scratch, n := make([]byte, len(v.B)), 0
		Segment(v, func(f []byte) {
			if n < len(want) && !bytes.Equal(f, want[n]) {
				t.Fatalf("%d: frame %d of %d:\ngot  %x\nwant %x", i, n, len(want), f, want[n])
			}
			n++
		}, scratch)
		if n != len(want) {
			t.Fatalf("%d: %d frames, want %d", i, n, len(want))
		}
		if !bytes.Equal(v.B, before) {
			t.Fatalf("%d: the packet was changed", i)
		}
	}
}

// separate makes the packets of which s is the sum.
func separate(s spec, size int) [][]byte {
	if size == 0 {
		size = len(s.payload)
	}
	var frames [][]byte
	all, flags := s.payload, s.flags
	s.partial, s.padding = false, 0
	for off := 0; off < len(all); off += size {
		part := s
		part.payload = all[off:min(off+size, len(all))]
		part.seq += uint32(off)
		part.id += uint16(len(frames))
		if off > 0 {
			part.flags &^= CWR
		}
		if off+size < len(all) {
			part.flags &^= FIN | PSH
		}
		frames = append(frames, part.frame())
	}
	s.flags = flags
	return frames
}

func TestSegmentPassesWhatItCannotCut(t *testing.T) {
	for _, name := range []string{"echo4", "fragment6-2", "tcp4-syn"} {
		b := golden(t)[name]
		v := mustDecode(t, append(bytes.Clone(b), 0, 0))
		v.SegSize = 100
		n := 0
		Segment(v, func(f []byte) {
			if n++; !bytes.Equal(f, b) {
				t.Errorf("%s: %x, want %x", name, f, b)
			}
		}, make([]byte, len(v.B)))
		if n != 1 {
			t.Errorf("%s: %d frames", name, n)
		}
	}
}

// join puts fragments together again and checks what they must have in common.
func join(t *testing.T, mtu int, frames [][]byte) (data []byte, first *View) {
	t.Helper()
	for i, f := range frames {
		v := mustDecode(t, f)
		head := v.Payload
		if v.FragHeader != 0 {
			head = v.FragHeader + fragmentLen
		} else if v.Family == 4 {
			head = v.L3 + int(v.B[v.L3]&15)*4
		}
		if v.End-v.L3 > mtu || v.End != len(f) {
			t.Errorf("fragment %d: %d bytes of IP, MTU %d", i, v.End-v.L3, mtu)
		}
		if v.FragOffset != len(data) || v.MoreFrags != (i < len(frames)-1) {
			t.Fatalf("fragment %d: offset %d, want %d; more %v", i, v.FragOffset, len(data), v.MoreFrags)
		}
		if i == 0 {
			first = v
		} else if v.FragID != first.FragID || v.Src != first.Src || v.Dst != first.Dst || v.TTL != first.TTL {
			t.Errorf("fragment %d is of another datagram", i)
		}
		data = append(data, v.B[head:v.End]...)
	}
	return data, first
}

func collect(to *[][]byte) func([]byte) {
	return func(f []byte) { *to = append(*to, bytes.Clone(f)) }
}

func TestFragmentIPv4JoinsToTheSame(t *testing.T) {
	r := newRand(31)
	for i := range 500 {
		s := randomSpec(r)
		for s.Family != 4 || s.Proto != ProtoTCP && s.Proto != ProtoUDP {
			s = randomSpec(r)
		}
		s.payload = randomBytes(r, r.IntN(3000))
		s.options = [][]byte{nil, {7, 7, 4, 0, 0, 0, 0, 0}, {7, 3, 4, 148, 4, 0, 0, 0}, {1, 1, 134, 3, 9, 7, 3, 4}}[r.IntN(4)]
		v := mustDecode(t, s.frame())
		v.PartialSum = s.partial
		mtu := 68 + r.IntN(1500)
		var frames [][]byte
		if !FragmentIPv4(v, mtu, collect(&frames), make([]byte, len(v.B))) {
			t.Fatalf("%d: refused", i)
		}
		if len(frames) == 1 {
			if !bytes.Equal(frames[0], v.B[:v.End]) {
				t.Fatalf("%d: one frame, another packet", i)
			}
			continue
		}
		data, _ := join(t, mtu, frames)
		s.partial = false
		if !bytes.Equal(data, s.l4()) {
			t.Fatalf("%d: joined\n%x\nwant\n%x", i, data, s.l4())
		}
		if first := frames[0]; !bytes.Equal(first[34:34+len(s.options)], s.options) {
			t.Fatalf("%d: first fragment has options %x, want %x", i, first[34:], s.options)
		}
		wantLater := map[string][]byte{"": nil, "\x07\x07": nil, "\x07\x03": {148, 4, 0, 0}, "\x01\x01": {134, 3, 9, 0}}[string(s.options[:min(2, len(s.options))])]
		for _, f := range frames[1:] {
			if hlen := int(f[14]&15) * 4; !bytes.Equal(f[34:14+hlen], wantLater) {
				t.Fatalf("%d: later fragment has options %x, want %x", i, f[34:14+hlen], wantLater)
			}
		}
	}
}

func TestFragmentIPv4OfAFragment(t *testing.T) {
	var frames [][]byte
	for _, n := range []string{"1", "2", "3"} {
		v := mustDecode(t, golden(t)["fragment4-"+n])
		if !FragmentIPv4(v, 600, collect(&frames), make([]byte, len(v.B))) {
			t.Fatal("refused")
		}
	}
	if data, first := join(t, 600, frames); len(data) != 3080 || Checksum(data, PseudoSum(&first.Tuple, len(data))) != 0 {
		t.Errorf("%d bytes joined, or a wrong checksum", len(data))
	}
}

func TestFragmentRefuses(t *testing.T) {
	frames := golden(t)
	fail := func([]byte) { t.Error("emitted") }
	scratch := make([]byte, 4096)
	df, udp6, frag6 := mustDecode(t, frames["udp4-long"]), mustDecode(t, frames["udp6-long"]), mustDecode(t, frames["fragment6-1"])
	free := mustDecode(t, frames["fragment4-1"])
	coalesced := mustDecode(t, frames["fragment4-1"])
	coalesced.SegSize = 100
	tests := []struct {
		name string
		got  bool
	}{
		{"DF", FragmentIPv4(df, 1400, fail, scratch)},
		{"MTU 27", FragmentIPv4(free, 27, fail, scratch)},
		{"coalesced", FragmentIPv4(coalesced, 1400, fail, scratch)},
		{"IPv6 as IPv4", FragmentIPv4(udp6, 1400, fail, scratch)},
		{"IPv4 as IPv6", FragmentIPv6(df, 1400, 1, fail, scratch)},
		{"a fragment already", FragmentIPv6(frag6, 1400, 1, fail, scratch)},
		{"MTU 55", FragmentIPv6(udp6, 55, 1, fail, scratch)},
	}
	for _, tt := range tests {
		if tt.got {
			t.Errorf("%s: done", tt.name)
		}
	}
}

func TestFragmentIPv6JoinsToTheSame(t *testing.T) {
	r := newRand(32)
	pad := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	route := func(next byte) []byte { return []byte{next, 0, 2, 0, 0, 0, 0, 0} }
	for i := range 500 {
		s := spec{Tuple: randomTuple(r, 6, ProtoUDP), payload: randomBytes(r, r.IntN(3000)), partial: r.IntN(2) == 0}
		keep := 0 // how much of the extensions every fragment has
		switch r.IntN(4) {
		case 1:
			s.next, s.options, keep = 0, append(pad(60), pad(17)...), 8
		case 2:
			s.next, s.options, keep = 60, append(append(pad(43), route(60)...), pad(17)...), 16
		case 3:
			s.next, s.options = 60, pad(17)
		}
		v := mustDecode(t, s.frame())
		v.PartialSum = s.partial
		mtu := 100 + r.IntN(1500)
		var frames [][]byte
		if !FragmentIPv6(v, mtu, 0x12345678, collect(&frames), make([]byte, len(v.B)+8)) {
			t.Fatalf("%d: refused", i)
		}
		if len(frames) == 1 {
			continue
		}
		data, first := join(t, mtu, frames)
		s.partial = false
		if want := append(bytes.Clone(s.options[keep:]), s.l4()...); !bytes.Equal(data, want) {
			t.Fatalf("%d: joined\n%x\nwant\n%x", i, data, want)
		}
		if first.FragHeader != 54+keep || binary.BigEndian.Uint32(first.B[first.FragHeader+4:]) != 0x12345678 || first.Tuple != s.Tuple {
			t.Fatalf("%d: fragment header at %d, want 54+%d", i, first.FragHeader, keep)
		}
	}
}

func TestCuttingDoesNotAllocate(t *testing.T) {
	s := spec{Tuple: randomTuple(newRand(33), 4, ProtoTCP), payload: make([]byte, 20000), partial: true}
	v := mustDecode(t, s.frame())
	v.SegSize = 1448
	u := spec{Tuple: randomTuple(newRand(33), 4, ProtoUDP), payload: make([]byte, 3000)}
	w := mustDecode(t, u.frame())
	scratch, n := make([]byte, len(v.B)), 0
	emit := func(f []byte) { n += len(f) }
	if a := testing.AllocsPerRun(20, func() { Segment(v, emit, scratch); FragmentIPv4(w, 1500, emit, scratch) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}
