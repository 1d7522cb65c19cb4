package vnet

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	// visitsMax is how many clients' visits a server remembers.
	visitsMax = 1 << 16
	// requestBytesMax is the longest request that is waited for.
	requestBytesMax = 8 << 10
	// serverConnsMax is how many connections are served at a time.
	serverConnsMax = 4096
	listenBacklog  = 256
	// requestTimeout is how long ServeHTTP keeps a connection open.
	requestTimeout = 30 * time.Second
)

// Server is a small server on a host, for both families. It remembers who came.
type Server struct {
	h       *Host
	sock    *socket
	timeout time.Duration // of a connection; zero for none
	conns   map[*served]bool
	visits  []Visit
	total   uint64
}

// Visit is a connection that a server accepted, or a datagram that it answered.
type Visit struct {
	At     time.Time
	Client netip.AddrPort // as the server saw it
}

// served is one open connection of a server. What it reads goes to answer,
// which says what to send and whether that is all.
type served struct {
	server   *Server
	sock     *socket
	deadline Timer // nil for none
	client   netip.AddrPort
	in       []byte
	out      []byte
	last     bool // close when out is sent
	answer   func(c *served, eof bool)
}

// ServeHTTP answers each HTTP request to the port with the client's address as
// seen here, "198.51.100.7:50000" and a newline, and closes the connection.
// The host must have TCP.
func (h *Host) ServeHTTP(port uint16) (*Server, error) {
	return h.serveTCP(port, requestTimeout, func(c *served, eof bool) {
		switch {
		case bytes.Contains(c.in, []byte("\r\n\r\n")):
			body := c.client.String() + "\n"
			c.out = fmt.Appendf(nil, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			c.last, c.in = true, nil
		case eof || len(c.in) > requestBytesMax:
			c.last = true
		}
	})
}

// EchoTCP sends back what it gets on each connection to the port, until the
// client has closed its side. The host must have TCP.
func (h *Host) EchoTCP(port uint16) (*Server, error) {
	return h.serveTCP(port, 0, func(c *served, eof bool) {
		c.out, c.in, c.last = append(c.out, c.in...), c.in[:0], eof
	})
}

func (h *Host) serveTCP(port uint16, timeout time.Duration, answer func(*served, bool)) (*Server, error) {
	srv := &Server{h: h, timeout: timeout, conns: make(map[*served]bool)}
	sock, err := h.open(tcp.ProtocolNumber, ipv6.ProtocolNumber, func(s *socket) { srv.accept(s, answer) })
	if err != nil {
		return nil, err
	}
	srv.sock = sock
	err = srv.bind(port)
	if err == nil {
		if e := sock.ep.Listen(listenBacklog); e != nil {
			err = fmt.Errorf("host %s: listen on port %d: %v", h.name, port, e)
		}
	}
	if err != nil {
		sock.close()
		return nil, err
	}
	return srv, nil
}

// EchoUDP sends each datagram to the port back.
func (h *Host) EchoUDP(port uint16) (*Server, error) {
	srv := &Server{h: h}
	sock, err := h.open(udp.ProtocolNumber, ipv6.ProtocolNumber, srv.echo)
	if err != nil {
		return nil, err
	}
	srv.sock = sock
	if err := srv.bind(port); err != nil {
		sock.close()
		return nil, err
	}
	return srv, nil
}

// bind takes the port on every address of either family.
func (srv *Server) bind(port uint16) error {
	if err := srv.sock.ep.Bind(tcpip.FullAddress{Port: port}); err != nil {
		return fmt.Errorf("host %s: take port %d: %v", srv.h.name, port, err)
	}
	return nil
}

// Close ends the server and its connections.
func (srv *Server) Close() {
	srv.sock.close()
	for _, c := range srv.open() {
		c.end(c.sock.abort)
	}
}

func (srv *Server) open() []*served {
	var list []*served
	for c := range srv.conns {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *served) int { return int(a.sock.id) - int(b.sock.id) })
	return list
}

// Visits lists the latest visits, the oldest first.
func (srv *Server) Visits() []Visit { return slices.Clone(srv.visits) }

// Total counts all visits.
func (srv *Server) Total() uint64 { return srv.total }

// Clients lists the addresses that the remembered visits came from, sorted.
func (srv *Server) Clients() []netip.Addr {
	var list []netip.Addr
	for _, v := range srv.visits {
		list = append(list, v.Client.Addr())
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

func (srv *Server) visit(client netip.AddrPort) {
	srv.total++
	if len(srv.visits) == visitsMax {
		srv.visits = append(srv.visits[:0], srv.visits[visitsMax/2:]...)
	}
	srv.visits = append(srv.visits, Visit{srv.h.w.Now(), client})
}

func (srv *Server) accept(s *socket, answer func(*served, bool)) {
	for {
		var remote tcpip.FullAddress
		ep, wq, err := s.ep.Accept(&remote)
		if err != nil {
			return
		}
		c := &served{server: srv, client: addrPort(remote), answer: answer}
		srv.visit(c.client)
		if len(srv.conns) == serverConnsMax {
			ep.Abort()
			continue
		}
		c.sock = srv.h.adopt(ep, wq, c.step)
		srv.conns[c] = true
		if srv.timeout > 0 {
			c.deadline = srv.h.w.After(srv.timeout, func() { c.end(c.sock.abort) })
		}
		c.sock.step()
	}
}

func (c *served) step(s *socket) {
	data, open, err := s.read(requestBytesMax)
	for err == nil {
		c.in = append(c.in, data...)
		c.answer(c, !open)
		if c.out, err = s.write(c.out); err != nil || !open || len(data) < requestBytesMax || len(c.out) > 0 {
			break
		}
		data, open, err = s.read(requestBytesMax)
	}
	switch {
	case err != nil:
		c.end(s.abort)
	case c.last && len(c.out) == 0:
		c.end(s.close)
	}
}

func (c *served) end(how func()) {
	how()
	if c.deadline != nil {
		c.deadline.Stop()
	}
	delete(c.server.conns, c)
}

func (srv *Server) echo(s *socket) {
	for {
		var b bytes.Buffer
		res, err := s.ep.Read(&b, tcpip.ReadOptions{NeedRemoteAddr: true})
		if err != nil {
			return
		}
		to := res.RemoteAddr
		srv.visit(addrPort(to))
		// A datagram that cannot be sent is lost, as datagrams are.
		_, _ = s.ep.Write(bytes.NewReader(b.Bytes()), tcpip.WriteOptions{To: &to})
	}
}
