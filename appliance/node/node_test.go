package node

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tandem/appliance/plan"
	"tandem/appliance/status"
	"tandem/netstack/link"
	"tandem/netstack/vnet"
)

func TestTheLANReachesTheWorldAsTheNode(t *testing.T) {
	s := boot(t, single+passLAN)
	answered, seen := s.connect()
	if !answered || seen.Addr().String() != "198.51.100.2" {
		t.Errorf("answered: %v, the server saw %v", answered, seen)
	}
	st := s.node.Status()
	if !st.Healthy || st.Role != status.RoleStandalone || len(st.Alarms) != 0 {
		t.Errorf("status: %+v", st)
	}
}

// The golden documents hold names and shapes; what varies with every change of
// what is sent is set to zero.
func TestStatusIsTheDocumentThatOthersParse(t *testing.T) {
	s := boot(t, single+shared+passLAN)
	s.run(4 * time.Second)
	s.connect()
	st := s.node.Status()
	for i := range st.Interfaces {
		st.Interfaces[i].RX, st.Interfaces[i].TX = status.Counters{}, status.Counters{}
	}
	st.States.Searches, st.UptimeSeconds = 0, 0
	for i := range st.CARP.VIPs {
		st.CARP.VIPs[i].LastTransition = time.Time{}
	}
	golden(t, "status.json", st)

	states := s.node.States("")
	for i := range states {
		r := &states[i]
		r.ID, r.Source, r.TranslatedSource, r.AgeSeconds, r.ExpiresSeconds = "", portless(r.Source), portless(r.TranslatedSource), 0, 0
	}
	golden(t, "states.json", states)
	rules := s.node.Rules(true)
	for i := range rules {
		rules[i].Evaluations, rules[i].Packets, rules[i].Bytes = 0, 0, 0
	}
	golden(t, "rules.json", rules)
	golden(t, "nat.json", s.node.NAT())
	arp := s.node.ARP()
	for i := range arp {
		arp[i].AgeSeconds, arp[i].ExpiresSeconds = 0, 0
	}
	golden(t, "arp.json", arp)
	golden(t, "routes.json", s.node.Routes())
	events := s.node.Events(time.Time{})
	for i := range events {
		events[i].Time = time.Time{}
	}
	golden(t, "log.json", events)
}

// portless is the address of an endpoint.
func portless(endpoint string) string { return netip.MustParseAddrPort(endpoint).Addr().String() }

func TestListsAreNeverNull(t *testing.T) {
	s := boot(t, single)
	for name, list := range map[string]any{
		"status": s.node.Status(), "carp": s.node.CARP(), "states": s.node.States(""), "rules": s.node.Rules(false),
		"nat": s.node.NAT(), "arp": s.node.ARP(), "routes": s.node.Routes(), "interfaces": s.node.Interfaces(),
		"count": s.node.StateCount(), "events": s.node.Events(s.Now().Add(time.Hour)), "packets": s.node.Packets(time.Time{}),
	} {
		if text := marshal(t, list); strings.Contains(text, "null") {
			t.Errorf("%s is %s", name, text)
		}
	}
	if scan, err := s.node.Scan(""); err != nil || strings.Contains(marshal(t, scan), "null") {
		t.Errorf("scan: %+v, %v", scan, err)
	}
}

func TestAnAddressIsProbedForBeforeItIsUsed(t *testing.T) {
	s := newScene(t, vnet.Config{Seed: 1})
	s.on(single)
	s.run(100 * time.Millisecond)
	i := s.node.Interfaces()[1]
	if i.Name != "lan" || i.Link != "up" || i.Addresses[0].State != "probing" || i.Addresses[0].Kind != "interface" ||
		i.Addresses[1].Kind != "ip_alias" || i.Addresses[2].Kind != "link_local" {
		t.Errorf("at first: %+v", i)
	}
	s.run(time.Second)
	for _, a := range s.node.Interfaces()[1].Addresses {
		if a.State != "in use" {
			t.Errorf("after a second: %+v", a)
		}
	}
}

func TestANodeThatCannotBeBuiltLeavesNothingOpen(t *testing.T) {
	s := newScene(t, vnet.Config{})
	env := s.env()
	open := env.Open
	env.Open = func(i *plan.Interface) (link.Device, error) {
		if i.Name == "lan" {
			return nil, errors.New("device or resource busy")
		}
		return open(i)
	}
	_, err := New(planOf(t, single), env)
	if err == nil || err.Error() != "interface lan: device or resource busy" || s.closed != 1 {
		t.Errorf("error %v, %d devices closed", err, s.closed)
	}

	env.Open = open
	s.store.broken = errDisk
	if _, err := New(planOf(t, single), env); !errors.Is(err, errDisk) || !strings.HasPrefix(err.Error(), "interface wan: read its MAC") || s.closed != 2 {
		t.Errorf("error %v, %d devices closed", err, s.closed)
	}
	s.store.broken = nil
	s.on(single)
	s.off()
	if s.closed != 4 {
		t.Errorf("closing a node closed %d devices", s.closed-2)
	}
}

func TestTheMACOfAnInterfaceIsKept(t *testing.T) {
	s := boot(t, single)
	first := s.node.Interfaces()[0].MAC
	s.off()
	s.on(strings.Replace(single, `hostname = "fw"`, `hostname = "renamed"`, 1))
	if again := s.node.Interfaces()[0].MAC; again != first {
		t.Errorf("the MAC was %s and is %s", first, again)
	}
	if first[1] != '2' && first[1] != '6' && first[1] != 'a' && first[1] != 'e' {
		t.Errorf("%s is not locally administered", first)
	}
	s.off()
	s.on(strings.Replace(single, `gateway = "198`, "mac = \"02:00:00:00:00:77\"\ngateway = \"198", 1))
	if mac := s.node.Interfaces()[0].MAC; mac != "02:00:00:00:00:77" {
		t.Errorf("the configured MAC is not used but %s", mac)
	}
}

func TestMaintenanceIsKeptOverARestart(t *testing.T) {
	s := boot(t, single+shared)
	s.run(4 * time.Second)
	if err := s.node.SetMaintenance(true); err != nil {
		t.Fatal(err)
	}
	s.off()
	s.on(single + shared)
	if c := s.node.CARP(); !c.Maintenance || c.Demotion != 240 {
		t.Errorf("after the restart: %+v", c)
	}
	s.store.broken = errDisk
	if err := s.node.SetMaintenance(false); !errors.Is(err, errDisk) || !s.node.CARP().Maintenance {
		t.Errorf("a choice that cannot be kept: %v, %+v", err, s.node.CARP())
	}
	s.store.broken = nil
	if err := s.node.SetMaintenance(false); err != nil || s.node.CARP().Maintenance {
		t.Errorf("%v, %+v", err, s.node.CARP())
	}
	s.off()

	s.store.values["maintenance"] = "on"
	env := s.env()
	env.Store = halfRead{s.store}
	n, err := New(planOf(t, single+shared), env)
	if err != nil {
		t.Fatal(err)
	}
	s.node = n
	if n.CARP().Maintenance || !s.said("read whether maintenance mode was on: no space left; it is off") {
		t.Errorf("events: %v", n.Events(time.Time{}))
	}
}

// halfRead cannot read whether maintenance mode was on.
type halfRead struct{ *memory }

func (h halfRead) Get(name string) ([]byte, error) {
	if name == maintenanceName {
		return nil, errDisk
	}
	return h.memory.Get(name)
}

func TestCARPIsSwitchedOffUntilTheNextStart(t *testing.T) {
	s := boot(t, single+shared)
	s.run(4 * time.Second)
	if r := s.node.Status().Role; r != status.RoleMaster {
		t.Fatalf("the role is %s", r)
	}
	s.node.SetEnabled(false)
	st := s.node.Status()
	if st.Role != status.RoleDisabled || st.Healthy || st.CARP.Enabled || st.CARP.VIPs[0].State != "DISABLED" {
		t.Errorf("switched off: %+v", st.CARP)
	}
	s.off()
	s.on(single + shared)
	s.run(5 * time.Second)
	if st := s.node.Status(); st.Role != status.RoleMaster || !st.Healthy {
		t.Errorf("after a restart: %+v", st)
	}
}

func TestANodeLeavesWithinItsTime(t *testing.T) {
	s := boot(t, single+shared)
	s.run(4 * time.Second)
	s.node.Leave(s.Now())
	s.handle.Wake()
	if s.node.Left() {
		t.Error("it left without draining")
	}
	if !s.RunUntil(s.node.Left, leaveMax) {
		t.Error("it drains for longer than a node waits")
	}
}
