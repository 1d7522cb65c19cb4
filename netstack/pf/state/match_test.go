package state

import (
	"testing"

	"tandem/netstack/packet"
)

func TestMatchTranslatesBothWays(t *testing.T) {
	tests := []struct {
		name        string
		proto       uint8
		in, out     packet.Tuple
		ifIn, ifOut uint16
	}{
		{"outbound nat", packet.ProtoUDP, tuple(17, "10.0.0.5:4000", "198.51.100.7:53"), tuple(17, "203.0.113.1:61000", "198.51.100.7:53"), lan, wan},
		{"port forward", packet.ProtoUDP, tuple(17, "198.51.100.7:999", "203.0.113.1:53"), tuple(17, "198.51.100.7:999", "10.0.0.53:5353"), wan, lan},
		{"plain", packet.ProtoUDP, tuple(17, "10.0.0.5:4000", "10.1.0.7:53"), tuple(17, "10.0.0.5:4000", "10.1.0.7:53"), lan, wan},
		{"plain IPv6", packet.ProtoUDP, tuple(17, "[2001:db8::5]:4000", "[2001:db8:1::7]:53"), tuple(17, "[2001:db8::5]:4000", "[2001:db8:1::7]:53"), lan, wan},
		{"translated IPv6", packet.ProtoUDP, tuple(17, "[fd00::5]:4000", "[2001:db8:1::7]:53"), tuple(17, "[2001:db8::5]:4000", "[2001:db8:1::7]:53"), lan, wan},
		{"to the node", packet.ProtoUDP, tuple(17, "10.0.0.5:4000", "10.0.0.1:53"), tuple(17, "10.0.0.5:4000", "10.0.0.1:53"), lan, 0},
		{"VIP to the node", packet.ProtoUDP, tuple(17, "10.0.0.5:4000", "10.0.0.254:53"), tuple(17, "10.0.0.5:4000", "10.0.0.1:53"), lan, 0},
		{"of the node", packet.ProtoUDP, tuple(17, "10.0.0.1:4000", "10.0.0.7:53"), tuple(17, "10.0.0.1:4000", "10.0.0.7:53"), 0, lan},
		{"no ports", packet.ProtoESP, tuple(50, "10.0.0.5", "198.51.100.7"), tuple(50, "203.0.113.1", "198.51.100.7"), lan, wan},
		{"ping", packet.ProtoICMP, tuple(1, "10.0.0.5:9", "198.51.100.7:9"), tuple(1, "203.0.113.1:5000", "198.51.100.7:5000"), lan, wan},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := newTable(t, nil)
			first, again, answer := view(tt.in, 4), view(tt.in, 4), view(tt.out.Reverse(), 4)
			if tt.proto == packet.ProtoICMP {
				first.ICMPType, again.ICMPType, answer.ICMPType = echo4, echo4, echoReply4
			}
			if h := match(table, start, tt.ifIn, first); h.Verdict != Miss {
				t.Fatalf("empty table: %+v", h)
			}
			id := mustInsert(t, table, start, &Spec{In: tt.in, Out: tt.out, IfIn: tt.ifIn, IfOut: tt.ifOut, Rule: 3, Gen: 8, View: first})
			f := match(table, start, tt.ifIn, again)
			if f.Verdict != Pass || f.Dir != Forward || f.To != tt.out || f.In != tt.ifIn || f.Out != tt.ifOut || f.ID != id || f.Rule != 3 || f.RuleGen != 8 {
				t.Errorf("forward: %+v", f)
			}
			r := match(table, start, tt.ifOut, answer)
			if r.Verdict != Pass || r.Dir != Reverse || r.To != tt.in.Reverse() || r.In != tt.ifOut || r.Out != tt.ifIn || r.ID != id {
				t.Errorf("reverse: %+v", r)
			}
			check(t, table)
		})
	}
}

func TestMatchHoldsTheBinding(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	id := mustInsert(t, table, start, s)
	for _, tt := range []struct {
		name  string
		iface uint16
		tuple packet.Tuple
	}{
		{"answer on LAN", lan, s.Out.Reverse()},
		{"packet on WAN", wan, s.In},
		{"packet from the node", 0, s.In},
		{"answer on a third interface", 3, s.Out.Reverse()},
	} {
		before, _ := table.First(id)
		h := match(table, start+second, tt.iface, view(tt.tuple, 1))
		if h.Verdict != Drop || h.Reason != WrongInterface {
			t.Errorf("%s: %+v", tt.name, h)
		}
		if after, _ := table.First(id); after != before {
			t.Errorf("%s changed the state: %+v", tt.name, after)
		}
	}
	if n := table.Stats().Reasons[WrongInterface]; n != 4 {
		t.Errorf("counted %d, want 4", n)
	}
}

func TestHostsThatPingEachOtherWithOneIdentifier(t *testing.T) {
	table := newTable(t, nil)
	ab, ba := tuple(1, "10.0.0.5:1", "10.1.0.7:1"), tuple(1, "10.1.0.7:1", "10.0.0.5:1")
	ping := func(t packet.Tuple, typ uint8) *packet.View {
		v := view(t, 56)
		v.ICMPType = typ
		return v
	}
	a := mustInsert(t, table, start, &Spec{In: ab, Out: ab, IfIn: lan, IfOut: wan, View: ping(ab, echo4)})
	if h := match(table, start, wan, ping(ba, echo4)); h.Verdict != Miss {
		t.Fatalf("the other's question matches: %+v", h)
	}
	b := mustInsert(t, table, start, &Spec{In: ba, Out: ba, IfIn: wan, IfOut: lan, View: ping(ba, echo4)})
	if h := match(table, start, wan, ping(ba, echoReply4)); h.ID != a || h.Dir != Reverse {
		t.Errorf("answer to a: %+v", h)
	}
	if h := match(table, start, lan, ping(ab, echoReply4)); h.ID != b || h.Dir != Reverse {
		t.Errorf("answer to b: %+v", h)
	}
	if h := match(table, start, lan, ping(ab, timestamp4)); h.Verdict != Miss {
		t.Errorf("a question of another kind matches: %+v", h)
	}
	check(t, table)
}

func TestAnswerThatCameFirstIsAState(t *testing.T) {
	table := newTable(t, nil)
	in := tuple(58, "[2001:db8::5]:77", "[2001:db8:1::7]:77")
	v := view(in, 8)
	v.ICMPType = echoReply6
	id := mustInsert(t, table, start, &Spec{In: in, Out: in, IfIn: lan, IfOut: wan, View: v})
	if h := match(table, start, lan, v); h.ID != id || h.Dir != Forward {
		t.Errorf("again: %+v", h)
	}
	if f, _ := table.First(id); f.ICMPType != echoReply6 || f.State() != "0:0" {
		t.Errorf("flow: %+v %s", f, f.State())
	}
	q := view(in.Reverse(), 8)
	q.ICMPType = echo6
	if h := match(table, start, wan, q); h.ID != id || h.Dir != Reverse {
		t.Errorf("its question: %+v", h)
	}
	check(t, table)
}

func TestMatchCountsSegmentsOfCoalescedPackets(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP) // 28 octets of headers, 10 of data
	id := mustInsert(t, table, start, s)
	v := view(s.Out.Reverse(), 4000)
	v.SegSize = 1400
	match(table, start, wan, v)
	v = view(s.Out.Reverse(), 1400)
	v.SegSize = 1400
	match(table, start, wan, v)
	f, _ := table.First(id)
	if want := [2]uint64{1, 4}; f.Packets != want {
		t.Errorf("packets %v, want %v", f.Packets, want)
	}
	if want := [2]uint64{38, 4000 + 3*28 + 1428}; f.Bytes != want {
		t.Errorf("bytes %v, want %v", f.Bytes, want)
	}
}

func TestMatchOfWhatIsNotIP(t *testing.T) {
	table := newTable(t, nil)
	h := Hit{Verdict: Pass}
	if table.Match(start, lan, false, &packet.View{EtherType: packet.EtherTypeARP}, &h); h.Verdict != Miss {
		t.Errorf("%+v", h)
	}
	hits := []Hit{{Verdict: Pass}}
	if table.MatchBatch(start, []uint16{lan}, []*packet.View{{}}, hits); hits[0].Verdict != Miss {
		t.Errorf("%+v", hits[0])
	}
}

func TestMatchBatchDoesWhatMatchDoes(t *testing.T) {
	one, batch := newTable(t, nil), newTable(t, nil)
	var vs []*packet.View
	var ifaces []uint16
	for i := range 100 {
		s := natted(packet.ProtoUDP)
		if i%3 == 0 {
			s = natted(packet.ProtoTCP)
		}
		s.In.SrcPort, s.Out.SrcPort = uint16(1000+i), uint16(2000+i)
		if i%7 != 0 {
			mustInsert(t, one, start, s)
			mustInsert(t, batch, start, s)
		}
		v := view(s.In, i)
		v.TCPFlags = packet.SYN
		w := view(s.Out.Reverse(), 2*i)
		w.TCPFlags, w.Ack = packet.SYN|packet.ACK, uint32(i%2)*1_000_000
		vs, ifaces = append(vs, v, w, v), append(ifaces, lan, wan, uint16(i%5))
	}
	hits := make([]Hit, len(vs))
	batch.MatchBatch(start, ifaces, vs, hits)
	for i, v := range vs {
		if h := match(one, start, ifaces[i], v); h != hits[i] {
			t.Fatalf("packet %d: %+v, in a batch %+v", i, h, hits[i])
		}
	}
	if a, b := one.Stats(), batch.Stats(); a != b {
		t.Errorf("%+v, in a batch %+v", a, b)
	}
}

func TestMatchAndInsertDoNotAllocate(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	mustInsert(t, table, start, s)
	v := view(s.In, 1)
	var h Hit
	hits, vs, ifaces := make([]Hit, 40), make([]*packet.View, 40), make([]uint16, 40)
	for i := range vs {
		vs[i], ifaces[i] = v, lan
	}
	other := natted(packet.ProtoTCP)
	for name, f := range map[string]func(){
		"Match":      func() { table.Match(start, lan, false, v, &h) },
		"MatchBatch": func() { table.MatchBatch(start, ifaces, vs, hits) },
		"MatchInner": func() { table.MatchInner(start, v, &h) },
		"InUse":      func() { table.InUse(start, &s.Out) },
		"SetPath":    func() { table.SetPath(h.ID, Forward, Path{Out: 1}) },
		"Sweep":      func() { table.Sweep(start, 100) },
		"Insert": func() {
			id, _ := table.Insert(start, other)
			table.remove(id)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		Miss.String(): "miss", Pass.String(): "pass", Drop.String(): "drop",
		Forward.String(): "forward", Reverse.String(): "reverse", ReasonCount.String(): "unknown",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	seen := map[string]bool{}
	for r := range ReasonCount {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d is called %q", r, s)
		} else {
			seen[s] = true
		}
	}
}

func TestICMPTypeOfTheFirstPacketIsKept(t *testing.T) {
	for _, tt := range []struct {
		proto    uint8
		typ, ans uint8
	}{
		{1, echo4, echoReply4}, {1, echoReply4, echo4}, {1, timestamp4, timestampReply4},
		{1, infoReply4, info4}, {1, maskReply4, mask4}, {58, echo6, echoReply6}, {58, nodeInfoReply6, nodeInfo6},
	} {
		in := tuple(tt.proto, "10.0.0.5:1", "10.0.0.7:1")
		if tt.proto == packet.ProtoICMPv6 {
			in = tuple(tt.proto, "[fd00::5]:1", "[fd00::7]:1")
		}
		table := newTable(t, nil)
		first, answer := view(in, 0), view(in.Reverse(), 0)
		first.ICMPType, answer.ICMPType = tt.typ, tt.ans
		id := mustInsert(t, table, start, &Spec{In: in, Out: in, IfIn: lan, IfOut: wan, View: first})
		if f, _ := table.First(id); f.ICMPType != tt.typ {
			t.Errorf("type %d became %d", tt.typ, f.ICMPType)
		}
		if h := match(table, start, wan, answer); h.Verdict != Pass || h.Dir != Reverse {
			t.Errorf("%d to %d: %+v", tt.ans, tt.typ, h)
		}
	}
}

func TestAMessageThatAsksNothingHasNoAnswers(t *testing.T) {
	const redirect = 5
	table := newTable(t, nil)
	in := tuple(1, "10.0.0.5", "10.0.0.7")
	v := view(in, 0)
	v.ICMPType = redirect
	mustInsert(t, table, start, &Spec{In: in, Out: in, IfIn: lan, IfOut: wan, View: v})
	if h := match(table, start, lan, v); h.Verdict != Pass {
		t.Errorf("again: %+v", h)
	}
	back := view(in.Reverse(), 0)
	back.ICMPType = redirect
	if h := match(table, start, wan, back); h.Verdict != Miss {
		t.Errorf("back: %+v", h)
	}
}
