package vnet

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync"
)

// Rand returns the random stream of that name. Streams of different names are
// independent of each other, so that a new draw in one place shifts no other;
// asking twice for a name gives the same stream, which goes on where it was.
// The function may be called from any goroutine, and so may Rand.
func (w *World) Rand(stream string) func() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if draw, ok := w.streams[stream]; ok {
		return draw
	}
	draw := newStream(w.cfg.Seed, stream)
	w.streams[stream] = draw
	return draw
}

func newStream(seed uint64, name string) func() uint64 {
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, seed), name...))
	source := rand.NewPCG(binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:]))
	var mu sync.Mutex
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return source.Uint64()
	}
}

// happens draws whether something of the given probability takes place.
func happens(draw func() uint64, probability float64) bool {
	return float64(draw()>>11)/(1<<53) < probability
}

// upTo draws a number from 0 to n, both included.
func upTo(draw func() uint64, n int64) int64 {
	if n <= 0 {
		return 0
	}
	return int64(draw() % uint64(n+1))
}

// stackRandom is a stream in the two shapes that gVisor asks for: a source for
// math/rand and a reader of random bytes.
type stackRandom func() uint64

func (r stackRandom) Uint64() uint64 { return r() }
func (r stackRandom) Int63() int64   { return int64(r() >> 1) }

// Seed does nothing: the world's seed has settled the stream.
func (stackRandom) Seed(int64) {}

func (r stackRandom) Read(b []byte) (int, error) {
	var word [8]byte
	for n := 0; n < len(b); n += len(word) {
		binary.BigEndian.PutUint64(word[:], r())
		copy(b[n:], word[:])
	}
	return len(b), nil
}
