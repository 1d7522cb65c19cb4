package ha

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/netstack/packet"
	"tandem/netstack/router"
	"tandem/sync/carp"
)

func TestTheLowerSkewBecomesMasterOfAll(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	if a.ha.Role() != "MASTER" || b.ha.Role() != "BACKUP" || a.roles[len(a.roles)-1] != "MASTER" {
		t.Errorf("roles are %s (told %v) and %s", a.ha.Role(), a.roles, b.ha.Role())
	}
	a.wantNoAlarm()
	b.wantNoAlarm()
}

func TestAMasterHasItsAddressesBeforeItsFirstAdvertLeaves(t *testing.T) {
	s, a, _ := pair(t, nil)
	var order []string
	for iface, vip := range map[uint16]netip.Addr{wan: wanVIP.Addr(), lan: lanVIP.Addr()} {
		a.ports[iface].seen = func(b []byte) {
			var v packet.View
			if packet.Decode(b, &v) != packet.OK {
				t.Fatalf("sent %x", b)
			}
			switch {
			case v.Proto == packet.ProtoCARP && v.Family != 0:
				held, _ := a.router.Local(packet.AddrFrom(vip))
				if held.Kind != router.Held || !a.guest.holds(iface, vip) || a.roles[len(a.roles)-1] == "BACKUP" {
					t.Errorf("an advert left with %v held as %v, guest %v, role %v", vip, held.Kind, a.guest.has[iface], a.roles)
				}
				order = append(order, names[iface]+" advert")
			case v.EtherType == packet.EtherTypeARP:
				if p, ok := packet.ParseARP(&v); ok && p.Sender == vip {
					order = append(order, names[iface]+" announcement")
				}
			}
		}
	}
	s.settle()
	for _, name := range []string{"wan", "lan"} {
		adv, ann := slices.Index(order, name+" advert"), slices.Index(order, name+" announcement")
		if adv < 0 || ann < 0 || ann < adv {
			t.Errorf("on %s the first advert is number %d, the first announcement number %d of what was sent", name, adv, ann)
		}
	}
}

func TestADeadMasterIsReplacedAfterThreeAdverts(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.crash()
	began := s.Now()
	s.RunUntil(func() bool { return b.state(200) == "MASTER" && b.state(1) == "MASTER" }, 10*time.Second)
	if took := s.Now().Sub(began); took > 3400*time.Millisecond || took < 2300*time.Millisecond {
		t.Errorf("the takeover took %v", took)
	}
	b.said("b is MASTER of", "200@wan", "master timed out (last advert of 198.51.100.2 3390 ms ago)", "announced in 0 ms")
	s.run(10 * time.Millisecond)
	for net, vip := range map[string]netip.Addr{"wan": wanVIP.Addr(), "lan": lanVIP.Addr()} {
		mac := packet.MAC(virtualMAC(map[string]uint8{"wan": 200, "lan": 1}[net]))
		found := s.announcements(net, vip)
		if len(found) == 0 || packet.MAC(found[0].b[6:12]) != mac {
			t.Errorf("%v was announced %d times, or by another MAC, on %s", vip, len(found), net)
		}
		if port, ok := s.switches[net].Where(macOf(mac)); !ok || port != "b" {
			t.Errorf("the switch has the virtual MAC on port %q", port)
		}
	}
}

// macOf is a MAC as links have it.
func macOf(m packet.MAC) [6]byte { return m }

func TestTheTransitionsOfOneMomentAreOneSentence(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.ha.SetEnabled(s.Now(), false)
	s.run(time.Second)
	a.want("DISABLED", "DISABLED")
	b.want("MASTER", "MASTER")
	a.said("a is INIT of 200@wan, 1@lan: CARP disabled")
	b.said("b is MASTER of 200@wan", "says farewell")
	count := 0
	for _, e := range a.events {
		if strings.Contains(e.Message, "INIT") {
			count++
		}
	}
	if count != 1 {
		t.Errorf("switching CARP off took %d lines:\n%s", count, a.text())
	}
	a.wantAlarm("CARP is switched off", "carp enable")
	since := a.ha.Alarms()[0].Since
	s.run(time.Second)
	if a.ha.Alarms()[0].Since != since {
		t.Error("the alarm is younger than the cause")
	}
	a.ha.SetEnabled(s.Now(), true)
	s.run(5 * time.Second)
	a.want("MASTER", "MASTER")
	a.wantNoAlarm()
}

func TestAMasterThatLeavesForwardsUntilItsSuccessorSpeaks(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	left := s.Now()
	a.ha.Leave(left)
	if kind, _ := a.router.Local(packet.AddrFrom(lanVIP.Addr())); kind.Kind != router.Draining || !a.ha.Draining() {
		t.Fatalf("after the farewell the VIP is of kind %v", kind.Kind)
	}
	if a.guest.holds(lan, lanVIP.Addr()) {
		t.Error("the node's own stack still has the VIP")
	}
	s.RunUntil(func() bool { return !a.ha.Draining() }, 5*time.Second)
	if took := s.Now().Sub(left); took < 50*time.Millisecond || took > 60*time.Millisecond {
		t.Errorf("it drained for %v, want 50 ms after the successor's first advert", took)
	}
	if kind, _ := a.router.Local(packet.AddrFrom(lanVIP.Addr())); kind.Kind != router.NotHeld {
		t.Errorf("after draining the VIP is of kind %v", kind.Kind)
	}
	b.want("MASTER", "MASTER")

	// Without a successor it ends by itself.
	b.ha.Leave(s.Now())
	alone := s.Now()
	s.RunUntil(func() bool { return !b.ha.Draining() }, 5*time.Second)
	if took := s.Now().Sub(alone); took < 900*time.Millisecond || took > 1100*time.Millisecond {
		t.Errorf("alone it drained for %v, want a second", took)
	}
	s.frames = nil
	s.run(10 * time.Second)
	if n := len(s.adverts("lan", "")); n > 0 {
		t.Errorf("nodes that left sent %d adverts", n)
	}
}

func TestMaintenanceHandsOverAndTakesBack(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.ha.SetMaintenance(s.Now(), true)
	s.run(time.Second)
	a.want("BACKUP", "BACKUP")
	b.want("MASTER", "MASTER")
	if st := a.ha.Status(); !st.Maintenance || st.Demotion != 240 || st.VIPs[0].EffectiveSkew != 240 {
		t.Errorf("status says %+v", st)
	}
	a.wantAlarm("demoted by 240 (maintenance)", "until maintenance mode is switched off")
	a.said("demoted by 240 to 240: maintenance")
	a.ha.SetMaintenance(s.Now(), false)
	s.run(3 * time.Second)
	a.want("MASTER", "MASTER")
	a.said("demotion maintenance is over: -240 to 0")
	a.wantNoAlarm()
}

func TestOneDeadInterfaceMovesTheOthersToo(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.ports[wan].Jack().Pull()
	s.run(2 * time.Second)
	a.want("INIT", "BACKUP")
	b.want("MASTER", "MASTER")
	if v := a.vip(200); v.Reason != string(carp.ReasonLinkDown) {
		t.Errorf("the reason of INIT is %q", v.Reason)
	}
	a.wantAlarm("vhid 200 on wan is INIT: the interface has no link", "delete its VIP")
	a.wantAlarm("demoted by 240 (link:wan)", "until wan has link again")
	a.said("a is INIT of 200@wan: hardware interface down")
	b.said("b is MASTER of 1@lan", "192.168.1.2 has demoted itself")

	a.ports[wan].Jack().Push()
	s.run(50 * time.Millisecond)
	if v := a.vip(200); v.State != "INIT" || v.Reason != reasonProbing {
		t.Errorf("while its addresses are probed for it is %s, %q", v.State, v.Reason)
	}
	if a.alarmed("has no link") {
		t.Errorf("with its link back it says: %v", a.ha.Alarms())
	}
	s.run(5 * time.Second)
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	a.wantNoAlarm()
}

func TestCuttingTheSyncLinkChangesNoRole(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	before := len(a.roles) + len(b.roles)
	a.ports[syncLink].Jack().Pull()
	s.run(10 * time.Second)
	b.ports[syncLink].Jack().Pull()
	s.run(10 * time.Second)
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	if len(a.roles)+len(b.roles) != before || a.ha.Status().Demotion != 0 {
		t.Errorf("roles went %v and %v", a.roles, b.roles)
	}
	a.said("link of sync is down")
}

func TestThreeNodesHaveOneMasterAndAnHeir(t *testing.T) {
	s, a, b := pair(t, nil)
	c := s.add(pairConfig("c", 4, 200))
	s.settle()
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	c.want("BACKUP", "BACKUP")
	a.crash()
	s.run(5 * time.Second)
	b.want("MASTER", "MASTER")
	c.want("BACKUP", "BACKUP")
	b.crash()
	s.run(5 * time.Second)
	c.want("MASTER", "MASTER")
}

func TestANodeWithoutVIPsStandsAlone(t *testing.T) {
	s := newStage(t)
	c := pairConfig("a", 2, 0)
	c.VIPs, c.CARP.VHIDs = nil, nil
	c.fill()
	a := s.add(c)
	s.settle()
	if a.ha.Role() != "STANDALONE" || len(s.adverts("wan", "")) > 0 {
		t.Errorf("its role is %s", a.ha.Role())
	}
	a.wantNoAlarm()
	if st := a.ha.Status(); st.VIPs == nil || st.Demotions == nil || st.Heard == nil || st.Counters == nil {
		t.Errorf("a list is null: %+v", st)
	}
}
