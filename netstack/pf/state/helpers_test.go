package state

import (
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/packet"
)

const (
	second = int64(time.Second)
	start  = 1000 * second // the clock of the tests begins here
	lan    = 1
	wan    = 2
)

func newTable(t testing.TB, change func(*Config)) *Table {
	t.Helper()
	c := Config{Max: 1000, AdaptiveStart: -1, Key: [2]uint64{7, 9}, Creator: 42, BootSeconds: 5}
	if change != nil {
		change(&c)
	}
	table, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// tuple makes a tuple of "address:port" forms, or of bare addresses.
func tuple(proto uint8, src, dst string) packet.Tuple {
	s, d := endpoint(src), endpoint(dst)
	t := packet.Tuple{Src: packet.AddrFrom(s.Addr()), Dst: packet.AddrFrom(d.Addr()),
		SrcPort: s.Port(), DstPort: d.Port(), Proto: proto, Family: 4}
	if s.Addr().Is6() {
		t.Family = 6
	}
	return t
}

func endpoint(s string) netip.AddrPort {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 0)
	}
	return netip.MustParseAddrPort(s)
}

// view is a packet of a flow with n octets of data; lengths are those of a
// header without options.
func view(t packet.Tuple, n int) *packet.View {
	v := &packet.View{Tuple: t, EtherType: packet.EtherTypeIPv4, L3: 14, L4: 34, DataLen: n}
	if t.Family == 6 {
		v.EtherType, v.L4 = packet.EtherTypeIPv6, 54
	}
	v.Payload = v.L4 + 8
	if t.Proto == packet.ProtoTCP {
		v.Payload = v.L4 + 20
	}
	v.End = v.Payload + n
	return v
}

// natted is an outbound flow from LAN, translated to an address on WAN.
func natted(proto uint8) *Spec {
	s := &Spec{
		In:   tuple(proto, "10.0.0.5:4000", "198.51.100.7:80"),
		Out:  tuple(proto, "203.0.113.1:61000", "198.51.100.7:80"),
		IfIn: lan, IfOut: wan, Rule: 3, RuleID: 77, Gen: 1,
	}
	s.View = view(s.In, 10)
	if proto == packet.ProtoTCP {
		s.View.TCPFlags = packet.SYN
	}
	return s
}

func mustInsert(t testing.TB, table *Table, now int64, s *Spec) ID {
	t.Helper()
	id, r := table.Insert(now, s)
	if r != OK {
		t.Fatalf("Insert: %v", r)
	}
	return id
}

func match(table *Table, now int64, iface uint16, v *packet.View) Hit {
	var h Hit
	table.Match(now, iface, iface == 0, v, &h)
	return h
}

// check verifies the table's invariants against what List tells.
func check(t testing.TB, table *Table) {
	t.Helper()
	slots := 0
	for i := range table.shards {
		sh := &table.shards[i]
		n := 0
		for _, w := range *sh.slots.Load() {
			if w == 0 {
				continue
			}
			n++
			if b := table.body(uint32(w)); b.epoch&1 == 0 {
				t.Fatalf("slot of dead place %d", uint32(w))
			}
		}
		if n != sh.used {
			t.Fatalf("shard %d: %d slots, counts %d", i, n, sh.used)
		}
		slots += n
	}
	states := 0
	table.List(func(f *Flow) bool {
		states++
		for d := range Dir(2) {
			k := table.key(f.ID.Place(), d)
			var found found
			if !table.acquire(&k, table.secret.hash(&k), &found) {
				t.Fatalf("%v: key %d not found", f.ID, d)
			}
			if found.lock.mu.Unlock(); found.id() != f.ID || found.dir != d {
				t.Fatalf("%v: key %d leads to %v, %v", f.ID, d, found.id(), found.dir)
			}
		}
		return true
	})
	if s := table.Stats(); s.States != states || slots != 2*states || s.Inserts-s.Removals != uint64(states) {
		t.Fatalf("listed %d, %d slots, stats %+v", states, slots, s)
	}
}
