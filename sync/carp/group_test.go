package carp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	ownAddr = netip.MustParseAddr("192.0.2.2")
	own6    = netip.MustParseAddr("fe80::2")
)

// soloConfig is a node with vhid 1 of both families on interface 1, "wan".
func soloConfig() Config {
	return Config{
		Interfaces: []Interface{{Index: 1, Name: "wan", Addresses: []netip.Addr{ownAddr, own6}}},
		VHIDs: []VHID{{
			Iface: 1, ID: 1, Base: 1, Skew: 100, Password: "secret",
			Addresses: addrs("192.0.2.1", "2001:db8::1"),
		}},
		Preempt: true, DemotionLinkDown: DemotionDefault, DemotionSendError: DemotionDefault,
	}
}

func (c Config) key() KeyConfig {
	v := c.VHIDs[0]
	return KeyConfig{VHID: v.ID, Password: v.Password, Addresses: v.Addresses}
}

// upGroup is a group of cfg with link since start.
func upGroup(t testing.TB, cfg Config) *Group {
	g := newTestGroup(t, cfg)
	g.SetLink(start, 1, true, nil)
	return g
}

func advertPacket(key KeyConfig, base, skew uint8, counter uint64, src netip.Addr) Packet {
	a := Encode(make([]byte, HeaderLen), key.VHID, base, skew, 0)
	NewKey(key).Sign(a, counter)
	family, dst := IPv4, group4
	if src.Is6() {
		family, dst = IPv6, group6
	}
	return Packet{Iface: 1, Family: family, Src: src, Dst: dst, TTL: TTL, Payload: a}
}

func alarms(g *Group) string {
	var out []string
	for _, a := range g.Snapshot().Alarms {
		out = append(out, a.Kind.String())
	}
	return strings.Join(out, " ")
}

func TestConfigFaults(t *testing.T) {
	tests := []struct {
		name   string
		change func(c *Config)
		want   string
	}{
		{"vhid zero", func(c *Config) { c.VHIDs[0].ID = 0 }, "vhid 0 on interface 1: the vhid must be 1 to 255"},
		{"base zero", func(c *Config) { c.VHIDs[0].Base = 0 }, "advbase must be"},
		{"skew 255", func(c *Config) { c.VHIDs[0].Skew = 255 }, "advskew 255 is above 254"},
		{"twice", func(c *Config) { c.VHIDs = append(c.VHIDs, c.VHIDs[0]) }, "listed twice"},
		{"no interface", func(c *Config) { c.VHIDs[0].Iface = 9 }, "not listed"},
		{"interface twice", func(c *Config) { c.Interfaces = append(c.Interfaces, c.Interfaces[0]) }, "interface 1 is listed twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := soloConfig()
			tt.change(&cfg)
			if _, err := NewGroup(cfg, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestRoles(t *testing.T) {
	two := func() Config { return pairConfig(0) }
	tests := []struct {
		name string
		cfg  Config
		do   func(g *Group)
		want Role
	}{
		{"no vhid", Config{}, func(*Group) {}, RoleStandalone},
		{"no link anywhere", two(), func(*Group) {}, RoleInit},
		{"waiting", two(), func(g *Group) { g.SetLink(start, lan, true, nil) }, RoleBackup},
		{"all that can run", two(), func(g *Group) {
			g.SetLink(start, lan, true, nil)
			g.Tick(at(3000), nil)
		}, RoleMaster},
		{"some", two(), func(g *Group) {
			g.SetLink(start, lan, true, nil)
			g.Tick(at(3000), nil)
			g.SetLink(at(3000), wan, true, nil)
		}, RoleMixed},
		{"switched off", two(), func(g *Group) { g.SetEnabled(start, false, nil) }, RoleDisabled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newTestGroup(t, tt.cfg)
			tt.do(g)
			if g.Role() != tt.want {
				t.Errorf("%v, want %v", g.Role(), tt.want)
			}
		})
	}
}

func TestRoleChangeIsTheLastAction(t *testing.T) {
	g := upGroup(t, soloConfig())
	acts := g.Tick(g.Deadline(), nil)
	if got := kinds(acts); got != "master 4 6 " || acts[len(acts)-1].Kind != RoleChanged || acts[len(acts)-1].Role != RoleMaster {
		t.Errorf("%q %+v", got, acts[len(acts)-1])
	}
}

func TestAdvertsAreAddressed(t *testing.T) {
	tests := []struct {
		name       string
		change     func(c *Config)
		src4, dst4 string
		src6, dst6 string
		real       bool
	}{
		{"multicast", func(*Config) {}, "192.0.2.2", "224.0.0.18", "fe80::2", "ff02::12", false},
		{"no own address", func(c *Config) { c.Interfaces[0].Addresses = nil }, "192.0.2.1", "224.0.0.18", "2001:db8::1", "ff02::12", false},
		{"unicast", func(c *Config) {
			c.Interfaces[0].Addresses = append(c.Interfaces[0].Addresses, netip.MustParseAddr("2001:db8::2"))
			c.VHIDs[0].Peer, c.VHIDs[0].Peer6 = netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::3")
		}, "192.0.2.2", "192.0.2.3", "2001:db8::2", "2001:db8::3", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := soloConfig()
			tt.change(&cfg)
			g := upGroup(t, cfg)
			acts := g.Tick(g.Deadline(), nil)
			a, b := acts[1], acts[2]
			if a.Src.String() != tt.src4 || a.Dst.String() != tt.dst4 || b.Src.String() != tt.src6 || b.Dst.String() != tt.dst6 || a.RealMAC != tt.real {
				t.Errorf("%v > %v, %v > %v, %v", a.Src, a.Dst, b.Src, b.Dst, a.RealMAC)
			}
			for _, act := range acts[1:3] {
				adv, err := ParseAdvert(act.Payload[:])
				if err != nil || !NewKey(cfg.key()).Verify(adv) {
					t.Errorf("%v: %v", act.Family, err)
				}
			}
		})
	}
}

func TestUnicastTakesThePeerOnly(t *testing.T) {
	cfg := soloConfig()
	cfg.VHIDs[0].Peer = peerAddr
	g := upGroup(t, cfg)
	routed := advertPacket(cfg.key(), 1, 0, 1, peerAddr)
	routed.TTL = 60
	g.Receive(at(1), routed, nil)
	g.Receive(at(2), advertPacket(cfg.key(), 1, 0, 1, netip.MustParseAddr("192.0.2.66")), nil)
	if c := g.Snapshot().Counters; c.BadTTL != 0 || c.BadSource != 1 {
		t.Errorf("%+v", c)
	}
	if got := g.Snapshot().VHIDs[0].MasterSource; got != peerAddr {
		t.Errorf("master source %v", got)
	}
	g.Receive(at(3), advertPacket(cfg.key(), 1, 0, 1, netip.MustParseAddr("fe80::3")), nil)
	if c := g.Snapshot().Counters; c.BadSource != 1 {
		t.Error("the family without a peer is multicast still")
	}
}

func TestAdvertOfAFamilyWithoutAddressesIsBadVHID(t *testing.T) {
	cfg := soloConfig()
	cfg.VHIDs[0].Addresses = addrs("2001:db8::1")
	g := upGroup(t, cfg)
	g.Receive(at(1), advertPacket(cfg.key(), 1, 0, 1, peerAddr), nil)
	if c := g.Snapshot().Counters; c.BadVHID != 1 || c.Received != 1 {
		t.Errorf("%+v", c)
	}
}

func TestOwnEchoIsDroppedAndNamed(t *testing.T) {
	cfg := soloConfig()
	noAddress := soloConfig()
	noAddress.Interfaces[0].Addresses = nil
	for name, cfg := range map[string]Config{"own address": cfg, "VIP as source": noAddress} {
		t.Run(name, func(t *testing.T) {
			g := upGroup(t, cfg)
			now := g.Deadline()
			acts := g.Tick(now, nil)
			for range 3 {
				for _, a := range acts {
					if a.Kind == SendAdvert {
						g.Receive(now, packetOfAction(&a), nil)
					}
				}
				now = g.Deadline()
				acts = g.Tick(now, nil)
			}
			s := g.Snapshot()
			if s.VHIDs[0].State != "MASTER" || s.Counters.OwnEcho < 3 || alarms(g) != "own-echo" {
				t.Errorf("%s, %d echoes, alarms %q", s.VHIDs[0].State, s.Counters.OwnEcho, alarms(g))
			}
		})
	}
}

func TestWrongDigestsAreExplained(t *testing.T) {
	cfg := soloConfig()
	tests := []struct {
		name   string
		change func(k *KeyConfig)
		want   string
	}{
		{"password", func(k *KeyConfig) { k.Password = "x" }, "the password differs"},
		{"address", func(k *KeyConfig) { k.Addresses = k.Addresses[:1] }, "lacks 2001:db8::1"},
		{"vhid", func(k *KeyConfig) { k.VHID = 9 }, "it uses 9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := upGroup(t, cfg)
			key := cfg.key()
			tt.change(&key)
			for i := range 4 {
				g.Receive(at(1100*i), advertPacket(key, 1, 0, 1, peerAddr), nil)
			}
			s := g.Snapshot()
			if s.Counters.BadAuth+s.Counters.BadVHID != 4 || len(s.Alarms) != 1 || !strings.Contains(s.Alarms[0].Text, tt.want) {
				t.Errorf("%+v", s.Alarms)
			}
			if alarms(g) != "wrong-digest" {
				t.Error(alarms(g))
			}
		})
	}
}

func TestAlarmsEndWithoutEvidence(t *testing.T) {
	cfg := soloConfig()
	g := upGroup(t, cfg)
	key := cfg.key()
	key.Password = "x"
	for i := range 3 {
		g.Receive(at(i), advertPacket(key, 1, 0, 1, peerAddr), nil)
	}
	for now := at(3); now.Before(at(70_000)); now = g.Deadline() {
		g.Tick(now, nil)
	}
	if got := alarms(g); got != "" {
		t.Errorf("alarms %q", got)
	}
}

// vrrp2 is an advert of RFC 3768 with one address.
func vrrp2(id uint8) []byte {
	b := []byte{0x21, id, 100, 1, 0, 1, 0, 0, 192, 0, 2, 50, 0, 0, 0, 0, 0, 0, 0, 0}
	sum := checksum(b, 0)
	b[6], b[7] = byte(sum>>8), byte(sum)
	return b
}

func TestVRRPWithOurNumberIsNamed(t *testing.T) {
	for _, tt := range []struct {
		id      uint8
		alarms  string
		payload []byte
	}{
		{1, "foreign-speaker", vrrp2(1)},
		{2, "", vrrp2(2)},
	} {
		g := upGroup(t, soloConfig())
		g.Receive(at(1), Packet{Iface: 1, Family: IPv4, Src: peerAddr, Dst: group4, TTL: TTL, Payload: tt.payload}, nil)
		if got := alarms(g); got != tt.alarms {
			t.Errorf("id %d: alarms %q", tt.id, got)
		}
		s := g.Snapshot()
		if s.Counters.Foreign != 1 || s.Counters.ShortPacket != 1 || len(s.Heard) != 1 || s.Heard[0].Protocol != ProtocolVRRP2 {
			t.Errorf("id %d: %+v", tt.id, s)
		}
	}
}

func TestReplay(t *testing.T) {
	for _, drop := range []bool{false, true} {
		cfg := soloConfig()
		if drop {
			cfg.Replay = ReplayDrop
		}
		g := upGroup(t, cfg)
		send := func(ms int, skew uint8, counter uint64, from netip.Addr) {
			g.Receive(at(ms), advertPacket(cfg.key(), 1, skew, counter, from), nil)
		}
		for i := range 20 {
			send(1000*i, 0, 1000+uint64(i), peerAddr)
		}
		if c := g.Snapshot().Counters; c.Replayed != 0 {
			t.Fatalf("rising counters count as replayed: %d", c.Replayed)
		}
		send(19_050, 0, 1019, peerAddr)
		if c := g.Snapshot().Counters; c.Replayed != 1 || alarms(g) != "" {
			t.Errorf("a duplicate: %d %q", c.Replayed, alarms(g))
		}
		send(19_500, 255, 1005, peerAddr) // An old advert, made to look demoted.
		if alarms(g) != "replayed" {
			t.Errorf("drop %v: alarms %q", drop, alarms(g))
		}
		if state := g.Snapshot().VHIDs[0].State; (state == "BACKUP") != drop {
			t.Errorf("drop %v: %s", drop, state)
		}
		// A restart begins elsewhere; what was used before stays used.
		for i := range 12 {
			send(20_000+1000*i, 0, 5+uint64(i), peerAddr)
		}
		before := g.Snapshot().Counters.Replayed
		send(33_000, 0, 1002, peerAddr)
		send(34_000, 0, 1003, netip.MustParseAddr("192.0.2.77"))
		want := before + 1
		if drop {
			want++ // From elsewhere it is nobody's own counter.
		}
		if got := g.Snapshot().Counters.Replayed; got != want {
			t.Errorf("drop %v: %d replayed, want %d", drop, got, want)
		}
	}
}

// BSDs send random, constant and adopted counters; none of those is a replay.
func TestCountersOfOthersAreNotReplays(t *testing.T) {
	cfg := soloConfig()
	for name, counter := range map[string]func(i uint64) uint64{
		"random":   func(i uint64) uint64 { return i * 0x9e3779b97f4a7c15 },
		"constant": func(uint64) uint64 { return 42 },
		"falling":  func(i uint64) uint64 { return 1000 - i },
	} {
		g := upGroup(t, cfg)
		for i := range 50 {
			g.Receive(at(1000*i), advertPacket(cfg.key(), 1, 0, counter(uint64(i)), peerAddr), nil)
		}
		if c := g.Snapshot().Counters.Replayed; c != 0 {
			t.Errorf("%s: %d", name, c)
		}
	}
}

func TestSendErrorsDemote(t *testing.T) {
	g := upGroup(t, soloConfig())
	now := g.Deadline()
	g.Tick(now, nil)
	sent := func(ok bool) int {
		g.Sent(now, 1, 1, IPv4, ok, nil)
		return g.Demotion()
	}
	var got []int
	for _, ok := range []bool{false, false, true, false, false, false, false, true, true, false, true, true, true} {
		got = append(got, sent(ok))
	}
	want := []int{0, 0, 0, 0, 0, 240, 240, 240, 240, 240, 240, 240, 0}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if c := g.Snapshot().Counters; c.SendFailed != 7 || c.Sent != 6 {
		t.Errorf("%+v", c)
	}
}

func TestOtherFramesThatLeaveEndSendErrors(t *testing.T) {
	g := upGroup(t, soloConfig())
	for range 3 {
		g.Sent(start, 1, 1, IPv4, false, nil)
	}
	g.SendsAgain(start, 2, nil)
	if d := g.Demotion(); d != 240 {
		t.Errorf("another interface ended it: %d", d)
	}
	if acts := g.SendsAgain(start, 1, nil); g.Demotion() != 0 || acts[0].Kind != DemotionChanged {
		t.Errorf("demotion %d, actions %v", g.Demotion(), acts)
	}
	for range 2 {
		g.Sent(start, 1, 1, IPv4, false, nil)
	}
	if d := g.Demotion(); d != 0 {
		t.Errorf("old errors still count: %d", d)
	}
}

func TestResetDemotionKeepsFacts(t *testing.T) {
	g := upGroup(t, soloConfig())
	g.SetMaintenance(start, true, nil)
	g.SetDemotion(start, "operator", 17, "the operator clears it", nil)
	for range 3 {
		g.Sent(start, 1, 1, IPv4, false, nil)
	}
	g.SetLink(start, 1, false, nil)
	if d := g.Demotion(); d != 240+17+240+240 {
		t.Errorf("demotion %d", d)
	}
	g.ResetDemotion(start, nil)
	var names []string
	for _, d := range g.Snapshot().Demotions {
		names = append(names, d.Name)
	}
	if !slices.Equal(names, []string{"maintenance", "link:wan"}) {
		t.Errorf("%v", names)
	}
}

func TestDisabledIsShownAndSaysFarewell(t *testing.T) {
	g := upGroup(t, soloConfig())
	now := g.Deadline()
	g.Tick(now, nil)
	acts := g.SetEnabled(now, false, nil)
	if got := kinds(acts); got != "4 6 init " || acts[0].Base != BowOut {
		t.Errorf("%q", got)
	}
	if v := g.Snapshot().VHIDs[0]; v.State != "DISABLED" || v.Reason != ReasonDisabled || !v.Draining {
		t.Errorf("%+v", v)
	}
	acts = g.SetEnabled(now, true, nil)
	if v := g.Snapshot().VHIDs[0]; v.State != "BACKUP" || electionReason(acts) != string(ReasonEnabled) {
		t.Errorf("%+v", v)
	}
}

func TestFlappingIsNamed(t *testing.T) {
	g := upGroup(t, soloConfig())
	for range flapsMax {
		for g.Snapshot().VHIDs[0].State != "MASTER" {
			g.Tick(g.Deadline(), nil)
		}
		now := g.Snapshot().VHIDs[0].LastTransition
		g.Receive(now.Add(time.Second), advertPacket(soloConfig().key(), 1, 0, 9, peerAddr), nil)
	}
	s := g.Snapshot()
	if alarms(g) != "flapping" || !strings.Contains(s.Alarms[0].Text, "raise advbase one second at a time") {
		t.Errorf("%+v", s.Alarms)
	}
}

func TestFreeVHID(t *testing.T) {
	cfg := soloConfig()
	g := upGroup(t, cfg)
	key := cfg.key()
	key.VHID = 50
	g.Receive(at(1), advertPacket(key, 1, 0, 1, peerAddr), nil)
	g.Receive(at(2), Packet{Iface: 1, Family: IPv4, Src: peerAddr, Dst: group4, TTL: TTL, Payload: vrrp2(2)}, nil)
	for addr, want := range map[string]uint8{
		"192.0.2.200": 200, // its last octet
		"192.0.2.50":  3,   // heard, and 1 is ours, 2 a VRRP router's
		"192.0.2.1":   3,
		"192.0.2.0":   3,
		"2001:db8::7": 7,
	} {
		if got, ok := g.FreeVHID(1, netip.MustParseAddr(addr)); !ok || got != want {
			t.Errorf("%s: %d, want %d", addr, got, want)
		}
	}
	if h := g.Scan(1, start); len(h) != 2 || h[0].VHID != 2 || h[1].VHID != 50 || h[1].Verified {
		t.Errorf("%+v", h)
	}
	if h := g.Scan(2, start); len(h) != 0 {
		t.Errorf("%+v", h)
	}
}

func TestFloodOfSourcesIsBoundedAndSparesTheKnown(t *testing.T) {
	cfg := soloConfig()
	g := upGroup(t, cfg)
	g.Receive(at(0), advertPacket(cfg.key(), 1, 0, 1, peerAddr), nil)
	g.Receive(at(500), advertPacket(cfg.key(), 1, 0, 2, peerAddr), nil)
	p := advertPacket(cfg.key(), 1, 0, 1, peerAddr)
	for i := range 3000 {
		p.Src = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		g.Receive(at(501), p, nil)
	}
	s := g.Snapshot()
	if len(s.Heard) != heardMax || !slices.ContainsFunc(s.Heard, func(h Heard) bool { return h.Source == peerAddr }) {
		t.Errorf("%d heard", len(s.Heard))
	}
	if n := len(g.vhosts[0].replay.sources); n > replaySourcesMax {
		t.Errorf("%d sources remembered", n)
	}
}

func TestReceiveDoesNotAllocate(t *testing.T) {
	cfg := soloConfig()
	g := upGroup(t, cfg)
	good, bad := advertPacket(cfg.key(), 1, 0, 1, peerAddr), advertPacket(KeyConfig{VHID: 1}, 1, 0, 1, peerAddr)
	unknown := advertPacket(KeyConfig{VHID: 7}, 1, 0, 1, peerAddr)
	acts := make([]Action, 0, 8)
	for range 5 {
		acts = g.Receive(at(1), bad, acts[:0])
		acts = g.Receive(at(1), unknown, acts[:0])
		acts = g.Receive(at(1), good, acts[:0])
	}
	if n := testing.AllocsPerRun(100, func() {
		acts = g.Receive(at(2), good, acts[:0])
		acts = g.Receive(at(2), bad, acts)
		acts = g.Receive(at(2), unknown, acts)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
