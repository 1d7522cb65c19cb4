package packet

import (
	"bytes"
	"net/netip"
	"testing"
)

var (
	macHost   = MAC{2, 0, 0, 0, 0, 0x0a}
	macRouter = MAC{2, 0, 0, 0, 1, 1}
	ip        = netip.MustParseAddr
)

// blank clears what a host is free to choose in the IP header: identification
// and DF of IPv4, the flow label of IPv6.
func blank(b []byte) []byte {
	b = bytes.Clone(b)
	if b[12] == 0x08 && b[13] == 0 {
		copy(b[18:], []byte{0, 0, 0, 0})
		return fix4(b)
	}
	b[15] &= 0xf0
	b[16], b[17] = 0, 0
	return b
}

func TestBuiltFramesEqualLinux(t *testing.T) {
	udp := func(name string) []byte {
		v := mustDecode(t, golden(t)[name])
		return AppendUDP(nil, macHost, macRouter, &v.Tuple, v.TTL, v.B[v.Payload:v.End])
	}
	echo := func(name string) []byte {
		v := mustDecode(t, golden(t)[name])
		return AppendIP(nil, macHost, macRouter, v.Src.Netip(), v.Dst.Netip(), v.Proto, v.TTL, v.TOS, v.DontFrag, uint16(v.FragID), v.B[v.L4:v.End])
	}
	host, router := ip("2001:db8:1::10"), ip("2001:db8:1::1")
	own, solicited := LinkLocal(macHost), SolicitedNode(router)
	tests := []struct {
		name string
		got  []byte
	}{
		{"arp-request", AppendARP(nil, ARPRequest, macHost, MAC{255, 255, 255, 255, 255, 255}, macHost, ip("192.0.2.10"), MAC{}, ip("192.0.2.1"))},
		{"arp-reply", AppendARP(nil, ARPReply, macRouter, macHost, macRouter, ip("192.0.2.1"), macHost, ip("192.0.2.10"))},
		{"neighbour-solicitation", AppendNS(nil, macHost, MulticastMAC(solicited), host, solicited, router, true)},
		{"neighbour-advertisement", AppendNA(nil, macRouter, macHost, router, host, router, macRouter, true, true, true)},
		{"igmp-report", AppendIGMPReport(nil, macHost, ip("192.0.2.10"), Join, []netip.Addr{ip("239.1.2.3")})},
		{"mld-report", AppendMLDReport(nil, macHost, own, Join, []netip.Addr{SolicitedNode(own), SolicitedNode(host)})},
		{"udp4", udp("udp4")},
		{"udp6", udp("udp6")},
		{"echo4", echo("echo4")},
		{"echo6", echo("echo6")},
	}
	frames := golden(t)
	for _, tt := range tests {
		want := frames[tt.name]
		if tt.name != "arp-request" && tt.name != "arp-reply" {
			tt.got, want = blank(tt.got), blank(want)
		}
		if !bytes.Equal(tt.got, want) {
			t.Errorf("%s:\ngot  %x\nwant %x", tt.name, tt.got, want)
		}
	}
}

func TestErrorsEqualLinux(t *testing.T) {
	four, six := ip("192.0.2.1"), ip("2001:db8:1::1")
	tests := []struct {
		orig, want string
		src        netip.Addr
		typ, code  uint8
		rest       uint32
	}{
		{"udp4-ttl-1", "time-exceeded4", four, ICMP4TimeExceeded, 0, 0},
		{"udp4-long", "too-big4", four, ICMP4Unreachable, 4, 1400},
		{"udp6-hop-limit-1", "time-exceeded6", six, ICMP6TimeExceeded, 0, 0},
		{"udp6-long", "too-big6", six, ICMP6TooBig, 0, 1400},
	}
	frames := golden(t)
	for _, tt := range tests {
		orig := mustDecode(t, append(bytes.Clone(frames[tt.orig]), 0, 0, 0)) // Padding is not quoted.
		if !MayICMPError(orig) {
			t.Errorf("%s: no error may be sent", tt.orig)
		}
		got := AppendICMPError(nil, orig, tt.src, tt.typ, tt.code, tt.rest)
		SetMACs(mustDecode(t, got), macHost, macRouter)
		want := blank(frames[tt.want])
		if got = blank(got); !bytes.Equal(got, want) {
			t.Errorf("%s:\ngot  %x\nwant %x", tt.want, got, want)
		}
		var in View
		if v := mustDecode(t, got); !VerifyL4(v) || !DecodeInner(v, &in) || in.Tuple != orig.Tuple || MayICMPError(v) {
			t.Errorf("%s: not an error about %v", tt.want, orig.Tuple)
		}
	}
}

func TestResetEqualsLinux(t *testing.T) {
	for _, family := range []string{"tcp4", "tcp6"} {
		got := AppendTCPReset(nil, mustDecode(t, golden(t)[family+"-syn"]))
		v := mustDecode(t, got)
		SetMACs(v, macHost, macRouter)
		DecTTL(v) // The one on record crossed a router.
		if want := blank(golden(t)[family+"-reset"]); !bytes.Equal(blank(got), want) {
			t.Errorf("%s:\ngot  %x\nwant %x", family, got, want)
		}
	}
}

func TestResetFollowsRFC9293(t *testing.T) {
	tests := []struct {
		flags    uint8
		data     int
		seq, ack uint32
		want     uint8
	}{
		{SYN, 0, 0, 101, RST | ACK},
		{SYN, 5, 0, 106, RST | ACK},
		{FIN, 5, 0, 106, RST | ACK},
		{0, 5, 0, 105, RST | ACK},
		{ACK, 5, 0x01020304, 0, RST},
		{SYN | ACK, 0, 0x01020304, 0, RST},
	}
	for _, tt := range tests {
		for _, family := range []uint8{4, 6} {
			s := spec{Tuple: randomTuple(newRand(20), family, ProtoTCP), seq: 100, flags: tt.flags, payload: make([]byte, tt.data)}
			orig := mustDecode(t, s.frame())
			v := mustDecode(t, AppendTCPReset(nil, orig))
			if v.Tuple != s.Tuple.Reverse() || v.Seq != tt.seq || v.Ack != tt.ack || v.TCPFlags != tt.want || v.DataLen != 0 || !VerifyL4(v) {
				t.Errorf("flags %#x: seq %d ack %d flags %#x", tt.flags, v.Seq, v.Ack, v.TCPFlags)
			}
		}
	}
	s := spec{Tuple: randomTuple(newRand(20), 4, ProtoTCP), flags: RST | ACK}
	for _, orig := range []*View{mustDecode(t, s.frame()), mustDecode(t, golden(t)["udp4"]), mustDecode(t, golden(t)["fragment4-2"])} {
		if b := AppendTCPReset(nil, orig); len(b) != 0 {
			t.Errorf("answers %+v", orig.Tuple)
		}
	}
}

func TestMayICMPErrorOnlyAboutOneHost(t *testing.T) {
	frames := golden(t)
	for name, want := range map[string]bool{
		"udp4": true, "udp6": true, "tcp4-syn": true, "echo4": true, "echo-reply6": true, "fragment4-1": true, "fragment6-1": true,
		"fragment4-2": false, "fragment6-3": false, "unreachable4": false, "too-big6": false, "time-exceeded4": false,
		"arp-request": false, "igmp-report": false, "mld-report": false, "duplicate-address-detection": false,
	} {
		if got := MayICMPError(mustDecode(t, frames[name])); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	tests := []struct {
		src, dst string
		want     bool
	}{
		{"192.0.2.1", "192.0.2.2", true},
		{"0.0.0.0", "192.0.2.2", false},
		{"0.1.2.3", "192.0.2.2", false},
		{"127.0.0.1", "192.0.2.2", false},
		{"224.0.0.1", "192.0.2.2", false},
		{"255.255.255.255", "192.0.2.2", false},
		{"192.0.2.1", "224.0.0.1", false},
		{"192.0.2.1", "255.255.255.255", false},
		{"2001:db8::1", "2001:db8::2", true},
		{"::", "2001:db8::2", false},
		{"::1", "2001:db8::2", false},
		{"ff02::1", "2001:db8::2", false},
		{"2001:db8::1", "ff02::1", false},
	}
	for _, tt := range tests {
		b := AppendIP(nil, macHost, macRouter, ip(tt.src), ip(tt.dst), ProtoESP, 64, 0, false, 0, make([]byte, 8))
		if got := MayICMPError(mustDecode(t, b)); got != tt.want {
			t.Errorf("%s to %s: %v, want %v", tt.src, tt.dst, got, tt.want)
		}
		b[0] |= 1 // By a group's Ethernet address.
		if MayICMPError(mustDecode(t, b)) {
			t.Errorf("%s to %s: about a broadcast frame", tt.src, tt.dst)
		}
	}
	redirect := AppendIP(nil, macHost, macRouter, ip("fe80::1"), ip("fe80::2"), ProtoICMPv6, 255, 0, false, 0, []byte{ICMP6Redirect, 0, 0, 0, 0, 0, 0, 0})
	unknown := AppendIP(nil, macHost, macRouter, ip("fe80::1"), ip("fe80::2"), ProtoICMPv6, 255, 0, false, 0, []byte{99, 0, 0, 0, 0, 0, 0, 0})
	if MayICMPError(mustDecode(t, redirect)) || MayICMPError(mustDecode(t, unknown)) {
		t.Error("about a redirect or an unknown error")
	}
}

func TestParseARP(t *testing.T) {
	want := ARP{Op: ARPReply, SenderMAC: macRouter, Sender: ip("192.0.2.1"), TargetMAC: macHost, Target: ip("192.0.2.10")}
	reply := golden(t)["arp-reply"]
	if got, ok := ParseARP(mustDecode(t, append(bytes.Clone(reply), 0, 0, 0))); !ok || got != want {
		t.Errorf("got %+v, %v", got, ok)
	}
	for _, at := range []int{14, 16, 18, 19, 20, 21} {
		b := bytes.Clone(reply)
		b[at] ^= 0x40
		if _, ok := ParseARP(mustDecode(t, b)); ok {
			t.Errorf("byte %d changed: taken", at)
		}
	}
	for _, b := range [][]byte{reply[:41], golden(t)["udp4"]} {
		if _, ok := ParseARP(mustDecode(t, b)); ok {
			t.Errorf("%x: taken", b)
		}
	}
}

func TestParseND(t *testing.T) {
	tests := []struct {
		name string
		want ND
	}{
		{"neighbour-solicitation", ND{Type: ICMP6Solicit, Target: ip("2001:db8:1::1"), LinkAddr: macHost, HasLinkAddr: true}},
		{"neighbour-advertisement", ND{Type: ICMP6Advert, Target: ip("2001:db8:1::1"), LinkAddr: macRouter, HasLinkAddr: true, Router: true, Solicited: true, Override: true}},
		{"duplicate-address-detection", ND{Type: ICMP6Solicit, Target: ip("fe80::ff:fe00:101")}}, // with a nonce (RFC 7527)
	}
	for _, tt := range tests {
		if got, ok := ParseND(mustDecode(t, golden(t)[tt.name])); !ok || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, got, ok)
		}
	}
	for _, flags := range []int{0, 1, 2, 4, 7} {
		want := ND{Type: ICMP6Advert, Target: ip("fe80::9"), LinkAddr: macHost, HasLinkAddr: true, Router: flags&1 > 0, Solicited: flags&2 > 0, Override: flags&4 > 0}
		b := AppendNA(nil, macHost, macRouter, ip("fe80::9"), ip("fe80::8"), want.Target, macHost, want.Router, want.Solicited, want.Override)
		if got, ok := ParseND(mustDecode(t, b)); !ok || got != want {
			t.Errorf("flags %d: %+v, %v", flags, got, ok)
		}
	}
}

func TestParseNDRefuses(t *testing.T) {
	target, all, group := ip("fe80::9"), ip("ff02::1"), SolicitedNode(ip("fe80::9"))
	ns := func(src, dst netip.Addr, withLinkAddr bool) []byte {
		return AppendNS(nil, macHost, macRouter, src, dst, target, withLinkAddr)
	}
	// refit recomputes length and checksum of a changed message.
	refit := func(b []byte) []byte {
		copy(b[18:], be16(len(b)-54))
		b[56], b[57] = 0, 0
		v := mustDecode(t, b)
		finishL4(b[54:], icmpSum, &v.Tuple)
		return b
	}
	good := func() []byte { return ns(ip("fe80::8"), group, true) }
	change := func(at int, val byte) []byte { b := good(); b[at] = val; return refit(b) }
	tests := []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"good", good(), true},
		{"hop limit 254", change(21, 254), false},
		{"code 1", change(55, 1), false},
		{"wrong checksum", func() []byte { b := good(); b[60] ^= 1; return b }(), false},
		{"multicast target", change(62, 0xff), false},
		{"mapped target", func() []byte { b := good(); a := AddrFrom(ip("192.0.2.1")); copy(b[62:], a[:]); return refit(b) }(), false},
		{"option of no length", change(79, 0), false},
		{"option too long", change(79, 2), false},
		{"half an option", refit(append(good(), 1)), false},
		{"half a message", refit(good()[:70]), false},
		{"router solicitation", change(54, ICMP6RouterSolicit), false},
		{"unspecified source", ns(ip("::"), group, false), true},
		{"unspecified source with link address", ns(ip("::"), group, true), false},
		{"unspecified source, not to the group", ns(ip("::"), target, false), false},
		{"solicited advertisement to a group", AppendNA(nil, macHost, macRouter, target, all, target, macHost, false, true, true), false},
		{"unsolicited advertisement to a group", AppendNA(nil, macHost, macRouter, target, all, target, macHost, false, false, true), true},
	}
	for _, tt := range tests {
		if _, ok := ParseND(mustDecode(t, tt.b)); ok != tt.ok {
			t.Errorf("%s: %v", tt.name, ok)
		}
	}
	frag := good()
	frag = bytes.Join([][]byte{frag[:54], {ProtoICMPv6, 0, 0, 0, 0, 0, 0, 1}, frag[54:]}, nil)
	frag[20] = nextFragment
	copy(frag[18:], be16(len(frag)-54))
	if _, ok := ParseND(mustDecode(t, frag)); ok {
		t.Error("behind a fragment header: taken")
	}
}

func TestDerivedAddresses(t *testing.T) {
	tests := []struct{ what, got, want string }{
		{"multicast MAC", MulticastMAC(ip("239.129.2.3")).String(), "01:00:5e:01:02:03"},
		{"multicast MAC", MulticastMAC(ip("ff02::1:ff00:12")).String(), "33:33:ff:00:00:12"},
		{"solicited node", SolicitedNode(ip("2001:db8::12:3456")).String(), "ff02::1:ff12:3456"},
		{"link local", LinkLocal(MAC{0x02, 0x12, 0x34, 0x56, 0x78, 0x9a}).String(), "fe80::12:34ff:fe56:789a"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, tt.got, tt.want)
		}
	}
}

func TestAddrRoundTrip(t *testing.T) {
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "::", "::1", "0.0.0.0"} {
		if got := AddrFrom(ip(s)).Netip(); got != ip(s) {
			t.Errorf("%s came back as %s", s, got)
		}
		if a := AddrFrom(ip(s)); a.Is4() != ip(s).Is4() || a.IsUnspecified() != ip(s).IsUnspecified() || a.IsLoopback() != ip(s).IsLoopback() {
			t.Errorf("%s is taken for another kind", s)
		}
	}
}

func TestBuildersUseTheRoomTheyGet(t *testing.T) {
	frames := golden(t)
	udp, syn := mustDecode(t, frames["udp6"]), mustDecode(t, frames["tcp4-syn"])
	buf := make([]byte, 0, 2048)
	four, six := ip("192.0.2.1"), ip("2001:db8::1")
	groups4, groups6 := []netip.Addr{ip("224.0.0.18")}, []netip.Addr{ip("ff02::12")}
	n := testing.AllocsPerRun(100, func() {
		AppendARP(buf, ARPRequest, macHost, macHost, macHost, four, macHost, four)
		AppendNS(buf, macHost, macHost, six, six, six, true)
		AppendNA(buf, macHost, macHost, six, six, six, macHost, false, false, true)
		AppendICMPError(buf, udp, six, ICMP6TooBig, 0, 1280)
		AppendTCPReset(buf, syn)
		AppendUDP(buf, macHost, macHost, &udp.Tuple, 64, frames["udp4"])
		AppendIP(buf, macHost, macHost, four, four, ProtoCARP, 255, 0x10, true, 0, frames["udp4"])
		AppendIGMPReport(buf, macHost, four, Join, groups4)
		AppendMLDReport(buf, macHost, six, Leave, groups6)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	if b := AppendARP([]byte("head"), ARPRequest, macHost, macHost, macHost, four, macHost, four); string(b[:4]) != "head" || len(b) != 46 {
		t.Errorf("%x", b)
	}
}
