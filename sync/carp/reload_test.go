package carp

import "testing"

// reload applies cfg to a group that is master of both vhids at start.
func reload(t *testing.T, change func(c *Config)) (*Group, []Action, error) {
	t.Helper()
	g := newTestGroup(t, pairConfig(0))
	g.SetLink(start, lan, true, nil)
	g.SetLink(start, wan, true, nil)
	g.Tick(g.Deadline(), nil)
	if g.Role() != RoleMaster {
		t.Fatal(g.Role())
	}
	cfg := pairConfig(0)
	change(&cfg)
	acts, err := g.SetConfig(at(4000), cfg, nil)
	return g, acts, err
}

func TestReloadWithoutChangeDoesNothing(t *testing.T) {
	if g, acts, err := reload(t, func(*Config) {}); err != nil || len(acts) != 0 || g.Role() != RoleMaster {
		t.Errorf("%v %+v %v", g.Role(), acts, err)
	}
}

func TestFaultyReloadChangesNothing(t *testing.T) {
	g, acts, err := reload(t, func(c *Config) {
		c.VHIDs[0].Skew = 50
		c.VHIDs[1].Base = 0
	})
	if err == nil || len(acts) != 0 || g.Role() != RoleMaster || g.Snapshot().VHIDs[0].Skew != 0 {
		t.Errorf("%v %+v %v", g.Role(), acts, err)
	}
}

// The caller knows a vhid by its interface's number, so one that moves to
// another number leaves under the old one and begins anew under the new.
func TestRenumberedInterfaceBeginsAnew(t *testing.T) {
	g, acts, err := reload(t, func(c *Config) {
		c.Interfaces[1].Index, c.VHIDs[1].Iface = 3, 3
	})
	if err != nil || kinds(acts) != "4 init backup " || acts[1].Iface != wan || acts[2].Iface != 3 {
		t.Errorf("%q %v", kinds(acts), err)
	}
	s := g.Snapshot()
	if s.Role != RoleMixed || s.VHIDs[1].Iface != 3 || s.VHIDs[1].State != "BACKUP" || s.Demotion != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRemovedInterfaceTakesItsDemotionAlong(t *testing.T) {
	g := newTestGroup(t, pairConfig(0))
	g.SetLink(start, lan, true, nil)
	g.SetLink(start, wan, false, nil)
	if g.Demotion() != DemotionDefault {
		t.Fatal(g.Demotion())
	}
	cfg := pairConfig(0)
	cfg.Interfaces, cfg.VHIDs = cfg.Interfaces[:1], cfg.VHIDs[:1]
	if _, err := g.SetConfig(at(1), cfg, nil); err != nil || g.Demotion() != 0 {
		t.Errorf("%d %v", g.Demotion(), err)
	}
}
