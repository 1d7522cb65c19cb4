package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ends of the connection and latency cells. Each of their threads keeps a
// scheduler slot of its own and calls the kernel by RawSyscall, also where it
// sleeps: so Go takes no part in what is measured, and it is as cheap as C.

// connectThreads is how many connections are opened at a time at most.
const connectThreads = 8

// echo is the server: a thread and a listening port for each client thread.
type echo struct {
	port    int
	threads int
}

func (e *echo) flags(s *flag.FlagSet) {
	s.IntVar(&e.port, "port", 7000, "first port")
	s.IntVar(&e.threads, "threads", connectThreads, "threads, each with a port")
}

// run returns only if it cannot listen.
func (e *echo) run() (any, error) {
	ownThreads(e.threads)
	for i := range e.threads {
		fd, err := listen(e.port + i)
		if err != nil {
			return nil, fmt.Errorf("echo on port %d: %w", e.port+i, err)
		}
		go func() {
			runtime.LockOSThread()
			for {
				answer(fd)
			}
		}()
	}
	select {}
}

// ownThreads makes room for n goroutines that block without telling the runtime.
func ownThreads(n int) {
	runtime.GOMAXPROCS(n + 2)
	debug.SetGCPercent(-1) // It could not stop them.
}

func listen(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, err
	}
	// Accepted sockets inherit both. A client whose reset was lost is given up.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return -1, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return -1, err
	}
	return fd, unix.Listen(fd, 128)
}

// answer serves one connection: every byte goes back.
func answer(listener int) {
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, 0, 0, 0)
	if errno != 0 {
		return // The time-out.
	}
	for {
		var b [1]byte
		if !receive(int(fd), &b) || !transmit(int(fd), &b) {
			break
		}
	}
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
}

func receive(fd int, b *[1]byte) bool {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(b)), 1)
		if errno != unix.EINTR {
			return errno == 0 && n == 1
		}
	}
}

func transmit(fd int, b *[1]byte) bool {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(b)), 1, unix.MSG_NOSIGNAL, 0, 0)
	return errno == 0 && n == 1
}

// connect opens connections one after another in each thread: connect, one
// byte there and back, and away by a reset, so that no port stays in TIME_WAIT.
type connect struct {
	to       string
	port     int
	threads  int
	duration time.Duration
}

// connected is what it prints. The first part of the time is not counted.
type connected struct {
	Connections uint64  `json:"connections"`
	Errors      uint64  `json:"errors"`
	Seconds     float64 `json:"seconds"`
}

// warmUp goes ahead of what is counted in the cells with own generators.
const warmUp = 300 * time.Millisecond

func (c *connect) flags(s *flag.FlagSet) {
	s.StringVar(&c.to, "to", "", "IPv4 address of the server")
	s.IntVar(&c.port, "port", 7000, "first port")
	s.IntVar(&c.threads, "threads", 1, "threads, each with a port")
	s.DurationVar(&c.duration, "for", time.Second, "how long")
}

// tally is one thread's count, in a cache line of its own.
type tally struct {
	good, bad atomic.Uint64
	_         [48]byte
}

func (c *connect) run() (any, error) {
	to, err := netip.ParseAddr(c.to)
	if err != nil || !to.Is4() {
		return nil, fmt.Errorf("connect to %q: an IPv4 address is needed", c.to)
	}
	ownThreads(c.threads)
	tallies := make([]tally, c.threads)
	for i := range tallies {
		go func() {
			runtime.LockOSThread()
			peer := sockaddr(to, c.port+i)
			for {
				if connectOnce(&peer) {
					tallies[i].good.Add(1)
				} else {
					tallies[i].bad.Add(1)
				}
			}
		}()
	}
	time.Sleep(warmUp)
	begin, good, bad := time.Now(), uint64(0), uint64(0)
	for i := range tallies {
		good, bad = good-tallies[i].good.Load(), bad-tallies[i].bad.Load()
	}
	time.Sleep(c.duration)
	for i := range tallies {
		good, bad = good+tallies[i].good.Load(), bad+tallies[i].bad.Load()
	}
	return connected{Connections: good, Errors: bad, Seconds: time.Since(begin).Seconds()}, nil
}

func sockaddr(to netip.Addr, port int) unix.RawSockaddrInet4 {
	var b [2]byte // in network byte order, as the kernel wants it
	binary.BigEndian.PutUint16(b[:], uint16(port))
	return unix.RawSockaddrInet4{Family: unix.AF_INET, Port: binary.NativeEndian.Uint16(b[:]), Addr: to.As4()}
}

// dial makes a connected socket, or returns -1.
func dial(peer *unix.RawSockaddrInet4) int {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	if errno != 0 {
		return -1
	}
	// Blocks, but not for ever: 2 s are two lost segments.
	limit := unix.Timeval{Sec: 2}
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, uintptr(unsafe.Pointer(&limit)), unsafe.Sizeof(limit), 0)
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, uintptr(unsafe.Pointer(&limit)), unsafe.Sizeof(limit), 0)
	_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(peer)), unsafe.Sizeof(*peer))
	if errno != 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		return -1
	}
	return int(fd)
}

func connectOnce(peer *unix.RawSockaddrInet4) bool {
	fd := dial(peer)
	if fd < 0 {
		return false
	}
	b := [1]byte{'t'}
	ok := transmit(fd, &b) && receive(fd, &b)
	linger := unix.Linger{Onoff: 1}
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return ok
}

// pingpong sends one byte and waits for it, over and over on one connection.
type pingpong struct {
	to       string
	port     int
	duration time.Duration
}

// ponged is what it prints: round trips and their percentiles.
type ponged struct {
	Trips           int     `json:"trips"`
	P50Microseconds float64 `json:"p50_microseconds"`
	P99Microseconds float64 `json:"p99_microseconds"`
}

// tripsMax is more than any path makes in the longest cell.
const tripsMax = 4 << 20

func (p *pingpong) flags(s *flag.FlagSet) {
	s.StringVar(&p.to, "to", "", "IPv4 address of the server")
	s.IntVar(&p.port, "port", 7000, "port")
	s.DurationVar(&p.duration, "for", time.Second, "how long")
}

func (p *pingpong) run() (any, error) {
	to, err := netip.ParseAddr(p.to)
	if err != nil || !to.Is4() {
		return nil, fmt.Errorf("ping-pong with %q: an IPv4 address is needed", p.to)
	}
	peer := sockaddr(to, p.port)
	fd := dial(&peer)
	if fd < 0 {
		return nil, fmt.Errorf("ping-pong with %v port %d: no connection", to, p.port)
	}
	trips := make([]time.Duration, 0, tripsMax)
	b := [1]byte{'t'}
	begin := time.Now()
	for last := begin; len(trips) < tripsMax; {
		if !transmit(fd, &b) || !receive(fd, &b) {
			return nil, fmt.Errorf("ping-pong with %v port %d: connection lost after %d round trips", to, p.port, len(trips))
		}
		now := time.Now()
		if now.Sub(begin) > warmUp {
			trips = append(trips, now.Sub(last))
		}
		if last = now; now.Sub(begin) > warmUp+p.duration {
			break
		}
	}
	slices.Sort(trips)
	return ponged{Trips: len(trips), P50Microseconds: percentile(trips, 50), P99Microseconds: percentile(trips, 99)}, nil
}

// percentile is the p-th of sorted durations by nearest rank, in microseconds.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := max(1, (len(sorted)*p+99)/100)
	return float64(sorted[rank-1]) / float64(time.Microsecond)
}
