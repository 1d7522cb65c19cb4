//go:build interop

package interop

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tandem/appliance/status"
)

func TestInteropReload(t *testing.T) {
	s := newSingle(t, singleFile)
	s.server.serveHTTP(t, "198.51.100.1:80", "the server")
	s.client.serveHTTP(t, "192.168.1.50:80", "the client")
	talk := converse(t, s.server, "198.51.100.1:5001", s.client)
	ping := s.client.ping(t, "198.51.100.1", pingEvery)
	t.Run("bad file", func(t *testing.T) { testBadFiles(t, s) })
	t.Run("good file", func(t *testing.T) { testGoodFile(t, s, talk) })
	t.Run("change taken back", func(t *testing.T) { testTakenBack(t, s, talk) })
	t.Run("hangup", func(t *testing.T) { testHangup(t, s) })
	talk.finish(t)
	lost := ping.finish()
	t.Logf("over all reloads: %v; %d turns on one connection", lost, talk.turns.Load())
	if lost.lost > lost.sent/100 {
		t.Errorf("%v", lost)
	}
}

// lineOf is the number of the first line that holds a text.
func lineOf(text, part string) int {
	return strings.Count(text[:strings.Index(text, part)], "\n") + 1
}

// testBadFiles offers files with faults: each is told with its line, and
// nothing changes.
func testBadFiles(t *testing.T, s *single) {
	var before, after []status.Rule
	s.node.ask(t, "rules list --all", &before)
	for _, c := range []struct{ from, to, want string }{
		{`action = "reject"`, `action = "rejekt"`, "action"},
		{`description = "LAN to anywhere"`, `descripton = "LAN to anywhere"`, "description"},
		{`target = "192.168.1.50"`, `target = "192.168.1.500"`, "target"},
		{`[nat.outbound]`, `[nat.outbound`, ""},
		{`addresses = ["192.168.1.1/24", "fd01::1/64"]`, `addresses = ["192.168.1.1"]`, "addresses"},
	} {
		bad := strings.Replace(singleFile+"\n[nat.outbound]\nmode = \"automatic\"\n", c.from, c.to, 1)
		s.node.write(t, bad)
		out, err := s.node.verb(t, "reload")
		if err == nil {
			t.Errorf("a file with %s was applied: %s", c.to, out)
			continue
		}
		place := fmt.Sprintf("%s:%d:", s.node.file, lineOf(s.node.text, c.to))
		if !strings.Contains(err.Error(), place) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a file with %s: want it told with %s and %q, got: %v", c.to, place, c.want, err)
		}
	}
	s.node.mustRun(t)
	s.node.ask(t, "rules list --all", &after)
	if len(before) != len(after) {
		t.Errorf("%d rules became %d", len(before), len(after))
	}
	if got, err := s.client.curl("http://198.51.100.1/"); err != nil || got != "the server sees 198.51.100.2" {
		t.Errorf("after the bad files: %q, %v", got, err)
	}
}

const moreFile = `
[[rules]]
interface = "lan"
action = "reject"
protocol = "tcp"
destination_port = 80
description = "new: no web"
`

// testGoodFile changes rules, translations, addresses and routes at once. What
// the new rules allow goes on.
func testGoodFile(t *testing.T, s *single, talk *conversation) {
	var before status.StateCount
	s.node.ask(t, "states count", &before)
	turns := talk.turns.Load()
	text := strings.Replace(singleFile, "[[rules]]", moreFile+"\n[[rules]]", 1) + `
[[nat.port_forwards]]
interface = "wan"
protocol = "tcp"
destination = "198.51.100.211"
destination_port = 8081
target = "192.168.1.50"
target_port = 80

[[virtual_ips]]
type = "ip_alias"
interface = "wan"
address = "198.51.100.211/24"

[[gateways]]
name = "far"
interface = "wan"
address = "198.51.100.1"

[[routes]]
destination = "203.0.113.0/24"
gateway = "far"
`
	s.node.write(t, text)
	out := s.node.mustVerb(t, "reload")
	for _, word := range []string{"rules", "nat", "interfaces", "routes"} {
		if !strings.Contains(out, word) {
			t.Errorf("reload says nothing of %s:\n%s", word, out)
		}
	}
	if _, err := s.client.dial("tcp", "", "198.51.100.1:80", patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port that the new rules reject: %v", err)
	}
	eventually(t, "the new forward on the new address works", func() bool {
		got, err := s.server.curl("http://198.51.100.211:8081/")
		return err == nil && got == "the client sees 198.51.100.1"
	})
	var routes []status.Route
	s.node.ask(t, "routes", &routes)
	if !slices.ContainsFunc(routes, func(r status.Route) bool { return r.Destination == "203.0.113.0/24" && r.Gateway == "198.51.100.1" }) {
		t.Errorf("routes: %v", routes)
	}
	eventually(t, "the old connection goes on", func() bool { return talk.turns.Load() > turns+50 })
	var after status.StateCount
	s.node.ask(t, "states count", &after)
	if after.Removals > before.Removals+2 {
		t.Errorf("%d states went with the reload", after.Removals-before.Removals)
	}
	s.node.write(t, singleFile)
	s.node.mustVerb(t, "reload")
	if got, err := s.client.curl("http://198.51.100.1/"); err != nil || got != "the server sees 198.51.100.2" {
		t.Errorf("after the change back: %q, %v", got, err)
	}
}

// testTakenBack forbids what is established: it stands still, but is not lost
// when the change is taken back.
func testTakenBack(t *testing.T, s *single, talk *conversation) {
	s.node.write(t, strings.Replace(singleFile, "[[rules]]", strings.Replace(moreFile, "= 80", "= 5001", 1)+"\n[[rules]]", 1))
	s.node.mustVerb(t, "reload")
	turns := talk.turns.Load()
	holds(t, time.Second, "a connection that the rules forbid stands still", func() bool { return talk.turns.Load() <= turns+1 })
	s.node.write(t, singleFile)
	s.node.mustVerb(t, "reload")
	eventually(t, "the connection goes on", func() bool { return talk.turns.Load() > turns+20 })
}

// testHangup reloads by SIGHUP, with a bad file and a good one.
func testHangup(t *testing.T, s *single) {
	s.node.write(t, strings.Replace(singleFile, `action = "reject"`, `action = "rejekt"`, 1))
	s.node.proc.signal(t, syscall.SIGHUP)
	place := fmt.Sprintf("%s:%d:", s.node.file, lineOf(s.node.text, "rejekt"))
	eventually(t, "the fault is in the log", func() bool { return strings.Contains(s.node.proc.said.String(), place) })
	s.node.mustRun(t)
	s.node.write(t, strings.Replace(singleFile, "LAN to anywhere", "told by a signal", 1))
	s.node.proc.signal(t, syscall.SIGHUP)
	eventually(t, "the new file is applied", func() bool {
		var rules []status.Rule
		s.node.ask(t, "rules list", &rules)
		return slices.ContainsFunc(rules, func(r status.Rule) bool { return r.Description == "told by a signal" })
	})
}

// TestInteropDuplicateAddress starts a node whose LAN addresses somebody else
// has, on a bridge of the host that the node joins by itself.
func TestInteropDuplicateAddress(t *testing.T) {
	n := newNode(t, "fw", `
[system]
hostname = "fw-duplicate"
[interfaces.lan]
link = { driver = "tap", device = "lan0", bridge = "br0" }
addresses = ["192.168.1.1/24", "192.168.1.2/24", "fd01::1/64", "fd01::2/64"]
`+rulesPassLAN, nil)
	n.ns.run(t, "ip link add br0 type bridge forward_delay 0\n ip link set br0 up")
	w := &wires{n.ns}
	squatter := w.host(t, "squatter", "br0", []string{"192.168.1.1/24", "fd01::1/64"})
	client := w.host(t, "client", "br0", []string{"192.168.1.50/24", "fd01::50/64"})
	his := squatter.macOf(t, "eth0")
	n.launch(t)
	state := func(address string) status.Address {
		for _, i := range n.mustStatus(t).Interfaces {
			for _, a := range i.Addresses {
				if strings.HasPrefix(a.Address, address+"/") {
					return a
				}
			}
		}
		return status.Address{}
	}
	eventually(t, "the node answers", func() bool { _, err := n.status(t); return err == nil })
	for address, want := range map[string]string{"192.168.1.1": "duplicate", "192.168.1.2": "in use", "fd01::1": "duplicate", "fd01::2": "in use"} {
		eventually(t, address+" is "+want, func() bool { return state(address).State == want })
		if a := state(address); want == "duplicate" && a.Holder != his {
			t.Errorf("%s is said to be at %s, it is at %s", address, a.Holder, his)
		}
	}
	named := func(address, mac string) func() bool {
		return func() bool {
			return slices.ContainsFunc(n.mustStatus(t).Alarms, func(a status.Alarm) bool {
				return strings.Contains(a.Message, address) && strings.Contains(a.Message, mac)
			})
		}
	}
	eventually(t, "an alarm names the duplicate and its holder", named("192.168.1.1", his))
	p := &pair{client: client}
	if got := p.arping(t, "192.168.1.1"); !slices.Equal(got, []string{his}) {
		t.Errorf("192.168.1.1 is at %v, want the other host, %s, alone", got, his)
	}
	for _, to := range []string{"192.168.1.1", "192.168.1.2", "fd01::1", "fd01::2"} {
		if out, err := client.try("ping -n -c 2 -i 0.2 -W 2 " + to); err != nil {
			t.Errorf("ping %s: %v\n%s", to, err, out)
		}
	}

	// Somebody who comes later and claims what the node uses does not get it.
	const late = "02:00:00:00:00:99"
	wire := client.jack(t, "eth0")
	wire.send(t, arpRequest(t, late, "192.168.1.2", "192.168.1.2"))
	eventually(t, "an alarm names who claims an address in use", named("192.168.1.2", late))
	if a := state("192.168.1.2"); a.State != "in use" {
		t.Errorf("192.168.1.2 is %s after a claim", a.State)
	}
	client.run(t, "ip neigh flush dev eth0")
	if out, err := client.try("ping -n -c 2 -i 0.2 -W 2 192.168.1.2"); err != nil {
		t.Errorf("ping after a claim: %v\n%s", err, out)
	}
}
