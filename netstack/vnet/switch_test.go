package vnet

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

var (
	macA = link.MAC{2, 0, 0, 0, 0, 0xa}
	macB = link.MAC{2, 0, 0, 0, 0, 0xb}
	macC = link.MAC{2, 0, 0, 0, 0, 0xc}
	macV = link.MAC{0, 0, 0x5e, 0, 1, 1} // of a virtual router
)

// lan is a world with devices a, b and c on a switch.
type lan struct {
	*World
	sw      *Switch
	a, b, c *Device
}

func newLAN(t testing.TB, cfg Config, cable Cable) *lan {
	t.Helper()
	w := NewWorld(cfg)
	t.Cleanup(w.Close)
	l := &lan{World: w, sw: w.Switch("lan")}
	for _, one := range []struct {
		dev  **Device
		name string
		mac  link.MAC
	}{{&l.a, "a", macA}, {&l.b, "b", macB}, {&l.c, "c", macC}} {
		*one.dev = w.NewDevice(one.name, DeviceConfig{MAC: one.mac})
		(*one.dev).Attach(l.sw.Plug(one.name, cable))
	}
	return l
}

// frame is one of type 0x88b5, for local experiments (IEEE 802).
func frame(dst, src link.MAC, payload ...byte) []byte {
	b := append(append(append([]byte(nil), dst[:]...), src[:]...), 0x88, 0xb5)
	return append(b, payload...)
}

func write(t testing.TB, d *Device, frames ...[]byte) {
	t.Helper()
	for _, b := range frames {
		f := link.NewFrame(len(b))
		f.Set(b)
		if n, err := d.Write([]*link.Frame{f}); n != 1 || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
}

// read returns everything that d has received.
func read(t testing.TB, d *Device) [][]byte {
	t.Helper()
	var got [][]byte
	f := link.NewFrame(2048)
	for {
		n, err := d.Read([]*link.Frame{f})
		if err != nil {
			t.Fatalf("Read: %v", err)
		}
		if n == 0 {
			return got
		}
		got = append(got, bytes.Clone(f.Bytes()))
	}
}

func (l *lan) pass(t testing.TB) {
	t.Helper()
	if err := l.RunFor(time.Second); err != nil {
		t.Fatal(err)
	}
}

// heard says how many frames a, b and c have received since last asked.
func (l *lan) heard(t testing.TB) string {
	t.Helper()
	l.pass(t)
	return fmt.Sprint(len(read(t, l.a)), len(read(t, l.b)), len(read(t, l.c)))
}

func TestSwitchFloodsThenLearns(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	write(t, l.a, frame(macB, macA))
	if got := l.heard(t); got != "0 1 1" {
		t.Errorf("unknown destination: heard %s, want it flooded", got)
	}
	write(t, l.b, frame(macA, macB))
	if got := l.heard(t); got != "1 0 0" {
		t.Errorf("known destination: heard %s", got)
	}
	write(t, l.a, frame(broadcast, macA), frame(link.MAC{1, 0, 0x5e, 0, 0, 18}, macA))
	if got := l.heard(t); got != "0 2 2" {
		t.Errorf("broadcast and multicast: heard %s", got)
	}
	l.sw.SetAgeing(10 * time.Second)
	_ = l.RunFor(time.Minute)
	write(t, l.a, frame(macB, macA))
	if got := l.heard(t); got != "0 1 1" {
		t.Errorf("aged destination: heard %s, want it flooded", got)
	}
}

func TestSwitchLearnsByVLAN(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	tagged := func(vlan byte, b []byte) []byte { return slices.Insert(b, 12, 0x81, 0, 0, vlan) }
	write(t, l.b, tagged(7, frame(macA, macB, 1, 2, 3, 4)))
	l.heard(t)
	write(t, l.a, tagged(7, frame(macB, macA, 1, 2, 3, 4)), tagged(8, frame(macB, macA, 1, 2, 3, 4)))
	if got := l.heard(t); got != "0 2 1" {
		t.Errorf("heard %s, want VLAN 7 sent to b and VLAN 8 flooded", got)
	}
}

func TestGratuitousARPMovesAnAddress(t *testing.T) {
	l := newLAN(t, Config{}, Cable{Delay: time.Microsecond})
	vip := netip.MustParseAddr("192.0.2.1")
	announce := func(d *Device) {
		write(t, d, packet.AppendARP(nil, 1, packet.MAC(macV), packet.MAC(broadcast), packet.MAC(macV), vip, packet.MAC{}, vip))
		l.pass(t)
	}
	announce(l.a)
	if port, ok := l.sw.Where(macV); !ok || port != "a" {
		t.Fatalf("the virtual address is on %q", port)
	}
	announce(l.b)
	if port, _ := l.sw.Where(macV); port != "b" {
		t.Errorf("the virtual address is still on %q", port)
	}
	read(t, l.a)
	read(t, l.b)
	write(t, l.c, frame(macV, macC))
	if got := l.heard(t); got != "0 1 2" {
		t.Errorf("heard %s, want the frame at b alone", got)
	}
	if l.sw.Stats().Moves != 1 {
		t.Errorf("moves %d", l.sw.Stats().Moves)
	}
}

func TestPulledCableTakesTheLinkFromBothEnds(t *testing.T) {
	l := newLAN(t, Config{}, Cable{Delay: time.Millisecond})
	var links []bool
	l.b.OnLink(func() { links = append(links, l.b.Up()) })
	j := l.b.Jack()
	write(t, l.b, frame(macA, macB))
	l.heard(t)
	write(t, l.a, frame(macB, macA))
	_ = l.RunFor(1500 * time.Microsecond)
	j.Pull() // The frame is on b's cable now.
	if l.b.Up() || j.Up() {
		t.Error("a link without a cable")
	}
	if _, ok := l.sw.Where(macB); ok {
		t.Error("the switch remembers an address behind a pulled cable")
	}
	write(t, l.a, frame(macB, macA))
	write(t, l.b, frame(macA, macB))
	if got := l.heard(t); got != "0 0 1" {
		t.Errorf("heard %s", got)
	}
	j.Push()
	write(t, l.a, frame(macB, macA))
	if got := l.heard(t); got != "0 1 1" || !l.b.Up() {
		t.Errorf("heard %s after the cable is back, up %v", got, l.b.Up())
	}
	if !slices.Equal(links, []bool{false, true}) {
		t.Errorf("b was told %v", links)
	}
	if j.Stats().NoLink != 3 {
		t.Errorf("lost for want of a link: %d, want 3", j.Stats().NoLink)
	}
}

func TestPowerAtEitherEndMakesTheLink(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	l.b.SetPower(false)
	if l.b.Up() || l.b.Jack().Up() {
		t.Error("a link to a device without power")
	}
	l.b.SetPower(true)
	write(t, l.a, frame(macB, macA))
	l.heard(t)
	l.sw.Reboot(3 * time.Second)
	if l.a.Up() || l.b.Up() || len(l.sw.Table()) != 0 {
		t.Error("a rebooting switch has links, or remembers")
	}
	l.sw.SetHold(2 * time.Second)
	_ = l.RunFor(4 * time.Second)
	if !l.a.Up() {
		t.Error("no link after the reboot")
	}
	write(t, l.a, frame(macB, macA))
	if got := l.heard(t); got != "0 0 0" {
		t.Errorf("heard %s while the port is held", got)
	}
	write(t, l.a, frame(macB, macA))
	if got := l.heard(t); got != "0 1 1" {
		t.Errorf("heard %s after that", got)
	}
}

func TestOneWayCutsAndPartitionsKeepTheLink(t *testing.T) {
	toAll := func(l *lan) {
		write(t, l.a, frame(broadcast, macA))
		write(t, l.b, frame(broadcast, macB))
		write(t, l.c, frame(broadcast, macC))
	}
	tests := []struct {
		name string
		do   func(*lan)
		want string
	}{
		{"whole", func(*lan) {}, "2 2 2"},
		{"a cannot send", func(l *lan) { l.a.Jack().SetCable(Cable{TxDown: true}) }, "2 1 1"},
		{"a cannot hear", func(l *lan) { l.a.Jack().SetCable(Cable{RxDown: true}) }, "0 2 2"},
		{"a alone", func(l *lan) { l.sw.Partition([]string{"a"}) }, "0 1 1"},
		{"a and b, c", func(l *lan) { l.sw.Partition([]string{"a", "b"}, []string{"c"}) }, "1 1 0"},
		{"nothing from a to b", func(l *lan) { l.sw.Cut("a", "b") }, "2 1 2"},
		{"healed", func(l *lan) { l.sw.Partition([]string{"a"}); l.sw.Cut("a", "b"); l.sw.Heal() }, "2 2 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, Config{}, Cable{})
			tt.do(l)
			toAll(l)
			if got := l.heard(t); got != tt.want {
				t.Errorf("heard %s, want %s", got, tt.want)
			}
			if !l.a.Up() {
				t.Error("the link went down")
			}
		})
	}
}

// TestCableFaults sends numbered frames from a to b over a faulty cable of b's.
func TestCableFaults(t *testing.T) {
	const sent = 2000
	about := func(n uint64, share float64) bool {
		return float64(n) > sent*share*0.8 && float64(n) < sent*share*1.2
	}
	tests := []struct {
		name  string
		cable Cable
		ok    func(got [][]byte, s JackStats) bool
	}{
		{"loss", Cable{Loss: 0.2}, func(got [][]byte, s JackStats) bool {
			return about(s.Lost, 0.2) && uint64(len(got)) == sent-s.Lost && inOrder(got)
		}},
		{"duplicates", Cable{Duplicate: 0.2}, func(got [][]byte, s JackStats) bool {
			return about(s.Duplicated, 0.2) && uint64(len(got)) == sent+s.Duplicated && inOrder(got)
		}},
		{"reordering", Cable{Reorder: 0.2}, func(got [][]byte, s JackStats) bool {
			return about(s.Reordered, 0.2) && len(got) == sent && !inOrder(got)
		}},
		{"jitter keeps the order", Cable{Jitter: 10 * time.Millisecond}, func(got [][]byte, _ JackStats) bool {
			return len(got) == sent && inOrder(got)
		}},
		{"corruption", Cable{Corrupt: 0.2}, func(got [][]byte, s JackStats) bool {
			return about(s.Corrupted, 0.2) && flipped(got) == int(s.Corrupted)
		}},
		{"rate", Cable{Rate: 8 * 1000 * (frameBytesMin + 4 + wireOverhead), QueueBytes: 100 * (frameBytesMin + 4 + wireOverhead)},
			func(got [][]byte, s JackStats) bool { // 1,000 frames a second, of 2,000 sent in one
				return about(uint64(len(got)), 0.55) && s.QueueFull == uint64(sent-len(got)) && inOrder(got)
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, Config{Seed: 7}, Cable{})
			l.b.Jack().SetCable(tt.cable)
			var got [][]byte
			l.b.OnReadable(func() { got = append(got, read(t, l.b)...) })
			for n := range sent {
				write(t, l.a, frame(macB, macA, 0, 0, byte(n>>8), byte(n)))
				_ = l.RunFor(500 * time.Microsecond)
			}
			l.pass(t)
			if s := l.b.Jack().Stats(); !tt.ok(got, s) {
				t.Errorf("%d frames came, %d flipped, in order %v, counters %+v", len(got), flipped(got), inOrder(got), s)
			}
		})
	}
}

func TestACableDropsWhatIsTooLongForIt(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	l.b.Jack().SetCable(Cable{MTU: 1400})
	write(t, l.a, frame(macB, macA, make([]byte, 1400)...), frame(macB, macA, make([]byte, 1450)...))
	if got := l.heard(t); got != "0 1 2" || l.b.Jack().Stats().TooLong != 1 {
		t.Errorf("heard %s, counters %+v", got, l.b.Jack().Stats())
	}
}

func inOrder(frames [][]byte) bool { return slices.IsSortedFunc(frames, bytes.Compare) }

// flipped counts frames that are not as TestCableFaults sent them.
func flipped(frames [][]byte) int {
	n, seen := 0, make(map[string]bool)
	for i, f := range frames {
		if want := frame(macB, macA, 0, 0, byte(i>>8), byte(i)); !bytes.Equal(f, want) && !seen[string(f)] {
			n++
		}
	}
	return n
}

func TestTapsSeeWhatPasses(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	var all, atB []string
	l.sw.Tap(func(_ time.Time, port string, dir Direction, b []byte) {
		all = append(all, fmt.Sprint(port, " ", dir, " ", len(b)))
	})
	l.b.Jack().Tap(func(_ time.Time, port string, dir Direction, b []byte) {
		atB = append(atB, fmt.Sprint(port, " ", dir))
	})
	write(t, l.a, frame(macB, macA, 1))
	l.pass(t)
	if want := []string{"a sent 15", "b received 15", "c received 15"}; !slices.Equal(all, want) {
		t.Errorf("the switch showed %q", all)
	}
	if want := []string{"b received"}; !slices.Equal(atB, want) {
		t.Errorf("the jack showed %q", atB)
	}
}

func TestMalformedFramesAreCounted(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	write(t, l.a, frame(macB, broadcast), []byte{1, 2, 3})
	if got := l.heard(t); got != "0 0 0" {
		t.Errorf("heard %s", got)
	}
	if l.sw.Stats().Malformed != 1 || l.a.Stats().Refused != 1 {
		t.Errorf("counters %+v, %+v", l.sw.Stats(), l.a.Stats())
	}
}

func TestTheAddressTableIsBounded(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	for n := range fdbEntriesMax + 100 {
		write(t, l.a, frame(broadcast, link.MAC{2, 1, byte(n >> 16), byte(n >> 8), byte(n)}))
		l.Settle()
	}
	if len(l.sw.Table()) != fdbEntriesMax || l.sw.Stats().Full != 100 {
		t.Errorf("%d entries, %d refused", len(l.sw.Table()), l.sw.Stats().Full)
	}
}

func BenchmarkFrameThroughASwitch(b *testing.B) {
	l := newLAN(b, Config{}, Cable{Delay: time.Microsecond})
	write(b, l.b, frame(macA, macB))
	l.pass(b)
	frames := []*link.Frame{link.NewFrame(100)}
	out := []*link.Frame{link.NewFrame(100)}
	frames[0].Set(frame(macB, macA, make([]byte, 50)...))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = l.a.Write(frames)
		_ = l.RunFor(10 * time.Microsecond)
		if n, _ := l.b.Read(out); n != 1 {
			b.Fatal("no frame came")
		}
	}
	b.ReportMetric(float64(l.World.Stats().Events)/b.Elapsed().Seconds(), "events/s")
}
