package capture

import (
	"bufio"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	"tandem/netstack/packet"
)

var update = flag.Bool("update", false, "rewrite testdata/lines.txt")

// built are frames that need no file: they are made by the code under packet.
func built() []struct {
	name  string
	frame []byte
} {
	var orig packet.View
	packet.Decode(dns4, &orig)
	vip := netip.MustParseAddr("192.0.2.10")
	virtual := packet.MAC{0, 0, 0x5e, 0, 1, 1}
	fe80 := netip.MustParseAddr("fe80::1")
	target := netip.MustParseAddr("fe80::2")
	return []struct {
		name  string
		frame []byte
	}{
		{"syn", syn4},
		{"syn-ack-v6", syn6},
		{"no-flags", ip(a4, b4, packet.ProtoTCP, tcpHeader(0, ""))},
		{"all-flags", ip(a4, b4, packet.ProtoTCP, tcpHeader(0xff, "x"))},
		{"udp", dns4},
		{"udp-tagged", tag(dns4, 7)},
		{"sctp", ip(a4, b4, packet.ProtoSCTP, make([]byte, 12))},
		{"esp", ip(a4, b4, packet.ProtoESP, make([]byte, 32))},
		{"unknown-protocol", ip(a4, b4, 200, make([]byte, 32))},
		{"ping", ip(a4, b4, packet.ProtoICMP, []byte{8, 0, 0, 0, 0, 1, 0, 2, 9, 9})},
		{"port-unreachable", packet.AppendICMPError(nil, &orig, b4, 3, 3, 0)},
		{"fragmentation-needed", packet.AppendICMPError(nil, &orig, b4, 3, 4, 1400)},
		{"odd-icmp", ip(a4, b4, packet.ProtoICMP, []byte{77, 3, 0, 0, 0, 1, 0, 2})},
		{"icmp6-over-ipv4", ip(a4, b4, packet.ProtoICMPv6, []byte{128, 0, 0, 0, 0, 1, 0, 2})},
		{"router-advertisement", ip(fe80, netip.MustParseAddr("ff02::1"), packet.ProtoICMPv6, append([]byte{134, 0}, make([]byte, 14)...))},
		{"arp-request", arpWho},
		{"arp-probe", packet.AppendARP(nil, 1, ours, all, ours, netip.IPv4Unspecified(), packet.MAC{}, a4)},
		{"arp-announcement", packet.AppendARP(nil, 1, virtual, all, virtual, vip, packet.MAC{}, vip)},
		{"arp-reply", packet.AppendARP(nil, 2, ours, theirs, virtual, vip, theirs, b4)},
		{"arp-cut", arpWho[:30]},
		{"nd-solicitation", packet.AppendNS(nil, ours, packet.MulticastMAC(packet.SolicitedNode(target)), fe80, packet.SolicitedNode(target), target, true)},
		{"nd-advertisement", packet.AppendNA(nil, ours, theirs, target, fe80, target, virtual, true, true, true)},
		{"igmp", packet.AppendIGMPReport(nil, ours, a4, packet.Join, []netip.Addr{netip.MustParseAddr("224.0.0.18")})},
		{"fragment", fragmentOf(syn4, 0x20, 0)},
		{"later-fragment", fragmentOf(syn4, 0, 185)},
		{"cut", syn4[:40]},
		{"tiny", syn4[:10]},
		{"lldp", append([]byte{1, 0x80, 0xc2, 0, 0, 0xe, 2, 0, 0, 0, 0, 1, 0x88, 0xcc}, make([]byte, 46)...)},
		{"spanning-tree", append([]byte{1, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 38}, make([]byte, 46)...)},
		{"carp-short", ip(a4, b4, packet.ProtoCARP, make([]byte, 4))},
		{"pfsync-short", ip(a4, b4, packet.ProtoPfsync, make([]byte, 4))},
	}
}

// fragmentOf makes frame, which is IPv4, a fragment.
func fragmentOf(frame []byte, flags, units byte) []byte {
	b := append([]byte(nil), frame...)
	b[20], b[21] = flags, units
	b[24], b[25] = 0, 0
	sum := packet.Checksum(b[14:34], 0)
	b[24], b[25] = byte(sum>>8), byte(sum)
	return b
}

func TestLinesOfText(t *testing.T) {
	frames := built()
	f, err := os.Open("testdata/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if name, data, ok := strings.Cut(scanner.Text(), " "); ok && name != "#" {
			frames = append(frames, struct {
				name  string
				frame []byte
			}{name, unhex(data)})
		}
	}
	var got strings.Builder
	for i, fr := range frames {
		p := Packet{Time: noon, Iface: "wan", Dir: Direction(1 + i%2), Len: len(fr.frame), Data: fr.frame}
		if fr.name == "cut" {
			p.Len = len(syn4)
		}
		got.WriteString(fr.name + ":\n  " + string(AppendText(nil, &p)) + "\n")
	}
	if *update {
		if err := os.WriteFile("testdata/lines.txt", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/lines.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("lines differ; go test -update rewrites them\n%s", got.String())
	}
}

func FuzzText(f *testing.F) {
	for _, fr := range built() {
		f.Add(fr.frame)
	}
	f.Add(carp4)
	f.Fuzz(func(t *testing.T, frame []byte) {
		p := Packet{Time: noon, Iface: "wan", Dir: In, Len: len(frame), Data: frame}
		if line := AppendText(nil, &p); strings.ContainsAny(string(line), "\n\r\x1b") {
			t.Errorf("a line with control characters: %q", line)
		}
	})
}
