package vnet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

const (
	// fdbEntriesMax is how many addresses a switch remembers; what is beyond
	// that is flooded.
	fdbEntriesMax = 8192
	// fdbAgeing is how long it remembers one it does not hear from (IEEE
	// 802.1Q-2022, table 8-6).
	fdbAgeing = 300 * time.Second

	frameBytesMin = 14
)

// Switch is a learning Ethernet switch. It learns by VLAN, floods what it does
// not know and all multicast, and forwards without taking time: that is its
// cables' matter.
type Switch struct {
	w     *World
	name  string
	power bool
	jacks []*Jack // in the order of their plugging
	byID  map[string]*Jack
	fdb   map[fdbKey]fdbEntry
	age   time.Duration
	hold  time.Duration
	group map[string]int // of a jack while partitioned; jacks not named are in group 0
	cut   map[[2]string]bool
	taps  []Tap
	stats SwitchStats
}

// SwitchStats counts what a switch did.
type SwitchStats struct {
	Forwarded uint64 // frames to one known port
	Flooded   uint64 // frames to all ports
	Filtered  uint64 // frames whose destination is on the port they came from
	Malformed uint64 // too short, or from a group address
	Moves     uint64 // addresses seen on another port than before
	Full      uint64 // addresses not learned since the table was full
}

// fdbKey is an address on a VLAN. While the switch is partitioned each group
// learns for itself, as the two switches do that have lost their trunk.
type fdbKey struct {
	group int
	vlan  uint16
	mac   link.MAC
}

type fdbEntry struct {
	jack   *Jack
	seenAt int64
}

// Switch returns the switch of that name, which it makes if there is none.
func (w *World) Switch(name string) *Switch {
	s, ok := w.switches[name]
	if !ok {
		s = &Switch{
			w: w, name: name, power: true, age: fdbAgeing,
			byID: make(map[string]*Jack), fdb: make(map[fdbKey]fdbEntry), cut: make(map[[2]string]bool),
		}
		w.switches[name] = s
	}
	return s
}

// Plug puts a cable into the port of that name and returns its jack. A port
// that had one gets the new cable, and keeps what is attached.
func (s *Switch) Plug(name string, c Cable) *Jack {
	j, ok := s.byID[name]
	if !ok {
		full := s.name + "/" + name
		j = &Jack{w: s.w, sw: s, name: name, order: s.w.nextOrder()}
		j.in = lane{w: s.w, name: full + "/tx"}
		j.out = lane{w: s.w, name: full + "/rx"}
		s.jacks = append(s.jacks, j)
		s.byID[name] = j
	}
	j.SetCable(c)
	return j
}

// Jack returns the jack of that name, nil where there is none.
func (s *Switch) Jack(name string) *Jack { return s.byID[name] }

// Name is the switch's name.
func (s *Switch) Name() string { return s.name }

// Stats returns the counters so far.
func (s *Switch) Stats() SwitchStats { return s.stats }

// Tap has fn shown the frames of every jack from now on.
func (s *Switch) Tap(fn Tap) { s.taps = append(s.taps, fn) }

// SetAgeing sets how long an address is remembered; 300 s at first.
func (s *Switch) SetAgeing(d time.Duration) { s.age = d }

// SetHold sets how long a port whose link has come up forwards nothing, as one
// that listens for loops first. Zero at first.
func (s *Switch) SetHold(d time.Duration) { s.hold = d }

// SetPower turns the switch on or off. Without power no port has a link and
// everything learned is lost.
func (s *Switch) SetPower(on bool) {
	s.power = on
	for _, j := range s.jacks {
		j.relink()
	}
	if !on {
		clear(s.fdb)
	}
}

// Reboot turns the switch off, and on again when down has passed.
func (s *Switch) Reboot(down time.Duration) {
	s.SetPower(false)
	s.w.After(down, func() { s.SetPower(true) })
}

// Flush makes the switch forget every address.
func (s *Switch) Flush() { clear(s.fdb) }

// Partition splits the switch: frames pass only between ports of one group.
// Ports that are in none form one more. Links stay up. Without groups the
// switch is whole again.
func (s *Switch) Partition(groups ...[]string) {
	s.group = nil
	clear(s.fdb)
	if len(groups) == 0 {
		return
	}
	s.group = make(map[string]int)
	for i, ports := range groups {
		for _, port := range ports {
			s.group[port] = i + 1
		}
	}
}

// Cut stops frames from one port to another, in that direction only.
func (s *Switch) Cut(from, to string) { s.cut[[2]string{from, to}] = true }

// Heal undoes every Partition and Cut.
func (s *Switch) Heal() {
	s.Partition()
	clear(s.cut)
}

// Where says on which port the switch has learned mac, untagged frames taken;
// while it is partitioned, the ports that are in no group.
func (s *Switch) Where(mac link.MAC) (port string, ok bool) {
	e, ok := s.fdb[fdbKey{mac: mac}]
	if !ok || s.w.instant()-e.seenAt > int64(s.age) {
		return "", false
	}
	return e.jack.name, true
}

// Learned is one address that a switch knows.
type Learned struct {
	VLAN uint16 // 0: untagged
	MAC  link.MAC
	Port string
	Age  time.Duration
}

// Table lists what the switch has learned, by VLAN and address.
func (s *Switch) Table() []Learned {
	now := s.w.instant()
	var list []Learned
	for k, e := range s.fdb {
		if age := now - e.seenAt; age <= int64(s.age) {
			list = append(list, Learned{k.vlan, k.mac, e.jack.name, time.Duration(age)})
		}
	}
	slices.SortFunc(list, func(a, b Learned) int {
		return cmp.Or(cmp.Compare(a.VLAN, b.VLAN), bytes.Compare(a.MAC[:], b.MAC[:]))
	})
	return list
}

// forward takes a frame that came in at j to where it belongs.
func (s *Switch) forward(j *Jack, data []byte) {
	if len(data) < frameBytesMin || data[6]&1 != 0 {
		s.stats.Malformed++
		return
	}
	now := s.w.instant()
	if now < j.forwardAt {
		j.stats.Held++
		return
	}
	vlan, group := vlanOf(data), s.group[j.name]
	s.learn(now, fdbKey{group, vlan, link.MAC(data[6:12])}, j)
	if data[0]&1 == 0 {
		if e, ok := s.fdb[fdbKey{group, vlan, link.MAC(data[:6])}]; ok && now-e.seenAt <= int64(s.age) {
			if e.jack == j {
				s.stats.Filtered++
				return
			}
			s.stats.Forwarded++
			s.pass(j, e.jack, data)
			return
		}
	}
	s.stats.Flooded++
	for _, out := range s.jacks {
		if out != j && out.dev != nil {
			s.pass(j, out, data)
		}
	}
}

func (s *Switch) pass(from, to *Jack, data []byte) {
	if s.group[from.name] != s.group[to.name] || len(s.cut) > 0 && s.cut[[2]string{from.name, to.name}] {
		return
	}
	to.emit(data)
}

func (s *Switch) learn(now int64, key fdbKey, j *Jack) {
	old, known := s.fdb[key]
	if !known && len(s.fdb) >= fdbEntriesMax {
		s.expire(now)
		if len(s.fdb) >= fdbEntriesMax {
			s.stats.Full++
			return
		}
	}
	if known && old.jack != j {
		s.stats.Moves++
	}
	s.fdb[key] = fdbEntry{j, now}
}

func (s *Switch) expire(now int64) {
	for key, e := range s.fdb {
		if now-e.seenAt > int64(s.age) {
			delete(s.fdb, key)
		}
	}
}

// forget drops what was learned on a port whose link is gone.
func (s *Switch) forget(j *Jack) {
	for key, e := range s.fdb {
		if e.jack == j {
			delete(s.fdb, key)
		}
	}
}

func vlanOf(data []byte) uint16 {
	if len(data) < frameBytesMin+4 || binary.BigEndian.Uint16(data[12:]) != packet.EtherTypeVLAN {
		return 0
	}
	return binary.BigEndian.Uint16(data[14:]) & 0xfff
}
