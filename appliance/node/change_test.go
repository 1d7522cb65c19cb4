package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/appliance/status"
)

func TestAReloadAppliesRulesToWhatRuns(t *testing.T) {
	s := boot(t, single)
	if answered, _ := s.connect(); answered {
		t.Fatal("without a rule it is answered")
	}
	if changed := s.apply(single + passLAN); !slices.Contains(changed, "rules: 1 added") {
		t.Errorf("changed: %q", changed)
	}
	if answered, _ := s.connect(); !answered {
		t.Error("with the rule it is not answered")
	}
	if changed := s.apply(single + passLAN); len(changed) != 0 {
		t.Errorf("the same again changed %q", changed)
	}
	if !s.said("configuration applied: rules: 1 added") {
		t.Errorf("log: %v", s.node.Events(time.Time{}))
	}
}

// A flow whose rule is taken away passes nothing, and goes on when the rule is
// back.
func TestAFlowFollowsTheRulesOfToday(t *testing.T) {
	s := boot(t, single+passLAN)
	p, err := s.client.Pinger(serverAddr, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	lost := func(d time.Duration) (sent, lost int) {
		from := s.Now()
		s.run(d)
		to := s.Now()
		s.run(50 * time.Millisecond)
		r := p.Report(from, to)
		return r.Sent, r.Sent - r.Answered
	}
	if sent, gone := lost(time.Second); sent != 10 || gone != 0 {
		t.Fatalf("%d of %d lost at first", gone, sent)
	}
	s.apply(single)
	if sent, gone := lost(time.Second); gone != sent {
		t.Errorf("%d of %d lost without the rule", gone, sent)
	}
	s.apply(single + passLAN)
	if sent, gone := lost(time.Second); gone > 1 {
		t.Errorf("%d of %d lost with the rule back", gone, sent)
	}
	if n := s.node.StateCount().Inserts; n != 1 {
		t.Errorf("%d states were made", n)
	}
}

func TestAChangeOfHowInterfacesAreAttachedIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"another device": strings.Replace(single, "x-lan", "y-lan", 1),
		"another MTU":    strings.Replace(single, "[interfaces.lan]\n", "[interfaces.lan]\nmtu = 1400\n", 1),
		"another MAC":    strings.Replace(single, "[interfaces.lan]\n", "[interfaces.lan]\nmac = \"02:00:00:00:00:01\"\n", 1),
		"one more":       single + "[interfaces.dmz]\nlink = { driver = \"tap\", device = \"x-dmz\" }\naddresses = [\"10.0.0.1/24\"]\n",
		"one that is off in front": strings.Replace(single, "[interfaces.wan]\n",
			"[interfaces.dmz]\ndisabled = true\nlink = { driver = \"tap\", device = \"x-dmz\" }\naddresses = [\"10.0.0.1/24\"]\n[interfaces.wan]\n", 1),
	} {
		t.Run(name, func(t *testing.T) {
			s := boot(t, single+passLAN)
			changed, err := s.node.Apply(planOf(t, text))
			if err == nil || !strings.Contains(err.Error(), "restart") || changed != nil {
				t.Errorf("changed %q, error %v", changed, err)
			}
			if answered, _ := s.connect(); !answered {
				t.Error("the node does not run on as before")
			}
		})
	}
}

func TestAPlanThatCARPRefusesChangesNothing(t *testing.T) {
	s := boot(t, single+shared+passLAN)
	s.run(4 * time.Second)
	bad := planOf(t, single+shared)
	bad.CARP.VHIDs[0].Base = 0
	if _, err := s.node.Apply(bad); err == nil {
		t.Fatal("advbase 0 was taken")
	}
	if answered, _ := s.connect(); !answered || s.node.Status().Role != status.RoleMaster {
		t.Errorf("it does not run on as before: %+v", s.node.Status().CARP)
	}
}

func TestAReloadBringsAndTakesAddresses(t *testing.T) {
	s := boot(t, single+passLAN)
	s.apply(single + shared + passLAN)
	s.run(5 * time.Second)
	if r := s.node.Status().Role; r != status.RoleMaster {
		t.Errorf("with a VIP the role is %s", r)
	}
	more := strings.Replace(single, `"192.168.1.2/24"`, `"192.168.1.3/24"`, 1)
	s.apply(more + shared + passLAN)
	find := func(address string) string {
		for _, a := range s.node.Interfaces()[1].Addresses {
			if a.Address == address {
				return a.State
			}
		}
		return "none"
	}
	if old, fresh := find("192.168.1.2/24"), find("192.168.1.3/24"); old != "none" || fresh != "probing" {
		t.Errorf("the old address is %s, the new one %s", old, fresh)
	}
	s.run(time.Second)
	if fresh := find("192.168.1.3/24"); fresh != "in use" || s.node.Status().Role != status.RoleMaster {
		t.Errorf("after its probe it is %s", fresh)
	}
	p, err := s.client.Pinger(s.node.ports[1].plan.Addresses[1].Addr(), 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	s.apply(more + shared + passLAN + "[[rules]]\ninterface = \"lan\"\naction = \"pass\"\nprotocol = \"udp\"\n")
	s.run(time.Second)
	p.Stop()
	s.run(100 * time.Millisecond)
	if r := p.Report(time.Time{}, time.Time{}); r.Answered < r.Sent-1 {
		t.Errorf("%d of %d pings to the new address answered", r.Answered, r.Sent)
	}
	s.apply(single + passLAN)
	if r := s.node.Status().Role; r != status.RoleStandalone {
		t.Errorf("without the VIP the role is %s", r)
	}
}

func TestARouteIsTakenOver(t *testing.T) {
	s := boot(t, single+passLAN)
	s.apply(single + passLAN + "[[routes]]\ndestination = \"10.9.0.0/16\"\ngateway = \"blackhole\"\n")
	rows := s.node.Routes()
	if !slices.ContainsFunc(rows, func(r status.Route) bool { return r.Destination == "10.9.0.0/16" && r.Kind == "blackhole" }) {
		t.Errorf("routes: %+v", rows)
	}
	if answered, _ := s.connect(); !answered {
		t.Error("the world is not reached any more")
	}
}
