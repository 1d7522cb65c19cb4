//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tandem/appliance/status"
)

// node is `appliance run` in a namespace.
type node struct {
	life    *testing.T // ends the process, whichever part of the test started it
	name    string
	ns      *namespace
	file    string
	text    string // of the file
	control string
	plugs   map[string]plug // by device
	proc    *process
}

// newNode writes a configuration, with state and control socket moved to a
// folder of its own, but does not start the node.
func newNode(t *testing.T, name, text string, plugs map[string]plug) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", namespacePrefix, os.Getpid())) // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := &node{life: t, name: name, ns: newNamespace(t, name), plugs: plugs,
		file: filepath.Join(dir, "appliance.toml"), control: filepath.Join(dir, "control.sock")}
	if err := os.WriteFile(filepath.Join(dir, "carp.password"), []byte("lab-only\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.write(t, text)
	return n
}

var placePattern = regexp.MustCompile(`(?m)^(state_dir|control) *=.*\n`)

// write replaces the node's configuration file.
func (n *node) write(t *testing.T, text string) {
	t.Helper()
	dir := filepath.Dir(n.file)
	text = placePattern.ReplaceAllString(text, "")
	text = strings.Replace(text, "[system]\n",
		fmt.Sprintf("[system]\nstate_dir = %q\ncontrol = %q\n", filepath.Join(dir, "state"), n.control), 1)
	n.text = text
	if err := os.WriteFile(n.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// launch starts the process and plugs its devices in.
func (n *node) launch(t *testing.T) {
	t.Helper()
	n.proc = n.ns.start(n.life, executable(t), "run", "-c", n.file)
	n.proc.name = n.name
	for _, device := range slices.Sorted(maps.Keys(n.plugs)) {
		eventually(t, n.name+" makes the device "+device, func() bool {
			n.mustRun(t)
			_, err := n.ns.try("ip link show " + device)
			return err == nil
		})
		n.plugs[device](t, n.ns, device)
	}
}

// start launches the node and waits until it has its addresses.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.launch(t)
	n.ready(t)
}

// ready waits until every interface is up and has the addresses it asked for.
func (n *node) ready(t *testing.T) {
	t.Helper()
	eventually(t, n.name+" is ready", func() bool {
		n.mustRun(t)
		s, err := n.status(t)
		if err != nil {
			return false
		}
		for _, i := range s.Interfaces {
			for _, a := range i.Addresses {
				if a.State == "probing" {
					return false
				}
			}
			if i.Link != "up" {
				return false
			}
		}
		return true
	})
}

func (n *node) mustRun(t *testing.T) {
	t.Helper()
	if !n.proc.running() {
		t.Fatalf("%s ended: %v\n%s", n.name, n.proc.err, lastLines(n.proc.said.String(), 30))
	}
}

// stop asks the node to leave and waits for it.
func (n *node) stop(t *testing.T) {
	t.Helper()
	n.proc.signal(t, syscall.SIGTERM)
	within(t, 5*time.Second, n.name+" leaves", func() bool { return !n.proc.running() })
	if n.proc.err != nil {
		t.Errorf("%s left with %v", n.name, n.proc.err)
	}
}

// verb runs a verb of the command line against the node.
func (n *node) verb(t *testing.T, words string) (string, error) {
	t.Helper()
	return appliance(t, append(strings.Fields(words), "--control", n.control)...)
}

// mustVerb is verb where nothing can go wrong.
func (n *node) mustVerb(t *testing.T, words string) string {
	t.Helper()
	out, err := n.verb(t, words)
	if err != nil {
		t.Fatalf("%s: appliance %s: %v\n%s", n.name, words, err, out)
	}
	return out
}

// ask runs a verb with --json and reads what it prints. Exit status 1 with an
// answer says that something is unhealthy.
func (n *node) ask(t *testing.T, words string, into any) {
	t.Helper()
	out, err := n.verb(t, words+" --json")
	if jerr := json.Unmarshal([]byte(out), into); jerr != nil {
		t.Fatalf("%s: appliance %s --json: %v, %v\n%s", n.name, words, err, jerr, out)
	}
}

func (n *node) status(t *testing.T) (status.Node, error) {
	t.Helper()
	var s status.Node
	out, err := n.verb(t, "status --json")
	if jerr := json.Unmarshal([]byte(out), &s); jerr != nil {
		return s, fmt.Errorf("%w: %s", jerr, out)
	} else if s.Hostname == "" {
		return s, fmt.Errorf("no status: %v: %s", err, out)
	}
	return s, nil
}

func (n *node) mustStatus(t *testing.T) status.Node {
	t.Helper()
	s, err := n.status(t)
	if err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
	return s
}

func (n *node) carp(t *testing.T) status.CARP {
	t.Helper()
	var c status.CARP
	n.ask(t, "carp status", &c)
	return c
}

// is says whether every VIP is in a state.
func (n *node) is(t *testing.T, state string) bool {
	t.Helper()
	c := n.carp(t)
	for _, v := range c.VIPs {
		if v.State != state {
			return false
		}
	}
	return len(c.VIPs) > 0
}

// became is when the last VIP came into its present state.
func (n *node) became(t *testing.T) time.Time {
	t.Helper()
	var last time.Time
	for _, v := range n.carp(t).VIPs {
		if v.LastTransition.After(last) {
			last = v.LastTransition
		}
	}
	return last
}

// macOf is the MAC that the node has on an interface.
func (n *node) macOf(t *testing.T, name string) string {
	t.Helper()
	for _, i := range n.mustStatus(t).Interfaces {
		if i.Name == name {
			return i.MAC
		}
	}
	t.Fatalf("%s has no interface %s", n.name, name)
	return ""
}

// residentKiB is the memory that the node's process has.
func (n *node) residentKiB(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatalf("%s: no VmRSS", n.name)
	return 0
}

// example is a file of the examples folder.
func example(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
