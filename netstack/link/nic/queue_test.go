package nic

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

// wire is a queue whose descriptor is one end of a socket pair, which keeps
// messages apart as a packet socket does; far is the other end.
func wire(t *testing.T) (q *queue, far int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	q = newQueue(&Device{})
	if err := q.adopt(fds[0]); err != nil {
		t.Fatal(err)
	}
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
	noHeader  = make([]byte, headerBytes)
	badHeader = []byte{1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff} // a sum outside
)

// numbered is a frame that says which one it is.
func numbered(n byte) []byte {
	return append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x12, 0x34}, bytes.Repeat([]byte{n}, 46)...)
}

func TestReadKeepsTheOrderOfWhatMakesSense(t *testing.T) {
	q, far := wire(t)
	put(t, far, noHeader, numbered(1))
	put(t, far, badHeader, numbered(2))
	put(t, far, noHeader, numbered(3))
	put(t, far, noHeader, numbered(4)[:13])
	put(t, far, noHeader[:3])
	put(t, far, noHeader, make([]byte, 4000))
	put(t, far, noHeader, numbered(5))
	frames := newFrames(16, 2000)
	seen := map[*link.Frame]bool{}
	n, err := q.Read(frames)
	if n != 3 || err != nil {
		t.Fatalf("Read() = %d, %v, want 3", n, err)
	}
	for i, want := range []byte{1, 3, 5} {
		if f := frames[i]; !bytes.Equal(f.Bytes(), numbered(want)) || f.Off != link.HeadRoom {
			t.Errorf("frame %d is %x at %d", i, f.Bytes(), f.Off)
		}
	}
	for _, f := range frames {
		seen[f] = true
	}
	if len(seen) != len(frames) {
		t.Error("a buffer is there twice")
	}
	if got, want := q.device.Drops(), (link.Drops{Header: 1, Truncated: 1, Short: 2}); got != want {
		t.Errorf("Drops() = %+v, want %+v", got, want)
	}
	if n, err := q.Read(frames); n != 0 || err != nil {
		t.Errorf("Read() of nothing = %d, %v", n, err)
	}
	if n, err := q.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil) = %d, %v", n, err)
	}
}

func TestWriteSendsEveryBatchAndPassesOverWhatIsNoFrame(t *testing.T) {
	q, far := wire(t)
	frames := newFrames(batchLen+10, 100)
	for i, f := range frames {
		f.Set(numbered(byte(i)))
	}
	frames[0].Offload = link.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}
	frames[3].Len, frames[batchLen].Len = 13, 0
	n, err := q.Write(frames)
	if n != len(frames)-2 || err != link.ErrFrame {
		t.Errorf("Write() = %d, %v, want %d and ErrFrame", n, err, len(frames)-2)
	}
	if got := q.device.Drops().Send; got != 2 {
		t.Errorf("%d lost, want 2", got)
	}
	buf := make([]byte, 200)
	for i, f := range frames {
		if f.Len < ethernetBytes {
			continue
		}
		n, err := unix.Read(far, buf)
		want := make([]byte, headerBytes)
		link.EncodeVnet(want, f, 0)
		if want = append(want, numbered(byte(i))...); err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("message %d: %x, %v, want %x", i, buf[:max(n, 0)], err, want)
		}
	}
}

func TestFullSocketIsNoBlockade(t *testing.T) {
	q, _ := wire(t)
	frames := newFrames(1, 60000)
	frames[0].Set(make([]byte, 60000))
	for range 10000 {
		if n, err := q.Write(frames); n == 0 {
			if err != link.ErrFull {
				t.Errorf("Write() = %v, want ErrFull", err)
			}
			return
		}
	}
	t.Error("the socket never fills")
}

func TestReadAndWriteDoNotAllocate(t *testing.T) {
	q, far := wire(t)
	frames := newFrames(2, 2000)
	in := append(bytes.Clone(noHeader), numbered(1)...)
	out := make([]byte, 2000)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := unix.Write(far, in); err != nil {
			t.Error(err)
		}
		if n, err := q.Read(frames); n != 1 || err != nil {
			t.Error(n, err)
		}
		if n, err := q.Write(frames[:1]); n != 1 || err != nil {
			t.Error(n, err)
		}
		if _, err := unix.Read(far, out); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestClosedQueueSaysSo(t *testing.T) {
	q := newQueue(&Device{})
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Read(newFrames(1, 100)); err != link.ErrClosed {
		t.Errorf("Read() = %v", err)
	}
	if _, err := q.Write(newFrames(1, 100)); err != link.ErrClosed {
		t.Errorf("Write() = %v", err)
	}
}

// auxdata is the control message of a frame, as the kernel lays it out.
func auxdata(status uint32, tci, tpid uint16) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(unix.CmsgLen(20)))
	b = binary.NativeEndian.AppendUint32(b, unix.SOL_PACKET)
	b = binary.NativeEndian.AppendUint32(b, unix.PACKET_AUXDATA)
	b = binary.NativeEndian.AppendUint32(b, status)
	b = append(b, make([]byte, 12)...)
	b = binary.NativeEndian.AppendUint16(b, tci)
	b = binary.NativeEndian.AppendUint16(b, tpid)
	return append(b, 0, 0, 0, 0)
}

func TestStrippedTag(t *testing.T) {
	other := binary.NativeEndian.AppendUint64(nil, 24)
	other = append(other, make([]byte, 16)...)
	tests := []struct {
		name      string
		control   []byte
		tci, tpid uint16
		ok        bool
	}{
		{"none", nil, 0, 0, false},
		{"no tag", auxdata(1, 0, 0), 0, 0, false},
		{"a tag", auxdata(statusVLANValid|statusTPIDValid, 0x2064, 0x88a8), 0x2064, 0x88a8, true},
		{"number 0, priority only", auxdata(statusVLANValid|statusTPIDValid, 0, 0x8100), 0, 0x8100, true},
		{"old kernel, kind not told", auxdata(statusVLANValid, 7, 0), 7, 0x8100, true},
		{"behind another message", append(other, auxdata(statusVLANValid, 7, 0)...), 7, 0x8100, true},
		{"cut", auxdata(statusVLANValid, 7, 0)[:30], 0, 0, false},
		{"a message of no length", make([]byte, 40), 0, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tci, tpid, ok := strippedTag(tt.control)
			if tci != tt.tci || tpid != tt.tpid || ok != tt.ok {
				t.Errorf("strippedTag() = %#x, %#x, %v", tci, tpid, ok)
			}
		})
	}
}

func TestReleaseAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"6.2": true, "6.2.0-generic": true, "6.18.44-x": true, "10.0": true,
		"6.1.0-56-amd64": false, "5.19": false, "6": false, "": false, "x.y": false,
	} {
		if got := releaseAtLeast(release, 6, 2); got != want {
			t.Errorf("releaseAtLeast(%q) = %v", release, got)
		}
	}
}

func TestTableNamesAreWordsAndDiffer(t *testing.T) {
	for device, want := range map[string]string{
		"eth0": "tandem_eth0", "eth-0": "tandem_eth_2d0", "eth.0": "tandem_eth_2e0", "a_b": "tandem_a_5fb",
	} {
		if got := tableName(device); got != want {
			t.Errorf("tableName(%q) = %q, want %q", device, got, want)
		}
	}
}

func FuzzAttribute(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 10, 9, 0, 1, 5, 0, 2, 0, 7, 0, 0, 0}, uint16(2))
	f.Add([]byte{3, 0, 1, 0}, uint16(1))
	f.Fuzz(func(t *testing.T, attrs []byte, kind uint16) {
		if b := attribute(attrs, kind); len(b) > len(attrs) {
			t.Fatal("longer than its list")
		}
		s := &silence{index: 7}
		s.uses(attrs)
		strippedTag(attrs)
	})
}
