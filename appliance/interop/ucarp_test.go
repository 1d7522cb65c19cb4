//go:build interop

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/appliance/status"
)

// dissect lets tcpdump and tshark read a capture of our adverts; neither may
// complain.
func dissect(t *testing.T, file string) {
	t.Helper()
	out, err := exec.Command("tcpdump", "-n", "-v", "-T", "carp", "-r", file).CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "CARPv2-advertise 36: vhid=") || strings.Contains(text, "bad ") || strings.Contains(text, "[|") {
		t.Errorf("tcpdump reads our adverts as: %v\n%s", err, text)
	}
	// carp.checksum.status 1 is good.
	out, err = exec.Command("tshark", "-r", file, "-d", "ip.proto==112,carp", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "separator=|",
		"-e", "frame.protocols", "-e", "carp.version", "-e", "carp.checksum.status", "-e", "ip.checksum.status", "-e", "_ws.malformed", "-e", "_ws.expert.message").Output()
	if err != nil || len(out) == 0 {
		t.Errorf("tshark: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "eth:ethertype:ip:carp|2|1|1||" && line != "eth:ethertype:ipv6:carp|2|1|||" {
			t.Errorf("tshark reads an advert as %q", line)
		}
	}
}

// ucarpHost is a host on which ucarp shares the VIP 10.77.0.10, vhid 77.
type ucarpHost struct {
	life *testing.T // ends the process
	ns   *namespace
	dir  string
	proc *process
}

func newUcarpHost(t *testing.T, w *wires) *ucarpHost {
	t.Helper()
	h := &ucarpHost{life: t, ns: w.host(t, "ucarp", "lan", []string{"10.77.0.3/24"}), dir: t.TempDir()}
	for name, word := range map[string]string{"up": "add", "down": "del"} {
		script := fmt.Sprintf("#!/bin/sh\nip addr %s 10.77.0.10/32 dev $1\ntrue\n", word)
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// start runs ucarp with a skew.
func (h *ucarpHost) start(t *testing.T, skew int, more ...string) {
	t.Helper()
	t.Helper()
	h.proc = h.ns.start(h.life, append([]string{"ucarp", "--interface=eth0", "--srcip=10.77.0.3", "--vhid=77", "--pass=lab-only",
		"--addr=10.77.0.10", fmt.Sprintf("--advskew=%d", skew), "--upscript=" + filepath.Join(h.dir, "up"),
		"--downscript=" + filepath.Join(h.dir, "down")}, more...)...)
}

// holds says whether ucarp has given the host the VIP.
func (h *ucarpHost) holds() bool {
	out, _ := h.ns.try("ip -o addr show dev eth0")
	return strings.Contains(out, "10.77.0.10/32")
}

// release takes the VIP from a host whose ucarp was killed.
func (h *ucarpHost) release() { _, _ = h.ns.try("ip addr del 10.77.0.10/32 dev eth0") }

func ucarpNodeFile(skew int) string {
	return fmt.Sprintf(`
[system]
hostname = "fw-ucarp"
[interfaces.lan]
link = { driver = "tap", device = "fw-lan" }
addresses = ["10.77.0.2/24"]
[high_availability]
host_id = 1
[[virtual_ips]]
type = "carp"
interface = "lan"
address = "10.77.0.10/24"
vhid = 77
advskew = %d
password = "lab-only"
[[rules]]
interface = "lan"
action = "pass"
source = "lan:net"
`, skew)
}

// ucarpWorld is a node of ours and a ucarp that share a VIP.
type ucarpWorld struct {
	client *namespace
	node   *node
	ucarp  *ucarpHost
}

// answered waits until the VIP answers as one of the two. Ours tells the
// virtual MAC; ucarp has none, its host's own is told.
func (w *ucarpWorld) answered(t *testing.T, by string) {
	t.Helper()
	eventually(t, "the VIP answers as "+by, func() bool {
		_, err := w.client.try("ping -n -c 1 -W 1 10.77.0.10")
		out, _ := w.client.try("ip neigh show 10.77.0.10")
		return err == nil && strings.Contains(out, "00:00:5e:00:01:4d") == (by == "node")
	})
}

// TestInteropUcarp shares a VIP with a real ucarp, which takes over from us
// and gives back, in both orders of rank.
func TestInteropUcarp(t *testing.T) {
	wires := newWires(t, "lan")
	w := &ucarpWorld{client: wires.host(t, "client", "lan", []string{"10.77.0.50/24"}), ucarp: newUcarpHost(t, wires)}
	w.node = newNode(t, "fw", ucarpNodeFile(0), map[string]plug{"fw-lan": wires.into("lan")})
	capture := wires.ns.capture(t, "lan", "proto", "112")
	t.Run("node is better", func(t *testing.T) { testUcarpBelow(t, w) })
	t.Run("ucarp is better", func(t *testing.T) { testUcarpAbove(t, w) })
	capture.end(t)
	dissect(t, capture.file)
	t.Run("another password", func(t *testing.T) { testUcarpForeign(t, w) })
}

// testUcarpBelow has mastership ours, then ucarp's, ours and ucarp's again.
func testUcarpBelow(t *testing.T, w *ucarpWorld) {
	n, u := w.node, w.ucarp
	n.start(t)
	eventually(t, "the node is MASTER", func() bool { return n.is(t, "MASTER") })
	u.start(t, 100, "--preempt")
	holds(t, 4500*time.Millisecond, "ucarp stays BACKUP below us", func() bool { return n.is(t, "MASTER") && !u.holds() })
	w.answered(t, "node")
	killed := time.Now()
	n.proc.kill()
	eventually(t, "ucarp takes over", u.holds)
	t.Logf("kill -9 of our node: ucarp MASTER after %v", time.Since(killed).Round(10*time.Millisecond))
	w.answered(t, "ucarp")
	began := time.Now()
	n.start(t)
	eventually(t, "the node takes over", func() bool { return n.is(t, "MASTER") && !u.holds() })
	t.Logf("our node, the better one, is MASTER %v after its start", n.became(t).Sub(began).Round(10*time.Millisecond))
	w.answered(t, "node")
	told := time.Now()
	n.stop(t) // with a bow-out, which ucarp heeds as it does any slow advert
	eventually(t, "ucarp takes over", u.holds)
	t.Logf("SIGTERM of our node: ucarp MASTER after %v", time.Since(told).Round(10*time.Millisecond))
	u.proc.kill()
	u.release()
}

func testUcarpAbove(t *testing.T, w *ucarpWorld) {
	n, u := w.node, w.ucarp
	n.write(t, ucarpNodeFile(150))
	n.start(t)
	eventually(t, "the node is MASTER alone", func() bool { return n.is(t, "MASTER") })
	u.start(t, 0, "--preempt")
	eventually(t, "ucarp preempts us", func() bool { return u.holds() && n.is(t, "BACKUP") })
	w.answered(t, "ucarp")
	if v := n.carp(t).VIPs[0]; v.MasterSource != "10.77.0.3" {
		t.Errorf("master_source is %q, want ucarp's 10.77.0.3", v.MasterSource)
	}
	killed := time.Now()
	u.proc.kill()
	u.release()
	eventually(t, "the node takes over", func() bool { return n.is(t, "MASTER") })
	t.Logf("kill -9 of ucarp: our node MASTER after %v", n.became(t).Sub(killed).Round(10*time.Millisecond))
	w.answered(t, "node")
	if c := n.carp(t).Counters; c["bad_auth"] != 0 || c["received"] == 0 {
		t.Errorf("counters %v", c)
	}
	n.stop(t)
}

// testUcarpForeign gives the two different passwords: neither believes the other.
func testUcarpForeign(t *testing.T, w *ucarpWorld) {
	n, u := w.node, w.ucarp
	n.write(t, strings.Replace(ucarpNodeFile(0), "lab-only", "another", 1))
	n.start(t)
	eventually(t, "the node is MASTER", func() bool { return n.is(t, "MASTER") })
	u.start(t, 0)
	eventually(t, "ucarp is MASTER as well", u.holds)
	eventually(t, "its adverts are counted as badly signed", func() bool { return n.carp(t).Counters["bad_auth"] > 0 })
	eventually(t, "carp scan names it, and a vhid that is free", func() bool {
		var scan status.Scan
		n.ask(t, "carp scan lan", &scan)
		return slices.ContainsFunc(scan.Speakers, func(s status.Speaker) bool {
			return s.Source == "10.77.0.3" && s.VHID == 77 && !s.Ours
		}) && len(scan.Free) == 1 && scan.Free[0].VHID != 77
	})
}
