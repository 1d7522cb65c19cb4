package host

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	// queueLenDefault is how many packets wait for the router at most.
	queueLenDefault = 1024
	// Bytes that a TCP connection buffers in each direction.
	tcpBufferMin     = 4 << 10
	tcpBufferDefault = 1 << 20
	tcpBufferMax     = 8 << 20
)

// Why something is not possible now.
var (
	ErrClosed    = errors.New("the host is closed")
	ErrNoRoute   = errors.New("no route to that address")
	ErrNoAddress = errors.New("no address of that family to send from")
	ErrNoIface   = errors.New("no such interface")
)

// Interface is one that the guest has a NIC on.
type Interface struct {
	Index uint16 // at least 1
	Name  string // "wan"; also the zone of scoped addresses
	MTU   int    // bytes of the longest datagram
}

// Config is what a host is made of.
type Config struct {
	Interfaces []Interface
	Clock      Clock         // nil: real time
	Rand       func() uint64 // nil: the operating system's
	QueueLen   int           // packets of output that wait at most; 0: 1024
	// Wake is called when there is output to [Host.Read], once until the next
	// Read. It is called with locks held and must not block or call the host.
	Wake func()
}

// Host is a running guest. Its methods may be called from any goroutine.
type Host struct {
	stack *stack.Stack
	clock Clock
	rand  *randomness
	out   queue
	nics  map[uint16]*nic   // fixed
	names map[string]uint16 // fixed

	// life is held for reading while a datagram is delivered, for writing
	// while an address may be used that is not held, and to close.
	life   sync.RWMutex
	closed bool

	pumpMu sync.Mutex
	parked bool

	addrMu sync.Mutex // serialises changes of addresses and routes
	book   atomic.Pointer[addressBook]

	openMu sync.Mutex
	open   map[io.Closer]struct{} // listeners and packet sockets

	pings pings
	stats counters
}

// counters are those that the guest does not keep.
type counters struct {
	delivered, refused, queued, dropped, tooLong atomic.Uint64
}

// Stats are counts since the start.
type Stats struct {
	Delivered     uint64 // datagrams given to the guest
	Refused       uint64 // datagrams that [Host.Deliver] would not take
	Queued        uint64 // datagrams the guest sent
	Dropped       uint64 // ... lost because the queue was full
	TooLong       uint64 // ... lost because the reader's buffer was too small
	Waiting       int    // in the queue now
	Established   uint64 // TCP connections now
	Retransmitted uint64 // TCP segments
}

// New starts a guest without addresses.
func New(cfg Config) (*Host, error) {
	h := &Host{
		clock: cfg.Clock,
		rand:  &randomness{draw: cfg.Rand},
		nics:  make(map[uint16]*nic),
		names: make(map[string]uint16),
		open:  make(map[io.Closer]struct{}),
	}
	if h.clock == nil {
		h.clock = realTime{tcpip.NewStdClock()}
	}
	if h.rand.draw == nil {
		h.rand.draw = systemRandom
	}
	h.out.init(cfg.QueueLen, cfg.Wake)
	h.book.Store(&addressBook{})
	h.stack = stack.New(stack.Options{
		// Zero options: the guest detects no duplicates, solicits and heeds no
		// router, reports no group, makes no link-local address.
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocolWithOptions(ipv4.Options{}), ipv6.NewProtocolWithOptions(ipv6.Options{}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		Clock:       &guestClock{clock: h.clock, base: h.clock.Now()},
		HandleLocal: true,
		RandSource:  h.rand,
		SecureRNG:   h.rand,
	})
	if err := h.setUp(cfg.Interfaces); err != nil {
		h.Close()
		return nil, fmt.Errorf("host: %w", err)
	}
	return h, nil
}

func (h *Host) setUp(ifaces []Interface) error {
	sack, cubic, moderate := tcpip.TCPSACKEnabled(true), tcpip.CongestionControlOption("cubic"), tcpip.TCPModerateReceiveBufferOption(true)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcpBufferMin, Default: tcpBufferDefault, Max: tcpBufferMax}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcpBufferMin, Default: tcpBufferDefault, Max: tcpBufferMax}
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &cubic, &moderate, &send, &receive} {
		if err := h.stack.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("set TCP option %T: %s", opt, err)
		}
	}
	for _, i := range ifaces {
		if i.Index == 0 || h.nics[i.Index] != nil {
			return fmt.Errorf("interface %s: index %d is zero or taken", i.Name, i.Index)
		}
		n := &nic{host: h, iface: i.Index}
		n.mtu.Store(uint32(i.MTU))
		if err := h.stack.CreateNICWithOptions(tcpip.NICID(i.Index), n, stack.NICOptions{Name: i.Name}); err != nil {
			return fmt.Errorf("interface %s: create NIC: %s", i.Name, err)
		}
		h.nics[i.Index], h.names[i.Name] = n, i.Index
	}
	h.SetRoutes(nil)
	return nil
}

// Deliver gives the guest an IP datagram that came in by iface; it is copied.
// TCP segments may be coalesced, UDP datagrams and fragments not. The router
// has verified the checksums, IPv4's header too: the guest does not look at
// them. A datagram for an address that another interface holds is handed to
// that one. False: not taken, because it is none, or because of neighbour
// discovery, which the guest must not see.
func (h *Host) Deliver(iface uint16, datagram []byte) bool {
	h.life.RLock()
	defer h.life.RUnlock()
	dst, proto, ok := destination(datagram)
	if !ok || h.closed {
		h.stats.refused.Add(1)
		return false
	}
	if !dst.IsMulticast() {
		if holder, held := h.book.Load().holder(iface, dst); held {
			iface = holder
		}
	}
	n := h.nics[iface]
	if n == nil {
		h.stats.refused.Add(1)
		return false
	}
	h.stats.delivered.Add(1)
	if h.pings.take(datagram, h.clock) {
		return true
	}
	n.deliver(proto, datagram)
	return true
}

// destination reads as much of a datagram as delivering it needs.
func destination(b []byte) (dst netip.Addr, proto tcpip.NetworkProtocolNumber, ok bool) {
	switch {
	case len(b) >= header.IPv4MinimumSize && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[16:20])), header.IPv4ProtocolNumber, true
	case len(b) >= header.IPv6MinimumSize && b[0]>>4 == 6:
		if b[6] == uint8(header.ICMPv6ProtocolNumber) && len(b) > header.IPv6MinimumSize && isOfTheLink(b[header.IPv6MinimumSize]) {
			return netip.Addr{}, 0, false
		}
		return netip.AddrFrom16([16]byte(b[24:40])), header.IPv6ProtocolNumber, true
	}
	return netip.Addr{}, 0, false
}

// isOfTheLink: the ICMPv6 types of neighbour discovery and group membership
// (RFC 4861, 2710, 3810), which the guest would answer or believe.
func isOfTheLink(icmpType uint8) bool { return icmpType >= 130 && icmpType <= 137 || icmpType == 143 }

// deliver calls into the guest, which handles UDP and ICMP before it returns
// and queues TCP segments for its workers.
func (n *nic) deliver(proto tcpip.NetworkProtocolNumber, datagram []byte) {
	d := n.dispatcher.Load()
	if d == nil {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(datagram)})
	(*d).DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// Pump lets the guest's TCP workers do what is queued for them and parks them
// again; the first call only parks them. It is for drivers of virtual time (see
// the package comment); a host in real time is never pumped. It says whether
// the guest sent anything meanwhile.
func (h *Host) Pump() bool {
	h.pumpMu.Lock()
	defer h.pumpMu.Unlock()
	h.life.RLock()
	closed := h.closed
	h.life.RUnlock()
	if closed {
		return false
	}
	before := h.stats.queued.Load()
	if h.parked {
		h.stack.Resume()
	}
	h.stack.Pause()
	h.parked = true
	return h.stats.queued.Load() != before
}

// Close ends all sockets and waits until the guest's goroutines are gone. What
// is queued for the router is lost.
func (h *Host) Close() {
	h.pumpMu.Lock()
	defer h.pumpMu.Unlock()
	h.life.Lock()
	was := h.closed
	h.closed = true
	h.life.Unlock()
	if was {
		return
	}
	if h.parked {
		h.stack.Resume()
		h.parked = false
	}
	h.openMu.Lock()
	var open []io.Closer
	for c := range h.open {
		open = append(open, c)
	}
	h.openMu.Unlock()
	for _, c := range open {
		c.Close()
	}
	h.pings.fail()
	h.stack.Destroy()
	h.out.close()
}

// Stats returns the counts.
func (h *Host) Stats() Stats {
	t := h.stack.Stats().TCP
	return Stats{
		Delivered: h.stats.delivered.Load(), Refused: h.stats.refused.Load(),
		Queued: h.stats.queued.Load(), Dropped: h.stats.dropped.Load(), TooLong: h.stats.tooLong.Load(),
		Waiting:     h.out.waiting(),
		Established: t.CurrentEstablished.Value(), Retransmitted: t.Retransmits.Value(),
	}
}
