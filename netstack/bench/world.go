package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The addresses of every world, from the range for benchmarks (RFC 2544).
// The copier is a wire: there the client sits in the server's network.
const (
	clientAddr = "198.18.0.2"
	lanGateway = "198.18.0.1"
	wanGateway = "198.18.1.1"
	serverAddr = "198.18.1.2"

	clientDevice, serverDevice = "lan", "wan"
	echoPort                   = 7000
	startLimit                 = 30 * time.Second
)

// world is a client and a server with a device under test between them.
type world struct {
	name           string
	client, server netns
	source         string // the client's address
	nextHop        string // the address the client sends frames to
	mac            string // and its MAC
	dut            *child // nil: the kernel itself
	iperf, echo    *child
	counters       *os.File // /proc/net/dev of the server
}

// pid is the process under test, or 0.
func (w *world) pid() int {
	if w.dut == nil {
		return 0
	}
	return w.dut.pid()
}

func (w *world) close() {
	for _, c := range []*child{w.iperf, w.echo, w.dut} {
		if c != nil {
			c.stop()
		}
	}
	if w.counters != nil {
		_ = w.counters.Close()
	}
}

// builder makes worlds.
type builder struct {
	spaces    *namespaces
	folder    string // temporary files
	self      string // this program
	appliance string // the node's program
	states    int    // limit of the node's state table
}

// kernel is Linux's own forwarding: veth pairs, masquerade, a stateful filter.
func (b *builder) kernel(ctx context.Context) (*world, error) {
	w, middle, err := b.spacesOf(ctx, "kernel")
	if err != nil {
		return w, err
	}
	err = middle.script(ctx, fmt.Sprintf(`ip link add lan type veth peer name lan netns %s
		ip link add wan type veth peer name wan netns %s
		ip addr add %s/24 dev lan
		ip addr add %s/24 dev wan
		ip link set lan up
		ip link set wan up
		echo 1 > /proc/sys/net/ipv4/ip_forward`, w.client, w.server, lanGateway, wanGateway))
	if err != nil {
		return w, err
	}
	rules := middle.command(ctx, "nft", "-f", "-")
	rules.Stdin = strings.NewReader(`table ip bench {
		chain forward {
			type filter hook forward priority filter; policy drop
			ct state vmap { established : accept, related : accept, invalid : drop }
			iifname "lan" ip saddr 198.18.0.0/24 accept
		}
		chain postrouting {
			type nat hook postrouting priority srcnat; policy accept
			oifname "wan" ip saddr 198.18.0.0/24 masquerade
		}
	}`)
	if err := runCommand(rules); err != nil {
		return w, err
	}
	return w, b.furnish(ctx, w)
}

// config is the node's: one rule, outbound translation to the WAN address.
const config = `[system]
hostname = "bench"
state_dir = "state"
control = "control.sock"

[interfaces.lan]
link = { driver = "tap", device = "lan" }
addresses = ["198.18.0.1/24"]

[interfaces.wan]
link = { driver = "tap", device = "wan" }
addresses = ["198.18.1.1/24"]
gateway = "198.18.1.2"

[firewall]
max_states = %d

[[rules]]
interface = "lan"
action = "pass"
source = "lan:net"
description = "LAN to anywhere"
`

// ours is the node on two TAP devices.
func (b *builder) ours(ctx context.Context) (*world, error) {
	w, middle, err := b.spacesOf(ctx, "ours")
	if err != nil {
		return w, err
	}
	file := filepath.Join(b.folder, "bench.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, b.states), 0o600); err != nil {
		return w, err
	}
	w.dut, err = start("appliance run", middle.command(ctx, b.appliance, "run", "-c", file))
	if err != nil {
		return w, err
	}
	if err := w.adoptDevices(ctx, middle); err != nil {
		return w, err
	}
	return w, b.furnish(ctx, w)
}

//go:embed anchor/copier.c
var copierSource []byte

// copier is the anchor, a wire made of two TAP devices and a C program.
func (b *builder) copier(ctx context.Context) (*world, error) {
	w, middle, err := b.spacesOf(ctx, "copier")
	if err != nil {
		return w, err
	}
	w.source, w.nextHop = wanGateway, serverAddr
	source, binary := filepath.Join(b.folder, "copier.c"), filepath.Join(b.folder, "copier")
	if err := os.WriteFile(source, copierSource, 0o600); err != nil {
		return w, err
	}
	if err := runCommand(exec.CommandContext(ctx, "gcc", "-O2", "-o", binary, source)); err != nil {
		return w, err
	}
	if w.dut, err = start("copier", middle.command(ctx, binary, "lan", "wan")); err != nil {
		return w, err
	}
	if err := w.adoptDevices(ctx, middle); err != nil {
		return w, err
	}
	return w, b.furnish(ctx, w)
}

// spacesOf makes the three namespaces of a world.
func (b *builder) spacesOf(ctx context.Context, name string) (w *world, middle netns, err error) {
	w = &world{name: name, source: clientAddr, nextHop: lanGateway}
	for _, s := range []struct {
		role string
		to   *netns
	}{{"client", &w.client}, {"server", &w.server}, {"middle", &middle}} {
		if *s.to, err = b.spaces.add(ctx, name+"-"+s.role); err != nil {
			return w, middle, err
		}
	}
	return w, middle, nil
}

// adoptDevices waits until the process under test has made its TAP devices,
// and makes them the network cards of client and server.
func (w *world) adoptDevices(ctx context.Context, middle netns) error {
	err := eventually(ctx, w.name+" to bring its devices up", startLimit, func() (bool, error) {
		if err := w.dut.alive(); err != nil {
			return true, err
		}
		return middle.up(clientDevice) && middle.up(serverDevice), nil
	})
	if err != nil {
		return err
	}
	return middle.script(ctx, fmt.Sprintf("ip link set lan netns %s\nip link set wan netns %s", w.client, w.server))
}

// up says whether a device of n is there and up.
func (n netns) up(device string) bool {
	return n.inside(func() error {
		ifi, err := net.InterfaceByName(device)
		if err == nil && ifi.Flags&net.FlagUp == 0 {
			err = errors.New("down")
		}
		return err
	}) == nil
}

// furnish gives the ends their addresses and services and waits for the path.
func (b *builder) furnish(ctx context.Context, w *world) error {
	// BBR, which is the default of some machines, would pace; either of these
	// does not. iperf3 asks for cubic itself, which is not always allowed as default.
	const common = `f=/proc/sys/net/ipv4/tcp_congestion_control
		{ echo cubic > $f; } 2>/dev/null || echo reno > $f
		`
	client := common + fmt.Sprintf("ip addr add %s/24 dev lan\nip link set lan up\n", w.source)
	if w.nextHop != serverAddr {
		client += "ip route add default via " + w.nextHop
	}
	if err := w.client.script(ctx, client); err != nil {
		return err
	}
	if err := w.server.script(ctx, common+fmt.Sprintf("ip addr add %s/24 dev wan\nip link set wan up\n", serverAddr)); err != nil {
		return err
	}
	// The datagrams of the packet-rate cells end as early as they can.
	sink := w.server.command(ctx, "nft", "-f", "-")
	sink.Stdin = strings.NewReader(`table netdev bench {
		chain sink {
			type filter hook ingress device "wan" priority -500; policy accept
			meta l4proto udp drop
		}
	}`)
	if err := runCommand(sink); err != nil {
		return err
	}
	var err error
	if w.iperf, err = start("iperf3 -s", w.server.command(ctx, "iperf3", "-s")); err != nil {
		return err
	}
	if w.echo, err = start("echo server", endCommand(ctx, w.server, b.self, "echo", "-port", strconv.Itoa(echoPort))); err != nil {
		return err
	}
	if err := w.server.inside(func() (err error) {
		w.counters, err = os.Open("/proc/thread-self/net/dev")
		return err
	}); err != nil {
		return err
	}
	return w.awaitPath(ctx)
}

// endCommand is this program as a load generator or server in n. Its threads
// must not be interrupted by Go's scheduler.
func endCommand(ctx context.Context, n netns, self string, args ...string) *exec.Cmd {
	c := n.command(ctx, append([]string{self}, args...)...)
	c.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	return c
}

// awaitPath waits until a connection from client to server is possible, and
// learns the MAC of the client's next hop by the way.
func (w *world) awaitPath(ctx context.Context) error {
	err := eventually(ctx, "a connection through "+w.name, startLimit, func() (bool, error) {
		if w.dut != nil {
			if err := w.dut.alive(); err != nil {
				return true, err
			}
		}
		err := w.client.inside(func() error {
			c, err := net.DialTimeout("tcp4", net.JoinHostPort(serverAddr, strconv.Itoa(echoPort)), time.Second)
			if err == nil {
				_ = c.Close()
			}
			return err
		})
		return err == nil, err
	})
	if err != nil {
		if w.dut != nil {
			err = fmt.Errorf("%w; it said: %s", err, w.dut.said.String())
		}
		return err
	}
	out, err := output(w.client.command(ctx, "ip", "-json", "neigh", "show", w.nextHop, "dev", clientDevice))
	if err != nil {
		return err
	}
	var neighbours []struct {
		MAC string `json:"lladdr"`
	}
	if err := json.Unmarshal(out, &neighbours); err != nil || len(neighbours) == 0 || neighbours[0].MAC == "" {
		return fmt.Errorf("MAC of %s in %s: %q, %v", w.nextHop, w.name, out, err)
	}
	w.mac = neighbours[0].MAC
	return nil
}

// received is how many packets the server's device has taken in.
func (w *world) received() (uint64, error) {
	if _, err := w.counters.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return parseReceived(w.counters, serverDevice)
}

// parseReceived finds the received packets of a device in /proc/net/dev.
func parseReceived(r io.Reader, device string) (uint64, error) {
	for s := bufio.NewScanner(r); s.Scan(); {
		name, rest, ok := strings.Cut(s.Text(), ":")
		if f := strings.Fields(rest); ok && strings.TrimSpace(name) == device && len(f) > 1 {
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no device %q among the server's", device)
}
