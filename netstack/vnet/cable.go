package vnet

import (
	"slices"
	"time"
)

const (
	// reorderDelay is by how much a frame that lost its place comes late,
	// beside the cable's own delay and jitter, at most.
	reorderDelay = time.Millisecond
	// wireOverhead is what a frame takes on a wire beside its bytes: preamble,
	// check sequence and gap (IEEE 802.3).
	wireOverhead = 24
	// cableQueueBytes is the queue ahead of a cable with a rate and no
	// QueueBytes.
	cableQueueBytes = 256 << 10
)

// Cable says how a cable treats frames. It does so in each of its two
// directions, of its own draws. The zero Cable is perfect and takes no time.
type Cable struct {
	Delay  time.Duration
	Jitter time.Duration // added to Delay, drawn from zero to this; keeps the order

	// The probabilities, from 0 to 1, that a frame is lost, arrives twice,
	// arrives after frames sent later, or arrives with one bit flipped.
	Loss, Duplicate, Reorder, Corrupt float64

	Rate       int64 // bits per second; zero for no limit
	QueueBytes int   // that wait for Rate, beyond which frames are lost; zero for 256 KiB

	MTU int // layer-3 bytes of the longest frame that passes; zero for no limit

	// One-way cuts, seen from the station: nothing it sends arrives, nothing
	// arrives at it. The link stays up.
	TxDown, RxDown bool
}

// lane is one direction of a cable.
type lane struct {
	w    *World
	name string
	down bool // the one-way cut of this direction

	busyUntil int64 // when the wire is free again
	lastAt    int64 // when the last frame sent in order arrives

	loss, jitter, duplicate, reorder, corrupt func() uint64 // drawn from when needed first
	out                                       [2]arrival
}

type arrival struct {
	at   int64
	data []byte
}

// carry says when, how often and in which shape a frame sent now comes out at
// the other end. The result is good until the next call.
func (l *lane) carry(now int64, c *Cable, data []byte, stats *JackStats) []arrival {
	if l.down || c.Loss > 0 && happens(l.stream(&l.loss, "loss"), c.Loss) {
		stats.Lost++
		return nil
	}
	if c.MTU > 0 && len(data) > c.MTU+frameSlack {
		stats.TooLong++
		return nil
	}
	at := now
	if c.Rate > 0 {
		limit := c.QueueBytes
		if limit == 0 {
			limit = cableQueueBytes
		}
		free := max(l.busyUntil, now)
		if waiting := (free - now) * c.Rate / 8 / int64(time.Second); waiting+int64(len(data)) > int64(limit) {
			stats.QueueFull++
			return nil
		}
		at = free + int64(len(data)+wireOverhead)*8*int64(time.Second)/c.Rate
		l.busyUntil = at
	}
	at += int64(c.Delay)
	if c.Jitter > 0 {
		at += upTo(l.stream(&l.jitter, "jitter"), int64(c.Jitter))
	}
	if c.Reorder > 0 && happens(l.stream(&l.reorder, "reorder"), c.Reorder) {
		stats.Reordered++
		at += 1 + upTo(l.reorder, int64(reorderDelay))
	} else {
		at = max(at, l.lastAt)
		l.lastAt = at
	}
	if c.Corrupt > 0 && happens(l.stream(&l.corrupt, "corrupt"), c.Corrupt) {
		stats.Corrupted++
		data = slices.Clone(data)
		bit := upTo(l.corrupt, int64(len(data)*8-1))
		data[bit/8] ^= 1 << (bit % 8)
	}
	l.out[0] = arrival{at, data}
	if c.Duplicate > 0 && happens(l.stream(&l.duplicate, "duplicate"), c.Duplicate) {
		stats.Duplicated++
		l.out[1] = arrival{at, data}
		return l.out[:2]
	}
	return l.out[:1]
}

func (l *lane) stream(draw *func() uint64, kind string) func() uint64 {
	if *draw == nil {
		*draw = l.w.Rand("cable/" + l.name + "/" + kind)
	}
	return *draw
}
