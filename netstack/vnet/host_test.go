package vnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tandem/netstack/link"
)

var (
	server4 = netip.MustParseAddr("192.0.2.2")
	server6 = netip.MustParseAddr("2001:db8::2")
)

// pair is a world with a client and a server on a switch.
type pair struct {
	*World
	sw             *Switch
	client, server *Host
}

func newPair(t testing.TB, cfg Config, cable Cable) *pair {
	t.Helper()
	w := NewWorld(cfg)
	t.Cleanup(w.Close)
	p := &pair{World: w, sw: w.Switch("lan")}
	for i, one := range []struct {
		host **Host
		name string
	}{{&p.client, "client"}, {&p.server, "server"}} {
		*one.host = w.NewHost(one.name, HostConfig{
			MAC: link.MAC{2, 0, 0, 0, 0, byte(i + 1)}, TCP: true,
			Addresses: []netip.Prefix{
				netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", i+1)),
				netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", i+1)),
			},
		})
		(*one.host).Attach(p.sw.Plug(one.name, cable))
	}
	return p
}

func (p *pair) run(t testing.TB, d time.Duration) {
	t.Helper()
	if err := p.RunFor(d); err != nil {
		t.Fatalf("RunFor(%v): %v", d, err)
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestPingIsAnsweredInBothFamilies(t *testing.T) {
	for _, dst := range []netip.Addr{server4, server6} {
		t.Run(dst.String(), func(t *testing.T) {
			p := newPair(t, Config{}, Cable{Delay: time.Millisecond})
			ping := must[*Pinger](t)(p.client.Pinger(dst, 10*time.Millisecond))
			p.run(t, time.Second)
			r := ping.Report(time.Time{}, p.Now().Add(-20*time.Millisecond))
			if r.Due != 98 || r.Sent != 98 || r.Answered != 98 || len(r.Gaps) != 0 {
				t.Errorf("report %+v", r)
			}
			list := ping.Probes(time.Time{}, time.Time{})
			if one := list[50]; !one.Sent.Equal(one.Due) || one.Received.Sub(one.Sent) != 4*time.Millisecond {
				t.Errorf("probe %+v", one)
			}
			if one := list[0]; one.Sent.Sub(one.Due) != 4*time.Millisecond { // It had to ask for the address first.
				t.Errorf("probe %+v", one)
			}
			if mac, ok := p.client.Neighbor(dst); !ok || mac != p.server.cfg.MAC {
				t.Errorf("the client resolved %v to %x", dst, mac)
			}
		})
	}
}

func TestPingGapsAreCountedFromFrames(t *testing.T) {
	p := newPair(t, Config{}, Cable{Delay: 100 * time.Microsecond})
	ping := must[*Pinger](t)(p.client.Pinger(server4, 10*time.Millisecond))
	p.run(t, 5*time.Second+5*time.Millisecond)
	cut := p.Now()
	p.server.Device().Jack().SetCable(Cable{TxDown: true})
	p.run(t, 3*time.Second)
	p.server.Device().Jack().SetCable(Cable{})
	p.run(t, 2*time.Second)
	p.client.Device().Jack().Pull()
	p.run(t, 500*time.Millisecond)
	p.client.Device().Jack().Push()
	p.run(t, 2*time.Second)

	r := ping.Report(time.Time{}, p.Now().Add(-PingTimeout))
	if len(r.Gaps) != 2 {
		t.Fatalf("gaps %+v", r.Gaps)
	}
	if g := r.Longest; g.Length() != 3*time.Second || g.Lost != 300 || g.Open || g.Start.Sub(cut) != 5*time.Millisecond {
		t.Errorf("the longest gap: %v from %v after the cut, %d lost", g.Length(), g.Start.Sub(cut), g.Lost)
	}
	if g := r.Gaps[1]; g.Length() != 500*time.Millisecond || g.Lost != 50 {
		t.Errorf("the second gap: %v, %d lost", g.Length(), g.Lost)
	}
	if r.Lost != 350 || r.Sent != r.Due-50 || r.Answered != r.Due-350 {
		t.Errorf("due %d, sent %d, answered %d, lost %d", r.Due, r.Sent, r.Answered, r.Lost)
	}
	// A report of a part sees that part; probes still under way are not lost.
	if part := ping.Report(cut, cut.Add(time.Second)); part.Lost != 100 || !part.Longest.Open {
		t.Errorf("report of a second within the gap: %+v", part)
	}
	p.server.Device().Jack().Pull()
	p.run(t, PingTimeout/2)
	if last := ping.Report(p.Now().Add(-PingTimeout/2), time.Time{}); last.Lost != 0 || last.Pending == 0 {
		t.Errorf("report of the last moment: %+v", last)
	}
}

func TestPingCountsDuplicatesLateAndForeignAnswersApart(t *testing.T) {
	p := newPair(t, Config{}, Cable{Delay: time.Millisecond})
	ping := must[*Pinger](t)(p.client.Pinger(server4, 100*time.Millisecond))
	p.run(t, time.Second)
	p.server.Device().Jack().SetCable(Cable{Duplicate: 1})
	p.run(t, time.Second)
	p.server.Device().Jack().SetCable(Cable{Delay: PingTimeout})
	p.run(t, 5*time.Second)
	ping.Stop()
	due := ping.Report(time.Time{}, time.Time{}).Due
	p.run(t, 3*time.Second)
	r := ping.Report(time.Time{}, time.Time{})
	if r.Duplicates < 9 || r.Late < 25 || r.Due != due || r.Answered+r.Lost != r.Due {
		t.Errorf("report %+v", r)
	}
}

func TestUDPPingIsAnsweredByTheEchoServer(t *testing.T) {
	for _, dst := range []netip.Addr{server4, server6} {
		t.Run(dst.String(), func(t *testing.T) {
			p := newPair(t, Config{}, Cable{Delay: time.Millisecond})
			srv := must[*Server](t)(p.server.EchoUDP(7))
			ping := must[*Pinger](t)(p.client.UDPPinger(netip.AddrPortFrom(dst, 7), 10*time.Millisecond))
			p.run(t, time.Second)
			ping.Stop()
			p.run(t, time.Second)
			r := ping.Report(time.Time{}, time.Time{})
			if r.Answered != r.Due || r.Due != 101 || srv.Total() != 101 || len(srv.Clients()) != 1 {
				t.Errorf("report %+v, %d served, clients %v", r, srv.Total(), srv.Clients())
			}
		})
	}
}

func TestConnectorIsAnsweredInBothFamilies(t *testing.T) {
	for _, dst := range []netip.Addr{server4, server6} {
		t.Run(dst.String(), func(t *testing.T) {
			p := newPair(t, Config{}, Cable{Delay: time.Millisecond})
			srv := must[*Server](t)(p.server.ServeHTTP(80))
			con := p.client.Connector(netip.AddrPortFrom(dst, 80), 100*time.Millisecond)
			p.run(t, 10*time.Second)
			con.Stop()
			if r := con.Report(time.Time{}, time.Time{}); r.Pending != 1 {
				t.Errorf("report %+v", r)
			}
			p.run(t, time.Second)
			r := con.Report(time.Time{}, time.Time{})
			if r.Opened != 101 || r.Answered != 101 || r.Retried != 0 {
				t.Errorf("report %+v", r)
			}
			one := con.Connections(time.Time{}, time.Time{})[50]
			if one.Latency() != 8*time.Millisecond || one.SynAck.Sub(one.SynSent) != 4*time.Millisecond {
				t.Errorf("connection %+v", one)
			}
			want, _ := p.client.Address(4)
			if dst.Is6() {
				want, _ = p.client.Address(6)
			}
			if got := srv.Clients(); !slices.Equal(got, []netip.Addr{want}) || one.SeenAs.Addr() != want {
				t.Errorf("the server saw %v, and told %v", got, one.SeenAs)
			}
			if srv.Visits()[50].Client != one.SeenAs {
				t.Errorf("visit %+v", srv.Visits()[50])
			}
		})
	}
}

func TestConnectorNamesWhatWentWrong(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, p *pair) netip.AddrPort
		want Outcome
	}{
		{"nobody listens", func(*testing.T, *pair) netip.AddrPort { return netip.AddrPortFrom(server4, 81) }, Refused},
		{"nobody is there", func(*testing.T, *pair) netip.AddrPort { return netip.MustParseAddrPort("192.0.2.99:80") }, Unreachable},
		{"no route", func(*testing.T, *pair) netip.AddrPort { return netip.MustParseAddrPort("203.0.113.1:80") }, Unreachable},
		{"answers stay away", func(_ *testing.T, p *pair) netip.AddrPort {
			p.server.Device().Jack().SetCable(Cable{TxDown: true})
			return netip.AddrPortFrom(server4, 80)
		}, TimedOut},
		{"another protocol", func(t *testing.T, p *pair) netip.AddrPort {
			must[*Server](t)(p.server.EchoTCP(7))
			return netip.AddrPortFrom(server4, 7)
		}, TimedOut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, Config{}, Cable{Delay: time.Millisecond})
			must[*Server](t)(p.server.ServeHTTP(80))
			ping := must[*Pinger](t)(p.client.Pinger(server4, time.Second)) // Resolves the server's address.
			p.run(t, time.Second)
			ping.Stop()
			con := p.client.Connector(tt.do(t, p), time.Hour)
			p.run(t, ConnectTimeout+time.Second)
			r := con.Report(time.Time{}, time.Time{})
			if r.Failed != 1 || r.Failures[0].Outcome != tt.want {
				t.Errorf("report %+v, want %v", r, tt.want)
			}
		})
	}
}

func TestConnectorOutlivesAnOutage(t *testing.T) {
	p := newPair(t, Config{}, Cable{Delay: time.Millisecond})
	must[*Server](t)(p.server.ServeHTTP(80))
	con := p.client.Connector(netip.AddrPortFrom(server4, 80), 100*time.Millisecond)
	p.run(t, 2*time.Second)
	p.server.Device().Jack().Pull()
	p.run(t, 2*time.Second)
	p.server.Device().Jack().Push()
	p.run(t, 20*time.Second)
	r := con.Report(time.Time{}, p.Now().Add(-time.Second))
	if r.Failed != 0 || r.Retried < 19 || r.LatencyMax < time.Second || r.LatencyMax > 4*time.Second {
		t.Errorf("opened %d, failed %d, retried %d, slowest %v", r.Opened, r.Failed, r.Retried, r.LatencyMax)
	}
}

// TestTCPOverALossyNetworkInABubble sends a megabyte, lets an hour pass, sends
// another, with ordinary goroutines on both ends.
func TestTCPOverALossyNetworkInABubble(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Config{Seed: 3, Wait: synctest.Wait},
			Cable{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.01, Duplicate: 0.01, Reorder: 0.01, Corrupt: 0.001})
		listener := must[net.Listener](t)(p.server.Listen(netip.AddrPortFrom(server4, 9)))
		go serveEcho(t, listener)
		done := make(chan struct{})
		go func() {
			defer close(done)
			talk(t, p.client)
		}()
		finished := func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		start := p.Now()
		if !p.RunUntil(finished, 3*time.Hour) {
			t.Error("the conversation did not end")
		}
		p.run(t, time.Second) // For the connection to be closed.
		if d := p.Now().Sub(start); d < time.Hour || time.Since(start) < time.Hour {
			t.Errorf("only %v went by", d)
		}
		p.Close() // Whoever is still there makes the bubble panic at its end.
	})
	t.Logf("took %v", time.Since(began))
}

// serveEcho sends the bytes of one connection back.
func serveEcho(t *testing.T, l net.Listener) {
	defer l.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	if _, err := io.Copy(conn, conn); err != nil {
		t.Error(err)
	}
}

// talk sends a megabyte, waits an hour, and sends another.
func talk(t *testing.T, h *Host) {
	conn, err := h.Dial(context.Background(), netip.AddrPortFrom(server4, 9))
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for round := range 2 {
		sent := bytes.Repeat([]byte{byte(round), 1, 2, 3}, 1<<18)
		go conn.Write(sent)
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(conn, got); err != nil || sha256.Sum256(got) != sha256.Sum256(sent) {
			t.Errorf("round %d: %v", round, err)
			return
		}
		if round == 0 {
			time.Sleep(time.Hour)
		}
	}
}

// life runs a world with everything in it for a while and returns its hash.
func life(t testing.TB, cfg Config) (uint64, Stats) {
	p := newPair(t, cfg, Cable{
		Delay: time.Millisecond, Jitter: time.Millisecond, Rate: 10_000_000,
		Loss: 0.02, Duplicate: 0.01, Reorder: 0.05, Corrupt: 0.01,
	})
	must[*Server](t)(p.server.ServeHTTP(80))
	must[*Server](t)(p.server.EchoUDP(7))
	p.client.Connector(netip.AddrPortFrom(server4, 80), 50*time.Millisecond)
	p.client.Connector(netip.AddrPortFrom(server6, 80), 70*time.Millisecond)
	must[*Pinger](t)(p.client.Pinger(server6, 30*time.Millisecond))
	must[*Pinger](t)(p.client.UDPPinger(netip.AddrPortFrom(server4, 7), 30*time.Millisecond))
	p.After(5*time.Second, func() { p.sw.Reboot(3 * time.Second) })
	p.run(t, 15*time.Second)
	defer p.Close()
	return p.Hash(), p.Stats()
}

func TestTheSameSeedGivesTheSameFrames(t *testing.T) {
	// A stack has as many TCP workers as there are processors when it is made,
	// and two of them would share its random numbers in any order.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	hash, stats := life(t, Config{Seed: 11})
	for range 2 {
		if again, _ := life(t, Config{Seed: 11}); again != hash {
			t.Errorf("hash %x, then %x", hash, again)
		}
	}
	if other, _ := life(t, Config{Seed: 12}); other == hash {
		t.Error("another seed gave the same frames")
	}
	if stats.Frames < 3_000 {
		t.Errorf("only %d frames", stats.Frames)
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC)
		if again, _ := life(t, Config{Seed: 11, Wait: synctest.Wait, Start: start}); again != hash {
			t.Errorf("hash %x, in a bubble %x", hash, again)
		}
	})
}

func TestGoroutinesTakePartWithoutABubble(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := newPair(t, Config{Idle: true}, Cable{Delay: time.Millisecond})
	listener := must[net.Listener](t)(p.server.Listen(netip.AddrPortFrom(server4, 9)))
	go serveEcho(t, listener)
	done := make(chan struct{})
	start := p.Now()
	go func() {
		defer close(done)
		conn, err := p.client.Dial(context.Background(), netip.AddrPortFrom(server4, 9))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for range 100 {
			if _, err := conn.Write([]byte("ping")); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Error(err)
			}
		}
	}()
	p.run(t, time.Second)
	select {
	case <-done:
	default:
		t.Errorf("not done after %v", p.Now().Sub(start))
	}
}

func TestHostsInRealTime(t *testing.T) {
	p := newPair(t, Config{RealTime: true}, Cable{Delay: 100 * time.Microsecond})
	must[*Server](t)(p.server.ServeHTTP(80))
	ping := must[*Pinger](t)(p.client.Pinger(server4, 10*time.Millisecond))
	con := p.client.Connector(netip.AddrPortFrom(server4, 80), 20*time.Millisecond)
	p.run(t, 205*time.Millisecond)
	ping.Stop()
	con.Stop()
	if r := ping.Report(time.Time{}, time.Time{}); r.Due != 21 || r.Answered < 20 {
		t.Errorf("ping %+v", r)
	}
	if r := con.Report(time.Time{}, time.Time{}); r.Opened != 11 || r.Answered < 10 {
		t.Errorf("connections %+v", r)
	}
}

func TestServerLetsGoOfClientsThatVanish(t *testing.T) {
	p := newPair(t, Config{}, Cable{Delay: time.Millisecond})
	srv := must[*Server](t)(p.server.ServeHTTP(80))
	con := p.client.Connector(netip.AddrPortFrom(server4, 80), time.Hour)
	p.RunUntil(func() bool { return srv.Total() == 1 }, time.Second)
	p.client.Device().Jack().Pull()
	p.run(t, requestTimeout)
	if len(srv.conns) != 0 {
		t.Errorf("%d connections open", len(srv.conns))
	}
	if r := con.Report(time.Time{}, time.Time{}); r.Failures[0].Outcome != TimedOut {
		t.Errorf("report %+v", r)
	}
}

func TestServersAndPortsAreFreedByClose(t *testing.T) {
	p := newPair(t, Config{}, Cable{Delay: time.Millisecond})
	for range 2 {
		srv := must[*Server](t)(p.server.EchoTCP(7))
		if _, err := p.server.EchoTCP(7); err == nil {
			t.Error("two servers on one port")
		}
		con := p.client.Connector(netip.AddrPortFrom(server4, 7), time.Hour)
		p.run(t, time.Second)
		srv.Close()
		p.run(t, time.Second)
		if r := con.Report(time.Time{}, time.Time{}); r.Failed != 1 || r.Failures[0].Outcome != Refused {
			t.Errorf("report %+v", r)
		}
	}
}

func TestClosedHostIsSilent(t *testing.T) {
	p := newPair(t, Config{}, Cable{})
	ping := must[*Pinger](t)(p.client.Pinger(server4, 100*time.Millisecond))
	p.client.Connector(netip.AddrPortFrom(server4, 80), 100*time.Millisecond)
	p.run(t, time.Second)
	p.client.Close()
	p.client.Close()
	jack := p.sw.Jack("client")
	sent := jack.Stats().Sent
	p.run(t, time.Minute)
	if n := jack.Stats().Sent - sent; n != 0 {
		t.Errorf("%d frames from a closed host", n)
	}
	if ping.Report(time.Time{}, time.Time{}).Answered == 0 {
		t.Error("its records are gone")
	}
}

func BenchmarkPing(b *testing.B) {
	p := newPair(b, Config{}, Cable{Delay: time.Millisecond})
	must[*Pinger](b)(p.client.Pinger(server4, 10*time.Millisecond))
	b.ReportAllocs()
	for b.Loop() {
		p.run(b, 10*time.Millisecond)
	}
	b.ReportMetric(float64(p.Stats().Events)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkConnection(b *testing.B) {
	p := newPair(b, Config{}, Cable{Delay: time.Millisecond})
	must[*Server](b)(p.server.ServeHTTP(80))
	p.client.Connector(netip.AddrPortFrom(server4, 80), 100*time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		p.run(b, 100*time.Millisecond)
	}
	b.ReportMetric(float64(p.Stats().Events)/b.Elapsed().Seconds(), "events/s")
}
