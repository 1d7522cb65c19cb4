package link

import (
	"errors"
	"sync/atomic"
)

// ErrDown says that the link carries nothing now; frames written are lost.
var ErrDown = errors.New("link is down")

// ErrFull says that the device has no room for a frame now.
var ErrFull = errors.New("transmit queue is full")

// ErrClosed says that the device was closed on this side.
var ErrClosed = errors.New("device is closed")

// ErrFrame says that a frame is none the device can send: shorter than its
// headers, longer than the device takes, or not of its layer.
var ErrFrame = errors.New("frame does not fit the device")

// Drops counts the frames a device took from the wire and did not hand on,
// and those it was given and could not send.
type Drops struct {
	Header    uint64 `json:"header"`    // virtio header that contradicts itself or its frame
	Truncated uint64 `json:"truncated"` // longer than the buffer it was read into
	Short     uint64 `json:"short"`     // no whole Ethernet (or IP) header
	Queue     uint64 `json:"queue"`     // lost in front of us: the kernel's queue was full
	Send      uint64 `json:"send"`      // written, and not taken by the device
}

// DropCounter is implemented by devices that count what they drop.
type DropCounter interface {
	Drops() Drops
}

// DropCount is the running form of [Drops], shared by the queues of a device.
type DropCount struct {
	Header, Truncated, Short, Queue, Send atomic.Uint64
}

// Drops is the count now.
func (c *DropCount) Drops() Drops {
	return Drops{
		Header:    c.Header.Load(),
		Truncated: c.Truncated.Load(),
		Short:     c.Short.Load(),
		Queue:     c.Queue.Load(),
		Send:      c.Send.Load(),
	}
}
