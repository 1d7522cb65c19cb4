package ha

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/vnet"
	"tandem/sync/carp"
)

func TestAdvertsComeEveryBaseAndSkew(t *testing.T) {
	tests := []struct {
		base, skew uint8
		want       time.Duration
	}{
		{1, 0, time.Second},
		{1, 100, 1390625 * time.Microsecond},
		{2, 0, 2 * time.Second},
		{3, 254, 3937500 * time.Microsecond}, // clamped to 240
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("base %d skew %d", tt.base, tt.skew), func(t *testing.T) {
			s := newStage(t)
			c := pairConfig("a", 2, tt.skew)
			for i := range c.CARP.VHIDs {
				c.CARP.VHIDs[i].Base = tt.base
			}
			s.add(c)
			s.run(20 * time.Second)
			s.frames = nil
			s.run(10 * tt.want)
			for _, net := range []string{"wan", "lan"} {
				all := s.adverts(net, "")
				if len(all) < 9 || len(all) > 11 {
					t.Errorf("%d adverts on %s in ten intervals", len(all), net)
				}
				for i := 1; i < len(all); i++ {
					if d := all[i].at.Sub(all[i-1].at); d < tt.want-time.Millisecond || d > tt.want+time.Millisecond {
						t.Errorf("adverts on %s are %v apart, want %v", net, d, tt.want)
					}
				}
			}
			if n := len(s.adverts("sync", "")); n > 0 {
				t.Errorf("%d adverts on an interface without a VIP", n)
			}
		})
	}
}

func TestAnAdvertLooksAsTheBSDsSendIt(t *testing.T) {
	s, _, _ := pair(t, nil)
	s.settle()
	s.run(time.Second)
	all := s.adverts("wan", "")
	if len(all) == 0 {
		t.Fatal("no advert")
	}
	h := all[0]
	if h.port != "a" || h.src != netip.MustParseAddr("198.51.100.2") || h.dst != netip.MustParseAddr("224.0.0.18") || h.ttl != 255 {
		t.Errorf("from %v on %s to %v, ttl %d", h.src, h.port, h.dst, h.ttl)
	}
	if dst, src := link.MAC(h.b[0:6]), link.MAC(h.b[6:12]); dst != (link.MAC{1, 0, 0x5e, 0, 0, 0x12}) || src != (link.MAC{0, 0, 0x5e, 0, 1, 200}) {
		t.Errorf("frame from %x to %x", src, dst)
	}
	if h.b[15] != 0xe0 || h.b[20]&0x40 == 0 || len(h.b) != 14+20+36 {
		t.Errorf("ToS %#x, flags %#x, %d bytes", h.b[15], h.b[20], len(h.b))
	}
	if h.adv.VHID() != 200 || h.adv.Base() != 1 || h.adv.Skew() != 0 || h.adv.Demote() != 0 {
		t.Errorf("advert %x", []byte(h.adv))
	}
}

func TestTwentyStackedAliasesMakeNoMoreAdverts(t *testing.T) {
	s, a, b := pair(t, func(c *Config) {
		for i := range 20 {
			addr := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, byte(100 + i)}), 24)
			c.VIPs = append(c.VIPs, VIP{Iface: lan, VHID: 1, Address: addr, Alias: true})
		}
	})
	s.settle()
	s.run(10 * time.Second)
	if n := len(s.adverts("lan", "")); n < 9 || n > 11 {
		t.Errorf("%d adverts on the LAN in ten seconds, want one stream", n)
	}
	alias := netip.MustParseAddr("192.168.1.119")
	if !a.guest.holds(lan, alias) || b.guest.holds(lan, alias) {
		t.Error("the alias is not where its VIP is")
	}
	client := s.NewHost("client", vnet.HostConfig{MAC: link.MAC{2, 9, 9, 9, 9, 9}, Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.1.50/24")}})
	client.Attach(s.switches["lan"].Plug("client", vnet.Cable{}))
	if _, err := client.Pinger(alias, time.Second); err != nil {
		t.Fatal(err)
	}
	s.run(100 * time.Millisecond)
	if mac, ok := client.Neighbor(alias); !ok || mac != link.MAC(virtualMAC(1)) {
		t.Errorf("the client has the alias at %v", mac)
	}
	a.crash()
	s.frames = nil
	s.run(5 * time.Second)
	if !b.guest.holds(lan, alias) || len(s.announcements("lan", alias)) == 0 {
		t.Error("the alias did not follow its VIP")
	}
	if rows := b.ha.Status().VIPs; len(rows) != 22 || rows[21].Type != "ip_alias" || rows[21].State != "MASTER" {
		t.Errorf("status lists %d addresses, the last is %+v", len(rows), rows[len(rows)-1])
	}
}

func TestBothFamiliesOfAVHIDAreAdvertisedAndAnnounced(t *testing.T) {
	vip6 := netip.MustParseAddr("2001:db8:1::1")
	s, a, b := pair(t, func(c *Config) {
		c.VIPs = append(c.VIPs, VIP{Iface: lan, VHID: 1, Address: netip.PrefixFrom(vip6, 64), Alias: true})
	})
	s.settle()
	s.run(10 * time.Second)
	count := map[byte]int{}
	for _, h := range s.adverts("lan", "") {
		count[h.family]++
		if h.family == 6 && (h.dst != netip.MustParseAddr("ff02::12") || !h.src.IsLinkLocalUnicast() || h.ttl != 255) {
			t.Errorf("IPv6 advert from %v to %v, hop limit %d", h.src, h.dst, h.ttl)
		}
	}
	if count[4] < 9 || count[4] > 11 || count[4] != count[6] {
		t.Errorf("adverts by family: %v", count)
	}
	if n := len(s.adverts("wan", "")); n < 9 || n > 11 {
		t.Errorf("%d adverts on the WAN", n)
	}
	a.crash()
	s.frames = nil
	s.run(5 * time.Second)
	b.want("MASTER", "MASTER")
	for _, f := range s.frames {
		var v packet.View
		if f.net != "lan" || packet.Decode(f.b, &v) != packet.OK || v.Proto != packet.ProtoICMPv6 {
			continue
		}
		n, ok := packet.ParseND(&v)
		if ok && n.Type == packet.ICMP6Advert && n.Target == vip6 {
			if packet.MAC(f.b[6:12]) != virtualMAC(1) || n.LinkAddr != virtualMAC(1) || !n.Override || !n.Router || n.Solicited {
				t.Errorf("announced by %x as %+v", f.b[6:12], n)
			}
			return
		}
	}
	t.Error("the IPv6 VIP was not announced")
}

func TestVIPsMayAnswerWithTheInterfacesMAC(t *testing.T) {
	s, a, b := pair(t, func(c *Config) { c.InterfaceMAC = true })
	s.settle()
	a.want("MASTER", "MASTER")
	a.crash()
	s.run(5 * time.Second)
	b.want("MASTER", "MASTER")
	mac := packet.MAC{2, 0, 0, 0, 3, lan}
	found := s.announcements("lan", lanVIP.Addr())
	if len(found) == 0 || packet.MAC(found[0].b[6:12]) != mac || packet.MAC(found[0].b[22:28]) != mac {
		t.Errorf("announced by %v, want %v", found, mac)
	}
	for _, h := range s.adverts("lan", "b") {
		if packet.MAC(h.b[6:12]) != mac {
			t.Errorf("an advert came from %x", h.b[6:12])
		}
	}
}

// unicast makes the vhids of a pair talk to each other alone.
func unicast(c *Config) {
	other := byte(5 - c.Interfaces[0].Addresses[0].Addr().As4()[3])
	c.CARP.VHIDs[0].Peer = netip.AddrFrom4([4]byte{198, 51, 100, other})
	c.CARP.VHIDs[1].Peer = netip.AddrFrom4([4]byte{192, 168, 1, other})
}

func TestUnicastPeersNeedNoMulticast(t *testing.T) {
	s, a, b := pair(t, unicast)
	s.settle()
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	s.run(2 * time.Second)
	for _, h := range s.adverts("lan", "") {
		if h.dst != netip.MustParseAddr("192.168.1.3") || packet.MAC(h.b[0:6]) != (packet.MAC{2, 0, 0, 0, 3, lan}) ||
			packet.MAC(h.b[6:12]) != (packet.MAC{2, 0, 0, 0, 2, lan}) {
			t.Errorf("advert to %v, frame from %x to %x", h.dst, h.b[6:12], h.b[0:6])
		}
	}
	a.wantNoAlarm()

	// The first advert of a takeover waits for the peer's MAC, not for the next interval.
	a.ha.SetMaintenance(s.Now(), true)
	s.run(2 * time.Second)
	a.want("BACKUP", "BACKUP")
	b.want("MASTER", "MASTER")
	b.neigh.Delete(netip.MustParseAddr("192.168.1.2"), nil)
	a.neigh.Delete(netip.MustParseAddr("192.168.1.3"), nil)
	s.frames = nil
	a.ha.SetMaintenance(s.Now(), false)
	s.RunUntil(func() bool { return a.state(1) == "MASTER" }, 5*time.Second)
	began := s.Now()
	s.RunUntil(func() bool { return b.state(1) == "BACKUP" }, 5*time.Second)
	if took := s.Now().Sub(began); took > 50*time.Millisecond {
		t.Errorf("for %v there were two masters", took)
	}
	if sent := a.ha.Status().Counters["send_failed"]; sent != 0 {
		t.Errorf("%d adverts counted as not sent", sent)
	}
}

func TestAUnicastPeerThatIsAwayIsAnAlarmAndNoDemotion(t *testing.T) {
	s, a, b := pair(t, unicast)
	s.settle()
	b.crash()
	s.run(3 * time.Minute) // until the neighbour is forgotten
	if d := a.ha.Status().Demotion; d != 0 {
		t.Errorf("demoted by %d:\n%s", d, a.text())
	}
	a.want("MASTER", "MASTER")
	a.wantAlarm("192.168.1.3, the unicast peer of vhid 1@lan, does not answer")
	s.add(b.cfg)
	s.run(10 * time.Second)
	a.want("MASTER", "MASTER")
	a.wantNoAlarm()
}

// speaker is somebody on a segment who sends frames of his own making.
type speaker struct {
	*vnet.Device
	s *stage
}

func (s *stage) speaker(net string) *speaker {
	d := s.NewDevice("speaker-"+net, vnet.DeviceConfig{})
	d.Attach(s.switches[net].Plug("speaker", vnet.Cable{}))
	return &speaker{d, s}
}

func (p *speaker) send(b []byte) {
	f := link.NewFrame(len(b))
	f.Set(b)
	if _, err := p.Write([]*link.Frame{f}); err != nil {
		p.s.t.Fatal(err)
	}
}

// ucarp is an advert of a foreign node on the LAN, as ucarp builds its frames.
func ucarp(src string, vhid, base, skew uint8, secret string, counter uint64, addrs ...netip.Addr) []byte {
	var payload [carp.HeaderLen]byte
	adv := carp.Encode(payload[:], vhid, base, skew, 0)
	carp.NewKey(carp.KeyConfig{VHID: vhid, Password: secret, Addresses: addrs}).Sign(adv, counter)
	return packet.AppendIP(nil, packet.MAC{0, 0, 0x5e, 0, 0, vhid}, packet.MAC{1, 0, 0x5e, 0, 0, 0x12},
		netip.MustParseAddr(src), netip.MustParseAddr("224.0.0.18"), packet.ProtoCARP, 255, 0x10, true, 77, payload[:])
}

func TestAForeignSpeakerWithABetterSkewIsYieldedTo(t *testing.T) {
	s := newStage(t)
	c := pairConfig("a", 2, 100)
	c.VIPs, c.CARP.VHIDs = c.VIPs[1:], c.CARP.VHIDs[1:]
	c.fill()
	a := s.add(c)
	s.settle()
	foreign := s.speaker("lan")
	for n := range uint64(5) {
		foreign.send(ucarp("192.168.1.9", 1, 1, 0, password, n, lanVIP.Addr()))
		s.run(time.Second)
	}
	v := a.vip(1)
	if v.State != "BACKUP" || v.MasterSource != "192.168.1.9" {
		t.Errorf("after a better advert it is %s, master %s", v.State, v.MasterSource)
	}
	a.said("a is BACKUP of 1@lan: more frequent advertisement received (192.168.1.9)")
	heard := a.ha.Status().Heard
	if len(heard) != 1 || heard[0].Source != "192.168.1.9" || !heard[0].Ours || heard[0].Interface != "lan" {
		t.Errorf("heard: %+v", heard)
	}
	s.run(5 * time.Second)
	if a.state(1) != "MASTER" {
		t.Error("it did not take over from the speaker that fell silent")
	}
}
