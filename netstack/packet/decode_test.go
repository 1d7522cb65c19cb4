package packet

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"testing"
)

func TestDecodeTakesEveryLinuxFrame(t *testing.T) {
	frames := golden(t)
	for _, name := range slices.Sorted(maps.Keys(frames)) {
		b := frames[name]
		v := mustDecode(t, b)
		if v.End != len(b) {
			t.Errorf("%s: End = %d of %d bytes", name, v.End, len(b))
		}
		if !VerifyL4(v) {
			t.Errorf("%s: checksum is right, VerifyL4 says no", name)
		}
		v.B = bytes.Clone(b)
		if v.L4 != 0 && v.Family != 0 && v.Proto != ProtoIGMP && !v.Fragment {
			v.B[v.End-1] ^= 0x40
			if VerifyL4(v) {
				t.Errorf("%s: VerifyL4 takes a flipped bit", name)
			}
		}
	}
}

func TestDecodeFields(t *testing.T) {
	four := Tuple{Src: AddrFrom(netip.MustParseAddr("192.0.2.10")), Dst: AddrFrom(netip.MustParseAddr("198.51.100.20")), Family: 4}
	six := Tuple{Src: AddrFrom(netip.MustParseAddr("2001:db8:1::10")), Dst: AddrFrom(netip.MustParseAddr("2001:db8:2::20")), Family: 6}
	with := func(t Tuple, proto uint8, src, dst uint16) Tuple {
		t.Proto, t.SrcPort, t.DstPort = proto, src, dst
		return t
	}
	tests := []struct {
		name string
		want View // B, EtherType and L3 apart
	}{
		{"udp4", View{Tuple: with(four, ProtoUDP, 39607, 9999), TTL: 64, DontFrag: true, FragID: 58664, L4: 34, Payload: 42, End: 75, DataLen: 33}},
		{"tcp4-syn", View{Tuple: with(four, ProtoTCP, 35616, 9999), TTL: 64, DontFrag: true, FragID: 41286, L4: 34, Payload: 74, End: 74,
			TCPFlags: SYN, Seq: 1490222647, Window: 64240}},
		{"fragment4-1", View{Tuple: with(four, ProtoUDP, 38263, 9999), TTL: 64, FragID: 58761, L4: 34, Payload: 42, End: 1514, DataLen: 1472,
			Fragment: true, MoreFrags: true}},
		{"fragment4-3", View{Tuple: with(four, ProtoUDP, 0, 0), TTL: 64, FragID: 58761, Payload: 34, End: 154, DataLen: 120,
			Fragment: true, FragOffset: 2960}},
		{"record-route4", View{Tuple: with(four, ProtoUDP, 51399, 9999), TTL: 64, DontFrag: true, FragID: 59098, L4: 42, Payload: 50, End: 52, DataLen: 2, Options: true}},
		{"echo4", View{Tuple: with(four, ProtoICMP, 13269, 13269), TTL: 64, DontFrag: true, FragID: 11310, L4: 34, Payload: 42, End: 98, DataLen: 56, ICMPType: 8}},
		{"udp6", View{Tuple: with(six, ProtoUDP, 41827, 9999), TTL: 64, DontFrag: true, L4: 54, Payload: 62, End: 95, DataLen: 33}},
		{"tcp6-syn", View{Tuple: with(six, ProtoTCP, 34050, 9999), TTL: 64, DontFrag: true, L4: 54, Payload: 94, End: 94, TCPFlags: SYN, Seq: 2099045890, Window: 64320}},
		{"fragment6-1", View{Tuple: with(six, ProtoUDP, 33818, 9999), TTL: 64, DontFrag: true, L4: 62, Payload: 70, End: 1510, DataLen: 1440,
			Fragment: true, MoreFrags: true, FragID: 0x136e72bc, FragHeader: 54}},
		{"fragment6-3", View{Tuple: with(six, ProtoUDP, 0, 0), TTL: 64, DontFrag: true, Payload: 62, End: 246, DataLen: 184,
			Fragment: true, FragOffset: 2896, FragID: 0x136e72bc, FragHeader: 54}},
		{"destination-options6", View{Tuple: with(six, ProtoUDP, 57792, 9999), TTL: 64, DontFrag: true, L4: 62, Payload: 70, End: 72, DataLen: 2, Options: true}},
		{"echo-reply6", View{Tuple: with(six.Reverse(), ProtoICMPv6, 13270, 13270), TTL: 63, DontFrag: true, L4: 54, Payload: 62, End: 118, DataLen: 56, ICMPType: 129}},
	}
	frames := golden(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := *mustDecode(t, frames[tt.name])
			tt.want.B, tt.want.EtherType, tt.want.L3 = got.B, got.EtherType, 14
			if !equalViews(&got, &tt.want) {
				t.Errorf("got  %+v\nwant %+v", dropBytes(got), dropBytes(tt.want))
			}
			var ip View
			if r := DecodeIP(got.B[14:], &ip); r != OK || ip.L4 != max(got.L4-14, 0) || ip.Tuple != got.Tuple || ip.EtherType != got.EtherType {
				t.Errorf("DecodeIP: %v, %+v", r, dropBytes(ip))
			}
		})
	}
}

func dropBytes(v View) View { v.B = nil; return v }

// equalViews compares all fields but B, which slices forbid.
func equalViews(a, b *View) bool {
	type fields struct {
		etherType                               uint16
		l3, l4, payload, end                    int
		tuple                                   Tuple
		ttl, tos, flags, typ, code              uint8
		df, options, route, alert, frag, more   bool
		fragOffset, fragHeader, dataLen, segNum int
		id, seq, ack                            uint32
		window                                  uint16
		partial                                 bool
	}
	of := func(v *View) fields {
		return fields{v.EtherType, v.L3, v.L4, v.Payload, v.End, v.Tuple, v.TTL, v.TOS, v.TCPFlags, v.ICMPType, v.ICMPCode,
			v.DontFrag, v.Options, v.SourceRoute, v.RouterAlert, v.Fragment, v.MoreFrags,
			v.FragOffset, v.FragHeader, v.DataLen, v.SegSize, v.FragID, v.Seq, v.Ack, v.Window, v.PartialSum}
	}
	return of(a) == of(b)
}

// fix4 makes the IPv4 header checksum of a changed frame right again.
func fix4(b []byte) []byte {
	h := b[14:]
	h[10], h[11] = 0, 0
	copy(h[10:], be16(int(^slowSum(h[:int(h[0]&15)*4]))))
	return b
}

func tcp4Spec() spec {
	return spec{Tuple: randomTuple(newRand(1), 4, ProtoTCP), payload: []byte("hello")}
}

func TestDecodeRefusesBadIPv4(t *testing.T) {
	set := func(at int, val ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], val); return fix4(b) }
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	tests := []struct {
		name string
		do   func([]byte) []byte
		want Reason
	}{
		{"untouched", func(b []byte) []byte { return b }, OK},
		{"padding", func(b []byte) []byte { return append(b, 1, 2, 3) }, OK},
		{"no Ethernet header", cut(13), Short},
		{"no IP header", cut(33), Short},
		{"version 6", set(14, 0x65), BadVersion},
		{"header of 16 bytes", func(b []byte) []byte { b[14] = 0x44; return b }, BadHeaderLength},
		{"header longer than the packet", func(b []byte) []byte { b[14] = 0x4f; return b }, BadLength},
		{"total length beyond the frame", set(16, 0, 46), BadLength},
		{"total length 0", set(16, 0, 0), BadLength},
		{"a flipped checksum bit", func(b []byte) []byte { b[24] ^= 1; return b }, BadHeaderChecksum},
		{"total length cuts TCP", set(16, 0, 39), Short},
		{"TCP header of 16 bytes", set(46, 0x40), BadHeaderLength},
		{"TCP header beyond the packet", set(46, 0x70), BadHeaderLength},
		{"first fragment holds half a TCP header", func(b []byte) []byte { copy(b[16:], []byte{0, 36, 0, 0, 0x20, 0}); return fix4(b) }, Short},
		{"more fragments, length not a multiple of 8", set(20, 0x20, 0x00), BadFragment},
		{"an empty fragment", func(b []byte) []byte { copy(b[16:], []byte{0, 20, 0, 0, 0, 1}); return fix4(b) }, BadFragment},
		{"a fragment beyond 65535", set(20, 0x1f, 0xff), BadFragment},
		{"a last fragment may be odd", set(20, 0x00, 0x01), OK},
		{"UDP length below 8", func(b []byte) []byte { b[23] = ProtoUDP; copy(b[38:], []byte{0, 7}); return fix4(b) }, BadLength},
		{"UDP length beyond the packet", func(b []byte) []byte { b[23] = ProtoUDP; copy(b[38:], []byte{0, 26}); return fix4(b) }, BadLength},
		{"UDP length short of the packet", func(b []byte) []byte { b[23] = ProtoUDP; copy(b[38:], []byte{0, 12}); return fix4(b) }, OK},
		{"no UDP header", func(b []byte) []byte { b[23], b[17] = ProtoUDP, 27; return fix4(b) }, Short},
		{"no ICMP header", func(b []byte) []byte { b[23], b[17] = ProtoICMP, 27; return fix4(b) }, Short},
		{"IPv6 ICMP in IPv4 is only a number", func(b []byte) []byte { b[23], b[17] = ProtoICMPv6, 21; return fix4(b) }, OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tcp4Spec()
			b := tt.do(s.frame())
			var v View
			if got := Decode(b, &v); got != tt.want {
				t.Errorf("Decode = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDecodeWalksIPv4Options(t *testing.T) {
	tests := []struct {
		name         string
		options      []byte
		want         Reason
		route, alert bool
	}{
		{"no-operations", []byte{1, 1, 1, 1}, OK, false, false},
		{"router alert", []byte{148, 4, 0, 0}, OK, false, true},
		{"loose source route", []byte{131, 7, 4, 192, 0, 2, 1, 0}, OK, true, false},
		{"strict source route behind a no-operation", []byte{1, 137, 7, 4, 192, 0, 2, 1}, OK, true, false},
		{"what follows the end is not read", []byte{0, 131, 0, 0}, OK, false, false},
		{"length 1", []byte{7, 1, 0, 0}, BadOption, false, false},
		{"length beyond the header", []byte{7, 5, 0, 0}, BadOption, false, false},
		{"no length", []byte{1, 1, 1, 7}, BadOption, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tcp4Spec()
			s.options = tt.options
			var v View
			if got := Decode(s.frame(), &v); got != tt.want {
				t.Fatalf("Decode = %v, want %v", got, tt.want)
			}
			if tt.want == OK && (!v.Options || v.SourceRoute != tt.route || v.RouterAlert != tt.alert || v.DataLen != 5) {
				t.Errorf("options %v, source route %v, router alert %v, data %d", v.Options, v.SourceRoute, v.RouterAlert, v.DataLen)
			}
		})
	}
}

func TestDecodeWalksIPv6Extensions(t *testing.T) {
	const none = -1
	pad := []byte{1, 4, 0, 0, 0, 0}
	hdr := func(next byte, rest []byte) []byte { return append([]byte{next, 0}, rest...) }
	frag := func(next byte, off int, more byte) []byte {
		return []byte{next, 0, byte(off >> 8), byte(off) | more, 0, 0, 0, 9}
	}
	cat := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	tests := []struct {
		name  string
		next  uint8
		ext   []byte
		want  Reason
		l4    int // behind the fixed header; none: 0
		check func(*View) bool
	}{
		{"hop-by-hop", 0, hdr(6, pad), OK, 8, func(v *View) bool { return v.Options && !v.RouterAlert }},
		{"router alert", 0, hdr(6, []byte{5, 2, 0, 0, 0, 0}), OK, 8, func(v *View) bool { return v.RouterAlert }},
		{"all of them", 0, cat(hdr(60, pad), hdr(43, []byte{2, 0, 0, 0, 0, 0}), hdr(44, pad), frag(51, 0, 0), []byte{60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, hdr(6, pad)),
			OK, 52, func(v *View) bool { return v.Options && !v.SourceRoute && !v.Fragment && v.FragHeader == 54+24 }},
		{"routing header type 0", 43, hdr(6, []byte{0, 0, 0, 0, 0, 0}), OK, 8, func(v *View) bool { return v.SourceRoute }},
		{"authentication header is no option", 51, []byte{6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, OK, 12, func(v *View) bool { return !v.Options }},
		{"atomic fragment", 44, frag(6, 0, 0), OK, 8, func(v *View) bool { return !v.Fragment && !v.Options && v.FragHeader == 54 && v.FragID == 9 }},
		{"last fragment", 44, frag(6, 64, 0), OK, none, func(v *View) bool { return v.Fragment && v.FragOffset == 64 && v.DataLen == 25 && v.Proto == ProtoTCP }},
		{"last fragment of what begins with an extension", 44, frag(60, 64, 0), OK, none, func(v *View) bool { return v.Proto == 60 }},
		{"no next header", 60, hdr(59, pad), OK, none, func(v *View) bool { return v.Proto == 59 }},
		{"eight destination headers", 60, cat(bytes.Repeat(hdr(60, pad), 7), hdr(6, pad)), OK, 64, func(v *View) bool { return true }},
		{"nine of them", 60, cat(bytes.Repeat(hdr(60, pad), 8), hdr(6, pad)), BadExtension, 0, nil},
		{"hop-by-hop not in front", 60, cat(hdr(0, pad), hdr(6, pad)), BadExtension, 0, nil},
		{"hop-by-hop option too long", 0, hdr(6, []byte{1, 5, 0, 0, 0, 0}), BadExtension, 0, nil},
		{"jumbo option", 0, hdr(6, []byte{0xc2, 4, 0, 1, 0, 0}), BadExtension, 0, nil},
		{"two fragment headers", 44, cat(frag(44, 0, 0), frag(6, 0, 0)), BadExtension, 0, nil},
		{"first fragment with an odd end", 44, frag(6, 0, 1), BadFragment, 0, nil},
		{"fragment beyond 65535", 44, frag(6, 65528, 0), BadFragment, 0, nil},
		{"extension beyond the packet", 60, []byte{6, 4, 1, 4, 0, 0, 0, 0}, Short, 0, nil},
		{"authentication header beyond the packet", 51, []byte{6, 255, 1, 4, 0, 0, 0, 0}, Short, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := spec{Tuple: randomTuple(newRand(1), 6, ProtoTCP), payload: []byte("hello"), next: tt.next, options: tt.ext}
			var v View
			if got := Decode(s.frame(), &v); got != tt.want {
				t.Fatalf("Decode = %v, want %v", got, tt.want)
			}
			if tt.want != OK {
				return
			}
			if l4 := 54 + tt.l4; tt.l4 == none && v.L4 != 0 || tt.l4 != none && v.L4 != l4 {
				t.Errorf("L4 = %d, want 54 + %d", v.L4, tt.l4)
			}
			if !tt.check(&v) {
				t.Errorf("view is %+v", dropBytes(v))
			}
		})
	}
}

func TestDecodeRefusesBadIPv6(t *testing.T) {
	s := spec{Tuple: randomTuple(newRand(1), 6, ProtoUDP), payload: []byte("hello")}
	tests := []struct {
		name string
		do   func([]byte) []byte
		want Reason
	}{
		{"no header", func(b []byte) []byte { return b[:53] }, Short},
		{"version 4", func(b []byte) []byte { b[14] = 0x45; return b }, BadVersion},
		{"length beyond the frame", func(b []byte) []byte { b[19]++; return b }, BadLength},
		{"jumbogram", func(b []byte) []byte { b[18], b[19], b[20] = 0, 0, 0; return b }, BadLength},
		{"mapped source", func(b []byte) []byte { copy(b[22:], make([]byte, 10)); b[32], b[33] = 255, 255; return b }, BadAddress},
		{"mapped destination", func(b []byte) []byte { copy(b[38:], make([]byte, 10)); b[48], b[49] = 255, 255; return b }, BadAddress},
		{"nothing at all", func(b []byte) []byte { b[18], b[19], b[20] = 0, 0, 59; return b }, OK},
		{"an extension without room", func(b []byte) []byte { b[19], b[20] = 7, 60; return b }, Short},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v View
			if got := Decode(tt.do(s.frame()), &v); got != tt.want {
				t.Errorf("Decode = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDecodeLeavesOtherFramesAlone(t *testing.T) {
	for _, typ := range []byte{0x00, 0x06, 0x35} {
		b := append(make([]byte, 12), 0x81, typ, 1, 2, 3)
		v := View{PartialSum: true, SegSize: 9}
		if r := Decode(b, &v); r != OK || v.Family != 0 || v.L3 != 14 || v.End != 17 || v.L4 != 0 || v.PartialSum || v.SegSize != 0 {
			t.Errorf("0x81%02x: %v, %+v", typ, r, v)
		}
	}
	var v View
	if DecodeIP(nil, &v) != Short || DecodeIP([]byte{0x55}, &v) != BadVersion {
		t.Error("DecodeIP takes what is no IP")
	}
}

func TestReasonNamesAreTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for r := OK; r <= ReasonCount; r++ {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d is called %q", r, s)
		} else {
			seen[s] = true
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	frames := golden(t)
	v, in := new(View), new(View)
	n := testing.AllocsPerRun(100, func() {
		for _, name := range []string{"tcp4-syn", "mld-report", "fragment6-3", "unreachable6"} {
			Decode(frames[name], v)
			DecodeInner(v, in)
			VerifyL4(v)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	frames := golden(b)
	for _, name := range []string{"tcp4-syn", "udp4", "tcp6-syn", "destination-options6"} {
		b.Run(name, func(b *testing.B) {
			v, f := new(View), frames[name]
			b.ReportAllocs()
			for b.Loop() {
				if Decode(f, v) != OK {
					b.Fatal("not decoded")
				}
			}
		})
	}
}
