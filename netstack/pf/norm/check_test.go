package norm

import (
	"bytes"
	"net/netip"
	"testing"

	"tandem/netstack/packet"
)

func TestCheck(t *testing.T) {
	udp := func(src, dst string, sport, dport uint16) []byte {
		s, d := addr(src), addr(dst)
		family := uint8(4)
		if d.Is6() {
			family = 6
		}
		tuple := packet.Tuple{Src: packet.AddrFrom(s), Dst: packet.AddrFrom(d), SrcPort: sport, DstPort: dport, Family: family}
		return packet.AppendUDP(nil, macA, macB, &tuple, 64, nil)
	}
	tcp := func(flags uint8) []byte {
		return packet.AppendIP(nil, macA, macB, addr("192.0.2.1"), addr("192.0.2.2"), packet.ProtoTCP, 64, 0, true, 0,
			[]byte{0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0})
	}
	const fin, syn, rst, psh, ack, urg = packet.FIN, packet.SYN, packet.RST, packet.PSH, packet.ACK, packet.URG
	tests := []struct {
		name string
		b    []byte
		want Reason
	}{
		{"udp4", udp("192.0.2.1", "192.0.2.2", 1, 2), OK},
		{"udp6", udp("2001:db8::1", "2001:db8::2", 1, 2), OK},
		{"DHCP", udp("0.0.0.0", "255.255.255.255", 68, 67), OK},
		{"to a group", udp("192.0.2.1", "224.0.0.1", 1, 2), OK},
		{"from loopback", udp("127.9.9.9", "192.0.2.2", 1, 2), LoopbackAddress},
		{"to loopback", udp("192.0.2.2", "127.0.0.1", 1, 2), LoopbackAddress},
		{"from ::1", udp("::1", "2001:db8::2", 1, 2), LoopbackAddress},
		{"to ::1", udp("2001:db8::2", "::1", 1, 2), LoopbackAddress},
		{"from a group", udp("224.0.0.1", "192.0.2.2", 1, 2), MulticastSource},
		{"from an IPv6 group", udp("ff02::1", "2001:db8::2", 1, 2), MulticastSource},
		{"from broadcast", udp("255.255.255.255", "192.0.2.2", 1, 2), BroadcastSource},
		{"to 0.0.0.0", udp("192.0.2.2", "0.0.0.0", 1, 2), UnspecifiedDestination},
		{"to ::", udp("2001:db8::2", "::", 1, 2), UnspecifiedDestination},
		{"land", udp("192.0.2.2", "192.0.2.2", 7, 7), Land},
		{"land6", udp("2001:db8::2", "2001:db8::2", 7, 7), Land},
		{"from port 0", udp("192.0.2.1", "192.0.2.2", 0, 2), PortZero},
		{"to port 0", udp("192.0.2.1", "192.0.2.2", 1, 0), PortZero},
		{"ARP", packet.AppendARP(nil, 1, macA, macB, macA, addr("192.0.2.1"), macB, addr("192.0.2.1")), OK},
		{"ESP has no ports", whole(4, numbered(20)), OK},
		{"later fragment has no ports", fragment(4, 1, 1, 8, false, numbered(8)), OK},
		{"SYN", tcp(syn), OK},
		{"SYN ECE CWR", tcp(syn | packet.ECE | packet.CWR), OK},
		{"SYN ACK", tcp(syn | ack), OK},
		{"ACK", tcp(ack), OK},
		{"FIN PSH ACK", tcp(fin | psh | ack), OK},
		{"URG ACK", tcp(urg | ack), OK},
		{"RST", tcp(rst), OK},
		{"RST ACK", tcp(rst | ack), OK},
		{"none", tcp(0), BadFlags},
		{"all", tcp(0xff), BadFlags},
		{"SYN FIN", tcp(syn | fin), BadFlags},
		{"SYN FIN ACK", tcp(syn | fin | ack), BadFlags},
		{"SYN RST", tcp(syn | rst), BadFlags},
		{"FIN", tcp(fin), BadFlags},
		{"FIN PSH URG", tcp(fin | psh | urg), BadFlags},
		{"SYN PSH", tcp(syn | psh), BadFlags},
		{"RST URG", tcp(rst | urg), BadFlags},
	}
	for _, tt := range tests {
		if got := Check(decode(t, tt.b)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := Check(&packet.View{Tuple: packet.Tuple{Family: 4}, SourceRoute: true}); got != SourceRoute {
		t.Errorf("source route: %v", got)
	}
}

// syn4 is a SYN that offers a segment size of 1460, with DF and an odd sum.
func syn4() []byte {
	b := packet.AppendIP(nil, macA, macB, addr("192.0.2.1"), addr("192.0.2.2"), packet.ProtoTCP, 64, 0, true, 0x1234,
		[]byte{0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0x60, packet.SYN, 0, 0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4})
	v := new(packet.View)
	packet.Decode(b, v)
	s := packet.Checksum(b[34:], packet.PseudoSum(&v.Tuple, 24))
	b[50], b[51] = byte(s>>8), byte(s)
	return b
}

func TestPolicyApply(t *testing.T) {
	rand := func() uint64 { return 0xabcd0000 }
	tests := []struct {
		name   string
		policy Policy
		df     bool
		id     uint32
		mss    byte // low byte
	}{
		{"nothing", Policy{}, true, 0x1234, 0xb4},
		{"mss", Policy{MSS: 1440}, true, 0x1234, 0xa0},
		{"mss that is larger", Policy{MSS: 1500}, true, 0x1234, 0xb4},
		{"no-df", Policy{NoDF: true}, false, 0x1234, 0xb4},
		{"random-id", Policy{RandomID: true}, true, 0xabcd, 0xb4},
		{"all", Policy{MSS: 1440, NoDF: true, RandomID: true}, false, 0xabcd, 0xa0},
	}
	for _, tt := range tests {
		v := decode(t, syn4())
		if why := tt.policy.Apply(v, rand); why != OK {
			t.Errorf("%s: %v", tt.name, why)
		}
		again := decode(t, v.B)
		if again.DontFrag != tt.df || v.DontFrag != tt.df || again.FragID != tt.id || v.FragID != tt.id || v.B[57] != tt.mss || !packet.VerifyL4(again) {
			t.Errorf("%s: DF %v, id %#x, mss ..%#x, sum right: %v", tt.name, again.DontFrag, again.FragID, v.B[57], packet.VerifyL4(again))
		}
	}
}

func TestPolicyLeavesTheIdentificationOfFragments(t *testing.T) {
	b := fragment(4, 1, 5, 8, true, numbered(8))
	p := Policy{NoDF: true, RandomID: true, MSS: 500}
	if v := decode(t, bytes.Clone(b)); p.Apply(v, func() uint64 { return 7 }) != OK || !bytes.Equal(v.B, b) {
		t.Errorf("%x became %x", b, v.B)
	}
}

func TestPolicyRandomIDIsNeverZero(t *testing.T) {
	for _, bits := range []uint64{0, 1 << 16, 1 << 63, 0xffff} {
		if nonzero(bits) == 0 {
			t.Errorf("%#x gives 0", bits)
		}
	}
}

func TestPolicyOptions(t *testing.T) {
	withOption := func(o [4]byte) []byte {
		b := bytes.Join([][]byte{whole(4, nil)[:34], o[:], numbered(8)}, nil)
		b[14], b[17] = 0x46, 32
		return summed(b)
	}
	groups4, groups6 := []netip.Addr{addr("239.1.2.3")}, []netip.Addr{addr("ff02::12")}
	tests := []struct {
		name string
		b    []byte
		want Reason // where the policy allows none
	}{
		{"record route", withOption([4]byte{7, 3, 4, 0}), OptionsRefused},
		{"router alert on ESP", withOption([4]byte{148, 4, 0, 0}), OptionsRefused},
		{"IGMP", packet.AppendIGMPReport(nil, macA, ends[4][0], packet.Join, groups4), OK},
		{"MLD", packet.AppendMLDReport(nil, macA, ends[6][0], packet.Join, groups6), OK},
		{"none", whole(4, numbered(8)), OK},
	}
	for _, tt := range tests {
		before := bytes.Clone(tt.b)
		strict, lax := Policy{RandomID: true}, Policy{AllowOptions: true}
		rand := func() uint64 { return 5 }
		if why := strict.Apply(decode(t, tt.b), rand); why != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, why, tt.want)
		}
		if tt.want != OK && !bytes.Equal(before, tt.b) {
			t.Errorf("%s: refused, but changed", tt.name)
		}
		if why := lax.Apply(decode(t, tt.b), rand); why != OK {
			t.Errorf("%s: %v where options are allowed", tt.name, why)
		}
	}
	echo := decode(t, packet.AppendMLDReport(nil, macA, ends[6][0], packet.Join, groups6))
	echo.ICMPType = packet.ICMP6Echo
	if why := (&Policy{}).Apply(echo, nil); why != OptionsRefused {
		t.Errorf("router alert on an echo: %v", why)
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

func TestCheckDoesNotAllocate(t *testing.T) {
	v, p := decode(t, syn4()), &Policy{MSS: 1200, NoDF: true, RandomID: true}
	rand := func() uint64 { return 9 }
	if n := testing.AllocsPerRun(100, func() { Check(v); p.Apply(v, rand) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
