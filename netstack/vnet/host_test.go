package vnet

import (
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/link"
)

// pair is a world with two hosts on a switch: a client and a server.
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
	p.client = w.NewHost("client", HostConfig{
		MAC: link.MAC{2, 0, 0, 0, 0, 1}, TCP: true,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")},
	})
	p.server = w.NewHost("server", HostConfig{
		MAC: link.MAC{2, 0, 0, 0, 0, 2}, TCP: true,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")},
	})
	p.client.Attach(p.sw.Plug("client", cable))
	p.server.Attach(p.sw.Plug("server", cable))
	return p
}

func (p *pair) run(t testing.TB, d time.Duration) {
	t.Helper()
	if err := p.RunFor(d); err != nil {
		t.Fatalf("RunFor(%v): %v", d, err)
	}
}

func TestHostAnswersPing(t *testing.T) {
	for _, dst := range []string{"192.0.2.2", "2001:db8::2"} {
		t.Run(dst, func(t *testing.T) {
			p := newPair(t, Config{Seed: 1}, Cable{Delay: time.Millisecond})
			ping, err := p.client.Pinger(netip.MustParseAddr(dst), 10*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			p.run(t, time.Second)
			r := ping.Report(time.Time{}, p.Now().Add(-time.Millisecond*20))
			t.Logf("%+v %+v %+v", r, p.Stats(), p.sw.Table())
			if r.Answered != r.Due || r.Due != 98 || r.Lost != 0 {
				t.Errorf("report %+v", r)
			}
		})
	}
}

func TestConnectorIsAnswered(t *testing.T) {
	for _, dst := range []string{"192.0.2.2", "2001:db8::2"} {
		t.Run(dst, func(t *testing.T) {
			p := newPair(t, Config{Seed: 1}, Cable{Delay: time.Millisecond})
			srv, err := p.server.ServeHTTP(80)
			if err != nil {
				t.Fatal(err)
			}
			c := p.client.Connector(netip.AddrPortFrom(netip.MustParseAddr(dst), 80), 100*time.Millisecond)
			p.run(t, 10*time.Second)
			r := c.Report(time.Time{}, time.Time{})
			t.Logf("%+v %+v %v", r, p.Stats(), srv.Clients())
		})
	}
}
