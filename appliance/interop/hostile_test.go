//go:build interop

package interop

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tandem/appliance/status"
)

// setting reads a length of these tests from the environment.
func setting[T any](t *testing.T, name string, usual T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	v, err := parse(text)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return v
}

// blast sends frames at a pace until next gives none.
func (j *jack) blast(perSecond int, next func() []byte) (sent int, err error) {
	const perTick = 10 * time.Millisecond
	tick := time.NewTicker(perTick)
	defer tick.Stop()
	burst := perSecond / int(time.Second/perTick)
	for {
		for range burst {
			f := next()
			if f == nil {
				return sent, nil
			}
			switch _, err := unix.Write(j.fd, f); err {
			case nil:
				sent++
			case unix.ENOBUFS: // the wire is full
			default:
				return sent, err
			}
		}
		<-tick.C
	}
}

// conversation is a TCP connection on which somebody is always spoken to.
type conversation struct {
	conn net.Conn
	stop chan struct{}
	done chan struct{}

	turns atomic.Int64
	gap   time.Duration // valid after done
	err   error
}

// converse opens a connection through the node and keeps it busy.
func converse(t *testing.T, server *namespace, address string, client *namespace) *conversation {
	t.Helper()
	l := server.listen(t, address)
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = io.Copy(conn, conn)
		}
	}()
	conn, err := client.dial("tcp", "", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	c := &conversation{conn: conn, stop: make(chan struct{}), done: make(chan struct{})}
	go c.run()
	t.Cleanup(func() { _ = conn.Close() })
	return c
}

func (c *conversation) run() {
	defer close(c.done)
	b := make([]byte, 100)
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		began := time.Now()
		_ = c.conn.SetDeadline(began.Add(patience))
		if _, c.err = c.conn.Write(b); c.err == nil {
			_, c.err = io.ReadFull(c.conn, b)
		}
		if c.err != nil {
			return
		}
		c.turns.Add(1)
		c.gap = max(c.gap, time.Since(began))
		time.Sleep(5 * time.Millisecond) // a pace, no wait for anything
	}
}

func (c *conversation) finish(t *testing.T) {
	t.Helper()
	close(c.stop)
	<-c.done
	if c.err != nil {
		t.Errorf("the established connection broke after %d turns: %v", c.turns.Load(), c.err)
	}
}

func TestInteropHostileFrames(t *testing.T) {
	flood := setting(t, "INTEROP_FLOOD", 200_000, strconv.Atoi)
	limit := flood / 2
	firewall := fmt.Sprintf("\n[firewall]\nmax_states = %d\n", limit)
	p := newPairOf(t, example(t, "primary.toml")+firewall, example(t, "secondary.toml")+firewall)
	p.server.serveHTTP(t, "198.51.100.1:80", "the server")
	t.Run("noise", func(t *testing.T) {
		testNoise(t, p, setting(t, "INTEROP_NOISE", 10*time.Second, time.ParseDuration))
	})
	t.Run("SYN flood", func(t *testing.T) { testFlood(t, p, flood, limit) })
}

// testNoise plays random frames on every wire at once.
func testNoise(t *testing.T, p *pair, span time.Duration) {
	p.healthy(t)
	const perSecond = 4000 // on each wire
	noisy := newNamespace(t, "noise")
	before, rss1, rss2 := p.transitions(t), p.primary.residentKiB(t), p.secondary.residentKiB(t)
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	talk := converse(t, p.server, "198.51.100.1:5001", p.client)
	var all sync.WaitGroup
	end := time.Now().Add(span)
	for i, wire := range []struct {
		name, vmac string
		hosts      []string
	}{
		{"wan", wanMAC, []string{"198.51.100.200", "198.51.100.201", "198.51.100.202", "198.51.100.1", "192.168.1.50", "255.255.255.255"}},
		{"lan", lanMAC, []string{"192.168.1.1", "192.168.1.2", "192.168.1.3", "198.51.100.1", "203.0.113.9", "224.0.0.18"}},
		{"sync", lanMAC, []string{"172.16.1.2", "172.16.1.3", "192.168.1.50", "172.16.1.255"}},
	} {
		device := "noise-" + wire.name
		p.wires.ns.run(t, "ip link add "+device+" type veth peer name "+device+" netns "+noisy.name+
			"\n ip link set "+device+" master "+wire.name+" up")
		noisy.run(t, "sysctl -q -w net.ipv6.conf."+device+".disable_ipv6=1\n ip link set "+device+" up")
		port := noisy.jack(t, device)
		n := newNoise(uint64(i+1), [][]byte{mac(t, wire.vmac), mac(t, p.primary.macOf(t, wire.name)), mac(t, p.secondary.macOf(t, wire.name))}, wire.hosts...)
		all.Go(func() {
			sent, err := port.blast(perSecond, func() []byte {
				if time.Now().After(end) {
					return nil
				}
				return n.frame()
			})
			if err != nil {
				t.Errorf("noise on %s: %v", wire.name, err)
			}
			t.Logf("%d random frames on %s", sent, wire.name)
		})
	}
	all.Wait()
	p.primary.mustRun(t)
	p.secondary.mustRun(t)
	talk.finish(t)
	lost := ping.finish()
	t.Logf("noise for %v: %v; %d turns on a connection, the slowest %v; primary %d to %d KiB, secondary %d to %d KiB",
		span, lost, talk.turns.Load(), talk.gap.Round(time.Millisecond),
		rss1, p.primary.residentKiB(t), rss2, p.secondary.residentKiB(t))
	if lost.lost > lost.sent/10 {
		t.Errorf("%v", lost)
	}
	const growthKiBMax = 128 << 10
	if grown := max(p.primary.residentKiB(t)-rss1, p.secondary.residentKiB(t)-rss2); grown > growthKiBMax {
		t.Errorf("a node has grown by %d KiB", grown)
	}
	if after := p.transitions(t); after != before || !p.primary.is(t, "MASTER") {
		t.Errorf("%d role changes", after-before)
	}
	p.seenAs(t, "after the noise")
	t.Logf("primary's drops: %v", p.primary.mustStatus(t).Drops)
}

// syns makes SYNs of ever new connections from LAN to the world.
func syns(t *testing.T, count int) func() []byte {
	t.Helper()
	f := echoRequest(t, "02:00:00:00:00:66", lanMAC, "192.168.1.66", "203.0.113.1", 1)[:14+20+20]
	tcp := f[34:]
	clear(tcp)
	f[17], f[23] = 40, 6
	binary.BigEndian.PutUint16(f[16:], 40)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[12], tcp[13], tcp[14] = 5<<4, 2, 0xff
	i := 0
	return func() []byte {
		if i == count {
			return nil
		}
		i++
		f[32], f[33] = byte(i>>8), byte(i)                        // to another host of 203.0.0.0/16
		binary.BigEndian.PutUint16(tcp, uint16(1024+i%60000))     // from another port
		binary.BigEndian.PutUint32(tcp[4:], uint32(i)*2654435761) // anywhere
		binary.BigEndian.PutUint16(f[24:], 0)
		binary.BigEndian.PutUint16(f[24:], checksum(f[14:34]))
		binary.BigEndian.PutUint16(tcp[16:], 0)
		pseudo := append(append([]byte{}, f[26:34]...), 0, 6, 0, 20)
		binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
		return f
	}
}

// testFlood fills the state table from inside.
func testFlood(t *testing.T, p *pair, flood, limit int) {
	p.healthy(t)
	attacker := p.wires.host(t, "attacker", "lan", nil)
	port := attacker.jack(t, "eth0")
	before, rss := p.transitions(t), p.primary.residentKiB(t)
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	ping.waitMore(t, 20)
	talk := converse(t, p.server, "198.51.100.1:5002", p.client)
	began := time.Now()
	sent, err := port.blast(40_000, syns(t, flood))
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	var count status.StateCount
	p.primary.ask(t, "states count", &count)
	full := uint64(0)
	for _, d := range count.Drops {
		if d.Reason == "table-full" {
			full = d.Packets
		}
	}
	ping.waitMore(t, 20)
	talk.finish(t)
	lost := ping.finish()
	t.Logf("%d SYNs in %v: %d states of at most %d, %d refused; %v; %d turns on an old connection, the slowest %v; %d to %d KiB",
		sent, took.Round(time.Millisecond), count.States, count.Limit, full, lost,
		talk.turns.Load(), talk.gap.Round(time.Millisecond), rss, p.primary.residentKiB(t))
	if count.Limit != limit || count.States > limit || count.States < limit*9/10 {
		t.Errorf("%d states, the limit is %d, want it reached and never passed", count.States, count.Limit)
	}
	if full == 0 {
		t.Errorf("no SYN was counted as refused: %+v", count)
	}
	if lost.lost > lost.sent/10 || lost.gap > time.Second {
		t.Errorf("what was established stood still: %v", lost)
	}
	if after := p.transitions(t); after != before || !p.primary.is(t, "MASTER") || !p.secondary.is(t, "BACKUP") {
		t.Errorf("%d role changes", after-before)
	}
	p.primary.mustVerb(t, "states kill 192.168.1.66")
	p.seenAs(t, "after the flood")
}
