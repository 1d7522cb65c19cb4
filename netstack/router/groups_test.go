package router

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/netstack/packet"
)

// reported returns the membership reports on an interface's wire since the
// last call, in words.
func (l *lab) reported(iface uint16) []string {
	l.t.Helper()
	w := l.wires[iface]
	w.mu.Lock()
	frames := w.reports
	w.reports = nil
	w.mu.Unlock()
	var out []string
	for _, f := range frames {
		var v packet.View
		if why := packet.Decode(f.b, &v); why != packet.OK || v.TTL != 1 || !v.RouterAlert || packet.MAC(f.b[6:12]) != packet.MAC(portMAC(iface)) {
			l.t.Fatalf("report %x: %v", f.b, why)
		}
		b := v.B[v.L4:v.End]
		size := 4
		if v.Family == 6 {
			size = 16
			if b[0] != packet.ICMP6MLD2Report || !packet.VerifyL4(&v) || !isLinkLocal(v.Src) {
				l.t.Fatalf("MLD report %x", f.b)
			}
		} else if b[0] != 0x22 || packet.Checksum(b, 0) != 0 || v.Src.Netip() != l.ports[iface-1].Source4.Netip() {
			l.t.Fatalf("IGMP report %x", f.b)
		}
		n := int(binary.BigEndian.Uint16(b[6:]))
		for b = b[8:]; n > 0; n-- {
			a, _ := netip.AddrFromSlice(b[4 : 4+size])
			out = append(out, fmt.Sprintf("%s %v", map[byte]string{2: "is", 3: "leave", 4: "join"}[b[0]], a))
			b = b[4+size:]
		}
	}
	slices.Sort(out)
	return out
}

func (l *lab) checkReported(what string, iface uint16, want ...string) {
	l.t.Helper()
	slices.Sort(want)
	if got := l.reported(iface); strings.Join(got, ", ") != strings.Join(want, ", ") {
		l.t.Errorf("%s: interface %d reported %v, want %v", what, iface, got, want)
	}
}

// solicited is how a report names the group of an address.
func solicited(what string, a netip.Addr) string {
	return what + " " + packet.SolicitedNode(a).String()
}

func groupLab(t *testing.T) (*lab, netip.Addr) {
	vip6 := netip.MustParseAddr("2001:db8:1::99")
	return newLab(t, labConfig{VIPs: []Address{{packet.AddrFrom(vipAddr), wan, NotHeld}, {packet.AddrFrom(vip6), wan, NotHeld}}}), vip6
}

func TestMembershipIsReportedWhereItIsNeeded(t *testing.T) {
	l, vip6 := groupLab(t)
	local := packet.LinkLocal(packet.MAC(portMAC(wan)))
	own := []string{solicited("join", wanAddr6), solicited("join", local)}
	l.step()
	l.checkReported("at the start", wan, append(own, "join 224.0.0.18", "join ff02::12")...)
	l.checkReported("without a virtual address", lan, solicited("join", lanAddr6), solicited("join", packet.LinkLocal(packet.MAC(portMAC(lan)))))
	l.wait(2 * time.Second)
	l.checkReported("again", wan, append(own, "join 224.0.0.18", "join ff02::12")...)
	l.wait(50 * time.Second)
	l.checkReported("then silence", wan)
	l.setVIP(vip6, Held, nil)
	l.step()
	l.checkReported("master", wan, solicited("join", vip6))
	l.setVIP(vip6, NotHeld, nil)
	l.step()
	l.checkReported("backup", wan, solicited("leave", vip6))
	l.wait(3 * time.Second)
	l.checkReported("and again", wan, solicited("leave", vip6))
	l.wait(2 * time.Minute)
	if got := l.reported(wan); !slices.Contains(got, "is 224.0.0.18") || !slices.Contains(got, "is ff02::12") {
		t.Errorf("in two minutes nobody was told: %v", got)
	}
}

// igmpQueryFrame is a general query that gives within to answer.
func igmpQueryFrame(version3 bool, code byte) []byte {
	b := []byte{0x11, code, 0, 0, 0, 0, 0, 0}
	if version3 {
		b = append(b, 2, 125, 0, 0)
	}
	binary.BigEndian.PutUint16(b[2:], packet.Checksum(b, 0))
	all := netip.MustParseAddr("224.0.0.1")
	return packet.AppendIP(nil, macOf(server4), packet.MulticastMAC(all), server4, all, packet.ProtoIGMP, 1, 0xc0, false, 1, b)
}

func mldQueryFrame(ms uint16) []byte {
	src, all := netip.MustParseAddr("fe80::77"), netip.MustParseAddr("ff02::1")
	b := append([]byte{130, 0, 0, 0, byte(ms >> 8), byte(ms), 0, 0}, make([]byte, 20)...)
	sum := packet.PseudoSum(&packet.Tuple{Src: packet.AddrFrom(src), Dst: packet.AddrFrom(all), Proto: packet.ProtoICMPv6, Family: 6}, len(b))
	binary.BigEndian.PutUint16(b[2:], packet.Checksum(b, sum))
	b = append([]byte{packet.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}, b...) // router alert
	return packet.AppendIP(nil, macOf(src), packet.MulticastMAC(all), src, all, 0, 1, 0, false, 1, b)
}

func TestQueriersAreAnswered(t *testing.T) {
	for name, query := range map[string][]byte{"IGMPv3": igmpQueryFrame(true, 20), "IGMPv2": igmpQueryFrame(false, 20), "MLD": mldQueryFrame(2000)} {
		l, _ := groupLab(t)
		l.wait(10 * time.Second)
		l.reported(wan)
		l.in(wan, query)
		l.wait(2100 * time.Millisecond)
		got := l.reported(wan)
		want := []string{"is 224.0.0.18"}
		if name == "MLD" {
			want = []string{"is ff02::12", solicited("is", wanAddr6), solicited("is", packet.LinkLocal(packet.MAC(portMAC(wan))))}
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: answered %v, want %v", name, got, want)
		}
		// However often and however urgently they ask.
		urgent := igmpQueryFrame(true, 0)
		if name == "MLD" {
			urgent = mldQueryFrame(0)
		}
		for range 100 {
			l.in(wan, urgent)
			l.wait(10 * time.Millisecond)
		}
		if n := len(l.reported(wan)); n > 3*len(want) {
			t.Errorf("%s: %d groups reported in a second", name, n)
		}
	}
}

func TestQueriesThatAreNoneAreIgnored(t *testing.T) {
	spoil := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[at] ^= 1
		return b
	}
	far := igmpQueryFrame(true, 10)
	far[22] = 64
	repairIP(far)
	for name, b := range map[string][]byte{"wrong sum": spoil(igmpQueryFrame(true, 10), 37), "from afar": far,
		"MLD, wrong sum": spoil(mldQueryFrame(1000), 75), "MLD from a global address": spoil(mldQueryFrame(1000), 22)} {
		l, _ := groupLab(t)
		l.wait(10 * time.Second)
		l.reported(wan)
		l.in(wan, b)
		l.wait(3 * time.Second)
		if got := l.reported(wan); len(got) != 0 || l.dropped("router-discovery-ignored") != 1 {
			t.Errorf("%s: reported %v; drops %v", name, got, l.router.Drops())
		}
	}
}

// repairIP writes the IPv4 header sum.
func repairIP(b []byte) {
	binary.BigEndian.PutUint16(b[24:], 0)
	binary.BigEndian.PutUint16(b[24:], packet.Checksum(b[14:34], 0))
}

func TestReportsWaitForTheLink(t *testing.T) {
	l, _ := groupLab(t)
	l.wires[wan].down = true
	l.wait(5 * time.Second)
	l.checkReported("without a link", wan)
	l.wires[wan].down = false
	l.wait(1100 * time.Millisecond)
	if got := l.reported(wan); !slices.Contains(got, "join 224.0.0.18") {
		t.Errorf("with the link back: %v", got)
	}
	l.wait(5 * time.Second)
	l.reported(wan)
	l.router.LinkDown(wan)
	l.wait(1100 * time.Millisecond)
	if got := l.reported(wan); !slices.Contains(got, "is 224.0.0.18") {
		t.Errorf("after the link was away: %v", got)
	}
}

func TestManyAddressesFitSeveralReports(t *testing.T) {
	l := newLab(t, labConfig{})
	for i := range 200 {
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 14: byte(i), 15: 7})
		l.addresses.List = append(l.addresses.List, Address{packet.AddrFrom(a), wan, Own})
	}
	l.router.SetAddresses(l.addresses)
	l.step()
	if got := l.reported(wan); len(got) != 202 {
		t.Errorf("%d groups reported, want 202", len(got))
	}
}
