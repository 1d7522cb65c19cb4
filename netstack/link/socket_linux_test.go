package link

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const socketPatience = 3 * time.Second

func openSocket(t *testing.T, cfg SocketConfig) *Socket {
	t.Helper()
	s, err := OpenSocket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// numbered is an Ethernet frame of n bytes that all say which one it is.
func numbered(n int, number byte) []byte { return bytes.Repeat([]byte{number}, n) }

func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func buffers(n int) []*Frame {
	frames := make([]*Frame, n)
	for i := range frames {
		frames[i] = NewFrame(BufferBytes)
	}
	return frames
}

// receive waits at the device's descriptor, as a worker does, until it has
// want frames.
func receive(t *testing.T, s *Socket, want, batch int) [][]byte {
	t.Helper()
	p := newPoller(t)
	p.Set([]int{s.FD()})
	var got [][]byte
	for end := time.Now().Add(socketPatience); len(got) < want && time.Now().Before(end); {
		frames := buffers(batch)
		n, err := s.Read(frames)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames[:n] {
			got = append(got, bytes.Clone(f.Bytes()))
		}
		if len(got) < want {
			if err := p.Wait(time.Until(end)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(got) != want {
		t.Fatalf("%d frames, want %d", len(got), want)
	}
	return got
}

// settle waits at the descriptor until up is what the device says.
func settle(t *testing.T, s *Socket, up bool) {
	t.Helper()
	p := newPoller(t)
	p.Set([]int{s.FD()})
	for end := time.Now().Add(socketPatience); s.Up() != up; {
		if time.Now().After(end) {
			t.Fatalf("Up() stays %v", !up)
		}
		if _, err := s.Read(buffers(1)); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(20 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func send(t *testing.T, s *Socket, frames ...[]byte) {
	t.Helper()
	for _, b := range frames {
		f := NewFrame(len(b))
		f.Set(b)
		if n, err := s.Write([]*Frame{f}); n != 1 || err != nil {
			t.Fatalf("Write() = %d, %v", n, err)
		}
	}
}

func TestStreamSpeaksLengthAndFrame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wire")
	s := openSocket(t, SocketConfig{Listen: "unix:" + path})
	if s.Up() {
		t.Error("up without a peer")
	}
	if n, err := s.Write(buffers(1)); n != 0 || err != ErrDown {
		t.Errorf("Write() without a peer = %d, %v", n, err)
	}
	peer, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	settle(t, s, true)

	send(t, s, numbered(60, 1), numbered(1514, 2))
	got := make([]byte, 4+60+4+1514)
	_ = peer.SetDeadline(time.Now().Add(socketPatience))
	if _, err := io.ReadFull(peer, got); err != nil {
		t.Fatal(err)
	}
	if want := append(framed(numbered(60, 1)), framed(numbered(1514, 2))...); !bytes.Equal(got, want) {
		t.Error("the peer read something else than was written")
	}

	// In pieces, and more than one batch holds: nothing is lost or left lying.
	var all []byte
	for i := range 20 {
		all = append(all, framed(numbered(100+i*50, byte(i)))...)
	}
	if _, err := peer.Write(all[:37]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(buffers(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Write(all[37:]); err != nil {
		t.Fatal(err)
	}
	for i, b := range receive(t, s, 20, 3) {
		if !bytes.Equal(b, numbered(100+i*50, byte(i))) {
			t.Errorf("frame %d is another one, of %d bytes", i, len(b))
		}
	}
}

func TestStreamPeersComeAndGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wire")
	s := openSocket(t, SocketConfig{Listen: path})
	for i := range 3 {
		peer, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		settle(t, s, true)
		// Half a frame of one peer is not the beginning of the next one's.
		if _, err := peer.Write(append(framed(numbered(60, byte(i))), 0, 0, 0, 60, 1, 2)); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, s, 1, 4); got[0][0] != byte(i) {
			t.Errorf("peer %d: a frame of %d", i, got[0][0])
		}
		_ = peer.Close()
		settle(t, s, false)
	}
}

func TestTwoDevicesFindEachOther(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		a, b SocketConfig
	}{
		{"unix stream", SocketConfig{Listen: dir + "/s"}, SocketConfig{Connect: dir + "/s"}},
		{"abstract stream", SocketConfig{Listen: "unix:@" + dir}, SocketConfig{Connect: "unix:@" + dir}},
		{"tcp", SocketConfig{Listen: "tcp:127.0.0.1:0"}, SocketConfig{}},
		{"tcp6", SocketConfig{Listen: "[::1]:0"}, SocketConfig{}},
		{"unix dgram, one learns", SocketConfig{Kind: KindDatagram, Listen: dir + "/d"}, SocketConfig{Kind: KindDatagram, Connect: dir + "/d"}},
		{"udp, one learns", SocketConfig{Kind: KindDatagram, Listen: "udp:127.0.0.1:0"}, SocketConfig{Kind: KindDatagram}},
		{"unix dgram, both named", SocketConfig{Kind: KindDatagram, Listen: dir + "/x", Connect: dir + "/y"},
			SocketConfig{Kind: KindDatagram, Listen: dir + "/y", Connect: dir + "/x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := openSocket(t, tt.a)
			if tt.b.Connect == "" { // the port was picked by the kernel
				tt.b.Connect = boundTo(t, a)
			}
			b := openSocket(t, tt.b)
			a.mu.Lock()
			a.retryAt = time.Time{} // Not a whole second until the next attempt.
			a.mu.Unlock()
			settle(t, b, true)
			if a.stream {
				settle(t, a, true)
			}
			send(t, b, numbered(60, 7), numbered(1514, 8))
			if got := receive(t, a, 2, 8); got[0][0] != 7 || len(got[1]) != 1514 {
				t.Errorf("frames %d of %d bytes", got[0][0], len(got[1]))
			}
			settle(t, a, true)
			send(t, a, numbered(70, 9))
			if got := receive(t, b, 1, 8); got[0][0] != 9 || len(got[0]) != 70 {
				t.Errorf("frame %d of %d bytes", got[0][0], len(got[0]))
			}
		})
	}
}

// boundTo is the address of a device that listens at a port of the kernel's choice.
func boundTo(t *testing.T, s *Socket) string {
	t.Helper()
	fd := s.listener
	if !s.stream {
		fd = s.conn
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return (&net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}).String()
	case *unix.SockaddrInet6:
		return (&net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}).String()
	}
	t.Fatalf("bound to %v", sa)
	return ""
}

func TestDatagramPeerMayRestart(t *testing.T) {
	dir := t.TempDir()
	a := openSocket(t, SocketConfig{Kind: KindDatagram, Listen: dir + "/a", Connect: dir + "/b"})
	if a.Up() {
		t.Error("up before the peer is there")
	}
	for range 2 {
		b, err := OpenSocket(SocketConfig{Kind: KindDatagram, Listen: dir + "/b", Connect: dir + "/a"})
		if err != nil {
			t.Fatal(err)
		}
		a.mu.Lock()
		a.retryAt = time.Time{}
		a.mu.Unlock()
		settle(t, a, true)
		send(t, a, numbered(60, 1))
		receive(t, b, 1, 1)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		f := NewFrame(60)
		f.Set(numbered(60, 1))
		if _, err := a.Write([]*Frame{f}); err != ErrDown {
			t.Errorf("Write() to a peer that is gone = %v", err)
		}
	}
}

func TestFullSocketLosesWholeFrames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wire")
	s := openSocket(t, SocketConfig{Listen: path})
	peer, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	settle(t, s, true)
	f := NewFrame(BufferBytes)
	taken := 0
	for number := byte(1); ; number++ {
		f.Set(numbered(60000, number))
		n, err := s.Write([]*Frame{f})
		if n == 0 {
			if err != ErrFull {
				t.Errorf("Write() to a full socket = %v", err)
			}
			break
		}
		taken++
	}
	if got := s.Drops().Send; got != 1 {
		t.Errorf("%d lost, want 1", got)
	}
	// The rest of the frame that went in part follows once there is room.
	_ = peer.SetDeadline(time.Now().Add(socketPatience))
	for i := range taken {
		got := make([]byte, lengthBytes+60000)
		for at := 0; at < len(got); {
			n, err := peer.Read(got[at:])
			if err != nil {
				t.Fatalf("frame %d of %d: %v", i, taken, err)
			}
			at += n
			if _, err := s.Read(buffers(1)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, framed(numbered(60000, byte(i+1)))) {
			t.Fatalf("frame %d came broken", i)
		}
	}
}

func TestStreamCountsWhatMakesNoSense(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wire")
	s := openSocket(t, SocketConfig{Listen: path})
	peer, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	settle(t, s, true)
	all := append(framed(nil), framed(numbered(13, 1))...)
	all = append(all, framed(numbered(60, 2))...)
	all = append(all, 0xff, 0xff, 0xff, 0xff) // No frame is that long: the peer has lost its place.
	if _, err := peer.Write(all); err != nil {
		t.Fatal(err)
	}
	receive(t, s, 1, 4)
	settle(t, s, false)
	if got, want := s.Drops(), (Drops{Short: 2, Header: 1}); got != want {
		t.Errorf("Drops() = %+v, want %+v", got, want)
	}
}

func TestOffloadedFrameIsRefused(t *testing.T) {
	dir := t.TempDir()
	a := openSocket(t, SocketConfig{Listen: dir + "/s"})
	openSocket(t, SocketConfig{Connect: dir + "/s"})
	settle(t, a, true)
	f := NewFrame(100)
	f.Set(numbered(60, 1))
	f.Offload.NeedsChecksum = true
	if _, err := a.Write([]*Frame{f}); err != ErrFrame {
		t.Errorf("Write() = %v", err)
	}
}

func TestStaleSocketFileIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wire")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := OpenSocket(SocketConfig{Listen: path}); err == nil {
		_ = s.Close()
		t.Fatal("took the address of somebody who listens")
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	openSocket(t, SocketConfig{Listen: path})
}

func TestSocketConfigIsChecked(t *testing.T) {
	for _, cfg := range []SocketConfig{
		{},
		{Kind: "seqpacket", Listen: "/tmp/x"},
		{Listen: "/tmp/x", Connect: "/tmp/y"},
		{Connect: "udp:127.0.0.1:1"},
		{Kind: KindDatagram, Connect: "tcp:127.0.0.1:1"},
		{Kind: KindDatagram, Listen: "/tmp/x", Connect: "127.0.0.1:1"},
		{Connect: "example.org:1"},
		{Connect: "unix:"},
		{Connect: "unix:/" + strings.Repeat("x", 108)},
	} {
		if s, err := OpenSocket(cfg); err == nil {
			_ = s.Close()
			t.Errorf("OpenSocket(%+v) worked", cfg)
		}
	}
}

func TestHostLeftOutMeansLoopback(t *testing.T) {
	e, err := parseEndpoint("tcp::4000", KindStream)
	if err != nil {
		t.Fatal(err)
	}
	if sa := e.addr.(*unix.SockaddrInet4); sa.Addr != [4]byte{127, 0, 0, 1} || sa.Port != 4000 {
		t.Errorf("address %v", sa)
	}
}

func TestStreamDoesNotAllocatePerFrame(t *testing.T) {
	dir := t.TempDir()
	a, b := openSocket(t, SocketConfig{Listen: dir + "/s"}), openSocket(t, SocketConfig{Connect: dir + "/s"})
	settle(t, b, true)
	settle(t, a, true)
	out, in := buffers(1), buffers(2)
	out[0].Set(numbered(1514, 1))
	if n := testing.AllocsPerRun(100, func() {
		if n, err := a.Write(out); n != 1 || err != nil {
			t.Error(n, err)
		}
		if n, err := b.Read(in); n != 1 || err != nil {
			t.Error(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzStream(f *testing.F) {
	f.Add(append(framed(numbered(60, 1)), framed(numbered(20, 2))...), 7)
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 24}, 1)
	f.Add([]byte{0xff, 0, 0, 0}, 2)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := &Socket{stream: true, listener: -1, conn: fds[0], connected: true, poll: -1, remote: &endpoint{},
			retryAt: time.Now().Add(time.Hour), in: make([]byte, 2*(lengthBytes+FrameBytesMax))}
		defer func() { s.disconnect(); _ = unix.Close(fds[1]) }()
		frames := buffers(2)
		total := 0
		for _, part := range [][]byte{stream[:max(0, min(cut, len(stream)))], stream[max(0, min(cut, len(stream))):]} {
			if _, err := unix.Write(fds[1], part); err != nil && len(part) > 0 {
				return
			}
			for {
				n, err := s.Read(frames)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range frames[:n] {
					total += lengthBytes + f.Len
				}
				if n == 0 {
					break
				}
			}
		}
		if total > len(stream) {
			t.Fatalf("%d bytes out of %d", total, len(stream))
		}
	})
}
