package tuntap

import (
	"encoding/binary"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

const (
	ethernetBytes = 14
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
	packetMin     = 20 // an IPv4 header
)

// queue is one descriptor of the device. The lock is shared by all calls and
// taken alone by Close: a descriptor's number must not be given to somebody
// else under a call.
type queue struct {
	device *Device
	fd     int

	mu     sync.RWMutex
	closed bool
}

func newQueue(d *Device, fd int) *queue { return &queue{device: d, fd: fd} }

// FD is the descriptor to poll; it is the same until Close.
func (q *queue) FD() int { return q.fd }

func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	return unix.Close(q.fd)
}

// Read fills frames until the device has no more. Frames that make no sense
// are counted and passed over, at most as many as were asked for, so that a
// hostile sender cannot keep the worker here.
func (q *queue) Read(frames []*link.Frame) (int, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return 0, link.ErrClosed
	}
	n, bad := 0, 0
	for n < len(frames) && bad <= len(frames) {
		f := frames[n]
		// The virtio header comes to lie right ahead of what it describes.
		at := link.HeadRoom - q.device.header
		if q.device.layer3 {
			at += ethernetBytes
		}
		b := f.Buf[at:]
		got, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(q.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
		case unix.EINTR:
			bad++
			continue
		case unix.EAGAIN:
			return n, nil
		case unix.EBADFD:
			return n, link.ErrGone
		default:
			return n, errno
		}
		if q.accept(f, b, int(got)) {
			n++
		} else {
			bad++
		}
	}
	return n, nil
}

// accept makes f the frame of which b holds the first got bytes, header first.
func (q *queue) accept(f *link.Frame, b []byte, got int) bool {
	d := q.device
	h := d.header
	f.Off, f.Len = link.HeadRoom, got-h
	least := ethernetBytes
	if d.layer3 {
		least = packetMin
	}
	switch {
	case f.Len < least:
		d.drops.Short.Add(1)
		return false
	case got == len(b): // The kernel cuts what does not fit and does not say so.
		d.drops.Truncated.Add(1)
		return false
	}
	if !d.layer3 {
		return q.decode(b[:h], f, 0)
	}
	f.Len += ethernetBytes
	var header [link.VnetBytes]byte // It lies where the Ethernet header will.
	copy(header[:], b[:h])
	if !frameOf(f) {
		d.drops.Short.Add(1)
		return false
	}
	return q.decode(header[:h], f, ethernetBytes)
}

func (q *queue) decode(header []byte, f *link.Frame, shift int) bool {
	if link.DecodeVnet(header, f, shift) {
		return true
	}
	q.device.drops.Header.Add(1)
	return false
}

// frameOf writes the Ethernet header of an IP packet that has none: no
// addresses, and the type that the version says.
func frameOf(f *link.Frame) bool {
	b := f.Bytes()
	clear(b[:12])
	switch b[ethernetBytes] >> 4 {
	case 4:
		binary.BigEndian.PutUint16(b[12:], etherTypeIPv4)
	case 6:
		binary.BigEndian.PutUint16(b[12:], etherTypeIPv6)
	default:
		return false
	}
	return true
}

// Write sends each frame whole, with one call into the kernel. A frame the
// device refuses does not hold up those behind it; a device that is down or
// gone ends the batch.
func (q *queue) Write(frames []*link.Frame) (int, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return 0, link.ErrClosed
	}
	sent := 0
	var first error
	for i, f := range frames {
		err := q.send(f)
		if err == nil {
			sent++
			continue
		}
		if first == nil {
			first = err
		}
		if err == link.ErrGone || err == link.ErrDown {
			q.device.drops.Send.Add(uint64(len(frames) - i))
			return sent, first
		}
		q.device.drops.Send.Add(1)
	}
	return sent, first
}

// send writes one frame, the virtio header in front of it. For the length of
// the call the header takes the place of what is there: head room, or, of a
// frame for a TUN device, the Ethernet header; both are put back.
func (q *queue) send(f *link.Frame) error {
	h, shift := q.device.header, 0
	if q.device.layer3 {
		shift = ethernetBytes
		if !isIP(f) {
			return link.ErrFrame
		}
	}
	start := f.Off + shift - h
	if start < 0 || f.Len <= shift || f.Len < ethernetBytes {
		return link.ErrFrame
	}
	b := f.Buf[start : f.Off+f.Len]
	var kept [link.VnetBytes]byte
	copy(kept[:], b[:h])
	link.EncodeVnet(b[:h], f, shift)
	errno := q.write(b)
	copy(b, kept[:h])
	switch errno {
	case 0:
		return nil
	case unix.EBADFD:
		return link.ErrGone
	case unix.EIO:
		return link.ErrDown
	}
	return errno
}

func (q *queue) write(b []byte) unix.Errno {
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(q.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno != unix.EINTR {
			return errno
		}
	}
}

// isIP says whether f can go where there are no Ethernet headers.
func isIP(f *link.Frame) bool {
	if f.Len < ethernetBytes+packetMin {
		return false
	}
	t := binary.BigEndian.Uint16(f.Bytes()[12:])
	return t == etherTypeIPv4 || t == etherTypeIPv6
}
