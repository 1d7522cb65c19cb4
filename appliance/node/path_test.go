package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/netstack/host"
	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/vnet"
)

func TestIPv6IsForwardedUntranslated(t *testing.T) {
	both := strings.NewReplacer(`"198.51.100.2/24"`, `"198.51.100.2/24", "2001:db8:1::2/64"`,
		`"192.168.1.1/24"`, `"192.168.1.1/24", "2001:db8:2::1/64", "fe80::1/64"`).Replace(single)
	s := boot(t, both+passLAN)
	c := s.client.Connector(netip.MustParseAddrPort("[2001:db8:1::1]:80"), time.Hour)
	s.run(500 * time.Millisecond)
	c.Stop()
	one := c.Connections(time.Time{}, time.Time{})[0]
	if one.Outcome != vnet.Answered || one.SeenAs.Addr() != netip.MustParseAddr("2001:db8:2::50") {
		t.Errorf("the connection is %+v", one)
	}
	var kinds []string
	for _, a := range s.node.Interfaces()[1].Addresses {
		kinds = append(kinds, a.Address+" "+a.Kind)
	}
	want := []string{"192.168.1.1/24 interface", "2001:db8:2::1/64 interface", "fe80::1/64 link_local", "192.168.1.2/24 ip_alias"}
	if !slices.Equal(kinds, want) {
		t.Errorf("addresses are %q, want %q", kinds, want)
	}
}

// guests is a VLAN on the LAN's wire.
const guests = `
[interfaces.guests]
link = { driver = "vlan", parent = "lan", id = 10 }
addresses = ["10.0.10.1/24"]
`

func TestAVLANChildAnswersOnItsTag(t *testing.T) {
	s := boot(t, single+guests)
	var got [][]byte
	station := s.NewDevice("station", vnet.DeviceConfig{})
	station.Attach(s.Switch("lan").Plug("station", vnet.Cable{}))
	mac, asked := packet.MAC{2, 7, 7, 7, 7, 7}, netip.MustParseAddr("10.0.10.1")
	ask := packet.AppendARP(nil, packet.ARPRequest, mac, packet.MAC{255, 255, 255, 255, 255, 255}, mac, netip.MustParseAddr("10.0.10.5"), packet.MAC{}, asked)
	f := link.NewFrame(len(ask) + 4)
	f.Set(ask)
	link.PushTag(f, packet.EtherTypeVLAN, 10)
	if _, err := station.Write([]*link.Frame{f}); err != nil {
		t.Fatal(err)
	}
	s.run(100 * time.Millisecond)
	in := []*link.Frame{link.NewFrame(link.FrameBytesMax)}
	for n, _ := station.Read(in); n > 0; n, _ = station.Read(in) {
		got = append(got, slices.Clone(in[0].Bytes()))
	}
	answered := slices.ContainsFunc(got, func(b []byte) bool {
		return len(b) >= 46 && packet.MAC(b[:6]) == mac && b[12] == 0x81 && b[13] == 0 && b[15] == 10 && b[16] == 8 && b[17] == 6
	})
	if !answered {
		t.Errorf("the station got %x", got)
	}
	i := s.node.Interfaces()[2]
	if i.Name != "guests" || i.Driver != "vlan" || i.Device != "fw-lan.10" || i.Link != "up" || i.RX.Packets == 0 || i.TX.Packets == 0 {
		t.Errorf("listed as %+v", i)
	}
	s.cards["lan"].Jack().Pull()
	s.run(100 * time.Millisecond)
	if l := s.node.Interfaces()[2].Link; l != "down" {
		t.Errorf("without the trunk's link it is %s", l)
	}
}

func TestAChildBeforeItsTrunkIsAnError(t *testing.T) {
	s := newScene(t, vnet.Config{})
	p := planOf(t, single+guests)
	slices.Reverse(p.Interfaces)
	if _, err := New(p, s.env()); err == nil || !strings.Contains(err.Error(), "interface guests: its parent has no device yet") {
		t.Errorf("error %v", err)
	}
}

func TestAnswersToProbesAreWords(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		reply host.PingReply
		want  string
	}{
		{host.PingReply{From: v4, Type: 0}, "reply"}, {host.PingReply{From: v6, Type: 129}, "reply"},
		{host.PingReply{From: v4, Type: 11}, "time exceeded"}, {host.PingReply{From: v6, Type: 3}, "time exceeded"},
		{host.PingReply{From: v4, Type: 3, Code: 4}, "packet too big"}, {host.PingReply{From: v6, Type: 2}, "packet too big"},
		{host.PingReply{From: v4, Type: 3, Code: 13}, "administratively prohibited"}, {host.PingReply{From: v6, Type: 1, Code: 1}, "administratively prohibited"},
		{host.PingReply{From: v4, Type: 3, Code: 1}, "destination unreachable"}, {host.PingReply{From: v6, Type: 1}, "destination unreachable"},
		{host.PingReply{From: v4, Type: 12, Code: 1}, "ICMP type 12 code 1"},
	} {
		if got := resultOf(&tt.reply); got != tt.want {
			t.Errorf("%+v is %q, want %q", tt.reply, got, tt.want)
		}
	}
}

func TestProtocolsAndEndpointsAreWrittenAsInTheFile(t *testing.T) {
	addr := packet.AddrFrom(netip.MustParseAddr("192.0.2.1"))
	for proto, want := range map[uint8]string{packet.ProtoICMP: "icmp", packet.ProtoICMPv6: "icmp6", packet.ProtoTCP: "tcp", packet.ProtoUDP: "udp",
		packet.ProtoCARP: "carp", packet.ProtoPfsync: "pfsync", packet.ProtoIGMP: "igmp", packet.ProtoGRE: "gre", packet.ProtoESP: "esp", packet.ProtoAH: "ah", 89: "89"} {
		if got := protoName(proto); got != want {
			t.Errorf("protocol %d is %q, want %q", proto, got, want)
		}
	}
	if got := endpoint(addr, 80, packet.ProtoTCP); got != "192.0.2.1:80" {
		t.Errorf("%q", got)
	}
	if got := endpoint(addr, 0, packet.ProtoESP); got != "192.0.2.1" {
		t.Errorf("%q", got)
	}
	if got := flagLetters(packet.SYN | packet.ACK); got != "SA" {
		t.Errorf("%q", got)
	}
}

func TestAFullStateTableIsAnAlarm(t *testing.T) {
	s := boot(t, single+passLAN+"[firewall]\nmax_states = 16\nadaptive_start = 0\nadaptive_end = 0\n")
	c := s.client.Connector(netip.MustParseAddrPort("198.51.100.77:80"), 10*time.Millisecond) // nobody there
	s.run(time.Second)
	st := s.node.Status()
	if len(st.Alarms) != 1 {
		t.Fatalf("%d states, alarms: %+v", st.States.States, st.Alarms)
	}
	if st.Healthy || !strings.Contains(st.Alarms[0].Message, "the state table is full (16)") {
		t.Errorf("alarms: %+v", st.Alarms)
	}
	since := st.Alarms[0].Since
	s.run(100 * time.Millisecond)
	if st = s.node.Status(); len(st.Alarms) != 1 || !st.Alarms[0].Since.Equal(since) {
		t.Errorf("a moment later: %+v", st.Alarms)
	}
	c.Stop()
	s.run(5 * time.Minute)
	if st = s.node.Status(); !st.Healthy {
		t.Errorf("when they are gone: %+v", st.Alarms)
	}
}
