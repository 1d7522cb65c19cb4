package ha

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/router"
	"tandem/netstack/vnet"
)

func TestANodeWhoseDataPathHangsGivesWay(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.hung = true
	s.run(10 * time.Second)
	b.want("MASTER", "MASTER")
	a.said("an advert of 200@wan was not sent: the data path has stood still for")
	if d := a.ha.Status().Demotions; len(d) == 0 || d[0].Name != "send-error:200@wan" && d[0].Name != "send-error:1@lan" {
		t.Errorf("demotions: %+v", d)
	}
	a.hung = false
	a.wake()
	s.run(10 * time.Second)
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	a.said("wan sends again")
	a.wantNoAlarm()
}

func TestSendErrorsDemoteUntilAdvertsLeaveAgain(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.ports[wan].refuses = true
	s.run(5 * time.Second)
	a.said("an advert of 200@wan was not sent: the device did not take it")
	a.said("demoted by 240 to 240: send-error:200@wan, until 3 adverts in a row were sent")
	b.want("MASTER", "MASTER")
	if st := a.state(1); st != "BACKUP" {
		t.Errorf("the LAN of the demoted node is %s", st)
	}
	if n := a.ha.Status().Counters["send_failed"]; n < 3 {
		t.Errorf("%d adverts counted as not sent", n)
	}
	s.run(10 * time.Second)
	a.want("BACKUP", "BACKUP") // it does not try with its peer's mastership at stake
	a.ports[wan].refuses = false
	healed := s.Now()
	if !s.RunUntil(func() bool { return a.ha.Status().Demotion == 0 }, time.Minute) {
		t.Fatalf("it stays demoted:\n%s", a.text())
	}
	if took := s.Now().Sub(healed); took < 2*time.Second || took > 4*time.Second {
		t.Errorf("it was demoted for %v after it could send", took)
	}
	s.run(5 * time.Second)
	a.want("MASTER", "MASTER")
	a.said("wan sends again")
	a.wantNoAlarm()
	if len(a.ha.mending) > 0 || len(a.ha.faults) > 0 {
		t.Errorf("it still mends: %v, %v", a.ha.mending, a.ha.faults)
	}
}

func TestAWrongPasswordIsNamedOnBothNodes(t *testing.T) {
	s, a, b := pair(t, func(c *Config) {
		if c.Hostname == "b" {
			c.CARP.VHIDs[0].Password = "other"
		}
	})
	s.settle()
	s.run(10 * time.Second)
	a.want("MASTER", "MASTER")
	if b.state(200) != "MASTER" || b.state(1) != "BACKUP" {
		t.Errorf("b is %s and %s", b.state(200), b.state(1))
	}
	a.wantAlarm("adverts of vhid 200@wan from 198.51.100.3 do not verify", "the password differs")
	b.wantAlarm("adverts of vhid 200@wan from 198.51.100.2 do not verify", "the password differs")
	b.wantAlarm("this node is MASTER of some vhids but not of 1@lan (192.168.1.2)")
	if n := a.ha.Status().Counters["bad_auth"]; n < 5 {
		t.Errorf("%d badly authenticated adverts", n)
	}
}

func TestAMissingAliasIsNamed(t *testing.T) {
	extra := netip.MustParsePrefix("192.168.1.77/24")
	s, a, b := pair(t, func(c *Config) {
		if c.Hostname == "a" {
			c.VIPs = append(c.VIPs, VIP{Iface: lan, VHID: 1, Address: extra, Alias: true})
		}
	})
	s.settle()
	s.run(10 * time.Second)
	a.wantAlarm("vhid 1@lan from 192.168.1.3", "the address set differs, it lacks 192.168.1.77")
	if b.state(1) != "MASTER" {
		t.Errorf("b is %s", b.state(1))
	}
}

func TestAnotherGroupWithOurVHIDIsListed(t *testing.T) {
	s, a, _ := pair(t, nil)
	s.settle()
	foreign := s.speaker("lan")
	for n := range uint64(6) {
		foreign.send(ucarp("192.168.1.9", 1, 1, 0, "somebody else's", n, netip.MustParseAddr("192.168.1.99")))
		s.run(time.Second)
	}
	a.want("MASTER", "MASTER")
	a.wantAlarm("adverts of vhid 1@lan from 192.168.1.9 do not verify", "another CARP group uses this vhid")
	scan, err := a.ha.Scan("lan")
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(scan.Speakers, func(p status.Speaker) bool { return p.Source == "192.168.1.9" })
	if at < 0 || scan.Speakers[at].Ours || scan.Speakers[at].VHID != 1 {
		t.Errorf("the scan lists %+v", scan.Speakers)
	}
	if len(scan.Free) != 1 || scan.Free[0].VHID != 2 || scan.Free[0].Interface != "lan" {
		t.Errorf("the scan proposes %+v", scan.Free)
	}
	if _, err := a.ha.Scan("dmz"); err == nil {
		t.Error("an interface that is not there was scanned")
	}
}

func TestOwnAdvertsThatComeBackAreALoop(t *testing.T) {
	s, a, b := pair(t, nil)
	mirror := s.speaker("lan")
	mirror.OnReadable(func() {
		s.Post(func() {
			f := []*link.Frame{link.NewFrame(link.FrameBytesMax)}
			for {
				if n, _ := mirror.Read(f); n == 0 {
					return
				}
				if packet.MAC(f[0].Bytes()[6:12]) == virtualMAC(1) {
					mirror.send(slices.Clone(f[0].Bytes()))
				}
			}
		})
	})
	s.settle()
	s.run(10 * time.Second)
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	a.wantAlarm("own adverts of vhid 1@lan come back", "loop at layer 2")
	if n := a.ha.Status().Counters["own_echo"]; n < 5 {
		t.Errorf("%d echoes counted", n)
	}
	mirror.Jack().Pull()
	s.run(3 * time.Minute)
	a.wantNoAlarm()
}

func TestTwoMastersAreNamedWhileAdvertsPassOneWayOnly(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	for _, net := range []string{"wan", "lan"} {
		s.switches[net].Cut("a", "b")
	}
	s.run(10 * time.Second)
	a.want("MASTER", "MASTER")
	b.want("MASTER", "MASTER")
	a.wantAlarm("198.51.100.3 is MASTER of vhid 200@wan beside us: it does not hear our adverts", "rules", "cables", "switch", "hypervisor")
	a.wantAlarm("another node announces 198.51.100.200 on wan, a VIP that this node holds")
	for _, net := range []string{"wan", "lan"} {
		s.switches[net].Heal()
	}
	s.run(3 * time.Second)
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	s.run(2 * time.Minute)
	a.wantNoAlarm()
	b.wantNoAlarm()
}

func TestAHandOverIsNoConflict(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	for range 3 {
		a.ha.SetMaintenance(s.Now(), true)
		s.run(3 * time.Second)
		a.ha.SetMaintenance(s.Now(), false)
		s.run(3 * time.Second)
	}
	for _, x := range []*box{a, b} {
		for _, e := range x.events {
			if e.Fields["alarm"] != "" {
				t.Errorf("%s raised %q", x.name, e.Message)
			}
		}
	}
}

func TestAHostWithAVIPIsNamedUntilItStops(t *testing.T) {
	s, a, _ := pair(t, nil)
	s.settle()
	thief := s.speaker("lan")
	mac := packet.MAC{2, 6, 6, 6, 6, 6}
	for range 3 {
		thief.send(packet.AppendARP(nil, packet.ARPRequest, mac, packet.MAC{255, 255, 255, 255, 255, 255}, mac, lanVIP.Addr(), packet.MAC{}, lanVIP.Addr()))
		s.run(2 * time.Second)
	}
	a.wantAlarm("02:06:06:06:06:06 claims 192.168.1.1 on lan, a VIP that this node holds")
	if n := len(s.announcements("lan", lanVIP.Addr())); n < 6 { // each claim is answered
		t.Errorf("%d announcements on the wire, want three claims and three answers", n)
	}
	s.run(2 * time.Minute)
	a.wantNoAlarm()
}

// squatter is a host on the LAN with an address of node a's.
func (s *stage) squatter() *vnet.Host {
	h := s.NewHost("squatter", vnet.HostConfig{MAC: link.MAC{2, 6, 6, 6, 6, 6}, Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.1.2/24")}})
	h.Attach(s.switches["lan"].Plug("squatter", vnet.Cable{}))
	return h
}

func TestAnAddressThatSomebodyHasIsNotUsed(t *testing.T) {
	s := newStage(t)
	other := s.squatter()
	a := s.add(pairConfig("a", 2, 0))
	s.settle()
	own := packet.AddrFrom(netip.MustParseAddr("192.168.1.2"))
	if at, _ := a.router.Local(own); at.Kind != router.Unusable || a.guest.holds(lan, own.Netip()) {
		t.Errorf("the address is of kind %v, the guest has %v", at.Kind, a.guest.has[lan])
	}
	if l := a.ha.Addresses(lan); l[0].State != "duplicate" || l[0].Holder != "02:06:06:06:06:06" {
		t.Errorf("listed as %+v", l[0])
	}
	a.wantAlarm("02:06:06:06:06:06 has 192.168.1.2 on lan: this node does not use it")
	a.want("MASTER", "MASTER")
	s.run(2 * time.Second)
	for _, h := range s.adverts("lan", "a") {
		if h.src != lanVIP.Addr() {
			t.Errorf("an advert came from %v", h.src)
		}
	}
	other.SetPower(false)
	s.run(2 * time.Minute)
	if at, _ := a.router.Local(own); at.Kind != router.Own || !a.guest.holds(lan, own.Netip()) {
		t.Errorf("with the other gone the address is of kind %v", at.Kind)
	}
	a.wantNoAlarm()
	a.said("over: 02:06:06:06:06:06 has 192.168.1.2")
}

func TestAnAddressTakenWhileTheLinkWasAwayIsNotUsedAgain(t *testing.T) {
	s, a, _ := pair(t, nil)
	s.settle()
	a.ports[lan].Jack().Pull()
	s.run(time.Second)
	s.squatter()
	a.ports[lan].Jack().Push()
	own := packet.AddrFrom(netip.MustParseAddr("192.168.1.2"))
	s.run(10 * time.Millisecond)
	if at, _ := a.router.Local(own); at.Kind != router.Unusable {
		t.Errorf("while it is probed for the address is of kind %v", at.Kind)
	}
	s.run(5 * time.Second)
	if at, _ := a.router.Local(own); at.Kind != router.Unusable || a.guest.holds(lan, own.Netip()) {
		t.Errorf("the duplicate address is of kind %v", at.Kind)
	}
	a.wantAlarm("has 192.168.1.2 on lan: this node does not use it")
	if l := a.ha.Addresses(wan); l[0].State != "in use" {
		t.Errorf("the WAN address is %+v", l[0])
	}
}

func TestTwoNodesWithTheSameAddressElectOneMasterAndSaySo(t *testing.T) {
	s := newStage(t)
	ca, cb := pairConfig("a", 2, 0), pairConfig("b", 3, 100)
	cb.Interfaces[lan-1].Addresses = ca.Interfaces[lan-1].Addresses
	cb.fill()
	a, b := s.add(ca), s.add(cb)
	s.settle()
	s.run(5 * time.Second)
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	if !a.alarmed("02:00:00:00:03:02 has 192.168.1.2 on lan") && !b.alarmed("02:00:00:00:02:02 has 192.168.1.2 on lan") {
		t.Errorf("neither node names the other: %v, %v", a.ha.Alarms(), b.ha.Alarms())
	}
}

func TestAnOwnAddressClaimedLaterIsNamedForAMinute(t *testing.T) {
	s, a, _ := pair(t, nil)
	s.settle()
	thief := s.speaker("lan")
	mac, own := packet.MAC{2, 6, 6, 6, 6, 6}, netip.MustParseAddr("192.168.1.2")
	thief.send(packet.AppendARP(nil, packet.ARPRequest, mac, packet.MAC{255, 255, 255, 255, 255, 255}, mac, own, packet.MAC{}, own))
	s.run(time.Second)
	a.wantAlarm("02:06:06:06:06:06 claims 192.168.1.2 on lan, which is this node's")
	s.run(2 * time.Minute)
	a.wantNoAlarm()
}

func TestAFullInboxIsCounted(t *testing.T) {
	s, a, _ := pair(t, nil)
	s.settle()
	for range inboxMax + 10 {
		a.ha.Receive(s.Now(), &router.Punt{Iface: lan, Family: 4, Proto: packet.ProtoCARP, Payload: []byte{1}})
	}
	if n := a.ha.Status().Counters["inbox_full"]; n != 10 {
		t.Errorf("%d lost, want 10", n)
	}
	s.run(3 * time.Second)
	if n := a.ha.Status().Counters["short_packet"]; n != inboxMax {
		t.Errorf("%d short packets, want %d", n, inboxMax)
	}
	a.want("MASTER", "MASTER")
}
