package carp

import (
	"net/netip"
	"testing"
	"time"
)

func TestPairSettlesOnThePrimary(t *testing.T) {
	w := newPair(t, 1)
	w.run(10 * time.Second)
	w.wantMaster(0)
	if r0, r1 := w.nodes[0].group.Role(), w.nodes[1].group.Role(); r0 != RoleMaster || r1 != RoleBackup {
		t.Errorf("roles %v %v", r0, r1)
	}
	if len(w.doubles) != 0 {
		t.Errorf("two masters for %v", w.doubles)
	}
}

func TestAdvertsKeepTheirInterval(t *testing.T) {
	cfg := pairConfig(0)
	cfg.VHIDs = cfg.VHIDs[:1]
	cfg.VHIDs[0].Skew = 100
	for i := range 20 { // Stacked aliases make no adverts of their own.
		cfg.VHIDs[0].Addresses = append(cfg.VHIDs[0].Addresses, netip.AddrFrom4([4]byte{10, 1, 0, byte(100 + i)}))
	}
	w := newWorld(t, 1, cfg)
	w.run(30 * time.Second)
	sent := w.nodes[0].sent
	for i := 2; i < len(sent); i++ {
		if got := sent[i].at.Sub(sent[i-1].at); got != interval(1, 100) {
			t.Errorf("advert %d came after %v", i, got)
		}
		if a, b := Advert(sent[i-1].act.Payload[:]).Counter(), Advert(sent[i].act.Payload[:]).Counter(); b != a+1 {
			t.Errorf("counter %d after %d", b, a)
		}
	}
	if len(sent) < 15 {
		t.Errorf("only %d adverts", len(sent))
	}
}

func TestCrashIsNoticedWithinAMasterDownTime(t *testing.T) {
	w := newPair(t, 2)
	w.run(10 * time.Second)
	w.nodes[0].dead = true
	if took := w.until(4*time.Second, w.isMaster(1)); took > 3400*time.Millisecond {
		t.Errorf("took %v", took)
	}
	w.boot(0, pairConfig(0))
	took := w.until(4*time.Second, w.isMaster(0))
	if took > 2*time.Second {
		t.Errorf("preempting took %v", took)
	}
	if d := w.doubles[lan]; d > 10*time.Millisecond {
		t.Errorf("two masters for %v while preempting", d)
	}
}

func TestLeavingHandsOverAtOnceAndDrains(t *testing.T) {
	w := newPair(t, 3)
	w.run(10 * time.Second)
	w.do(0, func(g *Group) []Action { return g.Leave(w.now, nil) })
	if took := w.until(time.Second, w.isMaster(1)); took > 10*time.Millisecond {
		t.Errorf("took %v", took)
	}
	if !w.nodes[0].group.IsDraining() {
		t.Error("not draining")
	}
	if took := w.until(time.Second, func() bool { return !w.nodes[0].group.IsDraining() }); took > 60*time.Millisecond {
		t.Errorf("drained for %v after the new master's advert", took)
	}
	if w.nodes[0].drains != 2 {
		t.Errorf("%d drains ended", w.nodes[0].drains)
	}
}

func TestDrainingEndsWithoutASuccessor(t *testing.T) {
	w := newWorld(t, 3, pairConfig(0))
	w.run(10 * time.Second)
	w.do(0, func(g *Group) []Action { return g.SetEnabled(w.now, false, nil) })
	took := w.until(2*time.Second, func() bool { return !w.nodes[0].group.IsDraining() })
	if took < 990*time.Millisecond || took > 1010*time.Millisecond {
		t.Errorf("drained for %v", took)
	}
}

// The dead interface shows the peer only silence there, so what tells it is
// the skew on the living one.
func TestDeadInterfaceMovesEverything(t *testing.T) {
	for _, phase := range []time.Duration{0, 200, 500, 900} {
		w := newPair(t, 4)
		w.run(10*time.Second + phase*time.Millisecond)
		w.setLink(0, wan, false)
		lanTook := w.until(time.Second, func() bool { m := w.masters(lan); return len(m) == 1 && m[0] == 1 })
		if lanTook > 10*time.Millisecond {
			t.Errorf("phase %v: LAN took %v", phase, lanTook)
		}
		took := w.until(4*time.Second, w.isMaster(1))
		if took > 1300*time.Millisecond {
			t.Errorf("phase %v: WAN took %v", phase, took)
		}
		s := w.nodes[0].group.Snapshot()
		if s.Demotion != 240 || len(s.Demotions) != 1 || s.Demotions[0].Name != "link:wan" {
			t.Errorf("demotions %+v", s.Demotions)
		}
		if v := s.VHIDs[1]; v.State != "INIT" || v.Reason != ReasonLinkDown {
			t.Errorf("WAN vhid %+v", v)
		}
		w.setLink(0, wan, true)
		w.until(5*time.Second, w.isMaster(0))
		if d := w.nodes[0].group.Demotion(); d != 0 {
			t.Errorf("demotion %d after the link came back", d)
		}
	}
}

func TestWithoutPreemptOnlyTheDeadVHIDMoves(t *testing.T) {
	second := pairConfig(1)
	second.Preempt = false
	w := newWorld(t, 5, pairConfig(0), second)
	w.run(10 * time.Second)
	w.setLink(0, wan, false)
	w.run(20 * time.Second)
	if l, n := w.masters(lan), w.masters(wan); len(l) != 1 || l[0] != 0 || len(n) != 1 || n[0] != 1 {
		t.Fatalf("LAN %v WAN %v", l, n)
	}
	if w.nodes[1].group.Role() != RoleMixed || !w.hasAlarm(1, AlarmMixed) {
		t.Errorf("role %v, alarms %+v", w.nodes[1].group.Role(), w.nodes[1].group.Snapshot().Alarms)
	}
}

func TestMaintenanceMovesEverythingAndBack(t *testing.T) {
	w := newPair(t, 6)
	w.run(10 * time.Second)
	maintain := func(on bool) {
		w.do(0, func(g *Group) []Action { return g.SetMaintenance(w.now, on, nil) })
	}
	maintain(true)
	if took := w.until(time.Second, w.isMaster(1)); took > 20*time.Millisecond {
		t.Errorf("into maintenance: %v", took)
	}
	if s := w.nodes[0].group.Snapshot(); !s.Maintenance || s.VHIDs[0].EffectiveSkew != SkewDemoted {
		t.Errorf("%+v", s)
	}
	w.run(20 * time.Second)
	w.wantMaster(1)
	maintain(false)
	if took := w.until(2*time.Second, w.isMaster(0)); took > 1500*time.Millisecond {
		t.Errorf("out of maintenance: %v", took)
	}
	for id := range w.nodes {
		if a := w.nodes[id].alarms; len(a) != 0 {
			t.Errorf("node %d: %+v", id, a)
		}
	}
}

func TestBothDemotedStayAsTheyAre(t *testing.T) {
	w := newPair(t, 7)
	w.run(10 * time.Second)
	for id := range w.nodes {
		w.do(id, func(g *Group) []Action {
			return g.SetDemotion(w.now, "pfsync-bulk", 240, "the bulk update has ended", nil)
		})
		w.run(5 * time.Second)
	}
	// The primary was demoted first, so the secondary took over; its own
	// demotion then makes them equal, and nothing moves.
	w.wantMaster(1)
	w.run(time.Minute)
	w.wantMaster(1)
}

func TestEqualSkewIsNamedAndOneMasterRemains(t *testing.T) {
	first, second := pairConfig(0), pairConfig(1)
	for i := range second.VHIDs {
		second.VHIDs[i].Skew = 0
	}
	w := newWorld(t, 8, first, second)
	w.run(30 * time.Second)
	for i := lan; i <= wan; i++ {
		if m := w.masters(i); len(m) != 1 {
			t.Errorf("masters %v", m)
		}
	}
	if !w.hasAlarm(0, AlarmEqualSkew) && !w.hasAlarm(1, AlarmEqualSkew) {
		t.Error("no alarm")
	}
}

func TestBaseMismatchIsNamed(t *testing.T) {
	second := pairConfig(1)
	second.VHIDs[0].Base = 2
	w := newWorld(t, 9, pairConfig(0), second)
	w.run(20 * time.Second)
	if !w.hasAlarm(1, AlarmBaseMismatch) {
		t.Fatal("no alarm")
	}
	w.do(1, func(g *Group) []Action {
		acts, err := g.SetConfig(w.now, pairConfig(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		return acts
	})
	w.run(5 * time.Second)
	if w.hasAlarm(1, AlarmBaseMismatch) {
		t.Error("the alarm outlives its cause")
	}
}

// A node that can send but not receive is the classic second master.
func TestSecondMasterIsNamedByTheFirst(t *testing.T) {
	w := newPair(t, 10)
	w.run(10 * time.Second)
	w.cut[[3]int{0, 1, lan}] = true
	w.run(12 * time.Second)
	if m := w.masters(lan); len(m) != 2 {
		t.Fatalf("masters %v", m)
	}
	if !w.hasAlarm(0, AlarmSecondMaster) {
		t.Error("no alarm")
	}
	delete(w.cut, [3]int{0, 1, lan})
	w.run(10 * time.Second)
	w.wantMaster(0)
	if w.hasAlarm(0, AlarmSecondMaster) {
		t.Error("the alarm outlives its cause")
	}
}

func TestFrozenMasterYieldsWhenItWakes(t *testing.T) {
	w := newPair(t, 11)
	w.run(10 * time.Second)
	w.nodes[0].frozen = true
	w.until(4*time.Second, w.isMasterBeside(1, 0))
	w.run(5 * time.Second)
	w.nodes[0].frozen = false
	w.until(2*time.Second, w.isMaster(0)) // It is the better one, and says so.
}

func (w *world) isMasterBeside(id, other int) func() bool {
	return func() bool {
		w.nodes[other].dead = true
		defer func() { w.nodes[other].dead = false }()
		return w.isMaster(id)()
	}
}

func TestFastDetectionTakesWhatThePeerHeld(t *testing.T) {
	w := newPair(t, 12)
	w.run(10 * time.Second)
	w.nodes[0].dead = true
	gone := []netip.Addr{nodeAddr(0, lan), nodeAddr(0, wan)}
	w.do(1, func(g *Group) []Action { return g.MasterIsDown(w.now, gone[:1], nil) })
	if m := w.masters(lan); len(m) != 1 || len(w.masters(wan)) != 0 {
		t.Errorf("LAN %v WAN %v", m, w.masters(wan))
	}
	w.do(1, func(g *Group) []Action { return g.MasterIsDown(w.now, gone, nil) })
	w.wantMaster(1)
}

// Adding an alias on one node first: the peer still knows the old set.
func TestReloadThatAddsAnAliasKeepsMastership(t *testing.T) {
	w := newPair(t, 13)
	w.run(10 * time.Second)
	transitions := func() uint64 {
		var n uint64
		for _, node := range w.nodes {
			for _, v := range node.group.Snapshot().VHIDs {
				n += v.Transitions
			}
		}
		return n
	}
	before := transitions()
	for id := range w.nodes {
		cfg := pairConfig(id)
		cfg.VHIDs[0].Addresses = append(cfg.VHIDs[0].Addresses, netip.MustParseAddr("10.1.0.201"))
		w.do(id, func(g *Group) []Action {
			acts, err := g.SetConfig(w.now, cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			return acts
		})
		w.run(15 * time.Second)
	}
	w.run(time.Minute)
	w.wantMaster(0)
	if after := transitions(); after != before {
		t.Errorf("%d transitions", after-before)
	}
}

func TestRemovedVHIDIsHandedOver(t *testing.T) {
	w := newPair(t, 14)
	w.run(10 * time.Second)
	cfg := pairConfig(0)
	cfg.VHIDs = cfg.VHIDs[:1]
	acts, err := w.nodes[0].group.SetConfig(w.now, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(acts); got != "4 init " {
		t.Errorf("%q", got)
	}
	if v := w.nodes[0].group.Snapshot().VHIDs; len(v) != 1 {
		t.Errorf("%+v", v)
	}
}

// Random faults, then peace: one master for each vhid, the best one, and soon.
func TestFaultsHeal(t *testing.T) {
	for seed := uint64(1); seed <= 60; seed++ {
		n := 2 + int(seed%2)
		var configs []Config
		for id := range n {
			configs = append(configs, pairConfig(id))
		}
		w := newWorld(t, seed, configs...)
		w.loss = float64(w.rng.IntN(4)) * 0.1
		for range 25 {
			w.fault(configs)
			w.run(time.Duration(w.rng.IntN(4000)) * time.Millisecond)
		}
		w.heal(configs)
		w.run(8 * time.Second)
		clear(w.doubles)
		w.wantMaster(0)
		w.run(20 * time.Second)
		w.wantMaster(0)
		if len(w.doubles) != 0 {
			t.Errorf("seed %d: two masters after healing: %v", seed, w.doubles)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (w *world) fault(configs []Config) {
	id, iface := w.rng.IntN(len(w.nodes)), lan+w.rng.IntN(2)
	other := (id + 1) % len(w.nodes)
	n := w.nodes[id]
	switch w.rng.IntN(8) {
	case 0:
		n.dead = true
	case 1, 2:
		if n.dead {
			w.boot(id, configs[id])
		}
	case 3:
		if !n.dead {
			w.setLink(id, iface, !n.link[iface])
		}
	case 4:
		w.cut[[3]int{id, other, iface}] = !w.cut[[3]int{id, other, iface}]
	case 5:
		w.do(id, func(g *Group) []Action { return g.SetMaintenance(w.now, w.rng.IntN(2) == 0, nil) })
	case 6:
		n.frozen = !n.frozen
	case 7:
		w.do(id, func(g *Group) []Action { return g.SetEnabled(w.now, w.rng.IntN(2) == 0, nil) })
	}
}

func (w *world) heal(configs []Config) {
	w.loss = 0
	clear(w.cut)
	for id, n := range w.nodes {
		n.frozen = false
		if n.dead {
			w.boot(id, configs[id])
		}
		for i := lan; i <= wan; i++ {
			w.setLink(id, i, true)
		}
		w.do(id, func(g *Group) []Action { return g.SetMaintenance(w.now, false, nil) })
		w.do(id, func(g *Group) []Action { return g.SetEnabled(w.now, true, nil) })
	}
}

func BenchmarkPairHour(b *testing.B) {
	for b.Loop() {
		w := newPair(b, 1)
		w.run(time.Hour)
	}
	b.ReportMetric(3600*float64(b.N)/b.Elapsed().Seconds(), "simulated-s/s")
}
