package router

import (
	"net/netip"
	"testing"
	"time"

	"tandem/netstack/link"
)

func TestPingCrossesTheRouter(t *testing.T) {
	for _, dst := range []string{"198.51.100.1", "2001:db8:1::1"} {
		r := newRig(t, rigConfig{Rules: passLAN(), NAT: masquerade()})
		ping, err := r.client.Pinger(netip.MustParseAddr(dst), 10*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		r.run(t, time.Second)
		if rep := ping.Report(time.Time{}, r.Now().Add(-20*time.Millisecond)); rep.Answered != rep.Due || rep.Due == 0 {
			t.Errorf("ping %s: %+v; drops %v %v", dst, rep, r.router.Drops(), r.filter.Drops())
		}
	}
}

func TestConnectionsAreTranslated(t *testing.T) {
	for name, features := range map[string]link.Features{"plain": {}, "offloads": {Checksum: true, TCP4: true, TCP6: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigConfig{Rules: passLAN(), NAT: masquerade(), Device: features})
			web, err := r.server.ServeHTTP(80)
			if err != nil {
				t.Fatal(err)
			}
			c := r.client.Connector(netip.MustParseAddrPort("198.51.100.1:80"), 50*time.Millisecond)
			r.run(t, 2*time.Second)
			rep := c.Report(time.Time{}, r.Now().Add(-100*time.Millisecond))
			if rep.Answered != rep.Opened || rep.Opened < 30 {
				t.Errorf("%+v; drops %v %v", rep, r.router.Drops(), r.filter.Drops())
			}
			if clients := web.Clients(); len(clients) != 1 || clients[0] != wanAddr {
				t.Errorf("the server saw %v, want %v only", clients, wanAddr)
			}
		})
	}
}

func TestNothingUnsolicitedGetsIn(t *testing.T) {
	r := newRig(t, rigConfig{Rules: passLAN(), NAT: masquerade()})
	if _, err := r.client.ServeHTTP(80); err != nil {
		t.Fatal(err)
	}
	c := r.server.Connector(netip.MustParseAddrPort("192.168.1.50:80"), 100*time.Millisecond)
	r.run(t, 3*time.Second)
	if rep := c.Report(time.Time{}, time.Time{}); rep.Answered != 0 {
		t.Errorf("%d connections from WAN were answered", rep.Answered)
	}
}
