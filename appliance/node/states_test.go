package node

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tandem/appliance/status"
)

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStatesAreFoundByTheirWords(t *testing.T) {
	s := boot(t, single+passLAN)
	s.connect()
	if _, err := s.client.Pinger(serverAddr, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.run(100 * time.Millisecond)
	all := s.node.States("")
	if len(all) != 2 {
		t.Fatalf("there are %d states", len(all))
	}
	at := slices.IndexFunc(all, func(r status.State) bool { return r.Protocol == "tcp" })
	tcp := all[at]
	tests := []struct {
		filter string
		want   int
	}{
		{"tcp", 1}, {"icmp", 1}, {"udp", 0}, {"TCP", 1},
		{"lan", 2}, {"wan", 0}, {"local", 2}, {"peer", 0},
		{"192.168.1.50", 2}, {"198.51.100.1", 2}, {"198.51.100.2", 2}, {"10.0.0.1", 0},
		{"192.168.1.0/24", 2}, {"10.0.0.0/8", 0}, {"198.51.100.2/32 tcp", 1},
		{":80", 1}, {":443", 0}, {":x", 0}, {":80 icmp", 0},
		{"fin_wait", 1}, {tcp.ID, 1}, {tcp.Source, 1}, {tcp.TranslatedSource, 1}, {"tcp 192.168.1.50 :80 lan", 1}, {"nonsense", 0},
	}
	for _, tt := range tests {
		if got := s.node.States(tt.filter); len(got) != tt.want {
			t.Errorf("%q finds %d states, want %d (%+v)", tt.filter, len(got), tt.want, all)
		}
	}
	if tcp.Rule != "out" || tcp.Interface != "lan" || tcp.Direction != "in" || tcp.Destination != "198.51.100.1:80" || tcp.Packets < 8 || tcp.Origin != "local" {
		t.Errorf("the connection is listed as %+v", tcp)
	}
	if c := s.node.StateCount(); c.States != 2 || c.Inserts != 2 || c.Local != 2 || c.Searches == 0 || c.Limit == 0 {
		t.Errorf("counted: %+v", c)
	}
	if n := s.node.KillStates("tcp"); n != 1 || len(s.node.States("")) != 1 {
		t.Errorf("%d killed, %d left", n, len(s.node.States("")))
	}
	if n := s.node.KillStates(""); n != 1 || s.node.StateCount().States != 0 {
		t.Errorf("%d killed", n)
	}
	if answered, _ := s.connect(); !answered {
		t.Error("after that a new connection is not answered")
	}
}

func TestRulesCountWhatTheyDecided(t *testing.T) {
	s := boot(t, single+passLAN)
	for range 3 {
		if answered, _ := s.connect(); !answered {
			t.Fatal("not answered")
		}
	}
	r := s.rule("out")
	if r.Evaluations < 3 || r.States != 3 || r.Packets < 3*8 || r.Bytes < 3*8*40 {
		t.Errorf("counted: %+v", r)
	}
	if n := s.node.NAT(); len(n) == 0 || n[len(n)-1].Used != 3 {
		t.Errorf("translations: %+v", n)
	}
	if own, all := len(s.node.Rules(false)), len(s.node.Rules(true)); own != 1 || all <= own {
		t.Errorf("%d rules of the file, %d in all", own, all)
	}
	packets := r.Packets
	s.run(5 * time.Minute) // until the states are gone
	if r := s.rule("out"); r.States != 0 || r.Packets == 0 || r.Packets > packets {
		t.Errorf("later: %+v, was %d packets", r, packets)
	}
}

func TestARuleThatMovesKeepsItsStates(t *testing.T) {
	s := boot(t, single+passLAN)
	s.connect()
	s.apply(single + `
[[rules]]
id = "first"
interface = "lan"
action = "block"
destination = "203.0.113.0/24"
` + passLAN)
	rows := s.node.States("tcp")
	if len(rows) != 1 || rows[0].Rule != "out" {
		t.Errorf("after the reload: %+v", rows)
	}
	if r := s.rule("out"); r.States != 1 {
		t.Errorf("the rule has %d states", r.States)
	}
	if r := s.rule("first"); r.States != 0 || r.Packets != 0 {
		t.Errorf("the new rule has %+v", r)
	}
}

func TestNeighboursCanBeForgotten(t *testing.T) {
	s := boot(t, single+passLAN)
	s.connect()
	if n := s.node.ARP(); len(n) != 2 || n[0].Address != "198.51.100.1" || n[0].Interface != "wan" || n[0].MAC != "02:00:00:00:00:20" {
		t.Fatalf("neighbours: %+v", n)
	}
	s.node.DeleteARP(netip.MustParseAddr("198.51.100.1"))
	if n := s.node.ARP(); len(n) != 1 {
		t.Errorf("neighbours: %+v", n)
	}
	if answered, _ := s.connect(); !answered {
		t.Error("it is not asked for again")
	}
}
