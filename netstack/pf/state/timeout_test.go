package state

import (
	"testing"
	"time"

	"tandem/netstack/packet"
)

// The numbers are those of pf.conf(5) and of pfctl's optimisation sets.
func TestPresets(t *testing.T) {
	tests := []struct {
		name string
		want [classCount]int // seconds
	}{
		{"normal", [classCount]int{120, 30, 86400, 900, 45, 90, 60, 30, 60, 20, 10, 60, 30, 60}},
		{"conservative", [classCount]int{3600, 900, 432000, 3600, 600, 180, 60, 30, 60, 20, 10, 60, 30, 60}},
		{"aggressive", [classCount]int{30, 5, 18000, 60, 30, 30, 60, 30, 60, 20, 10, 60, 30, 60}},
		{"high_latency", [classCount]int{180, 35, 86400, 905, 50, 95, 60, 30, 60, 20, 10, 60, 30, 60}},
	}
	for _, tt := range tests {
		got, ok := Preset(tt.name)
		if !ok {
			t.Fatalf("no preset %s", tt.name)
		}
		for c, name := range TimeoutNames() {
			if p := got.Field(name); p == nil || *p != time.Duration(tt.want[c])*time.Second {
				t.Errorf("%s: %s: %v, want %d s", tt.name, name, p, tt.want[c])
			}
		}
	}
	if _, ok := Preset("satellite"); ok {
		t.Error("a preset that is none")
	}
	if n := Normal(); n.Field("tcp.first") != nil {
		t.Error("a name that is none")
	}
}

func TestStatesLiveAsLongAsTheirClassSays(t *testing.T) {
	n := Normal()
	there, back := Forward, Reverse
	tests := []struct {
		name  string
		proto uint8
		says  []Dir // after the first packet
		want  time.Duration
		state string
	}{
		{"udp once", packet.ProtoUDP, nil, n.UDPFirst, "SINGLE:NO_TRAFFIC"},
		{"udp twice", packet.ProtoUDP, []Dir{there}, n.UDPSingle, "SINGLE:NO_TRAFFIC"},
		{"udp answered", packet.ProtoUDP, []Dir{back}, n.UDPSingle, "MULTIPLE:SINGLE"},
		{"udp talk", packet.ProtoUDP, []Dir{back, there}, n.UDPMultiple, "MULTIPLE:MULTIPLE"},
		{"ping", packet.ProtoICMP, nil, n.ICMPFirst, "0:0"},
		{"ping answered", packet.ProtoICMP, []Dir{back}, n.ICMPError, "0:0"},
		{"gre once", packet.ProtoGRE, nil, n.OtherFirst, "SINGLE:NO_TRAFFIC"},
		{"gre answered", packet.ProtoGRE, []Dir{back}, n.OtherSingle, "MULTIPLE:SINGLE"},
		{"gre talk", packet.ProtoGRE, []Dir{back, there}, n.OtherMultiple, "MULTIPLE:MULTIPLE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, late := range []time.Duration{0, 200 * time.Millisecond} {
				table := newTable(t, nil)
				s := natted(tt.proto)
				s.View.ICMPType = echo4
				id := mustInsert(t, table, start, s)
				now := start
				for _, d := range tt.says {
					now += second
					v, iface := view(s.In, 1), uint16(lan)
					v.ICMPType = echo4
					if d == Reverse {
						v, iface = view(s.Out.Reverse(), 1), wan
					}
					if h := match(table, now, iface, v); h.Verdict != Pass {
						t.Fatalf("%+v", h)
					}
				}
				if f, _ := table.First(id); f.State() != tt.state {
					t.Errorf("state %s, want %s", f.State(), tt.state)
				}
				then, want := now+int64(tt.want+late), 0
				if late > 0 {
					want = 1
				}
				table.Sweep(then, 10)
				if got := int(table.Stats().Expired); got != want {
					t.Errorf("%v after its last packet %d expired, want %d", tt.want+late, got, want)
				}
			}
		})
	}
}

func TestAdaptiveTimeouts(t *testing.T) {
	tests := []struct{ states, start, end, want int }{
		{10, 100, 200, scaleFull},
		{100, 100, 200, scaleFull},
		{150, 100, 200, scaleFull / 2},
		{199, 100, 200, scaleFull / 100},
		{200, 100, 200, 0},
		{500, 100, 200, 0},
		{500, -1, 200, scaleFull},
		{500, 200, 100, scaleFull},
	}
	for _, tt := range tests {
		if got := scaleFor(tt.states, tt.start, tt.end); got != uint64(tt.want) {
			t.Errorf("%+v: %d", tt, got)
		}
	}
	table := newTable(t, func(c *Config) { c.Max, c.AdaptiveStart = 100, 0 }) // 60 and 120
	fill := func(n int) {
		for i := range n {
			s := natted(packet.ProtoUDP)
			s.In.SrcPort, s.Out.SrcPort = uint16(i), uint16(i)
			table.Insert(start, s)
		}
	}
	fill(90)
	if n := table.Sweep(start+31*second, 1000); n != 90 {
		t.Errorf("at half the time %d of 90 were swept", n)
	}
	fill(60)
	if n := table.Sweep(start+59*second, 1000); n != 0 {
		t.Errorf("below the start %d were swept", n)
	}
}

func TestSweepGoesRoundInSmallSteps(t *testing.T) {
	table := newTable(t, nil)
	for i := range 100 {
		s := natted(packet.ProtoUDP)
		if i%2 == 1 {
			s.In = tuple(17, "[2001:db8::5]:1", "[2001:db8:1::7]:53")
			s.Out, s.View = s.In, view(s.In, 0)
		}
		s.In.SrcPort, s.Out.SrcPort = uint16(i), uint16(i)
		mustInsert(t, table, start+int64(i)*second, s)
	}
	now := start + 110*second // of 60 s of life
	if n := table.Sweep(now, 0); n != 0 {
		t.Errorf("no budget, %d removed", n)
	}
	removed, steps := 0, 0
	for ; steps < 10; steps++ {
		n := table.Sweep(now, 10)
		if n > 10 {
			t.Fatalf("%d removed by 10 looks", n)
		}
		removed += n
	}
	if removed != 50 {
		t.Errorf("once round removed %d, want 50", removed)
	}
	if n := table.Sweep(start+1000*second, 100); n != 50 {
		t.Errorf("the rest: %d", n)
	}
	check(t, table)
	if n := newTable(t, nil).Sweep(start, 10); n != 0 {
		t.Errorf("an empty table: %d", n)
	}
}

func TestAClockALittleBehindExpiresNothing(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	mustInsert(t, table, start, s)
	if h := match(table, start-second, lan, view(s.In, 1)); h.Verdict != Pass {
		t.Errorf("%+v", h)
	}
	if n := table.Sweep(start-2*second, 10); n != 0 {
		t.Errorf("swept %d", n)
	}
}
