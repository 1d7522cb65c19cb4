//go:build interop

package interop

import (
	"encoding/binary"
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
	sent int       // valid when sending is over

	sending, receiving sync.WaitGroup

	mu   sync.Mutex // guards what follows
	seen map[uint16]bool
	last time.Time
	gap  time.Duration
}

var pingIDs atomic.Uint32

// ping begins to ping an address each so often.
func (ns *namespace) ping(t *testing.T, address string, every time.Duration) *pinger {
	t.Helper()
	to := netip.MustParseAddr(address)
	p := &pinger{to: &net.IPAddr{IP: to.AsSlice()}, six: to.Is6(), id: uint16(pingIDs.Add(1)) + 0x1200,
		stop: make(chan struct{}), seen: map[uint16]bool{}, last: time.Now()}
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
		if _, err := p.conn.WriteTo(b, p.to); err == nil {
			p.sent++
		}
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
		if !p.seen[seq] {
			p.seen[seq] = true
			p.gap = max(p.gap, now.Sub(p.last))
			p.last = now
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
	return len(p.seen)
}

// waitMore waits until n more answers have come.
func (p *pinger) waitMore(t *testing.T, n int) {
	t.Helper()
	want := p.answered() + n
	eventually(t, "pings are answered", func() bool { return p.answered() >= want })
}

// finish stops pinging, and returns how many of how many requests were lost
// and the longest time without an answer.
func (p *pinger) finish() (lost, sent int, gap time.Duration) {
	p.once.Do(func() { close(p.stop) })
	p.sending.Wait()
	// What is under way has a moment to arrive.
	for end := time.Now().Add(300 * time.Millisecond); p.answered() < p.sent && time.Now().Before(end); {
		time.Sleep(askEvery)
	}
	p.end()
	return p.sent - len(p.seen), p.sent, p.gap
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
