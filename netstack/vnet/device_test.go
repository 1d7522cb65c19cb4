package vnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

func TestDeviceQueueIsBounded(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	small := l.NewDevice("small", DeviceConfig{MAC: macB, QueueLen: 3})
	small.Attach(l.b.Jack())
	wakes := 0
	small.OnReadable(func() { wakes++ })
	for n := range 5 {
		write(t, l.a, frame(macB, macA, byte(n)))
	}
	l.pass(t)
	got := read(t, small)
	if len(got) != 3 || small.Stats().Overruns != 2 || wakes != 5 {
		t.Errorf("read %d, overruns %d, wakes %d", len(got), small.Stats().Overruns, wakes)
	}
	for n, b := range got {
		if b[frameBytesMin] != byte(n) {
			t.Errorf("frame %d is number %d", n, b[frameBytesMin])
		}
	}
}

func TestDeviceFiltersOnceItIsToldAddresses(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	group := link.MAC{1, 0, 0x5e, 0, 0, 18}
	send := func() string {
		l.sw.Flush()
		write(t, l.a, frame(macB, macA), frame(macV, macA), frame(group, macA), frame(broadcast, macA), frame(macC, macA))
		return l.heard(t)
	}
	if got := send(); got != "0 5 5" {
		t.Errorf("before: heard %s", got)
	}
	if err := l.b.SetAddresses([]link.MAC{macV, group}); err != nil {
		t.Fatal(err)
	}
	if got := send(); got != "0 4 5" || l.b.Stats().Filtered != 1 {
		t.Errorf("told: heard %s, filtered %d", got, l.b.Stats().Filtered)
	}
	_ = l.b.SetAddresses(nil)
	if got := send(); got != "0 2 5" {
		t.Errorf("told that there are no more: heard %s", got)
	}
}

func TestClosedDeviceIsGone(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	j := l.b.Jack()
	if err := l.b.Close(); err != nil {
		t.Fatal(err)
	}
	if l.b.Up() {
		t.Error("a closed device is up")
	}
	f := []*link.Frame{link.NewFrame(100)}
	if _, err := l.b.Read(f); !errors.Is(err, link.ErrGone) {
		t.Errorf("Read: %v", err)
	}
	if _, err := l.b.Write(f); !errors.Is(err, link.ErrGone) {
		t.Errorf("Write: %v", err)
	}
	if err := l.b.SetAddresses(nil); !errors.Is(err, link.ErrGone) {
		t.Errorf("SetAddresses: %v", err)
	}
	l.Settle()
	if j.Up() {
		t.Error("its jack has a link")
	}
	again := l.NewDevice("b", DeviceConfig{MAC: macB})
	again.Attach(j)
	write(t, l.a, frame(macB, macA))
	l.pass(t)
	if !again.Up() || len(read(t, again)) != 1 {
		t.Error("the device that took its place has no link")
	}
}

func TestDeviceMovesFromJackToJack(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	old := l.b.Jack()
	l.b.Attach(l.sw.Plug("d", Cable{}))
	if old.Up() || !l.b.Up() || l.b.Jack().Name() != "d" {
		t.Errorf("old jack up %v, device up %v on %s", old.Up(), l.b.Up(), l.b.Jack().Name())
	}
	l.b.Jack().Detach()
	if l.b.Up() || l.b.Jack() != nil {
		t.Error("a detached device has a link")
	}
}

// tcpFrame is a TCP segment over IPv4 or IPv6 whose checksum is the pseudo
// header's sum alone.
func tcpFrame(src, dst string, payload []byte) (b []byte, l4 int) {
	header := make([]byte, 20)
	binary.BigEndian.PutUint16(header, 1000)
	binary.BigEndian.PutUint16(header[2:], 2000)
	header[12], header[13] = 5<<4, packet.ACK|packet.PSH
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	b = packet.AppendIP(nil, packet.MAC(macA), packet.MAC(macB), from, to, packet.ProtoTCP, 64, 0, true, 0, append(header, payload...))
	l4 = len(b) - len(header) - len(payload)
	tuple := packet.Tuple{Src: packet.AddrFrom(from), Dst: packet.AddrFrom(to), Proto: packet.ProtoTCP, Family: 6}
	if from.Is4() {
		tuple.Family = 4
	}
	sum := packet.PseudoSum(&tuple, len(header)+len(payload))
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[l4+16:], uint16(sum))
	return b, l4
}

func TestDeviceDoesTheOffloadsItTakes(t *testing.T) {
	payload := bytes.Repeat([]byte("abcdefghij"), 500)
	tests := []struct {
		name     string
		src, dst string
		segment  link.Segmentation
		has      link.Features
		frames   int
		refused  uint64
	}{
		{"checksum", "192.0.2.1", "192.0.2.2", link.SegmentNone, link.Features{Checksum: true}, 1, 0},
		{"segments of IPv4", "192.0.2.1", "192.0.2.2", link.SegmentTCP4, link.Features{Checksum: true, TCP4: true}, 5, 0},
		{"segments of IPv6", "2001:db8::1", "2001:db8::2", link.SegmentTCP6, link.Features{Checksum: true, TCP6: true}, 5, 0},
		{"checksum not taken", "192.0.2.1", "192.0.2.2", link.SegmentNone, link.Features{}, 0, 1},
		{"segments not taken", "192.0.2.1", "192.0.2.2", link.SegmentTCP4, link.Features{Checksum: true}, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, Config{}, Cable{})
			d := l.NewDevice("offload", DeviceConfig{MAC: macA, Features: tt.has})
			d.Attach(l.a.Jack())
			data := payload
			if tt.segment == link.SegmentNone {
				data = payload[:777]
			}
			b, l4 := tcpFrame(tt.src, tt.dst, data)
			f := link.NewFrame(len(b))
			f.Set(b)
			f.Offload = link.Offload{NeedsChecksum: true, ChecksumStart: uint16(l4), ChecksumOffset: 16, Segment: tt.segment}
			if tt.segment != link.SegmentNone {
				f.Offload.HeaderLen, f.Offload.SegSize = uint16(l4+20), 1000
			}
			if n, err := d.Write([]*link.Frame{f}); n != 1 || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
			l.pass(t)
			got, joined := read(t, l.b), []byte(nil)
			for _, one := range got {
				var v packet.View
				if r := packet.Decode(one, &v); r != 0 || !packet.VerifyL4(&v) {
					t.Errorf("a frame of %d bytes: %v, checksum right %v", len(one), r, packet.VerifyL4(&v))
				}
				joined = append(joined, v.B[v.Payload:v.Payload+v.DataLen]...)
			}
			if len(got) != tt.frames || d.Stats().Refused != tt.refused {
				t.Fatalf("%d frames, %d refused", len(got), d.Stats().Refused)
			}
			if tt.frames > 0 && !bytes.Equal(joined, data) {
				t.Error("the payload came out different")
			}
		})
	}
}

func TestDeviceCountsFramesThatAreTooLong(t *testing.T) {
	l := newLAN(t, Config{}, Cable{})
	jumbo := l.NewDevice("jumbo", DeviceConfig{MAC: macA, MTU: 9000})
	jumbo.Attach(l.a.Jack())
	long := frame(macB, macA, make([]byte, 4000)...)
	write(t, jumbo, long)
	write(t, l.b, long)
	l.pass(t)
	if l.b.Stats().TooLong != 2 || len(read(t, l.b)) != 0 {
		t.Errorf("counted %d, want one sent and one received", l.b.Stats().TooLong)
	}
}

func TestOffloadsOfHostileFramesDoNotPanic(t *testing.T) {
	d := NewWorld(Config{}).NewDevice("d", DeviceConfig{Features: link.Features{Checksum: true, TCP4: true, UDP: true}})
	whole, l4 := tcpFrame("192.0.2.1", "192.0.2.2", make([]byte, 100))
	for n := range len(whole) {
		for _, o := range []link.Offload{
			{NeedsChecksum: true, ChecksumStart: uint16(l4), ChecksumOffset: 16},
			{NeedsChecksum: true, ChecksumStart: 65535, ChecksumOffset: 65535},
			{NeedsChecksum: true, ChecksumStart: 14, ChecksumOffset: 65535},
			{Segment: link.SegmentTCP4, SegSize: 1}, {Segment: link.SegmentUDP, SegSize: 65535}, {Segment: link.SegmentTCP4},
		} {
			f := link.NewFrame(len(whole))
			f.Set(whole[:n])
			f.Offload = o
			if _, err := d.Write([]*link.Frame{f}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
