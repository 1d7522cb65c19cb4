//go:build interop

package interop

import (
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tandem/appliance/status"
)

const (
	wanMAC = "00:00:5e:00:01:c8" // of vhid 200
	lanMAC = "00:00:5e:00:01:01" // of vhid 1

	pingEvery = 10 * time.Millisecond
)

// pair is the reference pair of the examples, as they are, with a client on
// LAN and a server on WAN.
type pair struct {
	wires              *wires
	primary, secondary *node
	client, server     *namespace
}

func newPair(t *testing.T) *pair {
	t.Helper()
	return newPairOf(t, example(t, "primary.toml"), example(t, "secondary.toml"))
}

// newPairOf is newPair with other files for the same devices and addresses.
func newPairOf(t *testing.T, primary, secondary string) *pair {
	t.Helper()
	p := &pair{wires: newWires(t, "wan", "lan", "sync")}
	p.client = p.wires.host(t, "client", "lan", []string{"192.168.1.50/24"}, "192.168.1.1")
	p.server = p.wires.host(t, "server", "wan", []string{"198.51.100.1/24"})
	plugs := func(device string) map[string]plug {
		return map[string]plug{device + "-wan": p.wires.into("wan"), device + "-lan": p.wires.into("lan"), device + "-sync": p.wires.into("sync")}
	}
	p.primary = newNode(t, "fw1", primary, plugs("fw1"))
	p.secondary = newNode(t, "fw2", secondary, plugs("fw2"))
	p.primary.start(t)
	p.secondary.start(t)
	p.healthy(t)
	return p
}

// healthy waits until the primary has all VIPs and the secondary none.
func (p *pair) healthy(t *testing.T) {
	t.Helper()
	eventually(t, "the primary is MASTER, the secondary BACKUP", func() bool {
		return p.primary.is(t, "MASTER") && p.secondary.is(t, "BACKUP")
	})
}

// taken waits until the secondary has all VIPs, and returns how long after a
// moment the last of them came.
func (p *pair) taken(t *testing.T, since time.Time) time.Duration {
	t.Helper()
	eventually(t, "the secondary is MASTER", func() bool { return p.secondary.is(t, "MASTER") })
	return p.secondary.became(t).Sub(since)
}

// seenAs fails unless the server sees the client as the WAN VIP.
func (p *pair) seenAs(t *testing.T, when string) {
	t.Helper()
	const want = "the server sees 198.51.100.200"
	if got, err := p.client.curl("http://198.51.100.1/"); err != nil || got != want {
		t.Errorf("%s: %q, %v; want %q", when, got, err, want)
	}
}

func TestInteropPair(t *testing.T) {
	p := newPair(t)
	p.server.serveHTTP(t, "198.51.100.1:80", "the server")
	p.client.serveHTTP(t, "192.168.1.50:80", "the client")
	for _, part := range []struct {
		name string
		run  func(*testing.T, *pair)
	}{
		{"roles", testRoles},
		{"virtual MAC", testVirtualMAC},
		{"crash", testCrash},
		{"orderly stop", testStop},
		{"WAN cable", func(t *testing.T, p *pair) { testCable(t, p, "wan", "lan") }},
		{"LAN cable", func(t *testing.T, p *pair) { testCable(t, p, "lan", "wan") }},
		{"sync cable", testSyncCable},
		{"disable and enable", testDisable},
		{"maintenance", testMaintenance},
		{"secondary dies", testSecondaryDies},
		{"device deleted", testDeviceDeleted},
		{"frozen", testFrozen},
		{"echo", testEcho},
		{"adverts with aliases", testAdverts},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			p.healthy(t)
			part.run(t, p)
		})
		if !ok {
			p.mend(t)
		}
	}
}

// mend undoes what a part that failed may have left.
func (p *pair) mend(t *testing.T) {
	t.Helper()
	for _, n := range []*node{p.primary, p.secondary} {
		if !n.proc.running() {
			n.start(t)
		}
		for device, plug := range n.plugs {
			if _, err := n.ns.try("ip link show " + device); err == nil {
				plug(t, n.ns, device)
			} else {
				p.wires.link(t, device, "up")
			}
		}
		n.mustVerb(t, "carp enable")
		n.mustVerb(t, "carp maintenance off")
	}
}

// testRoles reads the fields that scripts rely on by their names.
func testRoles(t *testing.T, p *pair) {
	for n, want := range map[*node]string{p.primary: "MASTER", p.secondary: "BACKUP"} {
		var c map[string]any
		n.ask(t, "carp status", &c)
		vips, _ := c["vips"].([]any)
		if c["enabled"] != true || c["maintenance"] != false || c["demotion"] != 0.0 || len(vips) != 2 {
			t.Errorf("%s: carp status: %v", n.name, c)
		}
		for _, v := range vips {
			vip := v.(map[string]any)
			for _, key := range []string{"interface", "vhid", "address", "state", "advbase", "advskew", "reason", "master_source", "transitions", "last_transition"} {
				if _, ok := vip[key]; !ok {
					t.Errorf("%s: a VIP without %s: %v", n.name, key, vip)
				}
			}
			if vip["state"] != want {
				t.Errorf("%s: VIP %v is %v, want %s", n.name, vip["address"], vip["state"], want)
			}
		}
		if s := n.mustStatus(t); s.Role != want || !s.Healthy {
			t.Errorf("%s: role %s, healthy %v, alarms %v; want %s", n.name, s.Role, s.Healthy, s.Alarms, want)
		}
	}
	p.seenAs(t, "with both nodes up")
	if got, err := p.server.curl("http://198.51.100.200:8080/"); err != nil || got != "the client sees 198.51.100.1" {
		t.Errorf("port forward from outside: %q, %v", got, err)
	}
}

var arpingMAC = regexp.MustCompile(`bytes from ([0-9a-f:]{17})`)

// arping asks for an address on the client's wire and returns who answers.
func (p *pair) arping(t *testing.T, address string) []string {
	t.Helper()
	out, _ := p.client.try("arping -c 2 -w 2 -i eth0 " + address)
	var macs []string
	for _, m := range arpingMAC.FindAllStringSubmatch(out, -1) {
		if !slices.Contains(macs, m[1]) {
			macs = append(macs, m[1])
		}
	}
	return macs
}

// testVirtualMAC sends the same frames to each node's port alone: only the
// master may take and answer what is for the virtual address or its MAC.
func testVirtualMAC(t *testing.T, p *pair) {
	if got := p.arping(t, "192.168.1.1"); !slices.Equal(got, []string{lanMAC}) {
		t.Errorf("192.168.1.1 is at %v, want %s alone", got, lanMAC)
	}
	for wire, mac := range map[string]string{"lan": lanMAC, "wan": wanMAC} {
		if got := p.wires.portOf(t, wire, mac); got != "fw1-"+wire {
			t.Errorf("the switch has %s at %q", mac, got)
		}
	}
	const me = "02:00:00:00:00:77"
	server := p.server.jack(t, "eth0")
	for n, own := range map[*node]string{p.primary: "192.168.1.2", p.secondary: "192.168.1.3"} {
		master, id := n == p.primary, uint16(0x7700)+uint16(own[len(own)-1])*4
		port := p.wires.ns.jack(t, n.name+"-lan")
		port.hosts["192.168.1.77"] = me
		port.send(t, arpRequest(t, me, "192.168.1.77", "192.168.1.1"))
		port.send(t, echoRequest(t, me, lanMAC, "192.168.1.77", "192.168.1.1", id))
		port.send(t, echoRequest(t, me, lanMAC, "192.168.1.77", "198.51.100.1", id+1))
		// The node's own address, which either answers, comes last.
		port.send(t, arpRequest(t, me, "192.168.1.77", own))
		ownMAC, answered := "", map[string]bool{}
		port.expect(t, 2*time.Second, n.name+" tells its own MAC", func(f gopacket.Packet) bool {
			if a, ok := isARPReply(f, "192.168.1.1"); ok {
				answered["arp"] = true
				if macText(a.SourceHwAddress) != lanMAC || f.LinkLayer().LinkFlow().Src().String() != lanMAC {
					t.Errorf("%s answers for the VIP as %v", n.name, a)
				}
			}
			answered["ping"] = answered["ping"] || isEchoReply(f, id)
			a, ok := isARPReply(f, own)
			if ok {
				ownMAC = macText(a.SourceHwAddress)
			}
			return ok
		})
		port.send(t, echoRequest(t, me, ownMAC, "192.168.1.77", own, id+2))
		port.expect(t, 2*time.Second, n.name+" answers a ping", func(f gopacket.Packet) bool {
			answered["ping"] = answered["ping"] || isEchoReply(f, id)
			return isEchoReply(f, id+2)
		})
		forwarded := server.find(map[bool]time.Duration{true: 2 * time.Second, false: 300 * time.Millisecond}[master], func(f gopacket.Packet) bool {
			i, ok := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			v4, _ := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			return ok && i.TypeCode.Type() == layers.ICMPv4TypeEchoRequest && v4.SrcIP.String() == "198.51.100.200"
		}) != nil
		if answered["arp"] != master || answered["ping"] != master || forwarded != master {
			t.Errorf("%s (master %v): answers ARP for the VIP %v, a ping to the virtual MAC %v, forwards by it %v",
				n.name, master, answered["arp"], answered["ping"], forwarded)
		}
	}
}

// testCrash kills the master as a power cut would, and brings it back.
func testCrash(t *testing.T, p *pair) {
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	ping.waitMore(t, 20)
	announced := p.wires.ns.capture(t, "lan", "arp")
	killed := time.Now()
	p.primary.proc.kill()
	took := p.taken(t, killed)
	if took > 4*time.Second {
		t.Errorf("the secondary took %v to be MASTER for all VIPs", took)
	}
	ping.waitMore(t, 20)
	lost := ping.finish()
	t.Logf("kill -9: secondary MASTER for all VIPs after %v; %v", took.Round(time.Millisecond), lost)
	p.seenAs(t, "after the crash")
	for wire, mac := range map[string]string{"lan": lanMAC, "wan": wanMAC} {
		if got := p.wires.portOf(t, wire, mac); got != "fw2-"+wire {
			t.Errorf("after the crash the switch has %s at %q", mac, got)
		}
	}
	if !slices.ContainsFunc(announced.end(t), func(c captured) bool {
		a, ok := c.frame.Layer(layers.LayerTypeARP).(*layers.ARP)
		return ok && macText(a.SourceHwAddress) == lanMAC && slices.Equal(a.SourceProtAddress, a.DstProtAddress) && c.at.After(killed)
	}) {
		t.Error("no gratuitous ARP for the LAN VIP")
	}
	p.comesBack(t, "after kill -9")
}

// comesBack starts the primary, which must take over, and counts what is lost.
func (p *pair) comesBack(t *testing.T, when string) {
	t.Helper()
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	ping.waitMore(t, 20)
	began := time.Now()
	p.primary.start(t)
	p.healthy(t)
	took := p.primary.became(t).Sub(began)
	ping.waitMore(t, 20)
	lost := ping.finish()
	t.Logf("%s the primary is MASTER again %v after its start; %v",
		when, took.Round(time.Millisecond), lost)
	if lost.gap > time.Second {
		t.Errorf("%s: %v without an answer while the primary took over", when, lost.gap)
	}
	p.seenAs(t, "after the return")
}

func testStop(t *testing.T, p *pair) {
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	ping.waitMore(t, 20)
	told := time.Now()
	p.primary.proc.signal(t, syscall.SIGTERM)
	took := p.taken(t, told)
	if took > 500*time.Millisecond {
		t.Errorf("the secondary took %v after SIGTERM", took)
	}
	within(t, 5*time.Second, "the primary leaves", func() bool { return !p.primary.proc.running() })
	left := time.Since(told)
	ping.waitMore(t, 20)
	lost := ping.finish()
	t.Logf("SIGTERM: secondary MASTER for all VIPs after %v, process gone within %v; %v",
		took.Round(time.Millisecond), left.Round(time.Millisecond), lost)
	p.seenAs(t, "after the stop")
	p.comesBack(t, "after SIGTERM")
}

// vipState is the state of the VIP on an interface.
func (n *node) vipState(t *testing.T, iface string) string {
	t.Helper()
	for _, v := range n.carp(t).VIPs {
		if v.Interface == iface {
			return v.State
		}
	}
	t.Fatalf("%s: no VIP on %s", n.name, iface)
	return ""
}

// testCable pulls one cable of the primary: both VIPs must move.
func testCable(t *testing.T, p *pair, dead, alive string) {
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	ping.waitMore(t, 20)
	pulled := time.Now()
	p.wires.link(t, "fw1-"+dead, "down")
	took := p.taken(t, pulled)
	if took > 4*time.Second {
		t.Errorf("the secondary took %v", took)
	}
	ping.waitMore(t, 20)
	lost := ping.finish()
	t.Logf("%s cable pulled: secondary MASTER for all VIPs after %v; %v",
		dead, took.Round(time.Millisecond), lost)
	eventually(t, "the primary says INIT where the cable is out, BACKUP where it is not", func() bool {
		return p.primary.vipState(t, dead) == "INIT" && p.primary.vipState(t, alive) == "BACKUP"
	})
	if c := p.primary.carp(t); c.Demotion < 240 || len(c.Demotions) == 0 {
		t.Errorf("demotion %d by %v", c.Demotion, c.Demotions)
	}
	p.seenAs(t, "with the cable out")
	back := p.client.ping(t, "198.51.100.1", pingEvery)
	back.waitMore(t, 20)
	plugged := time.Now()
	p.wires.link(t, "fw1-"+dead, "up")
	p.healthy(t)
	took = p.primary.became(t).Sub(plugged)
	back.waitMore(t, 20)
	lost = back.finish()
	t.Logf("%s cable back: primary MASTER for all VIPs after %v; %v",
		dead, took.Round(time.Millisecond), lost)
	if c := p.primary.carp(t); c.Demotion != 0 {
		t.Errorf("demotion %d by %v with all cables in", c.Demotion, c.Demotions)
	}
	p.seenAs(t, "with the cable back")
}

// transitions counts the role changes of both nodes so far.
func (p *pair) transitions(t *testing.T) (n uint64) {
	t.Helper()
	for _, node := range []*node{p.primary, p.secondary} {
		for _, v := range node.carp(t).VIPs {
			if v.Type == "carp" { // an alias tells those of its vhid again
				n += v.Transitions
			}
		}
	}
	return n
}

func testSyncCable(t *testing.T, p *pair) {
	before := p.transitions(t)
	p.wires.link(t, "fw1-sync", "down")
	defer p.wires.link(t, "fw1-sync", "up")
	eventually(t, "the primary sees that sync is down", func() bool {
		return slices.ContainsFunc(p.primary.mustStatus(t).Interfaces, func(i status.Interface) bool { return i.Name == "sync" && i.Link == "down" })
	})
	holds(t, 4*time.Second, "nothing moves while sync is cut", func() bool { return p.transitions(t) == before })
	p.seenAs(t, "with sync cut")
}

func testDisable(t *testing.T, p *pair) {
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	ping.waitMore(t, 20)
	told := time.Now()
	p.primary.mustVerb(t, "carp disable")
	took := p.taken(t, told)
	if s := p.primary.mustStatus(t); s.Role != "DISABLED" || !p.primary.is(t, "DISABLED") {
		t.Errorf("the primary is %s after carp disable", s.Role)
	}
	ping.waitMore(t, 20)
	told = time.Now()
	p.primary.mustVerb(t, "carp enable")
	p.healthy(t)
	returned := p.primary.became(t).Sub(told)
	ping.waitMore(t, 20)
	lost := ping.finish()
	t.Logf("carp disable: secondary MASTER after %v; enable: primary MASTER after %v; %v in all",
		took.Round(time.Millisecond), returned.Round(time.Millisecond), lost)
	if lost.gap > time.Second {
		t.Errorf("%v without an answer", lost.gap)
	}
}

// testMaintenance restarts the primary in between: the mode stays.
func testMaintenance(t *testing.T, p *pair) {
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	ping.waitMore(t, 20)
	told := time.Now()
	p.primary.mustVerb(t, "carp maintenance on")
	took := p.taken(t, told)
	wire := p.wires.ns.capture(t, "lan", "proto", "112")
	p.primary.stop(t)
	p.primary.start(t)
	if c := p.primary.carp(t); !c.Maintenance || c.Demotion < 240 {
		t.Errorf("after a restart: maintenance %v, demotion %d", c.Maintenance, c.Demotion)
	}
	holds(t, 4*time.Second, "the primary stays BACKUP in maintenance", func() bool {
		return p.secondary.is(t, "MASTER") && !p.primary.is(t, "MASTER")
	})
	all := of(adverts(wire.end(t)), 1)
	checkStream(t, all, "192.168.1.3", lanMAC, 100)
	told = time.Now()
	p.primary.mustVerb(t, "carp maintenance off")
	p.healthy(t)
	returned := p.primary.became(t).Sub(told)
	ping.waitMore(t, 20)
	lost := ping.finish()
	t.Logf("maintenance on: secondary MASTER after %v; off: primary MASTER after %v; %v in all",
		took.Round(time.Millisecond), returned.Round(time.Millisecond), lost)
	if lost.gap > time.Second {
		t.Errorf("%v without an answer", lost.gap)
	}
}

// testSecondaryDies shows that the master does not care.
func testSecondaryDies(t *testing.T, p *pair) {
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	before := p.primary.became(t)
	p.secondary.proc.kill()
	holds(t, 2*time.Second, "the primary stays MASTER", func() bool { return p.primary.is(t, "MASTER") })
	p.secondary.start(t)
	p.healthy(t)
	lost := ping.finish()
	t.Logf("secondary killed and back: %v", lost)
	if lost.lost > lost.sent/100 || !p.primary.became(t).Equal(before) {
		t.Errorf("%v, the primary changed at %v", lost, p.primary.became(t))
	}
}
