package state

import (
	"testing"

	"tandem/netstack/packet"
)

func TestMatchInnerNamesWhatTheQuoteMustBecome(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	id := mustInsert(t, table, start, s)
	table.SetPath(id, Reverse, Path{Out: lan, Hop: 5, Gen: 1})
	tests := []struct {
		name    string
		quoted  packet.Tuple
		verdict Verdict
		dir     Dir
		to      packet.Tuple
		in, out uint16
	}{
		{"from outside, about the request", s.Out, Pass, Reverse, s.In, wan, lan},
		{"from inside, about the answer", s.In.Reverse(), Pass, Forward, s.Out.Reverse(), lan, wan},
		{"about the request before translation", s.In, Miss, 0, packet.Tuple{}, 0, 0},
		{"about the answer before translation", s.Out.Reverse(), Miss, 0, packet.Tuple{}, 0, 0},
		{"about nothing", tuple(17, "1.2.3.4:5", "6.7.8.9:10"), Miss, 0, packet.Tuple{}, 0, 0},
		{"not IP", packet.Tuple{}, Miss, 0, packet.Tuple{}, 0, 0},
	}
	for _, tt := range tests {
		before, _ := table.First(id)
		h := Hit{Verdict: Drop}
		table.MatchInner(start+5*second, view(tt.quoted, 8), &h)
		if h.Verdict != tt.verdict || h.Dir != tt.dir || h.To != tt.to || h.In != tt.in || h.Out != tt.out {
			t.Errorf("%s: %+v", tt.name, h)
		}
		if h.Dir == Reverse && h.Path.Hop != 5 {
			t.Errorf("%s: path %+v", tt.name, h.Path)
		}
		if after, _ := table.First(id); after != before {
			t.Errorf("%s changed the state", tt.name)
		}
	}
}

func TestMatchInnerOfPings(t *testing.T) {
	table := newTable(t, nil)
	in, out := tuple(58, "[fd00::5]:7", "[2001:db8::7]:7"), tuple(58, "[2001:db8:1::1]:900", "[2001:db8::7]:900")
	v := view(in, 8)
	v.ICMPType = echo6
	mustInsert(t, table, start, &Spec{In: in, Out: out, IfIn: lan, IfOut: wan, View: v})
	quote := view(out, 8)
	quote.ICMPType = echo6
	var h Hit
	if table.MatchInner(start, quote, &h); h.Verdict != Pass || h.Dir != Reverse || h.To != in {
		t.Errorf("a quoted question: %+v", h)
	}
	quote.ICMPType = echoReply6
	if table.MatchInner(start, quote, &h); h.Verdict != Miss {
		t.Errorf("an answer that the asker never sent: %+v", h)
	}
}

func TestMatchInnerWantsPlausibleNumbers(t *testing.T) {
	c := newTalk(t, false)
	c.run(append(hello[:3:3],
		segment{'c', "PA", 1, 1, 1000, 502, none, OK, ""},
		segment{'s', "A", 1, 1001, 0, 501, none, OK, ""}))
	client0, server0 := issClient, issServer          // variables, which may wrap
	client, server := c.spec.Out, c.spec.In.Reverse() // as they leave the node
	tests := []struct {
		name   string
		quoted packet.Tuple
		seq    uint32
		want   Reason
	}{
		{"the data", client, client0 + 1, OK},
		{"the SYN", client, client0, OK},
		{"more than a window ahead", client, client0 + 1 + 65160 + 1, BadQuote},
		{"more than a window back", client, client0 + 1001 - 65280 - 1, BadQuote},
		{"the other half", client, client0 + 1<<31, BadQuote},
		{"the server's", server, server0 + 1, OK},
		{"not the server's", server, server0 - 1<<20, BadQuote},
	}
	for _, tt := range tests {
		v := view(tt.quoted, 0)
		v.Seq = tt.seq
		var h Hit
		table := c.table
		before := table.Stats().Reasons[BadQuote]
		table.MatchInner(c.now, v, &h)
		if h.Reason != tt.want || (h.Verdict == Pass) != (tt.want == OK) {
			t.Errorf("%s: %v %v", tt.name, h.Verdict, h.Reason)
		}
		if n := table.Stats().Reasons[BadQuote] - before; (n == 1) != (tt.want == BadQuote) {
			t.Errorf("%s: counted %d", tt.name, n)
		}
	}
}

func TestMatchInnerBeforeTheServerHasSpoken(t *testing.T) {
	c := newTalk(t, false)
	c.run(hello[:1])
	v := view(c.spec.Out, 0)
	v.Seq = issClient
	var h Hit
	if c.table.MatchInner(c.now, v, &h); h.Verdict != Pass {
		t.Errorf("unreachable for a SYN: %+v", h)
	}
	v = view(c.spec.In.Reverse(), 0)
	if c.table.MatchInner(c.now, v, &h); h.Reason != BadQuote {
		t.Errorf("a quote of a server that never spoke: %+v", h)
	}
}

func TestMatchInnerOfStatesThatDoNotPass(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	id := mustInsert(t, table, start, s)
	var h Hit
	if table.MatchInner(start+int64(Normal().UDPFirst)+second, view(s.Out, 0), &h); h.Verdict != Miss {
		t.Errorf("over: %+v", h)
	}
	table.SetRule(id, 2, 0, 0, false)
	if table.MatchInner(start, view(s.Out, 0), &h); h.Verdict != Drop || h.Reason != NotAllowed {
		t.Errorf("refused: %+v", h)
	}
}
