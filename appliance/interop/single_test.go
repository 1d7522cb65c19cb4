//go:build interop

package interop

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tandem/appliance/status"
)

// singleFile is one node between a client and a server. Inside is
// 192.168.1.0/24 and fd01::/64, outside 198.51.100.0/24 and fd02::/64.
const singleFile = `
[system]
hostname = "fw-single"

[interfaces.wan]
link = { driver = "tap", device = "wan0" }
addresses = ["198.51.100.2/24", "fd02::2/64"]
gateway = "198.51.100.1"
gateway6 = "fd02::1"

[interfaces.lan]
link = { driver = "tap", device = "lan0" }
addresses = ["192.168.1.1/24", "fd01::1/64"]

[[virtual_ips]]
type = "ip_alias"
interface = "wan"
address = "198.51.100.210/24"

[[rules]]
interface = "lan"
action = "reject"
protocol = "tcp/udp"
destination_port = 7
description = "refused aloud"

[[rules]]
interface = "lan"
action = "block"
protocol = "tcp/udp"
destination_port = 9
description = "refused in silence"

[[rules]]
interface = "lan"
action = "pass"
source = "lan:net"
description = "LAN to anywhere"

[[rules]]
interface = "wan"
action = "pass"
protocol = "tcp"
destination = "192.168.1.60"
destination_port = 25
description = "the host that has an address outside"

[[rules]]
interface = "wan"
action = "pass"
family = "inet6"
protocol = "tcp"
destination = "fd01::50"
destination_port = 8080
description = "a routed host"

[[nat.port_forwards]]
interface = "wan"
protocol = "tcp"
destination = "198.51.100.2"
destination_port = 8080
target = "192.168.1.50"
target_port = 80

[[nat.one_to_one]]
interface = "wan"
external = "198.51.100.210"
internal = "192.168.1.60"
`

// single is one node with a host on each side, cabled directly.
type single struct {
	node           *node
	client, server *namespace
}

// newSingle starts a node of which the file has the devices lan0 and wan0 and
// the addresses of singleFile.
func newSingle(t *testing.T, text string) *single {
	t.Helper()
	s := &single{client: newNamespace(t, "client"), server: newNamespace(t, "server")}
	s.node = newNode(t, "fw", text, map[string]plug{
		"lan0": directly(s.client, []string{"192.168.1.50/24", "192.168.1.60/24", "fd01::50/64"}, "192.168.1.1", "fd01::1"),
		"wan0": func(t *testing.T, from *namespace, device string) {
			t.Helper()
			directly(s.server, []string{"198.51.100.1/24", "fd02::1/64"})(t, from, device)
			s.server.run(t, "ip route add 192.168.1.0/24 via 198.51.100.2\n ip route add fd01::/64 via fd02::2")
		},
	})
	s.node.start(t)
	return s
}

func TestInteropSingleNode(t *testing.T) {
	s := newSingle(t, singleFile)
	s.server.serveHTTP(t, "198.51.100.1:80", "the server")
	s.server.serveHTTP(t, "[fd02::1]:80", "the server")
	s.server.echoUDP(t, "198.51.100.1:5353")
	s.server.echoUDP(t, "[fd02::1]:5353")
	s.client.serveHTTP(t, "192.168.1.50:80", "the client")
	s.client.serveHTTP(t, "[fd01::50]:8080", "the client")
	s.client.serveHTTP(t, "192.168.1.60:25", "the mail host")

	t.Run("ping", func(t *testing.T) { testPing(t, s) })
	t.Run("sources outside", func(t *testing.T) { testSourcesOutside(t, s) })
	t.Run("forwards", func(t *testing.T) { testForwards(t, s) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, s) })
	t.Run("traceroute", func(t *testing.T) { testTraceroute(t, s) })
	t.Run("transfers", func(t *testing.T) {
		const size = 100 << 20
		for _, down := range []bool{false, true} {
			transfer(t, s.server, "198.51.100.1:5001", s.client, "198.51.100.1:5001", size, down)
			transfer(t, s.server, "[fd02::1]:5001", s.client, "[fd02::1]:5001", size, down)
		}
	})
	t.Run("nothing unsolicited", func(t *testing.T) { testUnsolicited(t, s) })
	t.Run("forged segments", func(t *testing.T) { testForged(t, s) })
	t.Run("verbs", func(t *testing.T) { testVerbs(t, s) })
	t.Run("second instance", func(t *testing.T) { testSecondInstance(t, s) })
	t.Run("nmap", func(t *testing.T) { testNmap(t, s) })
}

func testPing(t *testing.T, s *single) {
	for _, to := range []string{"192.168.1.1", "198.51.100.1", "198.51.100.2", "fd01::1", "fd02::1", "fd02::2"} {
		if out, err := s.client.try("ping -n -c 3 -i 0.1 -W 2 " + to); err != nil {
			t.Errorf("ping %s: %v\n%s", to, err, out)
		}
	}
	for _, size := range []string{"1472", "4000", "20000"} { // the last two in fragments
		for _, to := range []string{"198.51.100.1", "fd02::1"} {
			if out, err := s.client.try("ping -n -c 2 -i 0.1 -W 2 -s " + size + " " + to); err != nil {
				t.Errorf("ping %s with %s bytes: %v\n%s", to, size, err, out)
			}
		}
	}
}

func testSourcesOutside(t *testing.T, s *single) {
	for url, want := range map[string]string{
		"http://198.51.100.1/":                                 "the server sees 198.51.100.2",
		"http://[fd02::1]/":                                    "the server sees fd01::50",
		"--interface 192.168.1.60 http://198.51.100.1/":        "the server sees 198.51.100.210",
		"http://198.51.100.1/ --local-port 61000":              "the server sees 198.51.100.2",
		"http://[fd02::1]/ --interface fd01::50 --tcp-nodelay": "the server sees fd01::50",
	} {
		if got, err := s.client.curl(url); err != nil || got != want {
			t.Errorf("curl %s: %q, %v; want %q", url, got, err, want)
		}
	}
	for remote, prefix := range map[string]string{"198.51.100.1:5353": "198.51.100.2:", "[fd02::1]:5353": "[fd01::50]:"} {
		if got, err := s.client.askUDP(t, remote, "hello"); err != nil || !strings.HasPrefix(got, prefix) || !strings.HasSuffix(got, "hello") {
			t.Errorf("UDP to %s: %q, %v; want it seen as %s", remote, got, err, prefix)
		}
	}
	long := strings.Repeat("0123456789abcdef", 300) // in fragments
	for _, remote := range []string{"198.51.100.1:5353", "[fd02::1]:5353"} {
		if got, err := s.client.askUDP(t, remote, long); err != nil || !strings.HasSuffix(got, long) {
			t.Errorf("UDP of %d bytes to %s: %d bytes, %v", len(long), remote, len(got), err)
		}
	}
}

func testForwards(t *testing.T, s *single) {
	for url, want := range map[string]string{
		"http://198.51.100.2:8080/": "the client sees 198.51.100.1",
		"http://198.51.100.210:25/": "the mail host sees 198.51.100.1",
		"http://[fd01::50]:8080/":   "the client sees fd02::1",
	} {
		if got, err := s.server.curl(url); err != nil || got != want {
			t.Errorf("from outside %s: %q, %v; want %q", url, got, err, want)
		}
	}
}

func testRefusals(t *testing.T, s *single) {
	for _, remote := range []string{"198.51.100.1", "[fd02::1]"} {
		conn, err := s.client.dial("tcp", "", remote+":7", patience)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("TCP to a rejected port of %s: %v, want a reset", remote, err)
		}
		if err == nil {
			_ = conn.Close()
		}
		if _, err := s.client.askUDP(t, remote+":7", "hello"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("UDP to a rejected port of %s: %v, want it refused by ICMP", remote, err)
		}
		if _, err := s.client.dial("tcp", "", remote+":9", time.Second); !errors.Is(err, os.ErrDeadlineExceeded) && !isTimeout(err) {
			t.Errorf("TCP to a blocked port of %s: %v, want silence", remote, err)
		}
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func testTraceroute(t *testing.T, s *single) {
	for command, hops := range map[string][]string{
		"traceroute -n -I -w 2 -q 1 198.51.100.1":       {"192.168.1.1", "198.51.100.1"},
		"traceroute -n -w 2 -q 1 198.51.100.1":          {"192.168.1.1", "198.51.100.1"},
		"traceroute -n -T -p 80 -w 2 -q 1 198.51.100.1": {"192.168.1.1", "198.51.100.1"},
		"traceroute -6 -n -I -w 2 -q 1 fd02::1":         {"fd01::1", "fd02::1"},
		"traceroute -6 -n -w 2 -q 1 fd02::1":            {"fd01::1", "fd02::1"},
		"tracepath -n -m 4 198.51.100.1":                {"192.168.1.1", "198.51.100.1"},
		"tracepath -6 -n -m 4 fd02::1":                  {"fd01::1", "fd02::1"},
	} {
		out, err := s.client.try(command)
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		for i, hop := range hops {
			if !regexp.MustCompile(`(?m)^ *` + string(rune('1'+i)) + `:? +` + regexp.QuoteMeta(hop) + `\s`).MatchString(out) {
				t.Errorf("%s: hop %d is not %s:\n%s", command, i+1, hop, out)
			}
		}
	}
}

// testUnsolicited knocks from outside at what no rule opened.
func testUnsolicited(t *testing.T, s *single) {
	inside := s.client.capture(t, "lan0", "src", "host", "198.51.100.1", "or", "src", "host", "fd02::1", "or", "src", "host", "192.168.1.77")
	var knocks sync.WaitGroup
	for _, remote := range []string{"192.168.1.50:22", "192.168.1.60:80", "198.51.100.2:80", "198.51.100.2:443", "198.51.100.210:26", "[fd01::50]:80", "[fd02::2]:443"} {
		knocks.Go(func() {
			conn, err := s.server.dial("tcp", "", remote, 1500*time.Millisecond) // the second SYN too
			if err == nil {
				_ = conn.Close()
				t.Errorf("%s answers from outside", remote)
			} else if !isTimeout(err) {
				t.Errorf("%s: %v, want silence", remote, err)
			}
		})
	}
	for _, to := range []string{"192.168.1.50", "198.51.100.2", "fd01::50", "fd02::2"} {
		knocks.Go(func() {
			if out, err := s.server.try("ping -n -c 2 -i 0.2 -W 1 " + to); err == nil {
				t.Errorf("ping from outside to %s was answered:\n%s", to, out)
			}
		})
	}
	knocks.Wait()
	// An answer to nothing, a segment in the middle of nothing, and, to a port
	// that is open, a SYN that says it comes from inside.
	raw := s.server.jack(t, "wan0")
	nodeMAC := s.node.macOf(t, "wan")
	for _, flags := range []string{"SA", "A", "FA", "R"} {
		raw.send(t, segment(t, nodeMAC, "198.51.100.1", "192.168.1.50", 80, 50000, 1, flags))
	}
	raw.send(t, segment(t, nodeMAC, "192.168.1.77", "192.168.1.50", 50000, 80, 1, "S"))
	// What follows on the same wire has overtaken none of it.
	if got, err := s.server.curl("http://198.51.100.2:8080/"); err != nil {
		t.Errorf("port forward: %q, %v", got, err)
	}
	for _, c := range inside.end(t) {
		if tcp, ok := c.frame.Layer(layers.LayerTypeTCP).(*layers.TCP); !ok || tcp.DstPort != 80 {
			t.Errorf("unsolicited frame inside: %v", c.frame)
		}
	}
}

// segment is a TCP segment in a frame of nobody's.
func segment(t *testing.T, to, source, destination string, from, port uint16, seq uint32, flags string) []byte {
	t.Helper()
	has := func(flag string) bool { return strings.Contains(flags, flag) }
	return frame(t,
		&layers.Ethernet{SrcMAC: mac(t, "02:00:00:00:00:99"), DstMAC: mac(t, to), EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: ip(source), DstIP: ip(destination)},
		&layers.TCP{SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(port), Seq: seq, Ack: 1, Window: 1000,
			SYN: has("S"), ACK: has("A"), FIN: has("F"), RST: has("R")},
		gopacket.Payload("x"))
}

// testForged sends resets and segments into an established connection from
// outside, with its addresses and ports but not its numbers.
func testForged(t *testing.T, s *single) {
	talk := converse(t, s.server, "198.51.100.1:5003", s.client)
	eventually(t, "the connection is busy", func() bool { return talk.turns.Load() > 5 })
	var list []status.State
	s.node.ask(t, "states list tcp :5003", &list)
	if len(list) != 1 {
		t.Fatalf("states: %+v", list)
	}
	seen, err := netip.ParseAddrPort(list[0].TranslatedSource)
	if err != nil {
		t.Fatal(err)
	}
	raw, to := s.server.jack(t, "wan0"), s.node.macOf(t, "wan")
	inside := s.client.capture(t, "lan0", "tcp", "port", "5003", "and", "tcp[tcpflags]", "&", "(tcp-rst|tcp-syn)", "!=", "0")
	const each = 300
	random := rand.New(rand.NewPCG(5003, 1))
	for range each {
		for _, flags := range []string{"R", "RA", "S", "A"} {
			raw.send(t, segment(t, to, "198.51.100.1", seen.Addr().String(), 5003, seen.Port(), random.Uint32(), flags))
		}
	}
	turns := talk.turns.Load()
	eventually(t, "the connection goes on", func() bool { return talk.turns.Load() > turns+20 })
	talk.finish(t)
	for _, c := range inside.end(t) {
		t.Errorf("a forged segment came through: %v", c.frame)
	}
	var count status.StateCount
	s.node.ask(t, "states count", &count)
	refused := map[string]uint64{}
	for _, d := range count.Drops {
		refused[d.Reason] = d.Packets
	}
	if refused["bad-reset"] < 2*each-5 || refused["bad-window"] < each-5 {
		t.Errorf("%d each of resets, SYNs and segments were forged, but counted are %v", each, refused)
	}
}

var nmapPort = regexp.MustCompile(`(\d+)/open/tcp`)

// testNmap lets a real scanner look for open doors.
func testNmap(t *testing.T, s *single) {
	for target, want := range map[string]string{"198.51.100.2": "8080", "198.51.100.210": "25", "192.168.1.50": "80"} {
		out, err := s.server.try("nmap -Pn -n --max-retries 1 --min-rate 1000 --host-timeout 60s -p 1-1024,8080 -oG - " + target)
		if err != nil {
			t.Fatalf("nmap: %v\n%s", err, out)
		}
		var open []string
		for _, m := range nmapPort.FindAllStringSubmatch(out, -1) {
			open = append(open, m[1])
		}
		if got := strings.Join(open, " "); got != want {
			t.Errorf("nmap finds %q open on %s, want %q\n%s", got, target, want, out)
		}
	}
}
