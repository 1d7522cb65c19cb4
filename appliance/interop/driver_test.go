//go:build interop

package interop

import (
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

const rulesPassLAN = `
[[rules]]
interface = "lan"
action = "pass"
source = "lan:net"
`

// tryOut pings, fetches and carries through a node that has the server at
// 198.51.100.1 outside.
func tryOut(t *testing.T, client, server *namespace, seenAs string) {
	t.Helper()
	if out, err := client.try("ping -n -c 3 -i 0.1 -W 2 198.51.100.1"); err != nil {
		t.Errorf("ping: %v\n%s", err, out)
	}
	server.serveHTTP(t, "198.51.100.1:80", "the server")
	if got, err := client.curl("http://198.51.100.1/"); err != nil || got != "the server sees "+seenAs {
		t.Errorf("curl: %q, %v; want it seen as %s", got, err, seenAs)
	}
	transfer(t, server, "198.51.100.1:5001", client, "198.51.100.1:5001", 50<<20, false)
	transfer(t, server, "198.51.100.1:5001", client, "198.51.100.1:5001", 50<<20, true)
}

// TestInteropQueuesAndOffload joins a device of several queues with one that
// takes no coalesced frames: what one side gives whole, the other needs cut.
func TestInteropQueuesAndOffload(t *testing.T) {
	client, server := newNamespace(t, "client"), newNamespace(t, "server")
	n := newNode(t, "fw", `
[system]
hostname = "fw-queues"
[interfaces.wan]
link = { driver = "tap", device = "wan0", queues = 2 }
addresses = ["198.51.100.2/24"]
gateway = "198.51.100.1"
[interfaces.lan]
link = { driver = "tap", device = "lan0", offload = false }
addresses = ["192.168.1.1/24"]
`+rulesPassLAN, map[string]plug{
		"lan0": directly(client, []string{"192.168.1.50/24"}, "192.168.1.1"),
		"wan0": directly(server, []string{"198.51.100.1/24"}),
	})
	n.start(t)
	tryOut(t, client, server, "198.51.100.2")
}

func TestInteropTUNDriver(t *testing.T) {
	client, server := newNamespace(t, "client"), newNamespace(t, "server")
	n := newNode(t, "fw", `
[system]
hostname = "fw-tun"
[interfaces.wan]
link = { driver = "tap", device = "wan0" }
addresses = ["198.51.100.2/24"]
gateway = "198.51.100.1"
[interfaces.lan]
link = { driver = "tun", device = "lan0" }
addresses = ["192.168.1.1/24"]
`+rulesPassLAN, map[string]plug{
		"lan0": directly(client, []string{"192.168.1.50/24"}, "192.168.1.1"),
		"wan0": directly(server, []string{"198.51.100.1/24"}),
	})
	n.start(t)
	tryOut(t, client, server, "198.51.100.2")
}

// TestInteropPacketDriver attaches the node to interfaces that the kernel has
// already given addresses, as a container's are.
func TestInteropPacketDriver(t *testing.T) {
	client, server := newNamespace(t, "client"), newNamespace(t, "server")
	n := newNode(t, "fw", `
[system]
hostname = "fw-packet"
[interfaces.wan]
link = { driver = "packet", device = "eth1" }
addresses = ["198.51.100.2/24"]
gateway = "198.51.100.1"
[interfaces.lan]
link = { driver = "packet", device = "eth0" }
addresses = ["192.168.1.1/24"]
[high_availability]
host_id = 1
[[virtual_ips]]
type = "carp"
interface = "lan"
address = "192.168.1.254/24"
vhid = 7
password = "lab-only"
`+rulesPassLAN, nil)
	n.ns.run(t, "ip link add eth0 type veth peer name eth0 netns "+client.name+
		"\n ip link add eth1 type veth peer name eth0 netns "+server.name)
	settle(t, n.ns, "eth0", []string{"192.168.1.1/24"}, nil)
	settle(t, n.ns, "eth1", []string{"198.51.100.2/24"}, []string{"198.51.100.1"})
	settle(t, client, "eth0", []string{"192.168.1.50/24"}, []string{"192.168.1.254"})
	settle(t, server, "eth0", []string{"198.51.100.1/24"}, nil)
	n.start(t)
	eventually(t, "the VIP is held", func() bool { return n.is(t, "MASTER") })
	tryOut(t, client, server, "198.51.100.2")
	if out := n.ns.run(t, "ip -o addr show scope global"); strings.Contains(out, "192.168.1.1") {
		t.Errorf("the kernel kept its addresses:\n%s", out)
	}
	n.stop(t)
	if out := n.ns.run(t, "ip -o addr show\n ip route show default"); !strings.Contains(out, "192.168.1.1/24") || !strings.Contains(out, "via 198.51.100.1") {
		t.Errorf("the kernel did not get its addresses and routes back:\n%s", out)
	}
}

const vlanFile = `
[system]
hostname = "fw-vlan"
[interfaces.trunk]
link = { driver = "tap", device = "trunk0" }
addresses = ["192.168.1.1/24"]
[interfaces.red]
link = { driver = "vlan", parent = "trunk", id = 10 }
addresses = ["10.0.10.1/24"]
[interfaces.blue]
link = { driver = "vlan", parent = "trunk", id = 20 }
addresses = ["10.0.20.1/24"]
[[rules]]
interface = "red"
action = "pass"
source = "red:net"
`

// tag is a VLAN tag in front of a type.
func tag(id uint16, next layers.EthernetType) *layers.Dot1Q {
	return &layers.Dot1Q{VLANIdentifier: id, Type: next}
}

// taggedBy says that a frame is of a VLAN.
func taggedBy(p gopacket.Packet, id uint16) bool {
	t, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
	return ok && t.VLANIdentifier == id
}

// TestInteropVLANChildren speaks tagged frames by hand: a kernel host with
// VLAN devices is not to be had everywhere.
func TestInteropVLANChildren(t *testing.T) {
	client := newNamespace(t, "client")
	n := newNode(t, "fw", vlanFile, map[string]plug{"trunk0": directly(client, nil)})
	n.start(t)
	const me, peer, limit = "02:00:00:00:0a:05", "02:00:00:00:14:05", 2 * time.Second
	const ipv4, arp = layers.EthernetTypeIPv4, layers.EthernetTypeARP
	wire := client.jack(t, "trunk0")
	wire.hosts["10.0.10.5"], wire.hosts["10.0.20.5"] = me, peer

	wire.send(t, arpRequest(t, me, "10.0.10.5", "10.0.10.1")) // without its tag
	wire.send(t, arpRequest(t, me, "10.0.10.5", "10.0.10.1", tag(30, arp)))
	wire.send(t, arpRequest(t, me, "10.0.10.5", "10.0.10.1", tag(10, arp)))
	var red string
	wire.expect(t, limit, "an ARP reply", func(p gopacket.Packet) bool {
		a, ok := isARPReply(p, "10.0.10.1")
		if ok {
			red = macText(a.SourceHwAddress)
			if !taggedBy(p, 10) {
				t.Errorf("an answer outside the VLAN: %v", p)
			}
		}
		return ok
	})
	wire.send(t, echoRequest(t, me, red, "10.0.10.5", "10.0.10.1", 1, tag(10, ipv4)))
	wire.expect(t, limit, "a ping's reply in its VLAN", func(p gopacket.Packet) bool { return isEchoReply(p, 1) && taggedBy(p, 10) })

	wire.send(t, echoRequest(t, me, red, "10.0.10.5", "10.0.20.5", 2, tag(10, ipv4)))
	there := wire.expect(t, limit, "the ping in the other VLAN", func(p gopacket.Packet) bool {
		i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		return ok && taggedBy(p, 20) && i.Id == 2 && p.LinkLayer().LinkFlow().Dst().String() == peer
	})
	blue := there.LinkLayer().LinkFlow().Src().String()
	wire.send(t, frame(t, &layers.Ethernet{SrcMAC: mac(t, peer), DstMAC: mac(t, blue), EthernetType: layers.EthernetTypeDot1Q}, tag(20, ipv4),
		&layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: ip("10.0.20.5"), DstIP: ip("10.0.10.5")},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: 2, Seq: 1},
		gopacket.Payload("a ping in one frame")))
	wire.expect(t, limit, "its reply back in the first VLAN", func(p gopacket.Packet) bool { return isEchoReply(p, 2) && taggedBy(p, 10) })

	// What blue begins itself, no rule lets in.
	wire.send(t, echoRequest(t, peer, blue, "10.0.20.5", "10.0.10.5", 3, tag(20, ipv4)))
	wire.send(t, echoRequest(t, me, red, "10.0.10.5", "10.0.10.1", 4, tag(10, ipv4)))
	wire.expect(t, limit, "a later ping's reply", func(p gopacket.Packet) bool {
		if i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && i.Id == 3 {
			t.Errorf("passed without a rule: %v", p)
		}
		return isEchoReply(p, 4)
	})
}
