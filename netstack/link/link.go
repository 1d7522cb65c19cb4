// Package link is the edge between the node and its wires: what a device is,
// and what a frame carries on its way through.
//
// A [Device] has queues; a [Queue] reads and writes batches of frames without
// blocking. A [Frame] lies in a buffer with head room and keeps the offload
// facts that came with it (segmentation size, unfinished checksum), so that a
// coalesced frame crosses the node without being taken apart. The package
// never interprets what is above the Ethernet header, save the 802.1Q tag.
//
// The offload facts are those of struct virtio_net_hdr (virtio 1.2, section
// 5.1.6), which TAP devices and AF_PACKET sockets share. Drivers live in the
// packages below this one; a layer-3 device (TUN) presents an Ethernet header
// of its own making, so that the router sees one kind of frame.
package link

import "errors"

// MAC is an Ethernet address.
type MAC [6]byte

const (
	// HeadRoom is how many bytes a frame read from a device has free ahead of
	// its Ethernet header: a VLAN tag and a virtio header fit.
	HeadRoom = 64
	// FrameBytesMax is the longest frame: a coalesced one, 64 KiB of IP and
	// its Ethernet header with two tags.
	FrameBytesMax = 65535 + 14 + 8
	// BufferBytes is the size of a buffer that can hold any frame.
	BufferBytes = HeadRoom + FrameBytesMax + 1
)

// ErrGone says that the device does not exist any more (or not yet again).
// Reads and writes that return it leave the device down; the device itself
// looks for its return when [Device.Up] is asked.
var ErrGone = errors.New("device is gone")

// Segmentation says how a coalesced frame is to be cut.
type Segmentation uint8

// The kinds of coalesced frames; the values are ours, not virtio's.
const (
	SegmentNone Segmentation = iota
	SegmentTCP4
	SegmentTCP6
	SegmentUDP // UDP of either family: each datagram SegSize bytes long
)

// Offload is what a frame's sender left to others. Offsets count from the
// first byte of the Ethernet header.
type Offload struct {
	// NeedsChecksum: the layer-4 checksum field holds the pseudo-header sum
	// only; whoever needs the full one sums from ChecksumStart to the end and
	// stores it at ChecksumStart+ChecksumOffset.
	NeedsChecksum  bool
	ChecksumStart  uint16
	ChecksumOffset uint16
	// Validated: the device vouches for the layer-4 checksum.
	Validated bool
	// Segment is the kind of a coalesced frame, SegmentNone for all others.
	Segment Segmentation
	// ECN: the first segment carries CWR (RFC 3168, section 6.1.2).
	ECN bool
	// HeaderLen is the length of all headers up to the layer-4 payload, and
	// SegSize the payload of each segment in bytes; zero for SegmentNone.
	HeaderLen uint16
	SegSize   uint16
}

// Frame is one Ethernet frame in a buffer. It belongs to whoever read it;
// a device keeps no reference after Write returns.
type Frame struct {
	Buf     []byte // the whole buffer
	Off     int    // where the Ethernet header begins
	Len     int    // bytes from there
	Offload Offload
}

// NewFrame returns an empty frame with a buffer of n bytes behind the head room.
func NewFrame(n int) *Frame {
	return &Frame{Buf: make([]byte, HeadRoom+n), Off: HeadRoom}
}

// Bytes is the frame from its Ethernet header to its end.
func (f *Frame) Bytes() []byte { return f.Buf[f.Off : f.Off+f.Len] }

// Set replaces the frame's content by a copy of b, without offloads. It
// panics if b does not fit: that is the caller's mistake.
func (f *Frame) Set(b []byte) {
	f.Off, f.Len, f.Offload = HeadRoom, len(b), Offload{}
	copy(f.Buf[f.Off:f.Off+f.Len], b)
}

// Features says which offloads a device takes on frames written to it.
type Features struct {
	Checksum bool // frames with NeedsChecksum
	TCP4     bool // SegmentTCP4
	TCP6     bool // SegmentTCP6
	UDP      bool // SegmentUDP
}

// Info is what a device says about itself; it does not change while it is open.
type Info struct {
	Driver   string // "tap", "tun", "packet", "lab" ...
	Device   string // its name outside: "fw1-wan", "eth0"
	MAC      MAC    // the address burnt in; zero where the node has to make one up
	MTU      int    // layer-3 bytes of the longest frame that is not coalesced
	Features Features
	Layer3   bool // no neighbours: whatever is written reaches the other end
	Queues   int  // at least 1
}

// Device is one attachment to the world. All methods may be called from any
// goroutine; each queue's Read by one goroutine at a time.
type Device interface {
	Info() Info
	// Queue returns queue i of Info().Queues.
	Queue(i int) Queue
	// Up says whether the link carries frames now. It is cheap enough to ask
	// ten times a second, and where a device is gone it looks for its return.
	Up() bool
	// Close gives the device back as it was found.
	Close() error
}

// Queue is one receive and transmit queue of a device.
type Queue interface {
	// Read fills frames (Off, Len, Offload; the buffers are the caller's) and
	// says how many. It never blocks: zero and nil mean that there is none.
	Read(frames []*Frame) (int, error)
	// Write sends frames in order and says how many the device took; the rest
	// are lost. The error, if any, is about the first one lost. Write may be
	// called from several goroutines.
	Write(frames []*Frame) (int, error)
	// FD is the descriptor to poll for reading, or -1 where there is none.
	FD() int
}

// AddressFilter is implemented by devices that pass only frames for addresses
// they were told: the virtual MACs held and the multicast groups joined.
type AddressFilter interface {
	// SetAddresses replaces the addresses accepted beside the device's own.
	SetAddresses(macs []MAC) error
}
