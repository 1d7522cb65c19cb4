package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlogMax is how many connections wait to be accepted.
const backlogMax = 1024

// ListenTCP listens on one address of an interface, also on one that is not
// held now: it answers while it is. An unspecified address listens on all of
// the interface's, interface 0 on all interfaces.
func (h *Host) ListenTCP(iface uint16, addr netip.AddrPort) (net.Listener, error) {
	wq := new(waiter.Queue)
	ep, err := h.bind(tcp.ProtocolNumber, wq, iface, addr)
	if err != nil {
		return nil, fmt.Errorf("host: listen on tcp %v: %w", addr, err)
	}
	if err := ep.Listen(backlogMax); err != nil {
		ep.Close()
		return nil, fmt.Errorf("host: listen on tcp %v: %s", addr, err)
	}
	l := &listener{TCPListener: gonet.NewTCPListener(h.stack, wq, ep), host: h}
	h.track(l)
	return l, nil
}

// ListenUDP opens a UDP socket on one address of an interface, with the same
// liberties as [Host.ListenTCP]. It may send and receive broadcasts. One on an
// unspecified address answers from the interface's first address, whatever was
// asked: open one for each address where that matters.
func (h *Host) ListenUDP(iface uint16, addr netip.AddrPort) (net.PacketConn, error) {
	wq := new(waiter.Queue)
	ep, err := h.bind(udp.ProtocolNumber, wq, iface, addr)
	if err != nil {
		return nil, fmt.Errorf("host: listen on udp %v: %w", addr, err)
	}
	ep.SocketOptions().SetBroadcast(true)
	c := &packetConn{UDPConn: gonet.NewUDPConn(wq, ep), host: h}
	h.track(c)
	return c, nil
}

// bind makes an endpoint on an address. The guest refuses an address that is
// not held, unless it may spoof for that moment; meanwhile nothing is
// delivered, so that nothing can be answered from one.
func (h *Host) bind(proto tcpip.TransportProtocolNumber, wq *waiter.Queue, iface uint16, addr netip.AddrPort) (tcpip.Endpoint, error) {
	at, err := h.full(iface, addr)
	if err != nil {
		return nil, err
	}
	h.life.Lock()
	defer h.life.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	ep, terr := h.stack.NewEndpoint(proto, protocolOf(addr.Addr()), wq)
	if terr != nil {
		return nil, fmt.Errorf("%s", terr)
	}
	if proto == tcp.ProtocolNumber {
		ep.SocketOptions().SetReuseAddress(true) // Connections of a former listener may linger.
	}
	if at.NIC != 0 { // The same port may be taken on another interface.
		ep.SocketOptions().SetBindToDevice(int32(at.NIC))
	}
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		ep.SocketOptions().SetV6Only(true)
	}
	terr = ep.Bind(at)
	if _, notHeld := terr.(*tcpip.ErrBadLocalAddress); notHeld && at.NIC != 0 {
		h.stack.SetSpoofing(at.NIC, true)
		terr = ep.Bind(at)
		h.stack.SetSpoofing(at.NIC, false)
	}
	if terr != nil {
		ep.Close()
		return nil, fmt.Errorf("%s", terr)
	}
	return ep, nil
}

// full is an address as the guest writes it. The zone names an interface.
func (h *Host) full(iface uint16, addr netip.AddrPort) (tcpip.FullAddress, error) {
	iface, err := h.ifaceOf(iface, addr.Addr())
	if err != nil {
		return tcpip.FullAddress{}, err
	}
	at := tcpip.FullAddress{NIC: tcpip.NICID(iface), Port: addr.Port()}
	if !addr.Addr().IsUnspecified() {
		at.Addr = guestAddr(addr.Addr())
	}
	return at, nil
}

// ifaceOf is iface, or if that is 0 the one that addr's zone names.
func (h *Host) ifaceOf(iface uint16, addr netip.Addr) (uint16, error) {
	if zone := addr.Zone(); iface == 0 && zone != "" {
		named, ok := h.names[zone]
		if !ok {
			return 0, fmt.Errorf("zone %s: %w", zone, ErrNoIface)
		}
		return named, nil
	}
	if iface != 0 && h.nics[iface] == nil {
		return 0, fmt.Errorf("interface %d: %w", iface, ErrNoIface)
	}
	return iface, nil
}

// DialTCP connects to remote, from local (zero: chosen by route) and by iface
// (0: by route).
func (h *Host) DialTCP(ctx context.Context, local netip.Addr, iface uint16, remote netip.AddrPort) (net.Conn, error) {
	from, to, err := h.ends(local, iface, remote)
	if err != nil {
		return nil, fmt.Errorf("host: dial tcp %v: %w", remote, err)
	}
	c, err := gonet.DialTCPWithBind(ctx, h.stack, from, to, protocolOf(remote.Addr()))
	if err != nil {
		return nil, fmt.Errorf("host: dial tcp %v: %w", remote, err)
	}
	return c, nil
}

// DialUDP opens a UDP socket that talks to remote only, from local and by
// iface as in [Host.DialTCP].
func (h *Host) DialUDP(local netip.Addr, iface uint16, remote netip.AddrPort) (net.Conn, error) {
	from, to, err := h.ends(local, iface, remote)
	if err != nil {
		return nil, fmt.Errorf("host: dial udp %v: %w", remote, err)
	}
	c, err := gonet.DialUDP(h.stack, &from, &to, protocolOf(remote.Addr()))
	if err != nil {
		return nil, fmt.Errorf("host: dial udp %v: %w", remote, err)
	}
	p := &packetConn{UDPConn: c, host: h}
	h.track(p)
	return p, nil
}

// ends resolves both ends of a connection: a way there must be known, and the
// local address held.
func (h *Host) ends(local netip.Addr, iface uint16, remote netip.AddrPort) (from, to tcpip.FullAddress, err error) {
	h.life.RLock()
	closed := h.closed
	h.life.RUnlock()
	if closed {
		return from, to, ErrClosed
	}
	src, iface, err := h.choose(local, iface, remote.Addr())
	if err != nil {
		return from, to, err
	}
	from = tcpip.FullAddress{NIC: tcpip.NICID(iface), Addr: guestAddr(src)}
	to = tcpip.FullAddress{NIC: tcpip.NICID(iface), Addr: guestAddr(remote.Addr()), Port: remote.Port()}
	return from, to, nil
}

// choose completes local and iface for something sent to dst.
func (h *Host) choose(local netip.Addr, iface uint16, dst netip.Addr) (netip.Addr, uint16, error) {
	iface, err := h.ifaceOf(iface, dst)
	if err != nil {
		return local, 0, err
	}
	b := h.book.Load()
	dst, local = dst.Unmap().WithZone(""), local.Unmap().WithZone("")
	if local.IsValid() {
		holder, held := b.holder(iface, local)
		if !held {
			return local, 0, fmt.Errorf("source %v: %w", local, ErrNoAddress)
		}
		if iface == 0 {
			iface = holder
		}
		return local, iface, nil
	}
	if holder, held := b.holder(iface, dst); held {
		return dst, holder, nil // To ourselves: what is asked answers.
	}
	if iface == 0 {
		way, ok := b.route(dst)
		if !ok {
			return local, 0, ErrNoRoute
		}
		iface = way
	}
	src, ok := b.source(iface, dst)
	if !ok {
		return local, 0, ErrNoAddress
	}
	return src, iface, nil
}

// track remembers what Close must close.
func (h *Host) track(c interface{ Close() error }) {
	h.openMu.Lock()
	defer h.openMu.Unlock()
	h.open[c] = struct{}{}
}

func (h *Host) forget(c interface{ Close() error }) {
	h.openMu.Lock()
	defer h.openMu.Unlock()
	delete(h.open, c)
}

// listener is a TCP listener whose Accept ends as net's do when it is closed.
type listener struct {
	*gonet.TCPListener
	host   *Host
	closed atomic.Bool
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err != nil && l.closed.Load() {
		return nil, net.ErrClosed
	}
	return c, err
}

// Close implements [net.Listener]. Accepted connections live on.
func (l *listener) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.host.forget(l)
	l.TCPListener.Shutdown()
	return l.TCPListener.Close()
}

// packetConn is a UDP socket whose reads end as net's do when it is closed.
type packetConn struct {
	*gonet.UDPConn
	host   *Host
	closed atomic.Bool
}

// ReadFrom implements [net.PacketConn].
func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := c.UDPConn.ReadFrom(b)
	return n, addr, c.ending(err)
}

// Read implements [net.Conn].
func (c *packetConn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	return n, c.ending(err)
}

func (c *packetConn) ending(err error) error {
	if err != nil && c.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// Close implements [net.PacketConn].
func (c *packetConn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.host.forget(c)
	return c.UDPConn.Close()
}
