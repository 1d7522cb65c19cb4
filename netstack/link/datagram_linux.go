package link

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is an address as the kernel writes it; length 0 is none.
type sockaddr struct {
	raw    unix.RawSockaddrAny
	length uint32
}

// openDatagram makes the socket, and its connection if it has one. That the
// peer is not there yet is no error.
func (s *Socket) openDatagram() error {
	var fd int
	var err error
	if s.listen != nil {
		fd, err = s.bound(unix.SOCK_DGRAM)
	} else if fd, err = unix.Socket(s.family(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err == nil && s.family() == unix.AF_UNIX {
		// A name the kernel picks: without one the peer could not answer.
		err = unix.Bind(fd, &unix.SockaddrUnix{})
	}
	if err != nil {
		if s.listen == nil && fd >= 0 {
			_ = unix.Close(fd)
		}
		return fmt.Errorf("open datagram socket: %w", err)
	}
	s.adopt(fd, false)
	if s.conn < 0 {
		return errors.New("watch datagram socket")
	}
	s.arm(unix.EPOLLIN)
	s.advanceDatagram(time.Now())
	return nil
}

// advanceDatagram names the peer to the kernel. With UDP that always works;
// where the peer is a file it must be there.
func (s *Socket) advanceDatagram(now time.Time) {
	if s.remote == nil || now.Before(s.retryAt) {
		return
	}
	s.retryAt = now.Add(socketRetry)
	s.connected = unix.Connect(s.conn, s.remote.addr) == nil
}

// readDatagrams fills frames, one from each datagram.
func (s *Socket) readDatagrams(frames []*Frame) int {
	n, bad := 0, 0
	for n < len(frames) && bad <= len(frames) {
		f := frames[n]
		b := f.Buf[HeadRoom:]
		var from sockaddr
		from.length = unix.SizeofSockaddrAny
		// MSG_TRUNC: the true length comes back, so that a cut is seen.
		got, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.conn), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_DONTWAIT|unix.MSG_TRUNC, uintptr(unsafe.Pointer(&from.raw)), uintptr(unsafe.Pointer(&from.length)))
		if errno == unix.EAGAIN {
			break
		}
		if errno != 0 { // A peer that was not there when we sent; reading it has cleared it.
			bad++
			continue
		}
		switch {
		case got < ethernetBytes:
			s.drops.Short.Add(1)
			bad++
			continue
		case int(got) > len(b):
			s.drops.Truncated.Add(1)
			bad++
			continue
		}
		s.learn(&from)
		f.Off, f.Len, f.Offload = HeadRoom, int(got), Offload{}
		n++
	}
	return n
}

// learn takes the sender for the peer, if none was configured and it has an
// address to answer to.
func (s *Socket) learn(from *sockaddr) {
	const familyBytes = 2
	if s.remote == nil && from.length > familyBytes {
		s.peer, s.connected = *from, true
	}
}

// sendDatagram sends f as one datagram.
func (s *Socket) sendDatagram(f *Frame) error {
	errno := s.sendTo(f.Bytes())
	if errno == unix.ECONNREFUSED && s.family() != unix.AF_UNIX {
		// That was the answer to an earlier one, which says nothing about this one.
		errno = s.sendTo(f.Bytes())
	}
	switch errno {
	case 0:
		return nil
	case unix.EAGAIN, unix.ENOBUFS, unix.EINTR:
		return ErrFull
	case unix.EMSGSIZE:
		return ErrFrame
	case unix.ECONNREFUSED, unix.ENOTCONN, unix.ENOENT, unix.ECONNRESET:
		if s.family() == unix.AF_UNIX {
			s.connected = false
		}
		return ErrDown
	}
	return errno
}

func (s *Socket) sendTo(b []byte) unix.Errno {
	var to unsafe.Pointer
	if s.remote == nil {
		to = unsafe.Pointer(&s.peer.raw)
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.conn), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(to), uintptr(s.peer.length))
	return errno
}
