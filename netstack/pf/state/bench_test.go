package state

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"tandem/netstack/packet"
)

var benchStates = flag.Int("states", 1_000_000, "states in the table of the benchmarks")

// benchSpec is UDP flow i, translated as outbound NAT does it.
func benchSpec(i int, v6 bool, s *Spec, v *packet.View) {
	*v = packet.View{L3: 14, L4: 34, Payload: 42, End: 142}
	v.Tuple = packet.Tuple{SrcPort: uint16(i), DstPort: 53, Proto: packet.ProtoUDP, Family: 4}
	if v6 {
		v.Family = 6
		v.Src, v.Dst = packet.Addr{0x20, 1, 0xd, 0xb8, 15: 1}, packet.Addr{0x20, 1, 0xd, 0xb8, 1, 15: 2}
		binary.BigEndian.PutUint32(v.Src[8:], uint32(i))
	} else {
		v.Src, v.Dst = mapped(0), mapped(uint32(i>>24)+0x01010101)
		binary.BigEndian.PutUint32(v.Src[12:], 10<<24|uint32(i>>3))
	}
	*s = Spec{In: v.Tuple, Out: v.Tuple, IfIn: 1, IfOut: 2, View: v}
	if !v6 {
		binary.BigEndian.PutUint32(s.Out.Src[12:], 192<<24|uint32(i>>15))
		s.Out.SrcPort = uint16(i & 0x7fff)
	}
}

func benchTable(b *testing.B, n int, v6 bool) *Table {
	b.Helper()
	t, err := New(Config{Max: n + n/2, AdaptiveStart: -1, Key: [2]uint64{1, 2}})
	if err != nil {
		b.Fatal(err)
	}
	var s Spec
	var v packet.View
	for i := range n {
		benchSpec(i, v6, &s, &v)
		if _, r := t.Insert(1, &s); r != OK {
			b.Fatal(i, r)
		}
	}
	return t
}

// benchLoad is packets of random flows, both directions. Tuples lie close
// together, so that little of what is measured is the benchmark's own misses.
type benchLoad struct {
	tuples []packet.Tuple
	views  [16]packet.View
	vs     [16]*packet.View
	ifaces [16]uint16
	hits   [16]Hit
	next   int
}

func newBenchLoad(first, states int, v6 bool) *benchLoad {
	r := rand.New(rand.NewPCG(3, 4))
	l := &benchLoad{tuples: make([]packet.Tuple, 1<<18)}
	var s Spec
	for i := range l.tuples {
		benchSpec(first+r.IntN(states), v6, &s, &l.views[0])
		if l.tuples[i] = s.In; i%2 == 1 {
			l.tuples[i] = s.Out.Reverse()
		}
	}
	for i := range l.vs {
		benchSpec(0, v6, &s, &l.views[i])
		l.vs[i], l.ifaces[i] = &l.views[i], uint16(1+i%2)
	}
	return l
}

// fill takes the next 16 packets.
func (l *benchLoad) fill() {
	l.next = (l.next + 16) % len(l.tuples)
	for i, t := range l.tuples[l.next : l.next+16] {
		l.views[i].Tuple = t
	}
}

func BenchmarkMatch(b *testing.B) {
	n := *benchStates
	for _, v6 := range []bool{false, true} {
		t := benchTable(b, n, v6)
		family := map[bool]string{false: "IPv4", true: "IPv6"}[v6]
		for name, first := range map[string]int{"hit": 0, "miss": 2 * n} {
			l := newBenchLoad(first, n, v6)
			want := map[string]Verdict{"hit": Pass, "miss": Miss}[name]
			b.Run(family+"/"+name+"/single", func(b *testing.B) {
				for i := 0; i < b.N; i += 16 {
					l.fill()
					for j, v := range l.vs {
						t.Match(1, l.ifaces[j], false, v, &l.hits[j])
					}
					if l.hits[15].Verdict != want {
						b.Fatal(l.hits[15])
					}
				}
			})
			b.Run(family+"/"+name+"/batch16", func(b *testing.B) {
				for i := 0; i < b.N; i += 16 {
					l.fill()
					t.MatchBatch(1, l.ifaces[:], l.vs[:], l.hits[:])
					if l.hits[15].Verdict != want {
						b.Fatal(l.hits[15])
					}
				}
			})
		}
	}
}

// BenchmarkInsert makes states up to the number asked for, and tells what
// memory they take.
func BenchmarkInsert(b *testing.B) {
	n := *benchStates
	for range b.N {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		t := benchTable(b, n, false)
		took := time.Since(start)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(took.Nanoseconds())/float64(n), "ns/insert")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/state")
		start = time.Now()
		runtime.GC()
		b.ReportMetric(float64(time.Since(start).Microseconds()), "GC-us")
		runtime.KeepAlive(t)
	}
}

// BenchmarkReplace ends one state and makes another, in a full table.
func BenchmarkReplace(b *testing.B) {
	n := *benchStates
	t := benchTable(b, n, false)
	ids := make([]ID, 0, n)
	t.List(func(f *Flow) bool { ids = append(ids, f.ID); return true })
	r := rand.New(rand.NewPCG(5, 6))
	r.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	var s Spec
	var v packet.View
	i := 0
	for b.Loop() {
		if !t.remove(ids[i%n]) {
			b.Fatal("a state was not there")
		}
		benchSpec(n+i, false, &s, &v)
		id, reason := t.Insert(1, &s)
		if reason != OK {
			b.Fatal(reason)
		}
		ids[i%n] = id
		i++
	}
}

func BenchmarkSweep(b *testing.B) {
	t := benchTable(b, *benchStates, false)
	b.ResetTimer()
	for i := 0; i < b.N; i += 1024 {
		t.Sweep(1, 1024)
	}
}

func BenchmarkHash(b *testing.B) {
	s := newSecret([2]uint64{1, 2})
	k := key{addr: [4]uint64{1, 2, 3, 4}, ports: 5, meta: 6}
	for _, k.v6 = range []bool{false, true} {
		b.Run(fmt.Sprint("v6=", k.v6), func(b *testing.B) {
			for b.Loop() {
				k.addr[0] += s.hash(&k)
			}
		})
	}
}
