package nic

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

const (
	batchLen      = 64 // frames of one system call
	headerBytes   = link.VnetBytesShort
	ethernetBytes = 14
	controlBytes  = 64 // one auxdata message and room to spare

	// Of struct tpacket_auxdata's status (linux/if_packet.h).
	statusVLANValid = 1 << 4
	statusTPIDValid = 1 << 6
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batch is the memory of one kind of call, laid out once.
type batch struct {
	msgs    [batchLen]mmsghdr
	iovs    [batchLen][2]unix.Iovec
	headers [batchLen][headerBytes]byte
	from    [batchLen]unix.RawSockaddrLinklayer
	control [batchLen][controlBytes]byte
}

// queue is one packet socket. The lock is shared by all calls and taken alone
// by Close: a descriptor's number must not be given to somebody else under a
// call.
type queue struct {
	device *Device
	fd     int // -1 before the first adopt

	mu     sync.RWMutex
	closed bool

	in     *batch     // of the one reader
	sendMu sync.Mutex // over out
	out    *batch
}

func newQueue(d *Device) *queue { return &queue{device: d, fd: -1, in: &batch{}, out: &batch{}} }

// adopt makes the socket fd this queue's; a second one takes the number of the
// first, which others poll.
func (q *queue) adopt(fd int) error {
	if q.fd < 0 {
		q.fd = fd
		return nil
	}
	err := unix.Dup3(fd, q.fd, unix.O_CLOEXEC)
	_ = unix.Close(fd)
	if err != nil {
		return fmt.Errorf("replace socket: %w", err)
	}
	return nil
}

// FD is the descriptor to poll; it is the same until Close.
func (q *queue) FD() int { return q.fd }

func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.fd < 0 {
		return nil
	}
	return unix.Close(q.fd)
}

// Read takes up to 64 frames with one call.
func (q *queue) Read(frames []*link.Frame) (int, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return 0, link.ErrClosed
	}
	if len(frames) == 0 {
		return 0, nil
	}
	frames = frames[:min(len(frames), batchLen)]
	q.in.receive(frames)
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(q.fd), uintptr(unsafe.Pointer(&q.in.msgs[0])),
		uintptr(len(frames)), unix.MSG_DONTWAIT, 0, 0)
	q.in.release(len(frames))
	switch errno {
	case 0:
		return q.accept(frames, int(got)), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	case unix.EINVAL:
		// A kind of coalesced frame that a virtio header cannot tell; it is gone.
		q.device.drops.Header.Add(1)
		return 0, nil
	case unix.ENETDOWN, unix.ENODEV, unix.ENXIO:
		return 0, nil // Up will tell which.
	}
	return 0, errno
}

// receive points the messages at the frames' buffers, the virtio header to lie
// in the head room.
func (b *batch) receive(frames []*link.Frame) {
	for i, f := range frames {
		buf := f.Buf[link.HeadRoom-headerBytes:]
		b.iovs[i][0].Base = &buf[0]
		b.iovs[i][0].SetLen(len(buf))
		h := &b.msgs[i].hdr
		h.Iov = &b.iovs[i][0]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.from[i]))
		h.Namelen = uint32(unsafe.Sizeof(b.from[i]))
		h.Control = &b.control[i][0]
		h.SetControllen(controlBytes)
		h.Flags = 0
		b.msgs[i].len = 0
	}
}

// release lets go of the frames' buffers.
func (b *batch) release(n int) {
	for i := range n {
		b.iovs[i][0].Base, b.iovs[i][1].Base = nil, nil
	}
	runtime.KeepAlive(b)
}

// accept makes frames of the first n messages, those that make sense moved
// together at the front.
func (q *queue) accept(frames []*link.Frame, n int) int {
	kept := 0
	for i := range n {
		f := frames[i]
		if !q.acceptOne(f, i) {
			continue
		}
		frames[i], frames[kept] = frames[kept], f
		kept++
	}
	return kept
}

func (q *queue) acceptOne(f *link.Frame, i int) bool {
	m := &q.in.msgs[i]
	drops := &q.device.drops
	f.Off, f.Len = link.HeadRoom, int(m.len)-headerBytes
	switch {
	case q.in.from[i].Pkttype == unix.PACKET_OUTGOING:
		return false // Our own, on a kernel that cannot leave them out.
	case m.hdr.Flags&unix.MSG_TRUNC != 0:
		drops.Truncated.Add(1)
		return false
	case f.Len < ethernetBytes:
		drops.Short.Add(1)
		return false
	case !link.DecodeVnet(f.Buf[link.HeadRoom-headerBytes:], f, 0):
		drops.Header.Add(1)
		return false
	}
	if tci, tpid, ok := strippedTag(q.in.control[i][:m.hdr.Controllen]); ok {
		link.PushTag(f, tpid, tci)
	}
	return true
}

// strippedTag finds the VLAN tag that the kernel took off the frame (packet(7),
// PACKET_AUXDATA).
func strippedTag(control []byte) (tci, tpid uint16, ok bool) {
	const size = int(unsafe.Sizeof(unix.TpacketAuxdata{}))
	for len(control) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(control) {
			return 0, 0, false
		}
		if h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA && n >= unix.CmsgLen(size) {
			aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&control[unix.CmsgLen(0)]))
			if aux.Status&statusVLANValid == 0 {
				return 0, 0, false
			}
			tpid = link.TPID8021Q
			if aux.Status&statusTPIDValid != 0 {
				tpid = aux.Vlan_tpid
			}
			return aux.Vlan_tci, tpid, true
		}
		control = control[min(len(control), unix.CmsgSpace(n-unix.CmsgLen(0))):]
	}
	return 0, 0, false
}

// Write sends frames with as few calls as the kernel needs. A frame the device
// refuses does not hold up those behind it; a device that is down or gone ends
// the batch.
func (q *queue) Write(frames []*link.Frame) (int, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return 0, link.ErrClosed
	}
	q.sendMu.Lock()
	defer q.sendMu.Unlock()
	sent := 0
	var first error
	for at := 0; at < len(frames); {
		n, err := q.send(frames[at:min(len(frames), at+batchLen)])
		sent += n
		at += n
		if err == nil {
			continue
		}
		if first == nil {
			first = err
		}
		if err == link.ErrGone || err == link.ErrDown {
			break
		}
		at++ // The one that was refused.
	}
	q.device.drops.Send.Add(uint64(len(frames) - sent))
	return sent, first
}

// send gives the frames to the kernel and says how many it took; the error is
// about the one behind them.
func (q *queue) send(frames []*link.Frame) (int, error) {
	n := q.out.fill(frames)
	if n == 0 {
		return 0, link.ErrFrame
	}
	got, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(q.fd), uintptr(unsafe.Pointer(&q.out.msgs[0])),
		uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	q.out.release(n)
	switch errno {
	case 0:
		return int(got), nil
	case unix.EINTR:
		return 0, nil
	case unix.EAGAIN, unix.ENOBUFS:
		return 0, link.ErrFull
	case unix.EINVAL, unix.EMSGSIZE:
		return 0, link.ErrFrame
	case unix.ENETDOWN:
		return 0, link.ErrDown
	case unix.ENXIO, unix.ENODEV:
		return 0, link.ErrGone
	}
	return 0, errno
}

// fill lays out messages for frames, up to the first that is none.
func (b *batch) fill(frames []*link.Frame) int {
	for i, f := range frames {
		if f.Len < ethernetBytes {
			return i
		}
		link.EncodeVnet(b.headers[i][:], f, 0)
		b.iovs[i][0].Base = &b.headers[i][0]
		b.iovs[i][0].SetLen(headerBytes)
		b.iovs[i][1].Base = &f.Buf[f.Off]
		b.iovs[i][1].SetLen(f.Len)
		h := &b.msgs[i].hdr
		h.Iov = &b.iovs[i][0]
		h.SetIovlen(2)
	}
	return len(frames)
}
