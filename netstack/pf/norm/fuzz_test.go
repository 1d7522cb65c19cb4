package norm

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"tandem/netstack/packet"
)

// model is a reassembler without bounds that keeps a byte and a flag for each
// place of a datagram.
type model struct {
	data   [2048]byte
	have   [2048]bool
	starts map[int]string // exact fragments, for duplicates
	total  int
	high   int
	dead   bool
}

// add says whether the datagram is whole now.
func (m *model) add(off int, more bool, data []byte) bool {
	id := string(data)
	if more {
		id += "+"
	}
	if m.dead || m.starts[off] == id {
		return false
	}
	end := off + len(data)
	for i := off; i < end; i++ {
		m.dead = m.dead || m.have[i]
	}
	m.dead = m.dead || m.total >= 0 && end > m.total || !more && m.high > end
	if m.dead {
		return false
	}
	m.starts[off] = id
	for i, b := range data {
		m.data[off+i], m.have[off+i] = b, true
	}
	m.high = max(m.high, end)
	if !more {
		m.total = end
	}
	for i := range max(m.total, 0) {
		if !m.have[i] {
			return false
		}
	}
	return m.total >= 0
}

func newModel() *model { return &model{total: -1, starts: map[int]string{}} }

// FuzzReassembler reads an op from each three bytes: which datagram, where, how
// much. Content repeats itself now and then, so that exact duplicates happen.
func FuzzReassembler(f *testing.F) {
	f.Add([]byte{0, 0, 2, 0, 2, 0x81, 1, 1, 1, 1, 0, 1, 1, 2, 0x83})
	f.Add([]byte{0x40, 0, 1, 0x40, 1, 0x81, 4, 0, 3, 4, 1, 1})
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		b := make([]byte, 3*(1+rnd.IntN(60)))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		for i := 0; i < len(b); i += 3 { // Few datagrams, near one another.
			b[i] &= 0x41
			b[i+1] &= 0x07
			b[i+2] &= 0x83
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		r := New(Config{})
		small := New(Config{MaxFragments: 4, MaxBytes: 9000, MaxPerSource: 2})
		models := map[byte]*model{}
		for now := int64(1); len(ops) >= 3; ops = ops[3:] {
			now++
			which, off, size, more := ops[0]&0x4f, int(ops[1]&0x3f)*8, int(ops[2]&0x1f)*8, ops[2]&0x80 == 0
			if !more {
				size -= int(ops[2] >> 5 & 3)
			}
			if size <= 0 || !more && off == 0 {
				continue
			}
			family := uint8(4)
			if which&0x40 != 0 {
				family = 6
			}
			data := numbered(off + size)[off:]
			if ops[1]&0x80 != 0 {
				data[0] ^= 0xff
			}
			v := decode(t, fragment(family, 1, uint32(which), off, more, data))
			m := models[which]
			if m == nil {
				m = newModel()
				models[which] = m
			}
			whole := m.add(off, more, data)
			got, why := r.Add(now, 1, v)
			if (why != OK) != m.dead || (got != nil) != whole {
				t.Fatalf("at %d: %v, whole %v; the model says dead %v, whole %v", off, why, got != nil, m.dead, whole)
			}
			if whole {
				checkWhole(t, got, m)
				delete(models, which)
			}
			small.Add(now, 1, v)
			if s := small.Stats(); s.Fragments > 4 || s.Bytes > 9000 || s.Datagrams > 4 || s.Fragments < 0 || s.Bytes < 0 {
				t.Fatalf("beyond the limits: %+v", s)
			}
		}
		for _, x := range []*Reassembler{r, small} {
			x.Sweep(1 << 62)
			if s := x.Stats(); s.Datagrams != 0 || s.Fragments != 0 || s.Bytes != 0 || len(x.index) != 0 || len(x.sources) != 0 || x.age != (chain{}) {
				t.Fatalf("something stays: %+v", s)
			}
		}
	})
}

func checkWhole(t *testing.T, got []byte, m *model) {
	t.Helper()
	v := decode(t, got)
	if v.Fragment || !bytes.Equal(got[v.L4:v.End], m.data[:m.total]) || v.End != len(got) {
		t.Fatalf("got %x, want %x", got[v.L4:v.End], m.data[:m.total])
	}
}

// FuzzAdd gives the reassembler whatever the decoder calls a fragment.
func FuzzAdd(f *testing.F) {
	for _, family := range families {
		a, b := fragment(family, 1, 5, 0, true, numbered(16)), fragment(family, 1, 5, 16, false, numbered(9))
		f.Add(a, b)
		f.Add(b, a)
		f.Add(a, fragment(family, 1, 5, 8, false, numbered(9)))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r := New(Config{})
		for _, frame := range [][]byte{a, b} {
			var v, w packet.View
			if packet.Decode(frame, &v) != packet.OK || !v.Fragment {
				continue
			}
			Check(&v)
			got, why := r.Add(1, 1, &v)
			if got != nil && why != OK {
				t.Fatalf("both a frame and %v", why)
			}
			// A datagram may turn out to be malformed, but no fragment any more.
			if got != nil && packet.Decode(got, &w) == packet.OK && (w.Fragment || w.Src != v.Src || w.Dst != v.Dst) {
				t.Fatalf("%x became %x", frame, got)
			}
		}
	})
}
