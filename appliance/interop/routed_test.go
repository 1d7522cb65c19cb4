//go:build interop

package interop

import (
	"strings"
	"testing"
	"time"
)

// routedPair is the pair without NAT of the examples, as it is: an upstream
// router that sends 203.0.113.0/24 to the WAN VIP, a web server and a database
// server.
type routedPair struct {
	pair
	upstream, web, db *namespace
}

func newRoutedPair(t *testing.T) *routedPair {
	t.Helper()
	w := newWires(t, "wan", "web", "dbdmz", "sync")
	p := &routedPair{pair: pair{wires: w},
		upstream: w.host(t, "upstream", "wan", []string{"198.51.100.1/29"}),
		web:      w.host(t, "webhost", "web", []string{"203.0.113.10/25"}, "203.0.113.1"),
		db:       w.host(t, "dbhost", "dbdmz", []string{"203.0.113.140/25"}, "203.0.113.129")}
	p.upstream.run(t, "ip addr add 192.0.2.53/32 dev lo\n ip addr add 192.0.2.80/32 dev lo\n ip route add 203.0.113.0/24 via 198.51.100.2 src 192.0.2.80")
	plugs := func(device string) map[string]plug {
		out := map[string]plug{}
		for _, wire := range []string{"wan", "web", "dbdmz", "sync"} {
			out[device+"-"+wire] = w.into(wire)
		}
		return out
	}
	p.primary = newNode(t, "fw1", example(t, "routed-primary.toml"), plugs("fw1"))
	p.secondary = newNode(t, "fw2", example(t, "routed-secondary.toml"), plugs("fw2"))
	p.primary.start(t)
	p.secondary.start(t)
	p.healthy(t)
	p.web.serveHTTP(t, "203.0.113.10:80", "the web server")
	p.web.serveHTTP(t, "203.0.113.10:8080", "the web server's back door")
	p.db.serveHTTP(t, "203.0.113.140:5432", "the database")
	p.db.serveHTTP(t, "203.0.113.140:80", "the database's back door")
	p.upstream.serveHTTP(t, "192.0.2.80:443", "the world")
	p.upstream.echoUDP(t, "192.0.2.53:53")
	return p
}

// works goes through what the rules let in, refuse and block.
func (p *routedPair) works(t *testing.T) {
	for _, c := range []struct {
		from      *namespace
		url, want string
	}{
		{p.upstream, "http://203.0.113.10/", "the web server sees 192.0.2.80"},
		{p.web, "http://192.0.2.80:443/", "the world sees 203.0.113.10"},
		{p.web, "http://203.0.113.140:5432/", "the database sees 203.0.113.10"},
		{p.db, "http://192.0.2.80:443/", "the world sees 203.0.113.140"},
	} {
		if got, err := c.from.curl(c.url); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.url, got, err, c.want)
		}
	}
	if got, err := p.db.askUDP(t, "192.0.2.53:53", "hello"); err != nil || !strings.HasPrefix(got, "203.0.113.140:") {
		t.Errorf("a name asked for by the database: %q, %v", got, err)
	}
	if _, err := p.web.dial("tcp", "", "203.0.113.140:80", time.Second); err == nil || isTimeout(err) {
		t.Errorf("from the web server to another port of the database: %v, want a reset", err)
	}
	for remote, from := range map[string]*namespace{"203.0.113.140:5432": p.upstream, "203.0.113.10:8080": p.upstream, "203.0.113.10:80": p.db} {
		if _, err := from.dial("tcp", "", remote, 500*time.Millisecond); !isTimeout(err) {
			t.Errorf("%s from where no rule lets in: %v, want silence", remote, err)
		}
	}
}

// TestInteropRoutedPair fails over and back between public networks.
func TestInteropRoutedPair(t *testing.T) {
	p := newRoutedPair(t)
	t.Run("primary", p.works)

	in, out := p.upstream.ping(t, "203.0.113.10", pingEvery), p.web.ping(t, "192.0.2.80", pingEvery)
	in.waitMore(t, 20)
	out.waitMore(t, 20)
	killed := time.Now()
	p.primary.proc.kill()
	took := p.taken(t, killed)
	if took > 4*time.Second {
		t.Errorf("the secondary took %v to be MASTER for all VIPs", took)
	}
	in.waitMore(t, 20)
	out.waitMore(t, 20)
	t.Logf("routed pair, kill -9: secondary MASTER for all three VIPs after %v; in: %v; out: %v",
		took.Round(time.Millisecond), in.finish(), out.finish())
	t.Run("secondary", p.works)

	back := p.upstream.ping(t, "203.0.113.10", pingEvery)
	back.waitMore(t, 20)
	p.primary.start(t)
	p.healthy(t)
	back.waitMore(t, 20)
	lost := back.finish()
	t.Logf("routed pair, primary back: %v", lost)
	if lost.gap > time.Second {
		t.Errorf("%v without an answer while the primary took over", lost.gap)
	}
	t.Run("primary again", p.works)
}
