package link

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	lengthBytes = 4 // precede each frame of a stream
	fillsMax    = 8 // receives of one Read, so that frames not worth handing on end too
)

// readStream hands out whole frames, then asks the socket for more.
func (s *Socket) readStream(frames []*Frame) int {
	s.flush()
	n := 0
	for range fillsMax {
		for n < len(frames) && s.next(frames[n], &n) {
		}
		if n == len(frames) || !s.fill() {
			break
		}
	}
	if s.connected {
		s.rearm()
	}
	return n
}

// next takes one frame's bytes out of s.in; it counts in n if f is one to hand
// on. It says false where there is no whole frame.
func (s *Socket) next(f *Frame, n *int) bool {
	if !s.connected {
		return false
	}
	size, whole := s.buffered()
	if !whole {
		return false
	}
	b := s.in[s.start+lengthBytes : s.start+lengthBytes+size]
	s.start += lengthBytes + size
	switch {
	case size < ethernetBytes:
		s.drops.Short.Add(1)
	case HeadRoom+size > len(f.Buf):
		s.drops.Truncated.Add(1)
	default:
		f.Set(b)
		*n++
	}
	return true
}

// buffered is the length of the next frame, and whether all of it is here. A
// peer that announces more than a frame can be has lost its place, and the
// connection ends.
func (s *Socket) buffered() (size int, whole bool) {
	if s.end-s.start < lengthBytes {
		return 0, false
	}
	length := binary.BigEndian.Uint32(s.in[s.start:])
	if length > FrameBytesMax {
		s.drops.Header.Add(1)
		s.disconnect()
		return 0, false
	}
	return int(length), s.end-s.start >= lengthBytes+int(length)
}

// fill receives what there is, and says whether that was anything.
func (s *Socket) fill() bool {
	if !s.connected {
		return false
	}
	// What is left is less than one frame, and there is room for two.
	s.end = copy(s.in, s.in[s.start:s.end])
	s.start = 0
	b := s.in[s.end:]
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.conn), uintptr(unsafe.Pointer(&b[0])),
		uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return false
	case errno != 0 || n == 0:
		s.disconnect()
		return false
	}
	s.end += int(n)
	return true
}

// rearm asks to be told of room in the socket while something waits for it,
// and, by the same sign, keeps the descriptor readable while a whole frame
// lies here that nobody has taken.
func (s *Socket) rearm() {
	events := uint32(unix.EPOLLIN)
	if _, whole := s.buffered(); whole || len(s.out) > 0 {
		events |= unix.EPOLLOUT
	}
	s.arm(events)
}

// sendStream writes length and frame at once; the length takes the place of
// what is in the head room, for that long.
func (s *Socket) sendStream(f *Frame) error {
	start := f.Off - lengthBytes
	if start < 0 {
		return ErrFrame
	}
	s.flush()
	if len(s.out) > 0 {
		return ErrFull
	}
	b := f.Buf[start : f.Off+f.Len]
	var kept [lengthBytes]byte
	copy(kept[:], b)
	binary.BigEndian.PutUint32(b, uint32(f.Len))
	n, ok := s.transmit(b)
	if ok && 0 < n && n < len(b) {
		s.out = append(s.out, b[n:]...)
		s.rearm()
	}
	copy(b, kept[:])
	switch {
	case !ok:
		return ErrDown
	case n == 0:
		return ErrFull
	}
	return nil
}

// flush sends the rest of a frame that went in part.
func (s *Socket) flush() {
	if len(s.out) == 0 {
		return
	}
	n, ok := s.transmit(s.out)
	if !ok {
		return
	}
	s.out = append(s.out[:0], s.out[n:]...)
	if len(s.out) == 0 {
		s.rearm()
	}
}

// transmit sends what there is room for; not ok: the connection has ended.
func (s *Socket) transmit(b []byte) (n int, ok bool) {
	sent, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.conn), uintptr(unsafe.Pointer(&b[0])),
		uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	switch errno {
	case 0:
		return int(sent), true
	case unix.EAGAIN, unix.EINTR, unix.ENOBUFS:
		return 0, true
	}
	s.disconnect()
	return 0, false
}
