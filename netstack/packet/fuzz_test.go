package packet

import (
	"bytes"
	"testing"
)

func addGolden(f *testing.F) {
	for _, b := range golden(f) {
		f.Add(b)
	}
	r := newRand(40)
	for range 20 {
		s := randomSpec(r)
		f.Add(s.frame())
	}
}

// mended is a copy of b with a right IPv4 header checksum, or else the fuzzer
// would hardly get past it.
func mended(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) >= 34 && b[12] == 0x08 && b[13] == 0 && 14+int(b[14]&15)*4 <= len(b) {
		fix4(b)
	}
	return b
}

// checkView checks the invariant of the package comment.
func checkView(t *testing.T, v *View) {
	t.Helper()
	if v.L3 < 0 || v.L3 > v.Payload || v.Payload > v.End || v.End > len(v.B) || v.DataLen < 0 || v.Family != 0 && v.Payload+v.DataLen > v.End {
		t.Fatalf("offsets out of order: %+v", dropBytes(*v))
	}
	if v.L4 != 0 && (v.L4 < v.L3 || v.L4 > v.Payload) {
		t.Fatalf("L4 out of order: %+v", dropBytes(*v))
	}
	if v.Family == 4 && (!v.Src.Is4() || !v.Dst.Is4()) {
		t.Fatalf("IPv4 with addresses %v, %v", v.Src, v.Dst)
	}
	if v.Fragment != (v.MoreFrags || v.FragOffset > 0) || v.FragOffset > 0 && v.L4 != 0 {
		t.Fatalf("fragment contradicts itself: %+v", dropBytes(*v))
	}
}

func FuzzDecode(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, ip View
		if Decode(b, &v) == OK {
			checkView(t, &v)
		}
		b = mended(b)
		before := bytes.Clone(b)
		r := Decode(b, &v)
		if r >= ReasonCount {
			t.Fatalf("reason %d", r)
		}
		if r == OK {
			checkView(t, &v)
			VerifyL4(&v)
			WindowScale(&v)
			MayICMPError(&v)
			ParseARP(&v)
			ParseND(&v)
		}
		if DecodeIP(b, &ip) == OK {
			checkView(t, &ip)
		}
		if !bytes.Equal(b, before) {
			t.Fatal("reading changed the frame")
		}
	})
}

func FuzzDecodeInner(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, in View
		b = mended(b)
		if Decode(b, &v) != OK || !DecodeInner(&v, &in) {
			return
		}
		checkView(t, &in)
		if in.Family != v.Family || in.L3 < v.Payload || in.End > v.End {
			t.Fatalf("the quote %+v is not inside %+v", dropBytes(in), dropBytes(v))
		}
		right := VerifyL4(&v)
		to := randomTuple(newRand(uint64(len(b))), in.Family, in.Proto)
		if IsICMPQuery(&in) {
			to.SrcPort, to.DstPort = 7, 7
		} else if in.Proto != ProtoTCP && in.Proto != ProtoUDP || in.L4 == 0 {
			to.SrcPort, to.DstPort = 0, 0
		}
		SetInnerTuple(&v, &to)
		if right && !VerifyL4(&v) {
			t.Fatal("the checksum was right before")
		}
		if !DecodeInner(&v, &in) || in.Tuple != to {
			t.Fatalf("the quote has %+v, want %+v", in.Tuple, to)
		}
	})
}

func FuzzParseARP(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var v View
		if Decode(b, &v) != OK {
			return
		}
		if a, ok := ParseARP(&v); ok {
			again := AppendARP(nil, a.Op, MAC(b[6:]), MAC(b), a.SenderMAC, a.Sender, a.TargetMAC, a.Target)
			if !bytes.Equal(again, b[:len(again)]) {
				t.Fatalf("%+v is not what %x says", a, b)
			}
		}
	})
}

func FuzzParseND(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var v View
		if Decode(b, &v) != OK {
			return
		}
		if nd, ok := ParseND(&v); ok && (!nd.Target.Is6() && !nd.Target.Is4In6() || nd.Target.IsMulticast() || v.TTL != 255) {
			t.Fatalf("took %+v", nd)
		}
		// With the checksum mended, so that the fuzzer gets past it.
		if icmpFamily(&v) == 6 {
			v.B = bytes.Clone(b)
			v.B[v.L4+icmpSum], v.B[v.L4+icmpSum+1] = 0, 0
			finishL4(v.B[v.L4:v.End], icmpSum, &v.Tuple)
			ParseND(&v)
		}
	})
}

func FuzzSetTuple(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, again View
		b = mended(b)
		if Decode(b, &v) != OK || v.Family == 0 {
			return
		}
		right := VerifyL4(&v)
		to := randomTuple(newRand(uint64(len(b))), v.Family, v.Proto)
		if v.L4 == 0 || v.Proto != ProtoTCP && v.Proto != ProtoUDP && !IsICMPQuery(&v) {
			to.SrcPort, to.DstPort = 0, 0
		}
		SetTuple(&v, &to)
		ClampMSS(&v, 500)
		if v.TTL > 0 {
			DecTTL(&v)
		}
		if r := Decode(b, &again); r != OK {
			t.Fatalf("no packet any more: %v", r)
		}
		if again.Tuple != to || v.Tuple != to {
			t.Fatalf("tuple %+v, view says %+v, want %+v", again.Tuple, v.Tuple, to)
		}
		if right && !VerifyL4(&again) {
			t.Fatal("the checksum was right before")
		}
	})
}

// FuzzCut holds what Segment and the fragmenters emit against the decoder.
func FuzzCut(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, part View
		b = mended(b)
		if Decode(b, &v) != OK || v.Family == 0 {
			return
		}
		scratch := make([]byte, len(b)+fragmentLen)
		check := func(frame []byte) {
			// A first fragment may be too small for its TCP header.
			if r := Decode(frame, &part); r != OK && r != Short && r != BadHeaderLength {
				t.Fatalf("emitted a frame that is %v", r)
			}
		}
		FragmentIPv4(&v, 68, check, scratch)
		FragmentIPv6(&v, 200, 1, check, scratch)
		v.SegSize = 1 + len(b)/8
		Segment(&v, check, scratch)
	})
}
