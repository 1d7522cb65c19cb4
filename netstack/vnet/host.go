package vnet

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"tandem/netstack/link"
	"tandem/netstack/packet"
)

// hostNIC is the number of a host's one interface in its stack.
const hostNIC tcpip.NICID = 1

// HostConfig is what a host is made from.
type HostConfig struct {
	MAC       link.MAC
	Addresses []netip.Prefix // address and length of its network, either family
	Gateway4  netip.Addr     // default gateways; zero for none
	Gateway6  netip.Addr
	MTU       int  // zero for 1500
	TCP       bool // with TCP, which costs a few goroutines
}

// Host is a small computer with ordinary Ethernet, ARP and neighbour
// discovery, and sockets. It answers ping by itself.
type Host struct {
	w     *World
	name  string
	order int
	cfg   HostConfig
	dev   *Device
	nic   *hostLink
	stack *stack.Stack
	ids   uint64

	closed  bool
	touched bool // guarded by w.mu: in the world's list
	pumping bool // guarded by w.mu: TCP's workers may have something to do

	mu    sync.Mutex // guards ready
	ready []*socket

	// By identifier or local port: who counts which frames.
	echoes    map[uint16]*Pinger
	datagrams map[uint16]*Pinger
	conns     map[uint16]*conn
	portsUsed uint64 // where the next connection's port is counted from
	view      packet.View
}

// NewHost returns a host that is attached to nothing. It panics where cfg makes
// no host, which is the caller's mistake.
func (w *World) NewHost(name string, cfg HostConfig) *Host {
	if cfg.MTU == 0 {
		cfg.MTU = defaultMTU
	}
	h := &Host{
		w: w, name: name, order: w.nextOrder(), cfg: cfg,
		echoes: make(map[uint16]*Pinger), datagrams: make(map[uint16]*Pinger), conns: make(map[uint16]*conn),
	}
	h.dev = w.NewDevice(name, DeviceConfig{MAC: cfg.MAC, MTU: cfg.MTU})
	h.dev.host = h
	h.nic = &hostLink{host: h}
	h.stack = h.newStack()
	if err := h.configure(); err != nil {
		panic(fmt.Sprintf("vnet: host %s: %v", name, err))
	}
	if cfg.TCP {
		h.stack.Pause()
	}
	w.hosts = append(w.hosts, h)
	return h
}

func (h *Host) newStack() *stack.Stack {
	h.clock().host = h
	transports := []stack.TransportProtocolFactory{udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6}
	if h.cfg.TCP {
		transports = append(transports, tcp.NewProtocol)
	}
	return stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			arp.NewProtocol, ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{AutoGenLinkLocal: true}),
		},
		TransportProtocols: transports,
		Clock:              stackClock{h.clock()},
		HandleLocal:        true,
		RandSource:         rand.Source(stackRandom(h.w.Rand("host/" + h.name + "/stack"))),
		SecureRNG:          stackRandom(h.w.Rand("host/" + h.name + "/secure")),
	})
}

// timeWait is short, since the stack's TCP drops half of the new connections
// that meet an old one in TIME-WAIT, where others go by timestamps (RFC 6191).
// A translator that has restarted may well use a port again.
const timeWait = 500 * time.Millisecond

func (h *Host) configure() error {
	if h.cfg.TCP {
		wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
		if err := h.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &wait); err != nil {
			return fmt.Errorf("set TIME-WAIT: %s", err)
		}
	}
	if h.cfg.MAC == (link.MAC{}) || h.cfg.MAC[0]&1 != 0 {
		return fmt.Errorf("%x is no address of a station", h.cfg.MAC)
	}
	if err := h.stack.CreateNICWithOptions(hostNIC, ethernet.New(h.nic), stack.NICOptions{Name: h.name}); err != nil {
		return fmt.Errorf("make its interface: %v", err)
	}
	for _, p := range h.cfg.Addresses {
		if !p.IsValid() {
			return fmt.Errorf("an address is not valid")
		}
		if err := h.stack.AddProtocolAddress(hostNIC, protocolAddress(p), stack.AddressProperties{}); err != nil {
			return fmt.Errorf("add %v: %v", p, err)
		}
		h.stack.AddRoute(tcpip.Route{Destination: protocolAddress(p.Masked()).AddressWithPrefix.Subnet(), NIC: hostNIC})
	}
	h.addGateway(h.cfg.Gateway4, header.IPv4EmptySubnet)
	h.addGateway(h.cfg.Gateway6, header.IPv6EmptySubnet)
	return nil
}

func (h *Host) clock() *Clock { return h.w.Clock(h.name) }

func (h *Host) addGateway(gw netip.Addr, all tcpip.Subnet) {
	if gw.IsValid() {
		h.stack.AddRoute(tcpip.Route{Destination: all, Gateway: stackAddr(gw), NIC: hostNIC})
	}
}

func (h *Host) device() *Device { return h.dev }

// Name is the host's name.
func (h *Host) Name() string { return h.name }

// Device is the host's network card.
func (h *Host) Device() *Device { return h.dev }

// Attach puts the host's cable into j.
func (h *Host) Attach(j *Jack) { j.Attach(h) }

// SetPower turns the host on or off; off it sends and hears nothing, though
// its sockets go on.
func (h *Host) SetPower(on bool) { h.dev.SetPower(on) }

// Address is the host's first address of that family (4 or 6).
func (h *Host) Address(family int) (netip.Addr, bool) {
	for _, p := range h.cfg.Addresses {
		if p.Addr().Is4() == (family == 4) {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// Neighbor is the MAC that the host has resolved a to.
func (h *Host) Neighbor(a netip.Addr) (link.MAC, bool) {
	list, err := h.stack.Neighbors(hostNIC, netProto(a))
	if err != nil {
		return link.MAC{}, false
	}
	for _, n := range list {
		if n.Addr == stackAddr(a) && len(n.LinkAddr) == len(link.MAC{}) {
			return link.MAC([]byte(n.LinkAddr)), true
		}
	}
	return link.MAC{}, false
}

// touch has the host served before the world comes to rest, with its TCP
// workers where those may have something to do. It may be called from any
// goroutine.
func (h *Host) touch(pump bool) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.pumping = h.pumping || pump
	if h.touched {
		return
	}
	h.touched = true
	h.w.touched = append(h.w.touched, h)
	h.w.signalLocked()
}

// serve lets the stack's workers run, and then the sockets they woke.
func (h *Host) serve() {
	if h.closed {
		return
	}
	h.w.mu.Lock()
	pump := h.pumping && h.cfg.TCP
	h.pumping = false
	h.w.mu.Unlock()
	if pump {
		h.stack.Resume()
		h.stack.Pause()
	}
	h.mu.Lock()
	ready := h.ready
	h.ready = nil
	for _, s := range ready {
		s.queued = false
	}
	h.mu.Unlock()
	slices.SortFunc(ready, func(a, b *socket) int { return cmp.Compare(a.id, b.id) })
	for _, s := range ready {
		s.step()
	}
}

// received gives the stack a frame from the cable, if it is for the host.
func (h *Host) received(data []byte) {
	dst := link.MAC(data[:6])
	if dst != h.cfg.MAC && dst[0]&1 == 0 {
		return
	}
	h.observe(Received, data)
	h.nic.inject(data)
	h.touch(!plain(data))
}

// plain says that a frame has nothing to do with TCP: it is ARP, UDP or an
// ICMPv4 echo without options.
func plain(data []byte) bool {
	const proto, icmpType = 14 + 9, 14 + 20
	switch binary.BigEndian.Uint16(data[12:]) {
	case packet.EtherTypeARP:
		return true
	case packet.EtherTypeIPv4:
		return len(data) > icmpType && data[14] == 0x45 && (data[proto] == packet.ProtoUDP ||
			data[proto] == packet.ProtoICMP && (data[icmpType] == 0 || data[icmpType] == 8))
	}
	return false
}

// sent sees a frame that the host put on its cable.
func (h *Host) sent(data []byte) { h.observe(Sent, data) }

// observe lets the traffic generators count a frame.
func (h *Host) observe(dir Direction, data []byte) {
	if len(h.echoes) == 0 && len(h.datagrams) == 0 && len(h.conns) == 0 {
		return
	}
	v := &h.view
	if packet.Decode(data, v) != 0 || v.L4 == 0 || !packet.VerifyL4(v) {
		return
	}
	port := v.SrcPort
	if dir == Received {
		port = v.DstPort
	}
	switch v.Proto {
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if p := h.echoes[port]; p != nil && packet.IsICMPQuery(v) {
			p.observe(dir, v)
		}
	case packet.ProtoUDP:
		if p := h.datagrams[port]; p != nil {
			p.observe(dir, v)
		}
	case packet.ProtoTCP:
		if c := h.conns[port]; c != nil {
			c.observe(dir, v)
		}
	}
}

func (h *Host) nextID() uint64 {
	h.ids++
	return h.ids
}

// Close takes the host out of the world and waits for its goroutines. It must
// not be used afterwards; its records may be read.
func (h *Host) Close() {
	if slices.Contains(h.w.hosts, h) {
		h.w.hosts = without(h.w.hosts, h)
		h.destroy()
	}
}

// destroy ends the stack and waits for its goroutines.
func (h *Host) destroy() {
	h.closed = true
	h.clock().host = nil
	h.dev.Close()
	if h.cfg.TCP {
		h.stack.Resume()
	}
	h.stack.Destroy()
}

func stackAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func netipAddr(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr.Unmap()
}

func netProto(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func protocolAddress(p netip.Prefix) tcpip.ProtocolAddress {
	return tcpip.ProtocolAddress{
		Protocol:          netProto(p.Addr()),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: stackAddr(p.Addr()), PrefixLen: p.Bits()},
	}
}
