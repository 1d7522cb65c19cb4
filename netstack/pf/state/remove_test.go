package state

import (
	"testing"

	"tandem/netstack/packet"
)

func TestRemoveEndsAStateOnce(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	id := mustInsert(t, table, start, s)
	if n := table.Places(); n != 1 {
		t.Errorf("%d places, want 1", n)
	}
	if !table.Remove(id) || table.Remove(id) {
		t.Error("a state ends once")
	}
	if h := match(table, start, lan, view(s.In, 0)); h.Verdict != Miss {
		t.Errorf("a state that was removed matches: %+v", h)
	}
	if n := table.Places(); n != 1 {
		t.Errorf("%d places, want 1: places are used again, not given back", n)
	}
	check(t, table)
}
