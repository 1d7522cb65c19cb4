//go:build interop

package interop

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pinger sends echo requests all the time and counts the answers.
type pinger struct {
	conn net.PacketConn
	to   net.Addr
	six  bool
	id   uint16
	stop chan struct{}
	once sync.Once // closes stop

	sending, receiving sync.WaitGroup

	mu  sync.Mutex  // guards what follows
	at  []time.Time // when each was sent, by sequence number less one
	rtt map[uint16]time.Duration
}

var pingIDs atomic.Uint32

// ping begins to ping an address each so often.
func (ns *namespace) ping(t *testing.T, address string, every time.Duration) *pinger {
	t.Helper()
	to := netip.MustParseAddr(address)
	p := &pinger{to: &net.IPAddr{IP: to.AsSlice()}, six: to.Is6(), id: uint16(pingIDs.Add(1)) + 0x1200,
		stop: make(chan struct{}), rtt: map[uint16]time.Duration{}}
	network, any4 := "ip4:icmp", "0.0.0.0"
	if p.six {
		network, any4 = "ip6:ipv6-icmp", "::"
	}
	if err := ns.do(func() (err error) { p.conn, err = net.ListenPacket(network, any4); return err }); err != nil {
		t.Fatal(err)
	}
	p.receiving.Go(p.receive)
	p.sending.Go(func() { p.send(every) })
	t.Cleanup(p.end)
	return p
}

func (p *pinger) send(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for seq := 1; ; seq++ {
		b := make([]byte, 64)
		b[0] = 8
		if p.six {
			b[0] = 128
		}
		binary.BigEndian.PutUint16(b[4:], p.id)
		binary.BigEndian.PutUint16(b[6:], uint16(seq))
		if !p.six {
			binary.BigEndian.PutUint16(b[2:], checksum(b))
		}
		p.mu.Lock()
		p.at = append(p.at, time.Now())
		p.mu.Unlock()
		_, _ = p.conn.WriteTo(b, p.to) // what cannot be sent is lost
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
	}
}

func (p *pinger) receive() {
	b := make([]byte, 2048)
	for {
		n, _, err := p.conn.ReadFrom(b)
		if err != nil {
			return
		}
		if n < 8 || b[0] != 0 && b[0] != 129 || binary.BigEndian.Uint16(b[4:]) != p.id {
			continue
		}
		seq, now := binary.BigEndian.Uint16(b[6:]), time.Now()
		p.mu.Lock()
		if _, again := p.rtt[seq]; !again && int(seq) <= len(p.at) {
			p.rtt[seq] = now.Sub(p.at[seq-1])
		}
		p.mu.Unlock()
	}
}

// end stops sending and receiving.
func (p *pinger) end() {
	p.once.Do(func() { close(p.stop) })
	p.sending.Wait()
	_ = p.conn.Close()
	p.receiving.Wait()
}

// answered is how many requests have been answered.
func (p *pinger) answered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.rtt)
}

// waitMore waits until n more answers have come.
func (p *pinger) waitMore(t *testing.T, n int) {
	t.Helper()
	want := p.answered() + n
	eventually(t, "pings are answered", func() bool { return p.answered() >= want })
}

// pings is what became of them.
type pings struct {
	sent, lost int
	gap        time.Duration // the longest time for which all that was sent was lost
	slowest    time.Duration // of those answered
}

func (p pings) String() string {
	return fmt.Sprintf("%d of %d pings lost, longest gap %v, slowest answer %v", p.lost, p.sent,
		p.gap.Round(time.Millisecond), p.slowest.Round(time.Millisecond))
}

// finish stops pinging and counts.
func (p *pinger) finish() pings {
	p.once.Do(func() { close(p.stop) })
	p.sending.Wait()
	// What is under way has a moment to arrive.
	for end := time.Now().Add(300 * time.Millisecond); p.answered() < len(p.at) && time.Now().Before(end); {
		time.Sleep(askEvery)
	}
	p.end()
	out := pings{sent: len(p.at), lost: len(p.at) - len(p.rtt)}
	last := 0
	for i, at := range p.at {
		rtt, ok := p.rtt[uint16(i+1)]
		if !ok {
			continue
		}
		if i > last+1 {
			out.gap = max(out.gap, at.Sub(p.at[last]))
		}
		out.slowest, last = max(out.slowest, rtt), i
	}
	return out
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
