package vnet

import (
	"bytes"
	"net/netip"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"tandem/netstack/packet"
)

const (
	// ConnectTimeout is how long a connection of a [Connector] may take from
	// its opening to the last byte of the answer.
	ConnectTimeout = 10 * time.Second
	// resultsMax is how many connections a Connector remembers.
	resultsMax = 1 << 17
	// answerBytesMax is the longest answer that is taken.
	answerBytesMax = 64 << 10

	connectRequest = "GET / HTTP/1.0\r\n\r\n"
)

// Outcome is what became of a connection.
type Outcome uint8

// The outcomes. All but the first two are failures.
const (
	Pending     Outcome = iota
	Answered            // the whole answer came
	Refused             // a reset came
	TimedOut            // ConnectTimeout passed
	Unreachable         // no way there: no route, no neighbour, or an ICMP error
	BadAnswer           // something else than the answer came
)

func (o Outcome) String() string {
	return [...]string{"pending", "answered", "refused", "timed-out", "unreachable", "bad-answer"}[o]
}

// Connection is one that a [Connector] opened. Times are those of frames on the
// host's jack; what has not happened has the zero time.
type Connection struct {
	Number   uint64
	Start    time.Time // when it was opened
	SynSent  time.Time // the first of Syns
	Syns     int
	SynAck   time.Time // received
	Answer   time.Time // the last byte of the answer received
	Outcome  Outcome
	ClosedAt time.Time
	// SeenAs is what the server says the client's address was.
	SeenAs netip.AddrPort
}

// Latency is how long the answer took, zero while there is none.
func (c *Connection) Latency() time.Duration {
	if c.Outcome != Answered {
		return 0
	}
	return c.Answer.Sub(c.Start)
}

// Connector opens TCP connections to a [Host.ServeHTTP] server, one after the
// other without waiting for the former, sends a request on each and reads the
// answer.
type Connector struct {
	h        *Host
	dst      netip.AddrPort
	interval time.Duration
	timer    *timer
	list     []*Connection
	first    uint64
}

// conn is a connection while it is open.
type conn struct {
	owner    *Connector
	sock     *socket
	port     uint16
	result   *Connection
	deadline *timer
	asked    bool
	answer   []byte
}

// Connector opens the first connection to dst now, then one each interval. The
// host must have TCP.
func (h *Host) Connector(dst netip.AddrPort, interval time.Duration) *Connector {
	c := &Connector{h: h, dst: dst, interval: interval}
	c.timer = h.w.root.newTimer(c.next)
	c.timer.Reset(0)
	return c
}

// Stop opens no more connections. Those that are open go on to their end.
func (c *Connector) Stop() { c.timer.Stop() }

func (c *Connector) next() {
	if c.h.closed {
		return
	}
	c.timer.Reset(c.interval)
	if len(c.list) == resultsMax {
		c.list = append(c.list[:0], c.list[resultsMax/2:]...)
		c.first += resultsMax / 2
	}
	r := &Connection{Number: c.first + uint64(len(c.list)), Start: c.h.w.Now()}
	c.list = append(c.list, r)
	one := &conn{owner: c, result: r}
	sock, err := c.h.open(tcp.ProtocolNumber, netProto(c.dst.Addr()), one.step)
	if err != nil {
		one.end(Unreachable)
		return
	}
	one.sock = sock
	one.deadline = c.h.w.root.newTimer(func() { one.end(TimedOut) })
	one.deadline.Reset(ConnectTimeout)
	if err := c.h.bindNext(sock); err != nil {
		one.end(Unreachable)
		return
	}
	if err := sock.ep.Connect(fullAddr(c.dst)); !started(err) {
		one.end(outcomeOf(err))
		return
	}
	if local, err := sock.ep.GetLocalAddress(); err == nil {
		one.port = local.Port
		c.h.conns[one.port] = one
	}
	c.h.touch(true)
}

// The ports that connections come from: as common systems do, a host goes
// through all of them before it uses one again.
const (
	portFirst = 32768
	ports     = 28232
)

// bindNext gives a socket the next port that is free.
func (h *Host) bindNext(s *socket) (err tcpip.Error) {
	if h.portsUsed == 0 {
		h.portsUsed = 1 + h.w.Rand("host/"+h.name+"/port")()%ports
	}
	for range ports {
		h.portsUsed++
		if err = s.ep.Bind(tcpip.FullAddress{Port: uint16(portFirst + h.portsUsed%ports)}); err == nil {
			return nil
		}
	}
	return err
}

func started(err tcpip.Error) bool {
	switch err.(type) {
	case nil, *tcpip.ErrConnectStarted:
		return true
	}
	return false
}

func outcomeOf(err tcpip.Error) Outcome {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused, *tcpip.ErrConnectionReset, *tcpip.ErrConnectionAborted:
		return Refused
	case *tcpip.ErrTimeout:
		return TimedOut
	}
	return Unreachable
}

// step goes on as far as the socket allows.
func (one *conn) step(s *socket) {
	if err := s.ep.LastError(); err != nil {
		one.end(outcomeOf(err))
		return
	}
	if !one.asked {
		if s.ep.Readiness(waiter.WritableEvents)&waiter.EventOut == 0 {
			return
		}
		one.asked = true
		if _, err := s.write([]byte(connectRequest)); err != nil {
			one.end(outcomeOf(err))
			return
		}
	}
	data, open, err := s.read(answerBytesMax)
	one.answer = append(one.answer, data...)
	switch {
	case err != nil:
		one.end(outcomeOf(err))
	case len(one.answer) > answerBytesMax:
		one.end(BadAnswer)
	case !open:
		one.judge()
	}
}

// judge looks at a whole answer: it ends with the client's address.
func (one *conn) judge() {
	_, body, ok := bytes.Cut(one.answer, []byte("\r\n\r\n"))
	if !ok || !bytes.HasPrefix(one.answer, []byte("HTTP/1.0 200 ")) {
		one.end(BadAnswer)
		return
	}
	seen, err := netip.ParseAddrPort(strings.TrimSpace(string(body)))
	if err != nil || one.result.Answer.IsZero() {
		one.end(BadAnswer)
		return
	}
	one.result.SeenAs = seen
	one.end(Answered)
}

func (one *conn) end(o Outcome) {
	c := one.owner
	one.result.Outcome, one.result.ClosedAt = o, c.h.w.Now()
	if one.sock == nil {
		return
	}
	one.deadline.Stop()
	if o == Answered {
		one.sock.close()
	} else {
		one.sock.abort()
	}
	if c.h.conns[one.port] == one {
		delete(c.h.conns, one.port)
	}
}

// observe counts a frame of the connection.
func (one *conn) observe(dir Direction, v *packet.View) {
	const handshake = packet.SYN | packet.ACK
	far, farPort := v.Dst, v.DstPort
	if dir == Received {
		far, farPort = v.Src, v.SrcPort
	}
	if dst := one.owner.dst; far != packet.AddrFrom(dst.Addr()) || farPort != dst.Port() {
		return
	}
	r, now := one.result, one.owner.h.w.Now()
	switch {
	case dir == Sent && v.TCPFlags&handshake == packet.SYN:
		if r.Syns++; r.Syns == 1 {
			r.SynSent = now
		}
	case dir == Received && v.TCPFlags&handshake == handshake:
		if r.SynAck.IsZero() {
			r.SynAck = now
		}
	case dir == Received && v.DataLen > 0:
		r.Answer = now
	}
}

// Connections lists those opened from from up to, not including, to. Zero times
// stand for the beginning and the present.
func (c *Connector) Connections(from, to time.Time) []Connection {
	var list []Connection
	for _, r := range c.list {
		if !r.Start.Before(from) && (to.IsZero() || r.Start.Before(to)) {
			list = append(list, *r)
		}
	}
	return list
}

// ConnectReport sums up the connections of a time.
type ConnectReport struct {
	Opened, Answered, Failed, Pending int
	Retried                           int // needed more than one SYN
	LatencyMean, LatencyMax           time.Duration
	Slowest                           Connection // the one with LatencyMax
	Failures                          []Connection
}

// Report sums up the connections opened from from up to, not including, to.
// Zero times stand for the beginning and the present.
func (c *Connector) Report(from, to time.Time) ConnectReport {
	var rep ConnectReport
	var sum time.Duration
	for _, r := range c.Connections(from, to) {
		rep.Opened++
		if r.Syns > 1 {
			rep.Retried++
		}
		switch r.Outcome {
		case Pending:
			rep.Pending++
		case Answered:
			rep.Answered++
			sum += r.Latency()
			if r.Latency() > rep.LatencyMax {
				rep.LatencyMax, rep.Slowest = r.Latency(), r
			}
		default:
			rep.Failed++
			rep.Failures = append(rep.Failures, r)
		}
	}
	if rep.Answered > 0 {
		rep.LatencyMean = sum / time.Duration(rep.Answered)
	}
	return rep
}
