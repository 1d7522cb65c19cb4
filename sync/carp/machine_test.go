package carp

import (
	"net/netip"
	"testing"
	"time"
)

var peerAddr = netip.MustParseAddr("192.0.2.3")

// at is the time so many milliseconds after start.
func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func testAdvert(base, skew, demote uint8) Advert {
	return Encode(make([]byte, HeaderLen), 1, base, skew, demote)
}

// machineAt returns a backup that was made runnable at start.
func machineAt(cfg MachineConfig) *Machine {
	m := NewMachine(cfg)
	m.SetRunnable(start, true, ReasonInitComplete, nil)
	return m
}

// masterAt returns one that became master by timeout, and when.
func masterAt(cfg MachineConfig) (*Machine, time.Time) {
	m := machineAt(cfg)
	took := m.Deadline()
	m.Tick(took, nil)
	return m, took
}

// kinds writes actions in one line, for comparing.
func kinds(acts []Action) string {
	out := ""
	for _, a := range acts {
		switch a.Kind {
		case SendAdvert:
			out += map[Family]string{IPv4: "4 ", IPv6: "6 "}[a.Family]
		case BecomeMaster:
			out += "master "
		case BecomeBackup:
			out += "backup "
		case BecomeInit:
			out += "init "
		}
	}
	return out
}

func TestMachineEvents(t *testing.T) {
	both := MachineConfig{Base: 1, Skew: 0, Preempt: true, IPv4: true, IPv6: true}
	tests := []struct {
		name   string
		master bool
		event  func(m *Machine, now time.Time) []Action
		want   string
		state  State
		reason Reason
	}{
		{"timeout makes a backup master of both families", false,
			func(m *Machine, _ time.Time) []Action { return m.Tick(m.Deadline(), nil) }, "master 4 6 ", Master, ReasonTimedOut},
		{"nothing happens before the timeout", false,
			func(m *Machine, _ time.Time) []Action { return m.Tick(m.Deadline().Add(-1), nil) }, "", Backup, ""},
		{"link down", true,
			func(m *Machine, now time.Time) []Action { return m.SetRunnable(now, false, ReasonLinkDown, nil) }, "init ", Init, ReasonLinkDown},
		{"demotion is advertised at once", true,
			func(m *Machine, now time.Time) []Action { return m.SetDemotion(now, 240, nil) }, "4 6 ", Master, ""},
		{"the same demotion is not", true,
			func(m *Machine, now time.Time) []Action { return m.SetDemotion(now, 0, nil) }, "", Master, ""},
		{"a backup does not advertise demotion", false,
			func(m *Machine, now time.Time) []Action { return m.SetDemotion(now, 240, nil) }, "", Backup, ""},
		{"a master leaves with a farewell", true,
			func(m *Machine, now time.Time) []Action { return m.Leave(now, ReasonLeaving, nil) }, "4 6 init ", Init, ReasonLeaving},
		{"a backup leaves without", false,
			func(m *Machine, now time.Time) []Action { return m.Leave(now, ReasonLeaving, nil) }, "init ", Init, ReasonLeaving},
		{"a farewell is taken at its word", false,
			func(m *Machine, now time.Time) []Action {
				return m.Receive(now, testAdvert(BowOut, BowOut, 0), peerAddr, IPv4, nil)
			}, "master 4 6 ", Master, ReasonPreempt},
		{"fast detection makes a backup master", false,
			func(m *Machine, now time.Time) []Action { return m.MasterIsDown(now, nil) }, "master 4 6 ", Master, ReasonMasterDown},
		{"fast detection means nothing to a master", true,
			func(m *Machine, now time.Time) []Action { return m.MasterIsDown(now, nil) }, "", Master, ""},
		{"a tie goes to the peer", true,
			func(m *Machine, now time.Time) []Action {
				return m.Receive(now, testAdvert(1, 0, 0), peerAddr, IPv4, nil)
			}, "backup ", Backup, ReasonMoreFrequent},
		{"a worse peer is left to find out", true,
			func(m *Machine, now time.Time) []Action {
				return m.Receive(now, testAdvert(1, 1, 0), peerAddr, IPv4, nil)
			}, "", Master, ""},
		{"another skew keeps mastership and is said at once", true,
			func(m *Machine, now time.Time) []Action {
				return m.SetConfig(now, MachineConfig{Base: 1, Skew: 9, Preempt: true, IPv4: true, IPv6: true}, nil)
			}, "4 6 ", Master, ""},
		{"the last address gone ends it", true,
			func(m *Machine, now time.Time) []Action { return m.SetConfig(now, MachineConfig{Base: 1}, nil) }, "init ", Init, ReasonNoAddress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, now := machineAt(both), start
			if tt.master {
				m, now = masterAt(both)
			}
			acts := tt.event(m, now.Add(time.Millisecond))
			if kinds(acts) != tt.want || m.State() != tt.state || electionReason(acts) != string(tt.reason) {
				t.Errorf("%q %v %q, want %q %v %q", kinds(acts), m.State(), electionReason(acts), tt.want, tt.state, tt.reason)
			}
			if (m.State() == Init) != m.Deadline().IsZero() {
				t.Errorf("deadline %v in %v", m.Deadline(), m.State())
			}
		})
	}
}

func TestFarewellFields(t *testing.T) {
	m, now := masterAt(MachineConfig{Base: 1, IPv4: true})
	acts := m.Leave(now, ReasonLeaving, nil)
	if acts[0].Base != BowOut || acts[0].Skew != BowOut {
		t.Errorf("%+v", acts[0])
	}
}

func TestEachFamilyHasItsOwnTimer(t *testing.T) {
	m := machineAt(MachineConfig{Base: 1, IPv4: true, IPv6: true})
	for ms := 500; ms < 3000; ms += 500 { // IPv4 is heard, IPv6 is not.
		if acts := m.Receive(at(ms), testAdvert(1, 0, 0), peerAddr, IPv4, nil); len(acts) != 0 {
			t.Fatal(acts)
		}
	}
	if m.Deadline() != at(3000) {
		t.Fatalf("deadline %v", m.Deadline().Sub(start))
	}
	if m.Tick(at(3000), nil); m.State() != Master {
		t.Error("adverts of one family held back the other's timer")
	}
}

func TestHastenIsContentWithOneMissedAdvert(t *testing.T) {
	cfg := MachineConfig{Base: 1, Skew: 100, Preempt: true, IPv4: true}
	m := machineAt(cfg)
	m.Hasten(at(100), at(3400))
	if m.Deadline() != at(0).Add(m.MasterDown()) {
		t.Error("hastened before an advert was heard")
	}
	m.Receive(at(200), testAdvert(1, 0, 0), peerAddr, IPv4, nil)
	if want := at(1450); m.Deadline() != want {
		t.Errorf("deadline after an advert while hastening %v", m.Deadline().Sub(start))
	}
	m.Receive(at(3500), testAdvert(1, 0, 0), peerAddr, IPv4, nil)
	if want := at(3500).Add(m.MasterDown()); m.Deadline() != want {
		t.Errorf("hastening did not end: %v", m.Deadline().Sub(start))
	}
	m.Hasten(at(6000), at(9000))
	if m.Deadline() != at(6000) {
		t.Errorf("an advert missed already: deadline %v", m.Deadline().Sub(start))
	}
}

func TestLateTickSendsOnceAndKeepsTheRhythm(t *testing.T) {
	m, took := masterAt(MachineConfig{Base: 1, IPv4: true})
	if acts := m.Tick(took.Add(1010*time.Millisecond), nil); kinds(acts) != "4 " {
		t.Fatal(kinds(acts))
	}
	if got := m.Deadline().Sub(took); got != 2*time.Second {
		t.Errorf("ten milliseconds late: next after %v", got)
	}
	if acts := m.Tick(took.Add(60*time.Second), nil); kinds(acts) != "4 " {
		t.Errorf("after a freeze: %q", kinds(acts))
	}
	if got := m.Deadline().Sub(took); got != 61*time.Second {
		t.Errorf("after a freeze: next after %v", got)
	}
}

func TestTwoDemotedSpeakersOfTheDemoteByteDoNotFight(t *testing.T) {
	cfg := MachineConfig{Base: 1, Skew: 100, Preempt: true, DemoteByte: true, IPv4: true}
	m := machineAt(cfg)
	m.SetDemotion(start, 240, nil)
	acts := m.Receive(at(10), testAdvert(1, SkewDemoted, 240), peerAddr, IPv4, nil)
	if m.State() != Backup {
		t.Errorf("%q", electionReason(acts))
	}
}

func TestBackupFollowsAChangedConfig(t *testing.T) {
	m := machineAt(MachineConfig{Base: 1, IPv4: true})
	m.Receive(at(1000), testAdvert(1, 0, 0), peerAddr, IPv4, nil)
	m.SetConfig(at(1500), MachineConfig{Base: 2, IPv4: true, IPv6: true}, nil)
	if m.Deadline() != at(7000) {
		t.Errorf("longer base: %v", m.Deadline().Sub(start))
	}
	m.SetConfig(at(1600), MachineConfig{Base: 1, IPv6: true}, nil)
	if m.Deadline() != at(4500) {
		t.Errorf("family removed: %v", m.Deadline().Sub(start))
	}
}

func TestMachineDoesNotAllocate(t *testing.T) {
	m, now := masterAt(MachineConfig{Base: 1, Skew: 100, IPv4: true, IPv6: true})
	adv := testAdvert(1, 200, 0)
	acts := make([]Action, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		now = m.Deadline()
		acts = m.Tick(now, acts[:0])
		acts = m.Receive(now, adv, peerAddr, IPv4, acts)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
