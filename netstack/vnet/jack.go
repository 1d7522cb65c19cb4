package vnet

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Direction says which way a frame goes, seen from the station at the jack.
type Direction uint8

// The directions of a frame.
const (
	Sent     Direction = iota // by the station, before the cable can harm it
	Received                  // by the station, after that
)

func (d Direction) String() string {
	if d == Sent {
		return "sent"
	}
	return "received"
}

// Tap is shown frames that pass a jack. The bytes are not to be kept nor
// changed. A capture of a whole switch takes what was sent.
type Tap func(now time.Time, port string, dir Direction, frame []byte)

// Station is what can be attached to a jack: a [Device] or a [Host].
type Station interface{ device() *Device }

// Jack is one port of a switch with the cable in it, and the station that is
// or is not attached to the cable's other end.
type Jack struct {
	w     *World
	sw    *Switch
	name  string
	order int
	cable Cable
	dev   *Device // nil: nothing attached

	pulled    bool
	up        bool
	epoch     uint32 // counts the times the link went down
	forwardAt int64  // when the switch begins to forward on a link that came up
	in, out   lane   // from and to the station
	taps      []Tap
	stats     JackStats
}

// JackStats counts frames of a jack, in both directions where it does not say.
type JackStats struct {
	Sent     uint64 // by the station
	Received uint64 // by the station

	// Lost on the way.
	NoLink    uint64 // the cable was out, or one end had no power
	Held      uint64 // the link had come up just before, see Switch.SetHold
	Lost      uint64 // by the cable's loss, or a one-way cut
	TooLong   uint64 // for the cable's MTU
	QueueFull uint64 // beyond what may wait for the cable's rate

	// Harmed on the way.
	Duplicated, Reordered, Corrupted uint64
}

// Name is the jack's name on its switch.
func (j *Jack) Name() string { return j.name }

// Attach puts the cable into s, which may be attached to one jack at a time.
// What was attached to this one is no longer.
func (j *Jack) Attach(s Station) {
	d := s.device()
	if old := j.dev; old != nil && old != d {
		j.Detach()
	}
	if d.jack != nil && d.jack != j {
		d.jack.Detach()
	}
	j.dev, d.jack = d, j
	j.relink()
}

// Detach takes the cable out of whatever station is attached.
func (j *Jack) Detach() {
	d := j.dev
	if d == nil {
		return
	}
	j.dev, d.jack = nil, nil
	j.relink()
	d.setUp(false)
}

// Pull takes the cable out of the jack: both ends lose their link, and what is
// on the cable is lost.
func (j *Jack) Pull() { j.pulled = true; j.relink() }

// Push puts the cable back.
func (j *Jack) Push() { j.pulled = false; j.relink() }

// Up says whether both ends have a link.
func (j *Jack) Up() bool { return j.up }

// Cable returns what the cable is like.
func (j *Jack) Cable() Cable { return j.cable }

// SetCable makes the cable another one, without the link going down. What is
// on its way arrives as it would have.
func (j *Jack) SetCable(c Cable) {
	j.cable = c
	j.in.down, j.out.down = c.TxDown, c.RxDown
}

// Tap has fn shown every frame from now on.
func (j *Jack) Tap(fn Tap) { j.taps = append(j.taps, fn) }

// Stats returns the counters so far.
func (j *Jack) Stats() JackStats { return j.stats }

// relink finds out whether there is a link, and tells both ends of a change.
func (j *Jack) relink() {
	up := !j.pulled && j.sw.power && j.dev != nil && j.dev.power
	if up == j.up {
		if j.dev != nil {
			j.dev.setUp(up)
		}
		return
	}
	j.up = up
	if up {
		j.forwardAt = j.w.instant() + int64(j.sw.hold)
	} else {
		j.epoch++
		j.in.lastAt, j.in.busyUntil, j.out.lastAt, j.out.busyUntil = 0, 0, 0, 0
		j.sw.forget(j)
	}
	if j.dev != nil {
		j.dev.setUp(up)
	}
}

// send takes a frame from the station, when the world has come to rest.
func (j *Jack) send(data []byte) {
	if !j.up {
		j.stats.NoLink++
		return
	}
	j.stats.Sent++
	j.w.record(j, data)
	j.show(Sent, data)
	now := j.w.instant()
	for _, a := range j.in.carry(now, &j.cable, data, &j.stats) {
		if a.at == now {
			j.sw.forward(j, a.data)
		} else {
			j.w.carry(j, a.at, a.data, true)
		}
	}
}

// emit takes a frame from the switch, for the station.
func (j *Jack) emit(data []byte) {
	now := j.w.instant()
	if !j.up {
		j.stats.NoLink++
		return
	}
	if now < j.forwardAt {
		j.stats.Held++
		return
	}
	for _, a := range j.out.carry(now, &j.cable, data, &j.stats) {
		j.w.carry(j, a.at, a.data, false)
	}
}

// deliver hands the station a frame that came out of the cable.
func (j *Jack) deliver(data []byte) {
	j.stats.Received++
	j.show(Received, data)
	j.dev.receive(data)
}

func (j *Jack) show(dir Direction, data []byte) {
	if len(j.taps) == 0 && len(j.sw.taps) == 0 {
		return
	}
	now := j.w.Now()
	for _, tap := range j.taps {
		tap(now, j.name, dir, data)
	}
	for _, tap := range j.sw.taps {
		tap(now, j.name, dir, data)
	}
}

// arrive lets a frame that was on a cable come out of it.
func (w *World) arrive(e *event) {
	j, epoch, data, toSwitch := e.jack, e.epoch, e.data, e.toSwitch
	*e = event{slot: slotNone}
	w.mu.Lock()
	w.free = append(w.free, e)
	w.mu.Unlock()
	switch {
	case epoch != j.epoch:
		j.stats.NoLink++ // The cable was pulled while the frame was in it.
	case toSwitch:
		j.sw.forward(j, data)
	default:
		j.deliver(data)
	}
}

// carry puts a frame on j's cable, to come out at the instant at.
func (w *World) carry(j *Jack, at int64, data []byte, toSwitch bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var e *event
	if n := len(w.free); n > 0 {
		e, w.free = w.free[n-1], w.free[:n-1]
	} else {
		e = &event{slot: slotNone}
	}
	e.jack, e.epoch, e.data, e.toSwitch = j, j.epoch, data, toSwitch
	w.scheduleLocked(e, at)
}

// record adds a frame to the world's hash and counters.
func (w *World) record(j *Jack, data []byte) {
	w.stats.Frames++
	var head [20]byte
	binary.BigEndian.PutUint64(head[:], uint64(w.instant()))
	binary.BigEndian.PutUint64(head[8:], uint64(j.order))
	binary.BigEndian.PutUint32(head[16:], crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	const prime = 0x100000001b3 // of FNV-1a, 64 bits
	for _, b := range head {
		w.hash = (w.hash ^ uint64(b)) * prime
	}
}

// instant is the world's time in nanoseconds since its start.
func (w *World) instant() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nowLocked()
}
