package vnet

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// socket is one endpoint of a host's stack that is driven by events: whenever
// the stack says that something is to be had, step is called once the stack's
// workers are at rest.
type socket struct {
	h      *Host
	id     uint64 // the order in which sockets of one instant are stepped
	ep     tcpip.Endpoint
	wq     *waiter.Queue
	entry  waiter.Entry
	step   func()
	queued bool // guarded by h.mu: in h.ready
	closed bool
}

// open makes a socket.
func (h *Host) open(transport tcpip.TransportProtocolNumber, network tcpip.NetworkProtocolNumber, step func(*socket)) (*socket, error) {
	wq := new(waiter.Queue)
	ep, err := h.stack.NewEndpoint(transport, network, wq)
	if err != nil {
		return nil, fmt.Errorf("host %s: open a socket: %v", h.name, err)
	}
	return h.adopt(ep, wq, step), nil
}

// adopt drives an endpoint that is there already.
func (h *Host) adopt(ep tcpip.Endpoint, wq *waiter.Queue, step func(*socket)) *socket {
	s := &socket{h: h, id: h.nextID(), ep: ep, wq: wq}
	s.step = func() {
		if !s.closed {
			step(s)
		}
	}
	s.entry.Init(s, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventErr|waiter.EventHUp)
	wq.EventRegister(&s.entry)
	return s
}

// NotifyEvent implements [waiter.EventListener]. The stack calls it from any
// goroutine, with locks held.
func (s *socket) NotifyEvent(waiter.EventMask) {
	s.h.mu.Lock()
	if !s.queued {
		s.queued = true
		s.h.ready = append(s.h.ready, s)
	}
	s.h.mu.Unlock()
	s.h.touch(false)
}

// read takes what there is, n bytes at most, and says whether more may come.
func (s *socket) read(n int) (data []byte, open bool, err tcpip.Error) {
	var b bytes.Buffer
	for b.Len() < n {
		_, err := s.ep.Read(&b, tcpip.ReadOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			return b.Bytes(), true, nil
		case *tcpip.ErrClosedForReceive:
			return b.Bytes(), false, nil
		default:
			return b.Bytes(), false, err
		}
	}
	return b.Bytes(), true, nil
}

// write sends what can be sent of b and returns the rest.
func (s *socket) write(b []byte) (rest []byte, err tcpip.Error) {
	for len(b) > 0 {
		n, err := s.ep.Write(bytes.NewReader(b), tcpip.WriteOptions{})
		b = b[n:]
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			return b, nil
		default:
			return b, err
		}
	}
	return nil, nil
}

func (s *socket) close() { s.end(s.ep.Close) }
func (s *socket) abort() { s.end(s.ep.Abort) }

func (s *socket) end(how func()) {
	if s.closed {
		return
	}
	s.closed = true
	s.wq.EventUnregister(&s.entry)
	how()
	s.h.touch(true)
}

// Dial opens a TCP connection for a goroutine of its own, which takes part in
// the world only if it runs in real time or has a Config.Wait. It may be called
// from any goroutine.
func (h *Host) Dial(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	conn, err := gonet.DialContextTCP(ctx, h.stack, fullAddr(dst), netProto(dst.Addr()))
	if err != nil {
		return nil, fmt.Errorf("host %s: dial %v: %w", h.name, dst, err)
	}
	return &hostConn{conn, h}, nil
}

// Listen accepts TCP connections to an address of the host, for goroutines as
// [Host.Dial] does. It may be called from any goroutine.
func (h *Host) Listen(at netip.AddrPort) (net.Listener, error) {
	l, err := gonet.ListenTCP(h.stack, fullAddr(at), netProto(at.Addr()))
	if err != nil {
		return nil, fmt.Errorf("host %s: listen on %v: %w", h.name, at, err)
	}
	return &hostListener{l, h}, nil
}

// hostConn is a connection used by a goroutine. What it does may leave work to
// the stack's workers, so the host is served after it.
type hostConn struct {
	net.Conn
	h *Host
}

func (c *hostConn) Read(b []byte) (int, error) {
	defer c.h.touch(true)
	return c.Conn.Read(b)
}

func (c *hostConn) Write(b []byte) (int, error) {
	defer c.h.touch(true)
	return c.Conn.Write(b)
}

func (c *hostConn) Close() error {
	defer c.h.touch(true)
	return c.Conn.Close()
}

type hostListener struct {
	net.Listener
	h *Host
}

func (l *hostListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hostConn{conn, l.h}, nil
}

func fullAddr(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: hostNIC, Addr: stackAddr(a.Addr()), Port: a.Port()}
}

func addrPort(a tcpip.FullAddress) netip.AddrPort {
	return netip.AddrPortFrom(netipAddr(a.Addr), a.Port)
}
