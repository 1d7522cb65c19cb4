package ha

import (
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/router"
	"tandem/sync/carp"
)

// change reloads a box with an edited copy of its configuration.
func (b *box) change(edit func(c *Config)) {
	b.s.t.Helper()
	c := pairConfig(b.name, b.cfg.Interfaces[0].Addresses[0].Addr().As4()[3], b.cfg.CARP.VHIDs[0].Skew)
	edit(&c)
	c.fill()
	if err := b.ha.SetConfig(b.s.Now(), c); err != nil {
		b.s.t.Fatal(err)
	}
	b.cfg = c
	b.wake()
}

func TestAVIPThatAReloadBringsIsAnnouncedWhereItIsHeld(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	extra := netip.MustParsePrefix("192.168.1.77/24")
	add := func(c *Config) {
		c.VIPs = append(c.VIPs, VIP{Iface: lan, VHID: 1, Address: extra, Alias: true})
	}
	a.change(add)
	s.run(time.Second)
	b.change(add)
	s.run(5 * time.Second)
	a.want("MASTER", "MASTER")
	b.want("BACKUP", "BACKUP")
	if n := len(s.announcements("lan", extra.Addr())); n != 4 {
		t.Errorf("announced %d times, want once and three repeats", n)
	}
	if n := len(s.announcements("lan", lanVIP.Addr())); n != 0 {
		t.Errorf("the VIP that was there was announced %d times", n)
	}
	if !a.guest.holds(lan, extra.Addr()) || b.guest.holds(lan, extra.Addr()) {
		t.Error("the address is not held by the master alone")
	}
	for _, x := range []*box{a, b} {
		for _, v := range x.ha.Status().VIPs {
			if v.Transitions > 2 {
				t.Errorf("%s: the reload changed the state of vhid %d", x.name, v.VHID)
			}
		}
	}

	a.change(func(*Config) {})
	b.change(func(*Config) {})
	s.run(5 * time.Second)
	if at, found := a.router.Local(packet.AddrFrom(extra.Addr())); found || a.guest.holds(lan, extra.Addr()) {
		t.Errorf("the address taken out is still of kind %v", at.Kind)
	}
	a.want("MASTER", "MASTER")
}

func TestANewVIPMACIsAnnounced(t *testing.T) {
	s, a, _ := pair(t, nil)
	s.settle()
	a.change(func(c *Config) { c.InterfaceMAC = true })
	s.run(2 * time.Second)
	found := s.announcements("lan", lanVIP.Addr())
	if len(found) == 0 || packet.MAC(found[0].b[6:12]) != (packet.MAC{2, 0, 0, 0, 2, lan}) {
		t.Errorf("announced %d times", len(found))
	}
}

func TestAVHIDThatIsTakenOutSaysFarewell(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.change(func(c *Config) { c.VIPs, c.CARP.VHIDs = c.VIPs[1:], c.CARP.VHIDs[1:] })
	s.run(100 * time.Millisecond)
	if b.state(200) != "MASTER" || b.state(1) != "BACKUP" {
		t.Errorf("the peer is %s and %s", b.state(200), b.state(1))
	}
	if _, found := a.router.Local(packet.AddrFrom(wanVIP.Addr())); found || a.guest.holds(wan, wanVIP.Addr()) {
		t.Error("the address is still there")
	}
	if len(a.ha.holds) != 1 {
		t.Errorf("it remembers %d vhids", len(a.ha.holds))
	}
	a.said("a is INIT of 200@wan: removed from the configuration")
}

func TestANewOwnAddressIsProbedForFirst(t *testing.T) {
	s, a, _ := pair(t, nil)
	s.settle()
	extra := netip.MustParsePrefix("192.168.1.66/24")
	a.change(func(c *Config) {
		c.Interfaces[lan-1].Addresses = append([]netip.Prefix{extra}, c.Interfaces[lan-1].Addresses...)
	})
	key := packet.AddrFrom(extra.Addr())
	if at, _ := a.router.Local(key); at.Kind != router.Unusable {
		t.Errorf("at once it is of kind %v", at.Kind)
	}
	if l := a.ha.Addresses(lan); l[0].State != "probing" || l[1].Kind != "ip_alias" || l[1].State != "in use" {
		t.Errorf("listed as %+v", l)
	}
	s.run(2 * time.Second)
	if at, _ := a.router.Local(key); at.Kind != router.Own || !a.guest.holds(lan, extra.Addr()) {
		t.Errorf("after its probe it is of kind %v", at.Kind)
	}
	a.want("MASTER", "MASTER")
	for _, h := range s.adverts("lan", "a") {
		if h.src == extra.Addr() && h.at.Sub(s.frames[0].at) < 500*time.Millisecond {
			t.Errorf("an advert left from %v before its probe had ended", h.src)
		}
	}
	a.change(func(*Config) {})
	if _, found := a.router.Local(key); found || len(a.ha.own) != 6 {
		t.Errorf("the address taken out is still there; %d are remembered", len(a.ha.own))
	}
}

func TestABadConfigurationChangesNothing(t *testing.T) {
	s, a, _ := pair(t, nil)
	s.settle()
	c := pairConfig("a", 2, 0)
	c.VIPs = nil
	c.CARP.VHIDs[0].Base = 0
	if err := a.ha.SetConfig(s.Now(), c); err == nil {
		t.Fatal("advbase 0 was taken")
	}
	s.run(2 * time.Second)
	a.want("MASTER", "MASTER")
	if at, _ := a.router.Local(packet.AddrFrom(lanVIP.Addr())); at.Kind != router.Held {
		t.Errorf("the VIP is of kind %v", at.Kind)
	}
	if _, err := New(s.Now(), c, Env{}); err == nil {
		t.Error("a new node took it")
	}
}

// An advert and the end of a probe in one inbox must both have their effect.
func TestAnAdvertAndAnEndedProbeInOneStep(t *testing.T) {
	s, a, b := pair(t, nil)
	s.settle()
	a.ports[lan].Jack().Pull()
	s.run(5 * time.Second) // b is master of both
	b.want("MASTER", "MASTER")
	a.ports[lan].Jack().Push()
	s.RunUntil(func() bool {
		return a.ha.Status().VIPs[1].Reason == reasonProbing && len(a.ha.own) == 5
	}, 5*time.Second)
	a.handle.Remove() // from here on by hand
	now := s.Now()
	for _, addr := range []netip.Addr{a.cfg.Interfaces[lan-1].Addresses[0].Addr(), a.cfg.Interfaces[lan-1].LinkLocal} {
		// The farewell of b's WAN vhid lies between the ends of the two probes.
		a.ha.NeighEvent(now, &neigh.Action{Kind: neigh.ProbeDone, Port: lan, Addr: addr, OK: true})
		if addr.Is4() {
			var payload [carp.HeaderLen]byte
			adv := carp.Encode(payload[:], 200, carp.BowOut, carp.BowOut, 0)
			carp.NewKey(carp.KeyConfig{VHID: 200, Password: password, Addresses: []netip.Addr{wanVIP.Addr()}}).Sign(adv, 1<<40)
			a.ha.Receive(now, &router.Punt{Iface: wan, Family: 4, Proto: packet.ProtoCARP, TTL: 255,
				Src: packet.AddrFrom(netip.MustParseAddr("198.51.100.3")), Dst: packet.AddrFrom(netip.MustParseAddr("224.0.0.18")), Payload: payload[:]})
		}
	}
	a.router.Worker(0).Step(now)
	a.ha.Step(now)
	a.want("MASTER", "BACKUP")
	if at, _ := a.router.Local(packet.AddrFrom(wanVIP.Addr())); at.Kind != router.Held {
		t.Errorf("the WAN VIP is of kind %v", at.Kind)
	}
	if d := a.ha.Status().Demotion; d != 0 {
		t.Errorf("demotion is %d", d)
	}
}

func TestAnInterfaceWithoutLinkAtTheStartIsINIT(t *testing.T) {
	s := newStage(t)
	c := pairConfig("a", 2, 0)
	a := s.add(c)
	a.ports[wan].Jack().Pull()
	s.settle()
	a.want("INIT", "MASTER")
	a.wantAlarm("vhid 200 on wan is INIT: the interface has no link")
	a.wantAlarm("demoted by 240 (link:wan)")
}

func TestTheFirstVHIDOfAnInterfaceRunsAfterAReload(t *testing.T) {
	s := newStage(t)
	c := pairConfig("a", 2, 0)
	c.VIPs, c.CARP.VHIDs = c.VIPs[:1], c.CARP.VHIDs[:1]
	c.fill()
	a := s.add(c)
	a.ports[wan].Jack().Pull()
	s.settle()
	a.change(func(*Config) {})
	s.run(5 * time.Second)
	a.want("INIT", "MASTER")
	a.wantAlarm("demoted by 240 (link:wan)")
	a.cfg.CARP.VHIDs = []carp.VHID{{}}
	a.change(func(c *Config) { c.VIPs, c.CARP.VHIDs = nil, nil })
	s.run(time.Second)
	if d := a.ha.Status().Demotion; d != 0 || a.ha.Role() != "STANDALONE" {
		t.Errorf("without a vhid it is %s, demoted by %d", a.ha.Role(), d)
	}
}
