package main

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tandem/netstack/packet"
)

func testFlood(first, flows int) *flood {
	return &flood{to: "02:00:00:00:00:01", source: "198.18.0.2", dest: "198.18.1.2", first: first, flows: flows}
}

// The node's own decoder, which shares no code with the generator, finds
// nothing wrong with the frames, and every flow is another one.
func TestFloodFramesAreWholeAndDistinct(t *testing.T) {
	const first, flows = 9_990, 20 // past the last source port of a destination port
	frames, err := testFlood(first, flows).frames(net.HardwareAddr{2, 0, 0, 0, 0, 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(frames) != flows*floodFrameBytes {
		t.Fatalf("%d bytes for %d frames", len(frames), flows)
	}
	seen := map[packet.Tuple]bool{}
	for i := range flows {
		var v packet.View
		if r := packet.Decode(frames[i*floodFrameBytes:][:floodFrameBytes], &v); r != packet.OK {
			t.Fatalf("frame %d: %v", i, r)
		}
		if !packet.VerifyL4(&v) {
			t.Errorf("frame %d: wrong UDP checksum", i)
		}
		if v.Proto != packet.ProtoUDP || seen[v.Tuple] {
			t.Errorf("frame %d: flow %+v", i, v.Tuple)
		}
		seen[v.Tuple] = true
	}
}

func TestFloodRefusesWhatItCannotSend(t *testing.T) {
	good := net.HardwareAddr{2, 0, 0, 0, 0, 2}
	for name, change := range map[string]func(*flood, *net.HardwareAddr){
		"no MAC":              func(f *flood, _ *net.HardwareAddr) { f.to = "" },
		"no MAC of its own":   func(_ *flood, m *net.HardwareAddr) { *m = nil },
		"IPv6":                func(f *flood, _ *net.HardwareAddr) { f.dest = "2001:db8::1" },
		"no source":           func(f *flood, _ *net.HardwareAddr) { f.source = "" },
		"no flow":             func(f *flood, _ *net.HardwareAddr) { f.flows = 0 },
		"a flow before zero":  func(f *flood, _ *net.HardwareAddr) { f.first = -1 },
		"MAC of eight bytes":  func(f *flood, _ *net.HardwareAddr) { f.to = "02:00:00:00:00:01:00:01" },
		"MAC that is a name":  func(f *flood, _ *net.HardwareAddr) { f.to = "gateway" },
		"address with prefix": func(f *flood, _ *net.HardwareAddr) { f.source = "198.18.0.2/24" },
	} {
		f, from := testFlood(0, 1), good
		change(f, &from)
		if _, err := f.frames(from); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSendGoesRoundTheFrames(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	frames, err := testFlood(0, 3).frames(net.HardwareAddr{2, 0, 0, 0, 0, 2})
	if err != nil {
		t.Fatal(err)
	}
	// Nobody reads meanwhile: the socket fills up, and the rest is refused.
	sent, err := send(fds[0], frames, time.Millisecond)
	if err != nil || sent.Sent < 3 || sent.Refused == 0 {
		t.Fatalf("send() = %+v, %v", sent, err)
	}
	b := make([]byte, 100)
	for i := range 3 {
		n, err := unix.Read(fds[1], b)
		if want := frames[i*floodFrameBytes:][:floodFrameBytes]; err != nil || string(b[:n]) != string(want) {
			t.Errorf("frame %d: %x, %v; want %x", i, b[:max(n, 0)], err, want)
		}
	}
}
