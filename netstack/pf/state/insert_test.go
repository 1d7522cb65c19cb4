package state

import (
	"errors"
	"testing"
	"time"

	"tandem/netstack/packet"
)

func TestInsertRefuses(t *testing.T) {
	table := newTable(t, func(c *Config) { c.Max = 2 })
	held := natted(packet.ProtoUDP)
	mustInsert(t, table, start, held)
	tests := []struct {
		name    string
		in, out packet.Tuple
		want    Reason
	}{
		{"the same flow", held.In, held.Out, Collision},
		{"the same way in", held.In, tuple(17, "203.0.113.1:1", "198.51.100.7:80"), Collision},
		{"the same port outside", tuple(17, "10.0.0.6:4000", "198.51.100.7:80"), held.Out, Collision},
		{"an answer as first packet", held.Out.Reverse(), tuple(17, "198.51.100.7:80", "10.9.9.9:1"), Collision},
		{"a flow to itself", tuple(17, "10.0.0.6:1", "10.0.0.6:1"), tuple(17, "10.0.0.6:1", "10.0.0.6:1"), BadKey},
		{"other families", tuple(17, "10.0.0.6:1", "10.0.0.7:1"), tuple(17, "[::1]:1", "[::2]:1"), BadKey},
		{"other protocols", tuple(17, "10.0.0.6:1", "10.0.0.7:1"), tuple(6, "10.0.0.6:1", "10.0.0.7:1"), BadKey},
		{"no family", packet.Tuple{}, packet.Tuple{}, BadKey},
		{"a port of its own", tuple(17, "10.0.0.6:4000", "198.51.100.7:80"), tuple(17, "203.0.113.1:1", "198.51.100.7:80"), OK},
		{"one too many", tuple(17, "10.0.0.8:4000", "198.51.100.7:80"), tuple(17, "203.0.113.1:2", "198.51.100.7:80"), Full},
	}
	for _, tt := range tests {
		before := table.Stats().Reasons[tt.want]
		_, r := table.Insert(start, &Spec{In: tt.in, Out: tt.out, IfIn: lan, IfOut: wan, View: view(tt.in, 0)})
		if r != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, r, tt.want)
		}
		if r != OK && table.Stats().Reasons[r] != before+1 {
			t.Errorf("%s is not counted", tt.name)
		}
		check(t, table)
	}
}

func TestInUse(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	mustInsert(t, table, start, s)
	free := s.Out
	free.SrcPort++
	udp := int64(Normal().UDPFirst)
	for _, tt := range []struct {
		name string
		now  int64
		out  packet.Tuple
		want bool
	}{
		{"taken", start, s.Out, true},
		{"another port", start, free, false},
		{"over, not swept", start + udp + second, s.Out, false},
		{"no tuple", start, packet.Tuple{}, false},
	} {
		if got := table.InUse(tt.now, &tt.out); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	ping := tuple(1, "10.0.0.5:1", "10.0.0.7:1")
	v := view(ping, 0)
	v.ICMPType = echo4
	mustInsert(t, table, start, &Spec{In: ping, Out: ping, IfIn: lan, IfOut: wan, View: v})
	if !table.InUse(start, &ping) {
		t.Error("an echo identifier is not in use")
	}
}

func TestInsertTakesThePlaceOfAStateThatIsOver(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	old := mustInsert(t, table, start, s)
	later := start + int64(Normal().UDPFirst) + second
	if h := match(table, later, lan, view(s.In, 1)); h.Verdict != Miss {
		t.Fatalf("a state that is over matches: %+v", h)
	}
	id := mustInsert(t, table, later, s)
	if _, ok := table.First(old); ok || id == old {
		t.Errorf("old %v, new %v", old, id)
	}
	if s := table.Stats(); s.States != 1 || s.Expired != 1 {
		t.Errorf("%+v", s)
	}
	check(t, table)
}

func TestIDsOfPlacesUsedAgain(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	old := mustInsert(t, table, start, s)
	if n := table.Kill(func(f *Flow) bool { return f.ID == old }); n != 1 {
		t.Fatalf("killed %d", n)
	}
	if table.remove(old) {
		t.Error("ended twice")
	}
	id := mustInsert(t, table, start, s)
	if id.Place() != old.Place() || id == old {
		t.Fatalf("old %x, new %x", old, id)
	}
	table.SetPath(old, Forward, Path{Out: 9})
	table.SetRule(old, 9, 9, 9, false)
	if _, ok := table.First(old); ok {
		t.Error("the old id still names a state")
	}
	if h := match(table, start, lan, view(s.In, 1)); h.Verdict != Pass || h.Path != (Path{}) || h.RuleGen != 1 {
		t.Errorf("the old id changed the new state: %+v", h)
	}
	for _, wild := range []ID{0, 1 << 32, 12345, ^ID(0), ID(class6), 1<<32 | class6 | 5} {
		if _, ok := table.First(wild); ok {
			t.Errorf("%x names a state", wild)
		}
	}
}

func TestSetPathIsPerDirection(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	id := mustInsert(t, table, start, s)
	there, back := Path{Out: wan, Hop: 11, Gen: 5}, Path{Out: lan, Hop: 12, Gen: 6}
	table.SetPath(id, Forward, there)
	table.SetPath(id, Reverse, back)
	if h := match(table, start, lan, view(s.In, 1)); h.Path != there {
		t.Errorf("forward %+v", h.Path)
	}
	if h := match(table, start, wan, view(s.Out.Reverse(), 1)); h.Path != back {
		t.Errorf("reverse %+v", h.Path)
	}
}

func TestRefusedStatePassesNothingAndStays(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	id := mustInsert(t, table, start, s)
	table.SetRule(id, 2, 0, 0, false)
	before, _ := table.First(id)
	for _, h := range []Hit{
		match(table, start+second, lan, view(s.In, 1)),
		match(table, start+second, wan, view(s.Out.Reverse(), 1)),
	} {
		if h.Verdict != Drop || h.Reason != NotAllowed || h.ID != id || h.RuleGen != 2 {
			t.Errorf("%+v", h)
		}
	}
	if after, _ := table.First(id); after != before || after.Allowed {
		t.Errorf("the packets changed it: %+v", after)
	}
	table.SetRule(id, 3, 8, 99, true)
	if h := match(table, start+second, lan, view(s.In, 1)); h.Verdict != Pass || h.RuleGen != 3 || h.Rule != 8 {
		t.Errorf("allowed again: %+v", h)
	}
	if f, _ := table.First(id); f.RuleID != 99 || !f.Allowed {
		t.Errorf("%+v", f)
	}
}

func TestFlowTellsAll(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoTCP)
	s.NoSync, s.Log = true, true
	mustInsert(t, table, start, natted(packet.ProtoUDP))
	id := mustInsert(t, table, start+10*second, s)
	f, ok := table.First(id)
	if !ok {
		t.Fatal("gone")
	}
	near := func(got, want int64) bool { return got <= want && got > want-2<<tickShift }
	if !near(f.Created, start+10*second) || !near(f.Seen, start+10*second) || !near(f.Expires, start+130*second+1<<tickShift) {
		t.Errorf("created %v, seen %v, expires %v", f.Created, f.Seen, f.Expires)
	}
	f.Created, f.Seen, f.Expires = 0, 0, 0
	want := Flow{
		ID: id, WireIn: 5<<32 + 4, WireOut: 5<<32 + 5, Creator: 42, In: s.In, Out: s.Out, IfIn: lan, IfOut: wan,
		Proto: packet.ProtoTCP, SrcState: tcpsSynSent, Packets: [2]uint64{1}, Bytes: [2]uint64{50},
		Rule: 3, RuleID: 77, RuleGen: 1, Allowed: true, NoSync: true, Log: true,
	}
	if f != want {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
	if f.State() != "SYN_SENT:CLOSED" {
		t.Error(f.State())
	}
}

func TestListStopsAndKillCounts(t *testing.T) {
	table := newTable(t, nil)
	for i := range 50 {
		s := natted(packet.ProtoUDP)
		if i%2 == 1 {
			s.In = tuple(17, "[2001:db8::5]:1", "[2001:db8:1::7]:53")
			s.Out = s.In
		}
		s.In.SrcPort, s.Out.SrcPort = uint16(i), uint16(i)
		s.View = view(s.In, 0)
		mustInsert(t, table, start, s)
	}
	n := 0
	table.List(func(*Flow) bool { n++; return n < 30 })
	if n != 30 {
		t.Errorf("List went on to %d", n)
	}
	if n := table.Kill(func(f *Flow) bool { return f.In.Family == 6 }); n != 25 {
		t.Errorf("killed %d", n)
	}
	check(t, table)
}

func TestConfigFaults(t *testing.T) {
	tests := []struct {
		name string
		c    Config
		want error
	}{
		{"no room", Config{}, ErrMax},
		{"too much room", Config{Max: 1<<30 + 1}, ErrMax},
		{"a timeout left out", Config{Max: 1, Timeouts: Timeouts{TCPFirst: time.Second}}, errTimeout},
		{"a timeout too long", Config{Max: 1, Timeouts: func() Timeouts { t := Normal(); t.UDPFirst = TimeoutMax + 1; return t }()}, errTimeout},
		{"defaults", Config{Max: 1}, nil},
	}
	for _, tt := range tests {
		if _, err := New(tt.c); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestSetConfigChangesLimitAndTimeouts(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	mustInsert(t, table, start, s)
	c := Config{Max: 1, Timeouts: Normal(), AdaptiveStart: -1, Creator: 43}
	c.Timeouts.UDPFirst = 5 * time.Second
	if err := table.SetConfig(c); err != nil {
		t.Fatal(err)
	}
	if _, r := table.Insert(start, natted(packet.ProtoTCP)); r != Full {
		t.Errorf("above the new limit: %v", r)
	}
	if h := match(table, start+6*second, lan, view(s.In, 1)); h.Verdict != Miss {
		t.Errorf("beyond the new timeout: %+v", h)
	}
	if err := table.SetConfig(Config{}); !errors.Is(err, ErrMax) {
		t.Errorf("a bad config: %v", err)
	}
	if got := table.Stats().Limit; got != 1 {
		t.Errorf("limit %d", got)
	}
}
