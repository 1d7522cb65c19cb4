package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
)

func TestTheRingKeepsTheNewest(t *testing.T) {
	e := newEvents(false)
	for i := range eventsMax + 5 {
		e.add(status.Event{Message: fmt.Sprint(i)})
	}
	all := e.events.all()
	if len(all) != eventsMax || all[0].Message != "5" || all[len(all)-1].Message != fmt.Sprint(eventsMax+4) {
		t.Errorf("%d lines, from %s to %s", len(all), all[0].Message, all[len(all)-1].Message)
	}
}

func TestTheLogIsListedSinceAMoment(t *testing.T) {
	s := boot(t, single)
	all := s.node.Events(time.Time{})
	if len(all) < 3 || all[0].Message != "fw starts: 2 interfaces, 0 virtual addresses, 3 rules" && !strings.HasPrefix(all[0].Message, "fw starts: 2 interfaces") {
		t.Errorf("log: %v", all)
	}
	if late := s.node.Events(s.Now()); len(late) != 0 {
		t.Errorf("from now on: %v", late)
	}
}

func TestWhoFollowsTheLogHoldsUpNobody(t *testing.T) {
	s := boot(t, single+shared)
	events, packets, stop, err := s.node.Watch(false)
	if err != nil || events == nil || packets != nil {
		t.Fatal(err)
	}
	s.node.SetEnabled(false)
	s.node.SetEnabled(true)
	for range 2 * watchQueue { // more than the reader's queue holds
		s.node.event(s.Now(), "info", "test", "line", nil)
	}
	if e := <-events; !strings.Contains(e.Message, "CARP disabled") {
		t.Errorf("the first line is %q", e.Message)
	}
	stop()
	for len(events) > 0 {
		<-events
	}
	s.node.event(s.Now(), "info", "test", "line", nil)
	if len(events) != 0 {
		t.Error("it is fed after its end")
	}
	for range watchersMax {
		if _, _, _, err := s.node.Watch(true); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := s.node.Watch(true); err == nil {
		t.Error("there is no limit")
	}
}

// blocked is a record of the filter.
func blocked(mono int64, why pf.Reason, port uint16) *pf.Record {
	return &pf.Record{Mono: mono, Iface: 1, Verdict: pf.Drop, Reason: why, TCPFlags: packet.SYN, Len: 60,
		Tuple: packet.Tuple{Src: packet.AddrFrom(serverAddr), Dst: packet.AddrFrom(clientAddr), SrcPort: port, DstPort: 22, Proto: packet.ProtoTCP, Family: 4}}
}

func TestTheFirewallLogIsBoundedPerReasonAndSecond(t *testing.T) {
	s := boot(t, single)
	_, packets, stop, err := s.node.Watch(true)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	mono := s.node.router.Mono(s.Now())
	for i := range 30 {
		s.node.logPacket(blocked(mono, pf.ByDefault, uint16(i)))
	}
	for range 12 {
		s.node.logPacket(blocked(mono, pf.ByRule, 7))
	}
	rows := s.node.Packets(time.Time{})
	if len(rows) != 20 {
		t.Fatalf("%d lines, want ten for each of two reasons", len(rows))
	}
	first := status.Packet{ID: "1", Time: s.Now(), Interface: "wan", Direction: "in", Verdict: "block", Reason: "default-block", Rule: "default",
		Protocol: "tcp", Source: "198.51.100.1:0", Destination: "192.168.1.50:22", TCPFlags: "S", Length: 60}
	if !rows[0].Time.Equal(first.Time) {
		t.Errorf("logged at %v, want %v", rows[0].Time, first.Time)
	}
	rows[0].Time = first.Time
	if rows[0] != first {
		t.Errorf("the first line is %+v, want %+v", rows[0], first)
	}

	s.run(2 * time.Second) // no packet comes, and the sums do
	rows = s.node.Packets(time.Time{})
	if len(rows) != 22 {
		t.Fatalf("%d lines, want two sums more", len(rows))
	}
	if a, b := rows[20], rows[21]; a.Verdict != "summary" || a.Reason != "block-rule" || a.Length != 2 || b.Reason != "default-block" || b.Length != 20 {
		t.Errorf("the sums are %+v and %+v", a, b)
	}
	if len(packets) != 22 {
		t.Errorf("%d lines were shown to who follows", len(packets))
	}
	s.node.logPacket(blocked(s.node.router.Mono(s.Now()), pf.ByDefault, 1))
	if rows = s.node.Packets(time.Time{}); len(rows) != 23 || rows[22].Verdict != "block" {
		t.Errorf("in the next second: %+v", rows[len(rows)-1])
	}
}

func TestBlockedPacketsAreLogged(t *testing.T) {
	s := boot(t, single)
	s.connect()
	rows := s.node.Packets(time.Time{})
	at := slices.IndexFunc(rows, func(p status.Packet) bool { return p.Interface == "lan" && p.Protocol == "tcp" })
	if at < 0 || rows[at].Reason != "default-block" || rows[at].TCPFlags != "S" || rows[at].Destination != "198.51.100.1:80" {
		t.Errorf("firewall log: %+v", rows)
	}
}

func TestASinkGetsThePastAndThePresent(t *testing.T) {
	s := boot(t, single)
	var got []string
	s.node.SetSink(func(e status.Event) { got = append(got, e.Message) })
	s.node.event(s.Now(), "info", "test", "the last", nil)
	all := s.node.Events(time.Time{})
	if len(got) != len(all) || got[len(got)-1] != "the last" {
		t.Errorf("it got %d of %d lines", len(got), len(all))
	}
	s.node.SetSink(func(status.Event) {})
	s.node.Note("config", "reloaded", "root")
	if len(got) != len(all) {
		t.Error("a sink that was replaced gets lines")
	}
	if l := s.node.Events(time.Time{}); l[len(l)-1].Fields["by"] != "root" {
		t.Errorf("the note is %+v", l[len(l)-1])
	}
}

func TestASinkThatBlocksLosesLinesAndIsTold(t *testing.T) {
	e := newEvents(true)
	gate, got := make(chan struct{}), make(chan string, 4*sinkQueue)
	e.sink = newSink(func(ev status.Event) { <-gate; got <- ev.Message }, []status.Event{{Message: "past"}}, true)
	for i := range sinkQueue + 100 {
		e.add(status.Event{Message: fmt.Sprint(i)}) // does not block
	}
	close(gate)
	if first := <-got; first != "past" {
		t.Errorf("the first line is %q", first)
	}
	for i := range sinkQueue {
		if line := <-got; line != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
	e.add(status.Event{Message: "after"})
	e.close()
	if a, b := <-got, <-got; !strings.Contains(a, "100 lines of the log were lost") || b != "after" {
		t.Errorf("then came %q and %q", a, b)
	}
	e.add(status.Event{Message: "too late"})
	if len(got) != 0 {
		t.Error("a closed sink gets lines")
	}
}
