package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestChecksumEqualsWordByWord(t *testing.T) {
	r := newRand(2)
	for n := range 200 {
		b := randomBytes(r, n)
		if n%3 == 0 {
			for i := range b {
				b[i] = 0xff
			}
		}
		initial := r.Uint32()
		if got, want := Checksum(b, initial), ^slowSum(be32(initial), b); got != want && !(got == 0 && want == 0xffff) {
			t.Fatalf("%d bytes: %04x, want %04x", n, got, want)
		}
	}
	if got := Checksum([]byte{0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7}, 0); got != 0x220d {
		t.Errorf("the example of RFC 1071: %04x, want 220d", got)
	}
}

// TestSetTupleEqualsANewPacket: rewriting by difference gives byte for byte
// the packet that would have been made with the other tuple.
func TestSetTupleEqualsANewPacket(t *testing.T) {
	r := newRand(3)
	for i := range 20000 {
		s := randomSpec(r)
		v := mustDecode(t, s.frame())
		v.PartialSum = s.partial
		if v.Tuple != s.Tuple {
			t.Fatalf("%d: decoded %v, made %v", i, v.Tuple, s.Tuple)
		}
		to := randomTuple(r, s.Family, s.Proto)
		switch r.IntN(4) { // As NAT does: one side only.
		case 0:
			to.Dst, to.DstPort = s.Dst, s.DstPort
		case 1:
			to.Src, to.SrcPort = s.Src, s.SrcPort
		case 2:
			to = s.Tuple
		}
		if s.icmpType != 0 {
			to.DstPort = to.SrcPort
		}
		SetTuple(v, &to)
		if v.Tuple != to {
			t.Fatalf("%d: the view says %v, want %v", i, v.Tuple, to)
		}
		s.Tuple = to
		if want := s.frame(); !bytes.Equal(v.B, want) {
			t.Fatalf("%d: %+v\ngot  %x\nwant %x", i, s, v.B, want)
		}
		if !s.noSum && !VerifyL4(v) {
			t.Fatalf("%d: checksum is wrong", i)
		}
		CompleteChecksum(v)
		s.partial = false
		if want := s.frame(); !bytes.Equal(v.B, want) {
			t.Fatalf("%d: completed %+v\ngot  %x\nwant %x", i, s, v.B, want)
		}
	}
}

// TestUDPChecksumIsNeverZero: 0 would say that there is none (RFC 768).
func TestUDPChecksumIsNeverZero(t *testing.T) {
	r := newRand(19)
	for i := range 100 {
		s := spec{Tuple: randomTuple(r, 4+2*uint8(i%2), ProtoUDP), payload: []byte{0, 0}}
		plain := mustDecode(t, s.frame())
		copy(s.payload, plain.B[plain.L4+udpSum:plain.L4+udpSum+2]) // Now the sum is all ones.
		want := s.frame()
		if at := plain.L4 + udpSum; want[at] != 0xff || want[at+1] != 0xff {
			t.Fatalf("%x has another checksum", want)
		}
		other := s
		other.Tuple = randomTuple(r, s.Family, ProtoUDP)
		v := mustDecode(t, other.frame())
		if SetTuple(v, &s.Tuple); !bytes.Equal(v.B, want) {
			t.Fatalf("rewritten\ngot  %x\nwant %x", v.B, want)
		}
		s.partial = true
		v = mustDecode(t, s.frame())
		v.PartialSum = true
		if CompleteChecksum(v); !bytes.Equal(v.B, want) {
			t.Fatalf("completed\ngot  %x\nwant %x", v.B, want)
		}
		built := mustDecode(t, AppendUDP(nil, MAC{}, MAC{}, &s.Tuple, 64, s.payload))
		if !bytes.Equal(built.B[built.L4:], want[plain.L4:]) {
			t.Fatalf("built\ngot  %x\nwant %x", built.B, want)
		}
	}
}

func TestSetTupleChangesOnlyAddressesOfLaterFragments(t *testing.T) {
	for _, name := range []string{"fragment4-2", "fragment6-2"} {
		v := mustDecode(t, bytes.Clone(golden(t)[name]))
		data := bytes.Clone(v.B[v.Payload:])
		to := randomTuple(newRand(4), v.Family, v.Proto)
		SetTuple(v, &to)
		again := mustDecode(t, v.B)
		if again.Src != to.Src || again.Dst != to.Dst || again.SrcPort != 0 || !bytes.Equal(v.B[v.Payload:], data) {
			t.Errorf("%s: %+v", name, again.Tuple)
		}
	}
}

func TestSetTupleMendsTheSumOfAllFragments(t *testing.T) {
	for _, family := range []string{"4", "6"} {
		var datagram []byte
		var first *View
		to := randomTuple(newRand(5), family[0]-'0', ProtoUDP)
		for _, n := range []string{"1", "2", "3"} {
			v := mustDecode(t, bytes.Clone(golden(t)["fragment"+family+"-"+n]))
			SetTuple(v, &to)
			if v.L4 != 0 {
				first = v
				datagram = append(datagram, v.B[v.L4:v.End]...)
			} else {
				datagram = append(datagram, v.B[v.Payload:v.End]...)
			}
		}
		if Checksum(datagram, PseudoSum(&first.Tuple, len(datagram))) != 0 {
			t.Errorf("IPv%s: the datagram's checksum is wrong", family)
		}
	}
}

// TestSetInnerTupleEqualsANewError: the same for the packet that an ICMP error
// quotes, however little of it.
func TestSetInnerTupleEqualsANewError(t *testing.T) {
	r := newRand(6)
	for i := range 20000 {
		in := randomSpec(r)
		in.padding, in.partial = 0, false
		proto, typ := uint8(ProtoICMP), uint8(ICMP4Unreachable)
		if in.Family == 6 {
			proto, typ = ProtoICMPv6, ICMP6TooBig
		}
		quote := in.ip()
		l4 := len(quote) - len(in.l4())
		keep := min(len(quote), l4+8+r.IntN(60))
		out := spec{Tuple: randomTuple(r, in.Family, proto), icmpType: typ, payload: quote[:keep]}
		out.SrcPort, out.DstPort = 0, 0
		v := mustDecode(t, out.frame())
		var q View
		ok := DecodeInner(v, &q)
		if in.Proto == ProtoESP && len(in.payload) < 8 {
			continue // Not enough to say anything about.
		}
		if !ok || q.Tuple != in.Tuple || q.End != v.End {
			t.Fatalf("%d: DecodeInner = %v, %v, want %v", i, ok, q.Tuple, in.Tuple)
		}
		if in.Proto == ProtoTCP && q.Seq != in.seq {
			t.Fatalf("%d: quoted seq %d, want %d", i, q.Seq, in.seq)
		}
		in.Tuple = randomTuple(r, in.Family, in.Proto)
		SetInnerTuple(v, &in.Tuple)
		checkInner(t, v, &in, out, keep, i)
	}
}

// checkInner compares v with an error about in, of which keep bytes are quoted.
func checkInner(t *testing.T, v *View, in *spec, out spec, keep, i int) {
	t.Helper()
	if !VerifyL4(v) {
		t.Fatalf("%d: the error's checksum is wrong", i)
	}
	if in.Proto == ProtoTCP && keep == len(in.ip())-len(in.l4())+tcpSum+1 {
		return // Half a checksum is quoted, which nobody can mend.
	}
	out.payload = in.ip()[:keep]
	if want := out.frame(); !bytes.Equal(v.B, want) {
		t.Fatalf("%d: %+v\ngot  %x\nwant %x", i, in, v.B, want)
	}
}

func TestSetInnerTupleKeepsLinuxErrorsRight(t *testing.T) {
	frames := golden(t)
	for _, name := range []string{"unreachable4", "time-exceeded4", "too-big4", "unreachable4-cut", "unreachable6", "time-exceeded6", "too-big6"} {
		v := mustDecode(t, bytes.Clone(frames[name]))
		var in View
		if !DecodeInner(v, &in) || in.Proto != ProtoUDP || in.DstPort != 9999 {
			t.Fatalf("%s: inner is %+v", name, in.Tuple)
		}
		to := randomTuple(newRand(7), v.Family, ProtoUDP)
		SetInnerTuple(v, &to)
		if !VerifyL4(v) || !DecodeInner(v, &in) || in.Tuple != to {
			t.Errorf("%s: after rewriting %v, want %v", name, in.Tuple, to)
		}
	}
}

func TestDecodeInnerHonoursTheLengthOfTheQuote(t *testing.T) {
	in := spec{Tuple: randomTuple(newRand(8), 4, ProtoTCP), payload: make([]byte, 100)}
	quote := in.ip()[:48] // 28 bytes of TCP
	copy(quote[36:], []byte{0xaa, 0xaa})
	out := spec{Tuple: randomTuple(newRand(9), 4, ProtoICMP), icmpType: ICMP4TimeExceeded}
	out.SrcPort, out.payload = 9, append(bytes.Clone(quote), 0x20, 0, 0, 0) // length 9 words: 36 bytes
	v := mustDecode(t, out.frame())
	if DecodeInner(v, &View{}); v.B[v.L4+5] != 9 {
		t.Fatal("the length is not where it belongs")
	}
	var q View
	if !DecodeInner(v, &q) || q.End != v.L4+8+36 || q.DataLen != 0 || q.TCPFlags != 0 {
		t.Fatalf("End = %d, want %d: %+v", q.End, v.L4+8+36, dropBytes(q))
	}
	to := randomTuple(newRand(10), 4, ProtoTCP)
	SetInnerTuple(v, &to)
	if !VerifyL4(v) {
		t.Error("the error's checksum is wrong")
	}
	if got := binary.BigEndian.Uint16(v.B[v.L4+8+36:]); got != 0xaaaa {
		t.Errorf("what follows the quote was changed: %04x", got)
	}
}

func TestDecodeInnerRefuses(t *testing.T) {
	in := spec{Tuple: randomTuple(newRand(11), 4, ProtoUDP), payload: []byte("quoted")}
	in6 := spec{Tuple: randomTuple(newRand(11), 6, ProtoUDP), payload: []byte("quoted")}
	tests := []struct {
		name    string
		family  uint8
		typ     uint8
		payload []byte
	}{
		{"an echo", 4, ICMP4Echo, in.ip()},
		{"an unknown type", 6, 100, in6.ip()},
		{"a short IPv4 header", 4, ICMP4Unreachable, in.ip()[:19]},
		{"a short IPv6 header", 6, ICMP6Unreachable, in6.ip()[:39]},
		{"the other family", 4, ICMP4Unreachable, in6.ip()},
		{"the other family", 6, ICMP6Unreachable, in.ip()},
		{"seven bytes of UDP", 4, ICMP4Unreachable, in.ip()[:27]},
		{"seven bytes of UDP", 6, ICMP6Unreachable, in6.ip()[:47]},
		{"a header length of 16", 4, ICMP4Unreachable, append([]byte{0x44}, in.ip()[1:]...)},
		{"options cut off", 4, ICMP4Unreachable, append([]byte{0x4f}, in.ip()[1:]...)},
		{"a mapped address", 6, ICMP6Unreachable, append(append(bytes.Clone(in6.ip()[:8]), make([]byte, 10)...), append([]byte{255, 255}, in6.ip()[20:]...)...)},
		{"extensions cut off", 6, ICMP6Unreachable, append(append(bytes.Clone(in6.ip()[:6]), 60), in6.ip()[7:47]...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proto := uint8(ProtoICMP)
			if tt.family == 6 {
				proto = ProtoICMPv6
			}
			out := spec{Tuple: randomTuple(newRand(12), tt.family, proto), icmpType: tt.typ, payload: tt.payload}
			out.SrcPort = 0
			v := mustDecode(t, out.frame())
			before := bytes.Clone(v.B)
			var q View
			if DecodeInner(v, &q) {
				t.Errorf("taken: %+v", q.Tuple)
			}
			SetInnerTuple(v, &in.Tuple)
			if !bytes.Equal(before, v.B) {
				t.Error("SetInnerTuple wrote to it")
			}
		})
	}
}

func TestDecTTLEqualsANewHeader(t *testing.T) {
	for ttl := 255; ttl > 0; ttl-- {
		for _, name := range []string{"udp4", "udp6"} {
			b := bytes.Clone(golden(t)[name])
			at := 22
			if name == "udp6" {
				at = 21
			}
			b[at] = byte(ttl)
			if at == 22 {
				fix4(b)
			}
			v := mustDecode(t, b)
			DecTTL(v)
			if again := mustDecode(t, v.B); again.TTL != uint8(ttl-1) || v.TTL != again.TTL {
				t.Fatalf("%s: TTL %d became %d", name, ttl, again.TTL)
			}
			if name == "udp4" && !bytes.Equal(v.B, fix4(bytes.Clone(v.B))) {
				t.Fatalf("TTL %d: another checksum", ttl)
			}
		}
	}
	v := &View{Tuple: Tuple{Family: 4}}
	if DecTTL(v); v.TTL != 0 {
		t.Error("TTL 0 went round")
	}
}

func TestClearDFAndSetIDEqualANewHeader(t *testing.T) {
	r := newRand(18)
	for range 2000 {
		s := spec{Tuple: randomTuple(r, 4, ProtoUDP), id: uint16(r.Uint32())}
		b := s.frame()
		b[20] |= 0x40
		v := mustDecode(t, fix4(b))
		ClearDF(v)
		s.id = uint16(r.Uint32())
		SetID(v, s.id)
		if !bytes.Equal(v.B, s.frame()) || v.DontFrag || v.FragID != uint32(s.id) {
			t.Fatalf("got  %x\nwant %x", v.B, s.frame())
		}
	}
	six := golden(t)["udp6"]
	v := mustDecode(t, bytes.Clone(six))
	ClearDF(v)
	SetID(v, 9)
	if !bytes.Equal(v.B, six) || !v.DontFrag {
		t.Error("IPv6 was changed")
	}
}

func TestSetMACs(t *testing.T) {
	v := mustDecode(t, bytes.Clone(golden(t)["udp4"]))
	SetMACs(v, MAC{1, 2, 3, 4, 5, 6}, MAC{7, 8, 9, 10, 11, 12})
	if !bytes.Equal(v.B[:14], []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0}) {
		t.Errorf("%x", v.B[:14])
	}
}

func TestVerifyL4WithoutChecksum(t *testing.T) {
	for _, family := range []uint8{4, 6} {
		s := spec{Tuple: randomTuple(newRand(13), family, ProtoUDP), payload: []byte("x"), noSum: true}
		if got := VerifyL4(mustDecode(t, s.frame())); got != (family == 4) {
			t.Errorf("UDP checksum 0 over IPv%d: %v", family, got)
		}
	}
}

func TestClampMSSKeepsTheChecksum(t *testing.T) {
	tests := []struct {
		name    string
		opts    []byte
		flags   uint8
		partial bool
		at      int // of the value among the options; 0: unchanged
	}{
		{"first", []byte{2, 4, 5, 0xb4}, SYN, false, 2},
		{"at an odd offset", []byte{1, 2, 4, 5, 0xb4, 0, 0, 0}, SYN | ACK, false, 3},
		{"unfinished checksum", []byte{1, 2, 4, 5, 0xb4, 0, 0, 0}, SYN, true, 3},
		{"behind others", []byte{4, 2, 3, 3, 7, 2, 4, 5, 0xb4, 0, 0, 0}, SYN, false, 7},
		{"no SYN", []byte{2, 4, 5, 0xb4}, ACK, false, 0},
		{"small enough", []byte{2, 4, 5, 0x50}, SYN, false, 0},
		{"none", nil, SYN, false, 0},
		{"behind the end", []byte{0, 2, 4, 5, 0xb4, 0, 0, 0}, SYN, false, 0},
		{"behind a broken one", []byte{8, 1, 2, 4, 5, 0xb4, 0, 0}, SYN, false, 0},
		{"cut off", []byte{1, 1, 2, 4}, SYN, false, 0},
		{"of another length", []byte{2, 3, 5, 1}, SYN, false, 0},
	}
	for _, tt := range tests {
		for _, family := range []uint8{4, 6} {
			s := spec{Tuple: randomTuple(newRand(14), family, ProtoTCP), tcpOpts: tt.opts, flags: tt.flags, partial: tt.partial}
			v := mustDecode(t, s.frame())
			v.PartialSum = tt.partial
			if got := ClampMSS(v, 1360); got != (tt.at > 0) {
				t.Errorf("%s, IPv%d: ClampMSS = %v", tt.name, family, got)
			}
			if tt.at > 0 {
				s.tcpOpts = bytes.Clone(tt.opts)
				copy(s.tcpOpts[tt.at:], be16(1360))
			}
			if want := s.frame(); !bytes.Equal(v.B, want) {
				t.Errorf("%s, IPv%d:\ngot  %x\nwant %x", tt.name, family, v.B, want)
			}
		}
	}
}

func TestWindowScale(t *testing.T) {
	tests := []struct {
		name  string
		opts  []byte
		flags uint8
		shift uint8
		ok    bool
	}{
		{"offered", []byte{1, 3, 3, 7}, SYN, 7, true},
		{"too large", []byte{1, 3, 3, 15}, SYN | ACK, 14, true},
		{"absent", nil, SYN, 0, false},
		{"no SYN", []byte{1, 3, 3, 7}, ACK, 0, false},
		{"of another length", []byte{3, 4, 7, 0}, SYN, 0, false},
	}
	for _, tt := range tests {
		s := spec{Tuple: randomTuple(newRand(15), 4, ProtoTCP), tcpOpts: tt.opts, flags: tt.flags}
		if shift, ok := WindowScale(mustDecode(t, s.frame())); shift != tt.shift || ok != tt.ok {
			t.Errorf("%s: %d, %v", tt.name, shift, ok)
		}
	}
	if shift, ok := WindowScale(mustDecode(t, golden(t)["tcp6-syn"])); shift != 10 || !ok {
		t.Errorf("Linux's SYN: %d, %v", shift, ok)
	}
}

func TestRewritingDoesNotAllocate(t *testing.T) {
	frames := golden(t)
	syn, icmp := mustDecode(t, frames["tcp4-syn"]), mustDecode(t, frames["unreachable6"])
	a, b := randomTuple(newRand(16), 4, ProtoTCP), randomTuple(newRand(16), 6, ProtoUDP)
	n := testing.AllocsPerRun(100, func() {
		SetTuple(syn, &a)
		ClampMSS(syn, 1000)
		SetInnerTuple(icmp, &b)
		syn.TTL = 64
		DecTTL(syn)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSetTuple(b *testing.B) {
	frames := golden(b)
	for _, name := range []string{"tcp4-syn", "udp4", "tcp6-syn"} {
		b.Run(name, func(b *testing.B) {
			v := mustDecode(b, frames[name])
			to := [2]Tuple{randomTuple(newRand(17), v.Family, v.Proto), v.Tuple}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				SetTuple(v, &to[i&1])
				i++
			}
		})
	}
}
