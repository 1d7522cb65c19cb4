//go:build interop

package interop

import (
	"strings"
	"testing"
)

// TestInteropPathMTU has two narrow places: the node's own way out, 1400
// bytes, and one behind the next router, 1300 bytes, whose errors come back
// through the translation.
func TestInteropPathMTU(t *testing.T) {
	text := strings.Replace(singleFile, `gateway6 = "fd02::1"`, "gateway6 = \"fd02::1\"\nmtu = 1400", 1)
	s := newSingle(t, text)
	// The server may send what the node may not: it must learn nothing from
	// the maximum segment sizes.
	s.server.run(t, "ip link set wan0 mtu 1500\n sysctl -q -w net.ipv4.ip_forward=1\n sysctl -q -w net.ipv6.conf.all.forwarding=1")
	far := newNamespace(t, "far")
	s.server.run(t, "ip link add far0 mtu 1300 type veth peer name eth0 netns "+far.name)
	settle(t, s.server, "far0", []string{"203.0.113.1/24", "fd03::1/64"}, nil)
	settle(t, far, "eth0", []string{"203.0.113.2/24", "fd03::2/64"}, []string{"203.0.113.1", "fd03::1"})
	eventually(t, "the far host is there", func() bool {
		_, err4 := s.client.try("ping -n -c 1 -W 1 203.0.113.2")
		_, err6 := s.client.try("ping -n -c 1 -W 1 fd03::2")
		return err4 == nil && err6 == nil
	})

	for _, c := range []struct{ command, want string }{
		{"ping -n -c 1 -W 2 -M do -s 1472 198.51.100.1", "From 192.168.1.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)"},
		{"ping -n -c 1 -W 2 -M do -s 1372 198.51.100.1", "1 received"},
		{"ping -n -c 1 -W 2 -M do -s 1452 fd02::1", "From fd01::1 icmp_seq=1 Packet too big: mtu=1400"},
		{"ping -n -c 1 -W 2 -M do -s 1352 fd02::1", "1 received"},
		{"ping -n -c 1 -W 2 -M do -s 1372 203.0.113.2", "From 198.51.100.1 icmp_seq=1 Frag needed and DF set (mtu = 1300)"},
		{"ping -n -c 1 -W 2 -M do -s 1352 fd03::2", "From fd02::1 icmp_seq=1 Packet too big: mtu=1300"},
		{"tracepath -n -m 5 198.51.100.1", "pmtu 1400"},
		{"tracepath -n -m 5 203.0.113.2", "pmtu 1300"},
		{"tracepath -6 -n -m 5 fd02::1", "pmtu 1400"},
		{"tracepath -6 -n -m 5 fd03::2", "pmtu 1300"},
		{"traceroute -n -w 2 -q 1 203.0.113.2", " 2  198.51.100.1"},
		{"traceroute -6 -n -w 2 -q 1 fd03::2", " 2  fd02::1"},
	} {
		s.client.run(t, "ip route flush cache\n ip -6 route flush cache")
		out, _ := s.client.try(c.command) // a ping that learns the size has lost
		if !strings.Contains(out, c.want) {
			t.Errorf("%s: no %q in\n%s", c.command, c.want, out)
		}
	}

	const size = 20 << 20
	for _, remote := range []string{"198.51.100.1:5001", "[fd02::1]:5001"} {
		s.client.run(t, "ip route flush cache\n ip -6 route flush cache")
		transfer(t, s.server, remote, s.client, remote, size, false)
		transfer(t, s.server, remote, s.client, remote, size, true)
	}
	for _, remote := range []string{"203.0.113.2:5001", "[fd03::2]:5001"} {
		s.client.run(t, "ip route flush cache\n ip -6 route flush cache")
		transfer(t, far, remote, s.client, remote, size, false)
	}
}
