package link

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The kinds of socket device.
const (
	KindStream   = "stream"
	KindDatagram = "dgram"
)

const (
	socketRetry     = time.Second
	socketBuffer    = 4 << 20 // asked for; the kernel gives what it allows
	socketIdle      = 5       // s of silence before a TCP peer is probed
	socketDeadAfter = 15000   // ms a TCP peer may leave bytes unacknowledged
	mtuDefault      = 1500
)

// SocketConfig describes a wire made of a host socket, as QEMU's netdevs
// "stream" and "dgram" speak it (QEMU's system documentation, network
// emulation): in a stream each frame follows its length, four bytes in
// network byte order; otherwise each datagram is a frame.
//
// A stream either listens, for one peer at a time, or connects. Datagrams go
// to Connect, and to the last sender where that is empty.
//
// Addresses are "unix:/path", "unix:@abstract", "/path", "tcp:host:port",
// "udp:host:port" or "host:port", the host as a number.
//
// Nothing on such a wire is authenticated: whoever reaches the socket is on
// the segment.
type SocketConfig struct {
	Kind    string // [KindStream], also where empty, or [KindDatagram]
	Listen  string
	Connect string
	MTU     int // 0: 1500
}

// Socket is a [Device] over a host socket; it has one queue. It connects and
// connects again by itself: [Socket.Up] tries, at most once a second.
type Socket struct {
	info   Info
	stream bool
	listen *endpoint // nil: none
	remote *endpoint // nil: none
	poll   int       // an epoll descriptor: what a worker polls stays, whatever comes and goes behind it
	drops  DropCount

	mu        sync.Mutex
	closed    bool
	listener  int // -1: none
	conn      int // the connection or the datagram socket; -1: none
	connected bool
	events    uint32 // what poll asks of conn
	retryAt   time.Time
	peer      sockaddr // where datagrams go, if that is learned

	in         []byte // received, not handed out: in[start:end]
	start, end int
	out        []byte // the rest of a frame that went only in part
}

// OpenSocket prepares a socket device. It fails where it cannot listen; that
// nobody answers yet is no error.
func OpenSocket(cfg SocketConfig) (*Socket, error) {
	s := &Socket{listener: -1, conn: -1, poll: -1}
	if err := s.configure(cfg); err != nil {
		return nil, fmt.Errorf("socket device: %w", err)
	}
	if err := s.begin(); err != nil {
		_ = s.Close() // The first error is the one to tell.
		return nil, fmt.Errorf("socket device %s: %w", s.info.Device, err)
	}
	return s, nil
}

func (s *Socket) configure(cfg SocketConfig) error {
	kind := cfg.Kind
	if kind == "" {
		kind = KindStream
	}
	s.stream = kind == KindStream
	switch {
	case kind != KindStream && kind != KindDatagram:
		return fmt.Errorf("kind %q; %q and %q are known", kind, KindStream, KindDatagram)
	case cfg.Listen == "" && cfg.Connect == "":
		return errors.New("neither listen nor connect is given")
	case s.stream && cfg.Listen != "" && cfg.Connect != "":
		return errors.New("a stream listens or connects, not both")
	}
	for _, side := range []struct {
		text string
		into **endpoint
	}{{cfg.Listen, &s.listen}, {cfg.Connect, &s.remote}} {
		if side.text == "" {
			continue
		}
		e, err := parseEndpoint(side.text, kind)
		if err != nil {
			return err
		}
		*side.into, s.info.Device = &e, e.text
	}
	if s.listen != nil && s.remote != nil && s.listen.family != s.remote.family {
		return errors.New("listen and connect are of two families")
	}
	s.info.Driver, s.info.Queues, s.info.MTU = "socket", 1, cfg.MTU
	if cfg.MTU == 0 {
		s.info.MTU = mtuDefault
	}
	return nil
}

func (s *Socket) begin() (err error) {
	if s.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make poll descriptor: %w", err)
	}
	if !s.stream {
		return s.openDatagram()
	}
	s.in = make([]byte, 2*(lengthBytes+FrameBytesMax))
	if s.listen == nil {
		s.dial(time.Now())
		return nil
	}
	fd, err := s.bound(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	s.listener = fd
	if err := unix.Listen(fd, 1); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return s.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN)
}

// bound is a new socket with the address to listen at.
func (s *Socket) bound(sockType int) (int, error) {
	s.listen.dropStale(sockType)
	fd, err := unix.Socket(s.listen.family, sockType|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	if s.stream {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err := unix.Bind(fd, s.listen.addr); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("bind: %w", err)
	}
	return fd, nil
}

func (s *Socket) watch(op, fd int, events uint32) error {
	return unix.EpollCtl(s.poll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// dial begins to connect. Where that fails now, a later call begins again.
func (s *Socket) dial(now time.Time) {
	s.retryAt = now.Add(socketRetry)
	fd, err := unix.Socket(s.remote.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	err = unix.Connect(fd, s.remote.addr)
	if err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return
	}
	s.adopt(fd, err == nil)
}

// adopt makes fd the connection; one that is still being made is watched for
// its end, which makes it writable.
func (s *Socket) adopt(fd int, connected bool) {
	s.conn, s.connected, s.events = fd, connected, unix.EPOLLIN
	if !connected {
		s.events = unix.EPOLLOUT
	}
	s.start, s.end, s.out = 0, 0, s.out[:0]
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	if s.stream && s.family() != unix.AF_UNIX {
		// A peer that vanished must not hold the wire; only TCP can have one.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, socketIdle)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, socketIdle)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, socketDeadAfter)
	}
	if s.watch(unix.EPOLL_CTL_ADD, fd, s.events) != nil {
		s.disconnect()
	}
}

func (s *Socket) family() int {
	if s.listen != nil {
		return s.listen.family
	}
	return s.remote.family
}

// advance moves the connection on: accepted, made, or begun again.
func (s *Socket) advance() {
	switch {
	case s.connected || s.closed:
	case !s.stream:
		s.advanceDatagram(time.Now())
	case s.conn >= 0:
		s.finish()
	case s.listener >= 0:
		if fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err == nil {
			// The next one waits until this one is done.
			_ = s.watch(unix.EPOLL_CTL_DEL, s.listener, 0)
			s.adopt(fd, true)
		}
	default:
		if now := time.Now(); !now.Before(s.retryAt) {
			s.dial(now)
		}
	}
}

// finish looks whether a connection begun is made or refused.
func (s *Socket) finish() {
	p := [1]unix.PollFd{{Fd: int32(s.conn), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p[:], 0); err != nil || n == 0 {
		return
	}
	if code, err := unix.GetsockoptInt(s.conn, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		s.disconnect()
		return
	}
	s.connected = true
	s.arm(unix.EPOLLIN)
}

// arm changes what the connection is watched for.
func (s *Socket) arm(events uint32) {
	if s.conn < 0 || s.events == events {
		return
	}
	s.events = events
	_ = s.watch(unix.EPOLL_CTL_MOD, s.conn, events)
}

// disconnect ends the connection; closing takes it out of the poll descriptor.
func (s *Socket) disconnect() {
	if s.conn >= 0 {
		_ = unix.Close(s.conn)
	}
	s.conn, s.connected = -1, false
	if s.listener >= 0 && !s.closed {
		_ = s.watch(unix.EPOLL_CTL_ADD, s.listener, unix.EPOLLIN)
	}
}

// Info says what the device is; it has no MAC and takes no offloads.
func (s *Socket) Info() Info { return s.info }

// Queue returns the only queue.
func (s *Socket) Queue(int) Queue { return s }

// Drops is what was lost here.
func (s *Socket) Drops() Drops { return s.drops.Drops() }

// FD is the descriptor to poll.
func (s *Socket) FD() int { return s.poll }

// Up says whether a peer is connected; where datagrams go to the last sender,
// whether there was one.
func (s *Socket) Up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	return s.connected
}

// Close ends the connection and removes what listened.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	bound := s.listener >= 0 || s.conn >= 0 && !s.stream
	s.disconnect()
	var errs []error
	if s.listener >= 0 {
		errs = append(errs, unix.Close(s.listener))
	}
	if bound && s.listen != nil && s.listen.path != "" {
		errs = append(errs, unix.Unlink(s.listen.path))
	}
	if s.poll >= 0 {
		errs = append(errs, unix.Close(s.poll))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close socket device %s: %w", s.info.Device, err)
	}
	return nil
}

// Read fills frames with what has arrived. It also accepts, ends and flushes:
// the poll descriptor is readable whenever there is any of that to do.
func (s *Socket) Read(frames []*Frame) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	if !s.stream {
		return s.readDatagrams(frames), nil
	}
	s.advance()
	if !s.connected {
		return 0, nil
	}
	return s.readStream(frames), nil
}

// Write sends frames; those the peer has no room for are lost.
func (s *Socket) Write(frames []*Frame) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	sent := 0
	var first error
	for _, f := range frames {
		err := ErrDown
		if s.connected {
			err = s.send(f)
		}
		switch {
		case err == nil:
			sent++
		case first == nil:
			first = err
		}
	}
	s.drops.Send.Add(uint64(len(frames) - sent))
	return sent, first
}

func (s *Socket) send(f *Frame) error {
	switch {
	case f.Len < ethernetBytes || f.Len > FrameBytesMax,
		f.Offload.NeedsChecksum || f.Offload.Segment != SegmentNone: // never asked for
		return ErrFrame
	case s.stream:
		return s.sendStream(f)
	}
	return s.sendDatagram(f)
}
