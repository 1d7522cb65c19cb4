//go:build interop

package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// dualFile is a node of a pair with both families on both sides. Its LAN vhid
// speaks to the groups, its WAN vhid to the peer alone.
func dualFile(number, peer, skew int) string {
	return fmt.Sprintf(`
[system]
hostname = "fw-dual-%[1]d"
[interfaces.wan]
link = { driver = "tap", device = "fw%[1]d-wan" }
addresses = ["198.51.100.20%[1]d/24", "fd02::20%[1]d/64"]
gateway = "198.51.100.1"
gateway6 = "fd02::1"
[interfaces.lan]
link = { driver = "tap", device = "fw%[1]d-lan" }
addresses = ["192.168.1.10%[1]d/24", "fd01::10%[1]d/64"]
[high_availability]
host_id = %[1]d
[[virtual_ips]]
type = "carp"
interface = "wan"
address = "198.51.100.200/24"
vhid = 200
advskew = %[3]d
password = "lab-only"
peer = "198.51.100.20%[2]d"
peer6 = "fd02::20%[2]d"
[[virtual_ips]]
type = "ip_alias"
interface = "wan"
address = "fd02::200/64"
vhid = 200
[[virtual_ips]]
type = "carp"
interface = "lan"
address = "192.168.1.1/24"
vhid = 1
advskew = %[3]d
password = "lab-only"
[[virtual_ips]]
type = "ip_alias"
interface = "lan"
address = "fd01::1/64"
vhid = 1
`, number, peer, skew) + rulesPassLAN
}

// TestInteropDualStackPair fails over with IPv6 addresses stacked on the
// vhids, one of which speaks unicast.
func TestInteropDualStackPair(t *testing.T) {
	w := newWires(t, "wan", "lan")
	// Switches that listen to who joins a group, and forget it soon: adverts
	// and solicitations reach only the nodes that say so again when asked.
	for _, wire := range []string{"wan", "lan"} {
		w.ns.run(t, "ip link set "+wire+" type bridge mcast_snooping 1 mcast_querier 1 mcast_startup_query_interval 50"+
			" mcast_query_interval 200 mcast_query_response_interval 100 mcast_membership_interval 500")
	}
	p := &pair{wires: w,
		client: w.host(t, "client", "lan", []string{"192.168.1.50/24", "fd01::50/64"}, "192.168.1.1", "fd01::1"),
		server: w.host(t, "server", "wan", []string{"198.51.100.1/24", "fd02::1/64"})}
	p.server.run(t, "ip route add fd01::/64 via fd02::200")
	plugs := func(device string) map[string]plug {
		return map[string]plug{device + "-wan": w.into("wan"), device + "-lan": w.into("lan")}
	}
	p.primary = newNode(t, "fw1", dualFile(1, 2, 0), plugs("fw1"))
	p.secondary = newNode(t, "fw2", dualFile(2, 1, 100), plugs("fw2"))
	p.primary.start(t)
	p.secondary.start(t)
	p.healthy(t)
	p.server.serveHTTP(t, "198.51.100.1:80", "the server")
	p.server.serveHTTP(t, "[fd02::1]:80", "the server")

	for device, group := range map[string]string{"fw1-lan": "ff02::1:ff00:1 ", "fw2-lan": "ff02::12 ", "fw1-wan": "ff02::1:ff00:200 "} {
		eventually(t, "the switch knows that "+device+" listens to "+group, func() bool { return w.listens(t, device, group) })
	}

	lan := w.ns.capture(t, "lan", "proto", "112", "or", "ip6", "proto", "112")
	wan := w.ns.capture(t, "wan", "proto", "112", "or", "ip6", "proto", "112")
	holds(t, 4500*time.Millisecond, "the roles stay", func() bool { return p.primary.is(t, "MASTER") && p.secondary.is(t, "BACKUP") })
	checkFamilies(t, adverts(lan.end(t)), lanMAC, "192.168.1.101", "224.0.0.18", "fe80::", "ff02::12")
	checkFamilies(t, adverts(wan.end(t)), p.primary.macOf(t, "wan"), "198.51.100.201", "198.51.100.202", "fd02::201", "fd02::202")
	dissect(t, lan.file)
	dissect(t, wan.file)

	p.works(t, "with both nodes up")
	six, four := p.client.ping(t, "fd02::1", pingEvery), p.client.ping(t, "198.51.100.1", pingEvery)
	six.waitMore(t, 20)
	announced := w.ns.capture(t, "lan", "icmp6")
	killed := time.Now()
	p.primary.proc.kill()
	took := p.taken(t, killed)
	if took > 4*time.Second {
		t.Errorf("the secondary took %v", took)
	}
	six.waitMore(t, 20)
	four.waitMore(t, 20)
	t.Logf("dual stack, kill -9: secondary MASTER after %v; IPv6: %v; IPv4: %v", took.Round(time.Millisecond), six.finish(), four.finish())
	p.works(t, "after the crash")
	if !w.listens(t, "fw2-lan", "ff02::1:ff00:1 ") {
		t.Error("the new master has not told the switch that it listens for the VIP")
	}
	if !slices.ContainsFunc(announced.end(t), func(c captured) bool {
		na, ok := c.frame.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		return ok && na.TargetAddress.Equal(ip("fd01::1")) && na.Override() && na.Router() && c.at.After(killed) &&
			c.frame.LinkLayer().LinkFlow().Src().String() == lanMAC
	}) {
		t.Error("no unsolicited neighbour advertisement of a router for the LAN VIP")
	}
	back := p.client.ping(t, "fd02::1", pingEvery)
	p.primary.start(t)
	p.healthy(t)
	back.waitMore(t, 20)
	lost := back.finish()
	t.Logf("dual stack, primary back: IPv6: %v", lost)
	if lost.gap > time.Second {
		t.Errorf("%v without an answer while the primary took over", lost.gap)
	}
	p.works(t, "after the return")
}

// listens says whether a bridge that snoops knows of a listener on a port.
func (w *wires) listens(t *testing.T, device, group string) bool {
	t.Helper()
	return strings.Contains(w.ns.run(t, "bridge mdb show"), " port "+device+" grp "+group)
}

// works fetches by both families.
func (p *pair) works(t *testing.T, when string) {
	t.Helper()
	p.seenAs(t, when)
	if got, err := p.client.curl("http://[fd02::1]/"); err != nil || got != "the server sees fd01::50" {
		t.Errorf("%s: IPv6: %q, %v", when, got, err)
	}
	if out := p.client.run(t, "ip -6 neigh show fd01::1"); !strings.Contains(out, lanMAC) || !strings.Contains(out, "router") {
		t.Errorf("%s the client has the IPv6 VIP as %q, want it a router at %s", when, out, lanMAC)
	}
}

// checkFamilies fails unless there is one advert of each family an interval,
// from one counter.
func checkFamilies(t *testing.T, all []advert, mac, source4, target4, source6, target6 string) {
	t.Helper()
	var families [2]int
	for i, a := range all {
		six := 0
		source, target := source4, target4
		if strings.Contains(a.source, ":") {
			six, source, target = 1, source6, target6
		}
		families[six]++
		if a.sourceMAC != mac || !strings.HasPrefix(a.source, source) || a.destination != target || a.ttl != 255 || !a.sumOK {
			t.Errorf("advert %+v, want it from %s at %s to %s", a, source, mac, target)
		}
		if i > 0 && a.counter != all[i-1].counter+1 {
			t.Errorf("counter %d after %d", a.counter, all[i-1].counter)
		}
	}
	if families[0] < 3 || families[0] > 6 || families[1] < families[0]-1 || families[1] > families[0]+1 {
		t.Errorf("%d adverts of IPv4 and %d of IPv6 in 4.5 s", families[0], families[1])
	}
}
