package host

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"tandem/netstack/link"
)

const (
	ethernetHeaderLen = 14
	// gsoBytesMax is the longest segment the guest hands over in one piece.
	gsoBytesMax = 65535
)

// nic is the guest's NIC on one interface: a layer-3 link that takes segments
// far longer than its MTU and verifies nothing. Its methods are those of
// [stack.LinkEndpoint] and [stack.GSOEndpoint].
type nic struct {
	host       *Host
	iface      uint16
	mtu        atomic.Uint32
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

func (n *nic) MTU() uint32                           { return n.mtu.Load() }
func (n *nic) SetMTU(mtu uint32)                     { n.mtu.Store(mtu) }
func (*nic) MaxHeaderLength() uint16                 { return 0 }
func (*nic) LinkAddress() tcpip.LinkAddress          { return "" }
func (*nic) SetLinkAddress(tcpip.LinkAddress)        {}
func (*nic) Wait()                                   {}
func (*nic) Close()                                  {}
func (*nic) SetOnCloseAction(func())                 {}
func (*nic) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (*nic) AddHeader(*stack.PacketBuffer)           {}
func (*nic) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (*nic) GSOMaxSize() uint32                      { return gsoBytesMax }
func (*nic) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (n *nic) IsAttached() bool                      { return n.dispatcher.Load() != nil }

// Capabilities: the router verifies checksums. Neighbours are not resolved here.
func (*nic) Capabilities() stack.LinkEndpointCapabilities { return stack.CapabilityRXChecksumOffload }

// Attach is also called with nil, when the NIC goes; a delivery that is under
// way then finds none.
func (n *nic) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		n.dispatcher.Store(nil)
		return
	}
	n.dispatcher.Store(&d)
}

// WritePackets only queues: the guest calls it with locks held. A full queue
// loses the rest, which TCP repeats.
func (n *nic) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	taken := 0
	for _, pkt := range list.AsSlice() {
		n.host.stats.queued.Add(1)
		if !n.host.out.put(item{pkt: pkt.IncRef(), iface: n.iface}) {
			pkt.DecRef()
			n.host.stats.dropped.Add(1)
			break
		}
		taken++
	}
	if taken == 0 {
		return 0, &tcpip.ErrNoBufferSpace{}
	}
	return taken, nil
}

// item is one datagram on its way to the router: the guest's, or a frame that
// is complete.
type item struct {
	pkt   *stack.PacketBuffer
	frame []byte
	iface uint16
}

// queue is the bounded output of all NICs, in order.
type queue struct {
	wake func()

	mu     sync.Mutex
	ring   []item
	head   int
	count  int
	armed  bool // the next put wakes the reader
	closed bool
}

func (q *queue) init(size int, wake func()) {
	if size <= 0 {
		size = queueLenDefault
	}
	q.ring, q.wake, q.armed = make([]item, size), wake, wake != nil
}

// put appends it; false: the queue is full or closed.
func (q *queue) put(it item) bool {
	q.mu.Lock()
	if q.closed || q.count == len(q.ring) {
		q.mu.Unlock()
		return false
	}
	q.ring[(q.head+q.count)%len(q.ring)] = it
	q.count++
	wake := q.armed
	q.armed = false
	q.mu.Unlock()
	if wake {
		q.wake()
	}
	return true
}

// take removes the first; ok is false when there is none.
func (q *queue) take() (it item, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed = q.wake != nil
	if q.count == 0 {
		return item{}, false
	}
	it = q.ring[q.head]
	q.ring[q.head] = item{}
	q.head = (q.head + 1) % len(q.ring)
	q.count--
	return it, true
}

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}

// close empties the queue for good.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	for it, ok := q.take(); ok; it, ok = q.take() {
		it.release()
	}
}

func (it *item) release() {
	if it.pkt != nil {
		it.pkt.DecRef()
	}
}

// Read takes queued output: as many datagrams as there are frames, each behind
// an Ethernet header that is empty but for its type, and in ifaces the interface
// the guest would send it by. Offloads are set as the guest left them, so a
// frame may be a coalesced one of up to 64 KiB; a frame whose buffer is too
// short loses its datagram, counted. It says how many it filled.
func (h *Host) Read(frames []*link.Frame, ifaces []uint16) int {
	n := 0
	for n < len(frames) {
		it, ok := h.out.take()
		if !ok {
			break
		}
		if it.fill(frames[n]) {
			ifaces[n] = it.iface
			n++
		} else {
			h.stats.tooLong.Add(1)
		}
		it.release()
	}
	return n
}

// fill makes f the frame of the item; false if it does not fit.
func (it *item) fill(f *link.Frame) bool {
	size := len(it.frame)
	if it.pkt != nil {
		size = ethernetHeaderLen + it.pkt.Size()
	}
	if link.HeadRoom+size > len(f.Buf) {
		return false
	}
	f.Off, f.Len, f.Offload = link.HeadRoom, size, link.Offload{}
	b := f.Bytes()
	if it.pkt == nil {
		copy(b, it.frame)
		return true
	}
	clear(b[:ethernetHeaderLen])
	b[12], b[13] = byte(it.pkt.NetworkProtocolNumber>>8), byte(it.pkt.NetworkProtocolNumber)
	at := ethernetHeaderLen
	for _, part := range it.pkt.AsSlices() {
		at += copy(b[at:], part)
	}
	f.Offload = offloadOf(it.pkt)
	return true
}

// offloadOf turns the guest's wishes into the frame's. Packets outside a
// connection, and UDP, are complete.
func offloadOf(pkt *stack.PacketBuffer) link.Offload {
	g := pkt.GSOOptions
	if g.Type == stack.GSONone || !g.NeedsCsum {
		return link.Offload{}
	}
	o := link.Offload{
		NeedsChecksum:  true,
		ChecksumStart:  ethernetHeaderLen + g.L3HdrLen,
		ChecksumOffset: g.CsumOffset,
	}
	if pkt.Data().Size() > int(g.MSS) {
		o.Segment = link.SegmentTCP4
		if g.Type == stack.GSOTCPv6 {
			o.Segment = link.SegmentTCP6
		}
		o.HeaderLen, o.SegSize = uint16(ethernetHeaderLen+pkt.HeaderSize()), g.MSS
	}
	return o
}
