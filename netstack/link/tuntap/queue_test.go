package tuntap

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

// wire is a queue whose descriptor is one end of a socket pair, which keeps
// messages apart as a device does; far is the other end.
func wire(t *testing.T, layer3 bool) (q *queue, far int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{layer3: layer3, header: link.VnetBytes, control: -1}
	q = newQueue(d, fds[0])
	t.Cleanup(func() { _ = q.close(); _ = unix.Close(fds[1]) })
	return q, fds[1]
}

func put(t *testing.T, fd int, parts ...[]byte) {
	t.Helper()
	if _, err := unix.Write(fd, bytes.Join(parts, nil)); err != nil {
		t.Fatal(err)
	}
}

func newFrames(n, size int) []*link.Frame {
	frames := make([]*link.Frame, n)
	for i := range frames {
		frames[i] = link.NewFrame(size)
	}
	return frames
}

var (
	noHeader  = make([]byte, link.VnetBytes)
	badHeader = append([]byte{1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 0, 0) // a sum outside
	ipv4      = append([]byte{0x45, 0, 0, 40}, make([]byte, 36)...)
	ethernet  = append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, ipv4...)
)

func TestReadCountsAndPassesOverWhatMakesNoSense(t *testing.T) {
	q, far := wire(t, false)
	put(t, far, noHeader, ethernet)
	put(t, far, badHeader, ethernet)
	put(t, far, noHeader, ethernet[:13])
	put(t, far, noHeader[:5])
	put(t, far, noHeader, make([]byte, 4000))
	put(t, far, noHeader, ethernet)
	frames := newFrames(8, 2000)
	n, err := q.Read(frames)
	if n != 2 || err != nil {
		t.Fatalf("Read() = %d, %v, want 2", n, err)
	}
	for _, f := range frames[:n] {
		if !bytes.Equal(f.Bytes(), ethernet) || f.Off != link.HeadRoom || f.Offload != (link.Offload{}) {
			t.Errorf("frame %x at %d, %+v", f.Bytes(), f.Off, f.Offload)
		}
	}
	if got, want := q.device.Drops(), (link.Drops{Header: 1, Truncated: 1, Short: 2}); got != want {
		t.Errorf("Drops() = %+v, want %+v", got, want)
	}
}

func TestReadGivesUpUnderAFloodOfNonsense(t *testing.T) {
	q, far := wire(t, false)
	for range 10 {
		put(t, far, badHeader, ethernet)
	}
	if n, err := q.Read(newFrames(2, 2000)); n != 0 || err != nil {
		t.Errorf("Read() = %d, %v", n, err)
	}
	if n := q.device.Drops().Header; n != 3 {
		t.Errorf("%d dropped in one batch of 2, want 3", n)
	}
}

func TestWriteLeavesTheFrameAsItWas(t *testing.T) {
	for _, layer3 := range []bool{false, true} {
		q, far := wire(t, layer3)
		f := link.NewFrame(2000)
		f.Set(ethernet)
		f.Offload = link.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}
		before := bytes.Clone(f.Buf)
		if n, err := q.Write([]*link.Frame{f}); n != 1 || err != nil {
			t.Fatalf("Write() = %d, %v", n, err)
		}
		if !bytes.Equal(f.Buf, before) {
			t.Error("the buffer changed")
		}
		shift, body := 0, ethernet
		if layer3 {
			shift, body = 14, ipv4
		}
		want := make([]byte, link.VnetBytes, 100)
		link.EncodeVnet(want, f, shift)
		want = append(want, body...)
		got := make([]byte, 2000)
		n, err := unix.Read(far, got)
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("written %x, %v\nwant    %x", got[:max(n, 0)], err, want)
		}
	}
}

func TestWriteGoesOnBehindAFrameThatDoesNotFit(t *testing.T) {
	q, far := wire(t, false)
	frames := newFrames(4, 2000)
	for _, f := range frames {
		f.Set(ethernet)
	}
	frames[0].Len = 13
	frames[2].Off = 4 // no room for the header
	n, err := q.Write(frames)
	if n != 2 || err != link.ErrFrame {
		t.Errorf("Write() = %d, %v, want 2 and ErrFrame", n, err)
	}
	if got := q.device.Drops().Send; got != 2 {
		t.Errorf("%d lost, want 2", got)
	}
	buf := make([]byte, 2000)
	for range 2 {
		if _, err := unix.Read(far, buf); err != nil {
			t.Error(err)
		}
	}
}

func TestTunnelFramesHaveAMadeUpHeader(t *testing.T) {
	ipv6 := append([]byte{0x60}, make([]byte, 47)...)
	q, far := wire(t, true)
	put(t, far, noHeader, ipv4)
	put(t, far, noHeader, ipv6)
	put(t, far, noHeader, append([]byte{0x10}, ipv4[1:]...)) // of no version we know
	put(t, far, noHeader, ipv4[:19])
	frames := newFrames(4, 2000)
	n, err := q.Read(frames)
	if n != 2 || err != nil {
		t.Fatalf("Read() = %d, %v", n, err)
	}
	for i, want := range [][]byte{
		append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x00}, ipv4...),
		append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd}, ipv6...),
	} {
		if !bytes.Equal(frames[i].Bytes(), want) {
			t.Errorf("frame %d = %x, want %x", i, frames[i].Bytes(), want)
		}
	}
	if got := q.device.Drops().Short; got != 2 {
		t.Errorf("%d short, want 2", got)
	}
	arp := link.NewFrame(100)
	arp.Set(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 6}, make([]byte, 28)...))
	if n, err := q.Write([]*link.Frame{arp}); n != 0 || err != link.ErrFrame {
		t.Errorf("Write(ARP) = %d, %v", n, err)
	}
}

func TestClosedQueueSaysSo(t *testing.T) {
	q, _ := wire(t, false)
	fd, err := unix.Dup(q.fd) // so that the cleanup has something to close
	if err != nil {
		t.Fatal(err)
	}
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	q.fd = fd
	if _, err := q.Read(newFrames(1, 100)); err != link.ErrClosed {
		t.Errorf("Read() = %v", err)
	}
	if _, err := q.Write(newFrames(1, 100)); err != link.ErrClosed {
		t.Errorf("Write() = %v", err)
	}
}

func TestReadAndWriteDoNotAllocate(t *testing.T) {
	q, far := wire(t, false)
	frames := newFrames(1, 2000)
	in := append(bytes.Clone(noHeader), ethernet...)
	out := make([]byte, 2000)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := unix.Write(far, in); err != nil {
			t.Error(err)
		}
		if n, err := q.Read(frames); n != 1 || err != nil {
			t.Error(n, err)
		}
		if n, err := q.Write(frames); n != 1 || err != nil {
			t.Error(n, err)
		}
		if _, err := unix.Read(far, out); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []TAPConfig{
		{},
		{Device: "a-name-that-is-too-long"},
		{Device: "t0", Queues: -1},
		{Device: "t0", Queues: queuesMax + 1},
		{Device: "t0", MTU: 67},
		{Device: "t0", MTU: 65536},
	} {
		if d, err := OpenTAP(cfg); err == nil {
			_ = d.Close()
			t.Errorf("OpenTAP(%+v) worked", cfg)
		}
	}
}
