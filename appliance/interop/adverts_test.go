//go:build interop

package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tandem/appliance/status"
)

// testEcho sends the master its own adverts back, as a switch with a loop does.
func testEcho(t *testing.T, p *pair) {
	before := p.transitions(t)
	port := p.client.jack(t, "eth0")
	for range 3 {
		f := port.expect(t, 3*time.Second, "an advert", func(f gopacket.Packet) bool {
			v4, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			return ok && v4.Protocol == 112
		})
		port.send(t, f.Data())
	}
	eventually(t, "the echo is counted, and an alarm speaks of a loop", func() bool {
		return p.primary.carp(t).Counters["own_echo"] >= 3 &&
			slices.ContainsFunc(p.primary.mustStatus(t).Alarms, func(a status.Alarm) bool { return strings.Contains(a.Message, "loop") })
	})
	if p.transitions(t) != before {
		t.Error("an echo moved a VIP")
	}
}

// checkStream fails unless adverts are one steady stream of a master.
func checkStream(t *testing.T, all []advert, source, mac string, skew uint8) {
	t.Helper()
	want := time.Second + time.Duration(skew)*time.Second/256
	if len(all) < 3 {
		t.Errorf("%d adverts of %s are no stream", len(all), source)
	}
	for _, a := range all {
		if a.source != source || a.sourceMAC != mac || a.skew != skew || a.advbase != 1 || a.ttl != 255 || a.destination != "224.0.0.18" || !a.sumOK {
			t.Errorf("advert %+v, want it from %s at %s with skew %d", a, source, mac, skew)
		}
	}
	// One may leave late on a busy machine; they do not drift.
	every := intervals(all)
	var sum time.Duration
	for i, d := range every {
		sum += d
		if d < want*3/4 || d > want*5/4 {
			t.Errorf("advert %d of %s comes %v after the one before, want %v", i+1, source, d, want)
		}
	}
	if mean := sum / time.Duration(max(1, len(every))); mean < want*24/25 || mean > want*26/25 {
		t.Errorf("adverts of %s come every %v, want %v", source, mean, want)
	}
}

// withAliases stacks 20 addresses on the LAN VIP.
func withAliases(text string) string {
	var more strings.Builder
	for i := range 20 {
		fmt.Fprintf(&more, "[[virtual_ips]]\ntype = \"ip_alias\"\ninterface = \"lan\"\nvhid = 1\naddress = \"192.168.1.%d/24\"\n\n", 201+i)
	}
	return text + "\n" + more.String()
}

// testAdverts gives both nodes more addresses by reload, one long after the
// other, and then counts what is on the wires: one stream for each vhid,
// however many addresses it has.
func testAdverts(t *testing.T, p *pair) {
	p.primary.write(t, withAliases(example(t, "primary.toml")))
	p.secondary.write(t, withAliases(example(t, "secondary.toml")))
	before := p.transitions(t)
	p.primary.mustVerb(t, "reload")
	holds(t, 4*time.Second, "nothing moves while one node alone has the aliases", func() bool { return p.transitions(t) == before })
	p.secondary.mustVerb(t, "reload")
	eventually(t, "both nodes have the aliases", func() bool {
		return len(p.primary.carp(t).VIPs) == 22 && len(p.secondary.carp(t).VIPs) == 22
	})
	// A node that has new addresses signs with the former ones too for a
	// while; one that starts does not.
	p.primary.stop(t)
	p.primary.start(t)
	p.healthy(t)
	wan, lan := p.wires.ns.capture(t, "wan", "proto", "112"), p.wires.ns.capture(t, "lan", "proto", "112")
	holds(t, 6500*time.Millisecond, "the roles stay", func() bool { return p.primary.is(t, "MASTER") && p.secondary.is(t, "BACKUP") })
	onWAN, onLAN := adverts(wan.end(t)), adverts(lan.end(t))
	if len(of(onWAN, 200)) != len(onWAN) || len(of(onLAN, 1)) != len(onLAN) {
		t.Errorf("adverts of other vhids: %v %v", onWAN, onLAN)
	}
	checkStream(t, onWAN, "198.51.100.201", wanMAC, 0)
	checkStream(t, onLAN, "192.168.1.2", lanMAC, 0)
	t.Logf("%d and %d adverts in 6.5 s, with 20 aliases on one vhid; intervals on LAN %v", len(onWAN), len(onLAN), intervals(onLAN))
	dissect(t, wan.file)
	dissect(t, lan.file)
	if got := p.arping(t, "192.168.1.215"); !slices.Equal(got, []string{lanMAC}) {
		t.Errorf("an alias is at %v, want %s", got, lanMAC)
	}
}
