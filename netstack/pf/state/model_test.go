package state

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"tandem/netstack/packet"
)

// modelState is what the simplest table would remember.
type modelState struct {
	id      ID
	in, out packet.Tuple
	seen    int64
}

// model is that table: a map from both keys, with the interface where each
// comes in.
type model map[packet.Tuple]*modelState

const modelLife = 60 * second // udp first, single and multiple are set to this

// live is the state of a key if its time is not over at now. The table is
// coarser by two ticks, which the test keeps clear of.
func (m model) live(now int64, k packet.Tuple) *modelState {
	if s := m[k]; s != nil && now-s.seen <= modelLife {
		return s
	}
	return nil
}

func (m model) end(s *modelState) {
	delete(m, s.in)
	delete(m, s.out.Reverse())
}

// pick makes tuples from so few addresses and ports that keys meet often.
func pick(r *rand.Rand) packet.Tuple {
	if r.IntN(4) == 0 {
		return tuple(17, fmt.Sprintf("[2001:db8::%d]:%d", r.IntN(4), r.IntN(9)), fmt.Sprintf("[2001:db8::%d]:%d", r.IntN(4), r.IntN(9)))
	}
	return tuple(17, fmt.Sprintf("10.0.0.%d:%d", r.IntN(6), r.IntN(9)), fmt.Sprintf("10.0.0.%d:%d", r.IntN(6), r.IntN(9)))
}

func TestTableAgreesWithAModel(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 2))
		table := newTable(t, func(c *Config) {
			c.Max, c.Key, c.Timeouts = 400, [2]uint64{seed, seed}, Normal()
			for _, name := range []string{"udp_first", "udp_single", "udp_multiple"} {
				*c.Timeouts.Field(name) = 60_000_000_000
			}
		})
		m, now := model{}, start
		for step := range 10000 {
			if step%100 == 0 {
				now += 3 * second // so no age comes near the ticks' edge: 60 is met exactly or missed by 3
			}
			modelStep(t, r, table, m, now)
			if t.Failed() {
				t.Fatalf("seed %d step %d", seed, step)
			}
			if step%1000 == 0 {
				check(t, table)
			}
		}
	}
}

func modelStep(t *testing.T, r *rand.Rand, table *Table, m model, now int64) {
	in := pick(r)
	switch what := r.IntN(20); {
	case what < 5:
		out := pick(r)
		if r.IntN(2) == 0 {
			out = in
		}
		want := OK
		switch back := out.Reverse(); {
		case in.Family != out.Family || in == back:
			want = BadKey
		case m.live(now, in) != nil || m.live(now, back) != nil:
			want = Collision
		}
		for _, k := range []packet.Tuple{in, out.Reverse()} {
			if s := m[k]; want == OK && s != nil {
				m.end(s)
			}
		}
		id, got := table.Insert(now, &Spec{In: in, Out: out, IfIn: lan, IfOut: wan, View: view(in, 0)})
		if got == Full && table.Stats().States == 400 {
			return
		}
		if got != want {
			t.Errorf("Insert %v %v: %v, want %v", in, out, got, want)
		}
		if want == OK {
			s := &modelState{id, in, out, now}
			m[in], m[out.Reverse()] = s, s
		}
	case what < 17:
		iface := uint16(1 + r.IntN(2))
		h := match(table, now, iface, view(in, 0))
		s := m.live(now, in)
		switch {
		case s == nil && h.Verdict != Miss, s != nil && h.ID != s.id:
			t.Errorf("Match %v: %+v, want %+v", in, h, s)
		case s == nil:
		case s.in == in && (iface == lan) != (h.Verdict == Pass && h.To == s.out),
			s.in != in && (iface == wan) != (h.Verdict == Pass && h.To == s.in.Reverse()):
			t.Errorf("Match %v at %d: %+v, want %+v", in, iface, h, s)
		case h.Verdict == Pass:
			s.seen = now
		}
	case what == 17:
		if got, want := table.InUse(now, &in), m.live(now, in.Reverse()) != nil; got != want {
			t.Errorf("InUse %v: %v", in, got)
		}
	case what == 18:
		if s := m[in]; s != nil {
			if _, ok := table.First(s.id); ok != table.remove(s.id) {
				t.Error("First and remove differ")
			}
			m.end(s)
		}
	default:
		table.Sweep(now, r.IntN(50))
	}
}

func TestShardsAgreeWithAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var sh shard
	s := make([]uint64, slotsMin)
	sh.slots.Store(&s)
	want := map[uint32]uint64{}
	var places []uint32
	for step := range 12000 {
		grow := step/2000%2 == 0
		if p := r.Uint32()>>1 | 1; want[p] == 0 && (grow || len(places) < 5 || r.IntN(3) == 0) {
			h := uint64(r.Uint32())
			if r.IntN(4) == 0 {
				h |= 0xffff_0000 // crowd the end, so that searches wrap
			}
			sh.put(h, p)
			want[p] = h<<32 | uint64(p)
			places = append(places, p)
		} else {
			i := r.IntN(len(places))
			p = places[i]
			sh.drop(want[p]>>32, p)
			delete(want, p)
			places[i] = places[len(places)-1]
			places = places[:len(places)-1]
		}
		if step%1000 == 0 {
			checkShard(t, &sh, want)
		}
	}
}

// checkShard says whether every slot is found from its home without a gap.
func checkShard(t *testing.T, sh *shard, want map[uint32]uint64) {
	t.Helper()
	s := *sh.slots.Load()
	n := 0
	for i, w := range s {
		if w == 0 {
			continue
		}
		n++
		if want[uint32(w)] != w {
			t.Fatalf("slot %x is not expected", w)
		}
		for j := home(uint32(w>>32), len(s)); j != i; j = next(j, len(s)) {
			if s[j] == 0 {
				t.Fatalf("slot %x at %d cannot be found: %d is empty", w, i, j)
			}
		}
	}
	if n != len(want) || n != sh.used || 3*n > 2*len(s) {
		t.Fatalf("%d slots of %d, %d expected, %d counted", n, len(s), len(want), sh.used)
	}
}

// TestParallel is for the race detector, and for the invariants at its end.
func TestParallel(t *testing.T) {
	table := newTable(t, func(c *Config) { c.Max = 600 })
	var clock atomic.Int64
	clock.Store(start)
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			var hits [8]Hit
			vs, ifaces := make([]*packet.View, 8), make([]uint16, 8)
			for range 1000 {
				for i := range vs {
					vs[i], ifaces[i] = view(pick(r), 1), lan
				}
				now := clock.Add(second / 100)
				table.MatchBatch(now, ifaces, vs, hits[:])
				var h Hit
				table.Match(now, lan, false, vs[0], &h)
				table.MatchInner(now, vs[1], &h)
				table.InUse(now, &vs[2].Tuple)
				table.SetPath(hits[0].ID, Dir(r.IntN(2)), Path{Gen: 1})
				table.SetRule(hits[1].ID, 1, 1, 1, r.IntN(4) > 0)
				if id, reason := table.Insert(now, &Spec{In: vs[0].Tuple, Out: vs[0].Tuple, IfIn: lan, IfOut: wan, View: vs[0]}); reason == OK {
					if f, ok := table.First(id); ok && f.In != vs[0].Tuple {
						t.Errorf("First(%x) = %+v, want %v", id, f, vs[0].Tuple)
					}
					if r.IntN(2) == 0 {
						table.remove(id)
					}
				}
			}
		})
	}
	workers.Go(func() {
		for range 100 {
			table.Sweep(clock.Load(), 100)
			table.List(func(f *Flow) bool { return f.In.Family != 0 })
			table.Kill(func(f *Flow) bool { return f.In.SrcPort == 3 })
			table.Stats()
			if err := table.SetConfig(Config{Max: 600, AdaptiveStart: -1}); err != nil {
				t.Error(err)
			}
		}
	})
	workers.Wait()
	check(t, table)
}

// TestMatchNeverMissesAStateThatStays looks for one state while others, in the
// same few shards, come and go.
func TestMatchNeverMissesAStateThatStays(t *testing.T) {
	table := newTable(t, func(c *Config) { c.Max = 10_000 })
	s := natted(packet.ProtoUDP)
	mustInsert(t, table, start, s)
	var done atomic.Bool
	var workers sync.WaitGroup
	workers.Go(func() {
		defer done.Store(true)
		r := rand.New(rand.NewPCG(4, 5))
		var ids []ID
		for range 40_000 {
			o := natted(packet.ProtoUDP)
			o.In.SrcPort, o.Out.SrcPort = uint16(r.Uint32()), uint16(r.Uint32())
			if id, reason := table.Insert(start, o); reason == OK {
				ids = append(ids, id)
			}
			if len(ids) > 2000 {
				i := r.IntN(len(ids))
				table.remove(ids[i])
				ids[i] = ids[len(ids)-1]
				ids = ids[:len(ids)-1]
			}
		}
	})
	workers.Go(func() {
		var h Hit
		for v := view(s.In, 1); !done.Load(); {
			if table.Match(start, lan, false, v, &h); h.Verdict != Pass {
				t.Errorf("missed: %+v", h)
				return
			}
		}
	})
	workers.Wait()
	check(t, table)
}

func TestSearchThatSawSlotsMoveIsRepeated(t *testing.T) {
	table := newTable(t, nil)
	s := natted(packet.ProtoUDP)
	id := mustInsert(t, table, start, s)
	for i := range table.shards {
		table.shards[i].moves.Add(1) // as in the middle of a removal
	}
	other := view(s.In, 1)
	other.SrcPort++
	vs, hits := []*packet.View{view(s.In, 1), other}, make([]Hit, 2)
	table.MatchBatch(start, []uint16{lan, lan}, vs, hits)
	if hits[0].ID != id || hits[1].Verdict != Miss {
		t.Errorf("%+v", hits)
	}
	if h := match(table, start, lan, other); h.Verdict != Miss {
		t.Errorf("%+v", h)
	}
}

func TestTableGrowsPastItsFirstDirectory(t *testing.T) {
	const n = 20 * chunkLen
	table := newTable(t, func(c *Config) { c.Max = 2 * n })
	for i := range 2 * n {
		s := natted(packet.ProtoUDP)
		if i%2 == 1 {
			s.In = tuple(17, "[2001:db8::5]:1", "[2001:db8:1::7]:53")
			s.Out = s.In
		}
		s.In.SrcPort, s.Out.SrcPort = uint16(i/2), uint16(i/2)
		mustInsert(t, table, start, s)
	}
	check(t, table)
	if k := table.Kill(func(f *Flow) bool { return f.In.SrcPort >= 7 }); k != 2*(n-7) {
		t.Errorf("killed %d", k)
	}
	check(t, table)
}
