package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tandem/netstack/packet"
	"tandem/netstack/pf/rule"
)

// at makes a packet for an interface by its name.
func at(t *testing.T, p *Plan, iface, source, destination string, proto uint8, port uint16) Packet {
	t.Helper()
	pkt := Packet{Destination: netip.MustParseAddr(destination), Proto: proto, Port: port, SourcePort: samplePort}
	if iface == "self" {
		return pkt
	}
	pkt.Source = netip.MustParseAddr(source)
	for _, i := range p.Interfaces {
		if i.Name == iface {
			pkt.Iface = i.Index
			return pkt
		}
	}
	t.Fatalf("no interface %s", iface)
	return pkt
}

// TestRulesDecide holds single packets against whole documents: the automatic
// rules one by one, and the order of all.
func TestRulesDecide(t *testing.T) {
	const tcp, udp, icmp, icmp6, carp, pfsync = packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6, packet.ProtoCARP, packet.ProtoPfsync
	tests := []struct {
		name, file         string
		iface, source, dst string
		proto              uint8
		port               uint16
		edit               func(*Packet)
		want               rule.Action
		by                 string // identifier of the rule that decides; empty: none
	}{
		{"LAN out", "primary", "lan", "192.168.1.50", "198.51.100.1", tcp, 443, nil, rule.Pass, "rule-67efcaaa"},
		{"nothing in from WAN", "primary", "wan", "198.51.100.9", "198.51.100.201", tcp, 443, nil, rule.Block, ""},
		{"a forward's rule", "primary", "wan", "198.51.100.9", "198.51.100.200", tcp, 8080, nil, rule.Pass, "auto:forward-e2519187"},
		{"no forward on LAN", "primary", "lan", "192.168.1.50", "198.51.100.200", tcp, 8080, nil, rule.Pass, "rule-67efcaaa"},
		{"advert of the peer", "primary", "lan", "192.168.1.3", "224.0.0.18", carp, 0, nil, rule.Pass, "auto:carp:lan"},
		{"advert of a stranger", "primary", "wan", "10.1.1.1", "224.0.0.18", carp, 0, nil, rule.Block, ""},
		{"advert to somebody else", "primary", "wan", "198.51.100.202", "203.0.113.9", carp, 0, nil, rule.Block, ""},
		{"no CARP on sync", "primary", "sync", "172.16.1.3", "224.0.0.18", carp, 0, nil, rule.Block, ""},
		{"pfsync by its rule", "primary", "sync", "172.16.1.3", "172.16.1.2", pfsync, 0, nil, rule.Pass, "rule-71ff20d9"},
		{"pfsync on LAN only by LAN's rule", "primary", "wan", "198.51.100.202", "198.51.100.201", pfsync, 0, nil, rule.Block, ""},
		{"neighbour solicitation", "everything", "wan", "2001:db8:1::9", "2001:db8:1::2", icmp6, 0, icmpType(135), rule.Pass, "auto:icmp6:neighbours"},
		{"router solicitation from afar", "everything", "wan", "2001:470::9", "2001:db8:1::2", icmp6, 0, icmpType(133), rule.Block, ""},
		{"too big", "everything", "wan", "2001:470::9", "2001:db8:1::2", icmp6, 0, icmpType(2), rule.Pass, "auto:icmp6:errors"},
		{"echo is not among them", "everything", "wan", "2600::9", "2001:db8:1::2", icmp6, 0, icmpType(128), rule.Block, ""},
		{"bogon", "everything", "wan", "198.51.100.9", "198.51.100.200", tcp, 443, nil, rule.Block, "auto:bogons:wan"},
		{"private source", "everything", "wan", "10.1.1.1", "198.51.100.200", tcp, 443, nil, rule.Block, "auto:private:wan"},
		{"spoofed source", "everything", "lan", "203.0.113.9", "192.168.1.9", tcp, 443, nil, rule.Block, "auto:antispoof:lan"},
		{"own source is not spoofed", "everything", "lan", "192.168.1.50", "192.168.2.9", tcp, 25, nil, rule.Pass, "rule-9f692f5f"},
		{"port 0", "everything", "lan", "192.168.1.50", "192.168.2.9", udp, 0, nil, rule.Block, "auto:port-0"},
		{"source port 0", "everything", "lan", "192.168.1.50", "192.168.2.9", udp, 53, func(p *Packet) { p.SourcePort = 0 }, rule.Block, "auto:source-port-0"},
		{"loopback source", "everything", "lan", "127.0.0.1", "192.168.2.9", udp, 53, nil, rule.Block, "auto:source-loopback"},
		{"link-local destination", "everything", "lan", "192.168.1.50", "169.254.169.254", tcp, 80, nil, rule.Block, "auto:loopback"},
		{"group before interface", "everything", "lan", "10.0.0.5", "192.0.2.77", tcp, 80, nil, rule.Block, "rule-05a42ec9"},
		{"alias with an exception", "everything", "lan", "192.168.1.66", "192.0.2.77", udp, 80, nil, rule.Block, ""},
		{"ICMPv6 reject", "everything", "lan", "2001:db8:2::9", "2001:db8:2::2", icmp6, 0, icmpType(128), rule.Reject, "rule-552d3d38"},
		{"forward past all rules", "everything", "wan", "11.1.1.1", "198.51.100.200", udp, 53, nil, rule.Pass, ""},
		{"forward to none", "everything", "wan", "11.1.1.1", "198.51.100.200", udp, 500, nil, rule.Block, ""},
		{"hidden forward", "everything", "wan", "11.1.1.1", "198.51.100.200", tcp, 8005, nil, rule.Block, "rule-c2ed0633"},
		{"IPv6 off", "noipv6", "lan", "2001:db8::9", "2001:db8::1", icmp6, 0, icmpType(135), rule.Block, "auto:no-ipv6"},
		{"own traffic", "primary", "self", "", "198.51.100.1", udp, 53, nil, rule.Pass, ""},
		{"blackhole", "everything", "lan", "192.168.1.50", "10.40.0.1", icmp, 0, icmpType(8), rule.Block, "rule-9f692f5f"},
		{"VIP on a backup", "primary", "lan", "192.168.1.50", "192.168.1.1", udp, 53, func(p *Packet) { p.Backup = true }, rule.Block, ""},
		{"translation to a VIP on a backup", "primary", "lan", "192.168.1.50", "198.51.100.1", udp, 53, func(p *Packet) { p.Backup = true }, rule.Block, "rule-67efcaaa"},
	}
	plans := map[string]*Plan{}
	for _, name := range []string{"everything", "noipv6"} {
		plans[name], _ = Build(load(t, "testdata/"+name+".toml"))
	}
	plans["primary"], _ = Build(load(t, "../../examples/primary.toml"))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := plans[tt.file]
			pkt := at(t, p, tt.iface, tt.source, tt.dst, tt.proto, tt.port)
			if tt.edit != nil {
				tt.edit(&pkt)
			}
			got := p.Judge(pkt)
			by := ""
			if got.Rule >= 0 {
				by = p.Rules.Rule(got.Rule).ID
			}
			if got.Action != tt.want || by != tt.by {
				t.Errorf("%v by %q (%s), want %v by %q", got.Action, by, got.Why, tt.want, tt.by)
			}
		})
	}
}

func icmpType(n uint8) func(*Packet) { return func(p *Packet) { p.ICMPType, p.SourcePort = n, 0 } }

func TestTranslationsAndRoutesOfAPacket(t *testing.T) {
	everything, _ := Build(load(t, "testdata/everything.toml"))
	primary, _ := Build(load(t, "../../examples/primary.toml"))
	tests := []struct {
		name               string
		plan               *Plan
		iface, source, dst string
		proto              uint8
		port               uint16
		from, to, out      string
	}{
		{"hybrid: the file's rule", primary, "lan", "192.168.1.50", "192.0.2.9", packet.ProtoTCP, 443, "198.51.100.200", "192.0.2.9", "wan"},
		{"hybrid: the automatic rule", primary, "sync", "172.16.1.3", "172.16.1.2", packet.ProtoPfsync, 0, "172.16.1.3", "172.16.1.2", ""},
		{"port forward", primary, "wan", "192.0.2.9", "198.51.100.200", packet.ProtoTCP, 8080, "192.0.2.9", "192.168.1.50", "lan"},
		{"own traffic keeps its address", primary, "self", "", "192.0.2.9", packet.ProtoUDP, 53, "198.51.100.201", "192.0.2.9", "wan"},
		{"default by the gateway that says so", everything, "lan", "192.168.1.50", "11.0.0.1", packet.ProtoUDP, 53, "203.0.113.2", "11.0.0.1", "wan2"},
		{"first VIP in the subnet of the first address", everything, "lan", "192.168.1.50", "198.51.100.1", packet.ProtoUDP, 53, "198.51.100.200", "198.51.100.1", "wan"},
		{"1:1 before outbound rules", everything, "lan", "192.168.1.40", "198.51.100.1", packet.ProtoUDP, 53, "198.51.100.210", "198.51.100.1", "wan"},
		{"behind a static route", everything, "lan", "192.168.1.50", "10.20.0.9", packet.ProtoUDP, 53, "192.168.1.50", "10.20.0.9", "lan"},
		{"tunnel", everything, "lan", "192.168.1.50", "10.50.0.9", packet.ProtoUDP, 53, "192.168.1.50", "10.50.0.9", "far"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.plan.Judge(at(t, tt.plan, tt.iface, tt.source, tt.dst, tt.proto, tt.port))
			out := ""
			for _, i := range tt.plan.Interfaces {
				if i.Index == got.Out {
					out = i.Name
				}
			}
			if got.Action != rule.Pass || got.Source.String() != tt.from || got.Destination.String() != tt.to || out != tt.out {
				t.Errorf("%v (%s): %v to %v by %q, want %s to %s by %q", got.Action, got.Why, got.Source, got.Destination, out, tt.from, tt.to, tt.out)
			}
		})
	}
}

// assertBase is a node that assertions are made about.
const assertBase = `
[system]
hostname = "fw"
[interfaces.wan]
link = { driver = "tap", device = "a" }
addresses = ["198.51.100.201/24"]
gateway = "198.51.100.1"
[interfaces.lan]
link = { driver = "tap", device = "b" }
addresses = ["192.168.1.2/24"]
[high_availability]
host_id = 1
[[virtual_ips]]
type = "carp"
interface = "wan"
address = "198.51.100.200/24"
vhid = 200
password = "lab-only"
[[virtual_ips]]
type = "carp"
interface = "lan"
address = "192.168.1.1/24"
vhid = 1
password = "lab-only"
[[rules]]
id = "out"
interface = "lan"
action = "pass"
description = "LAN out"
[[rules]]
id = "no-mail"
interface = "wan"
action = "reject"
protocol = "tcp"
destination_port = "smtp"
`

func TestAssertsHoldOrSayWhyNot(t *testing.T) {
	const lan, wan = "lan:192.168.1.50", "wan:192.0.2.1"
	tests := []struct{ name, from, to, expect, more, want string }{
		{"holds", lan, "tcp 192.0.2.1:443", "pass", "nat_source = '198.51.100.200'\nnat_destination = 'none'\nout_interface = 'wan'", ""},
		{"holds for the node", "self", "udp 192.0.2.1:53", "pass", "nat_source = 'none'\nout_interface = 'wan'", ""},
		{"holds on a backup", lan, "tcp 192.0.2.1:443", "block", "role = 'backup'", ""},
		{"holds for a VIP", lan, "udp 192.168.1.1:53", "pass", "out_interface = 'self'", ""},
		{"holds for ping", lan, "icmp 192.0.2.1", "pass", "nat_source = '198.51.100.200'", ""},
		{"holds for reject", wan, "tcp 198.51.100.201:25", "reject", "", ""},
		{"blocked by default", wan, "tcp 198.51.100.201:443", "pass", "", "does not pass: no rule passes it"},
		{"stopped by a rule", wan, "tcp 198.51.100.201:25", "block", "", "does not block: rule no-mail stops it"},
		{"passed by a rule", lan, "tcp 192.0.2.1:443", "block", "", "does not block: rule out (LAN out) passes it"},
		{"another source", lan, "tcp 192.0.2.1:443", "pass", "nat_source = '198.51.100.201'", "the source becomes 198.51.100.200"},
		{"no translation", lan, "tcp 192.0.2.1:443", "pass", "nat_destination = '192.168.1.9'", "the destination is not translated"},
		{"a translation", lan, "tcp 192.0.2.1:443", "pass", "nat_source = 'none'", "the source becomes 198.51.100.200"},
		{"another way out", lan, "tcp 192.0.2.1:443", "pass", "out_interface = 'lan'", "the packet leaves by wan"},
		{"a VIP not held", lan, "tcp 192.0.2.1:443", "pass", "role = 'backup'", "vip-not-held"},
		{"no route", "lan:2001:db8:5::1", "tcp [2001:db8::1]:443", "pass", "", "there is no route to 2001:db8::1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := fmt.Sprintf("%s[[assert]]\nfrom = %q\nto = %q\nexpect = %q\n%s\n", assertBase, tt.from, tt.to, tt.expect, tt.more)
			p, problems := Build(parse(t, textConfig(text)))
			switch {
			case tt.want == "" && len(problems) > 0:
				t.Errorf("problems: %v", problems)
			case tt.want != "" && (p != nil || len(problems) != 1 || !strings.Contains(problems[0].Text, tt.want)):
				t.Errorf("problems: %v, want one with %q", problems, tt.want)
			}
		})
	}
}
