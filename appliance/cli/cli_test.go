package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tandem/appliance/control"
	"tandem/appliance/status"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// shell is a place to give command lines.
type shell struct {
	t        *testing.T
	vars     map[string]string
	terminal bool
}

// serve puts a node behind a control socket and returns a shell that asks it.
func serve(t *testing.T, n control.Node, reload func(context.Context) status.Reload) *shell {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := control.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	s := control.NewServer(control.Config{Node: n, Reload: reload}, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-served, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return &shell{t: t, vars: map[string]string{socketVariable: path}}
}

// run gives a command line; what came to stdout and stderr, and the exit status.
func (s *shell) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	code = Run(context.Background(), args, Env{
		Stdout: &out, Stderr: &errs, Getenv: func(name string) string { return s.vars[name] },
		Now: func() time.Time { return now }, Terminal: func(io.Writer) bool { return s.terminal },
	})
	return out.String(), errs.String(), code
}

// TestGolden holds what people read against files.
func TestGolden(t *testing.T) {
	scenes := []struct {
		name string
		node *fakeNode
		args []string
		code int
	}{
		{"status", healthy(), []string{"status"}, 0},
		{"status-demoted", demoted(), []string{"status"}, 1},
		{"status-disabled", disabled(), []string{"status"}, 1},
		{"status-alone", alone(), []string{"status"}, 0},
		{"status-json", demoted(), []string{"status", "--json"}, 1},
		{"carp-status", healthy(), []string{"carp", "status"}, 0},
		{"carp-status-demoted", demoted(), []string{"carp", "status"}, 1},
		{"carp-status-disabled", disabled(), []string{"carp", "status"}, 1},
		{"carp-status-alone", alone(), []string{"carp", "status"}, 0},
		{"carp-status-json", demoted(), []string{"carp", "status", "--json"}, 1},
		{"carp-scan", healthy(), []string{"carp", "scan", "wan"}, 0},
		{"carp-scan-alone", alone(), []string{"carp", "scan"}, 0},
		{"carp-maintenance", healthy(), []string{"carp", "maintenance", "on"}, 0},
		{"states-list", healthy(), []string{"states", "list"}, 0},
		{"states-list-none", healthy(), []string{"states", "list", "none"}, 0},
		{"states-list-json", healthy(), []string{"states", "list", "--json"}, 0},
		{"states-count", healthy(), []string{"states", "count"}, 0},
		{"states-top", healthy(), []string{"states", "top", "-n", "2"}, 0},
		{"states-top-json", healthy(), []string{"states", "top", "-n", "1", "--json"}, 0},
		{"states-kill", healthy(), []string{"states", "kill", "tcp", ":443"}, 0},
		{"rules-list", healthy(), []string{"rules", "list"}, 0},
		{"rules-list-all", healthy(), []string{"rules", "list", "--all"}, 0},
		{"nat-list", healthy(), []string{"nat", "list"}, 0},
		{"nat-list-toml", healthy(), []string{"nat", "list", "--toml"}, 0},
		{"arp", healthy(), []string{"arp"}, 0},
		{"arp-delete", healthy(), []string{"arp", "delete", "fe80::50"}, 0},
		{"routes", healthy(), []string{"routes"}, 0},
		{"interfaces", demoted(), []string{"interfaces"}, 0},
		{"log", healthy(), []string{"log"}, 0},
		{"log-since", healthy(), []string{"log", "--since", "2m"}, 0},
		{"log-filter", healthy(), []string{"log", "LAN", "hash"}, 0},
		{"log-follow", healthy(), []string{"log", "-f", "--since", "04:00"}, 0},
		{"log-follow-json", healthy(), []string{"log", "-f", "--json"}, 0},
		{"log-firewall", healthy(), []string{"log", "--firewall"}, 0},
		{"log-firewall-json", healthy(), []string{"log", "--firewall", "--json", "udp"}, 0},
		{"capture", healthy(), []string{"capture", "lan", "-n", "2", "arp"}, 0},
		{"capture-json", healthy(), []string{"capture", "lan", "-n", "1", "--json"}, 0},
		{"ping", healthy(), []string{"ping", "-n", "4", "198.51.100.7"}, 0},
		{"ping-json", healthy(), []string{"ping", "-n", "1", "198.51.100.7", "--json"}, 0},
		{"ping-lost", healthy(), []string{"ping", "-n", "2", "192.0.2.1"}, 1},
		{"traceroute", healthy(), []string{"traceroute", "203.0.113.80"}, 0},
		{"traceroute-lost", healthy(), []string{"traceroute", "192.0.2.1"}, 1},
	}
	for _, tt := range scenes {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := serve(t, tt.node, nil).run(tt.args...)
			if code != tt.code {
				t.Errorf("exit status %d, want %d", code, tt.code)
			}
			golden(t, tt.name, "$ appliance "+strings.Join(tt.args, " ")+"\n"+stdout+indented("stderr: ", stderr))
		})
	}
}

// golden compares with, or with -update writes, a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func indented(mark, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(mark + line)
	}
	return b.String()
}

func TestExitStatuses(t *testing.T) {
	good := serve(t, healthy(), func(context.Context) status.Reload {
		return status.Reload{Applied: true, Changed: []string{"rules: 1 came"}, Problems: []string{"x.toml:3: a: warning: b"}}
	})
	bad := serve(t, demoted(), func(context.Context) status.Reload { return status.Reload{Problems: []string{"x.toml:3: a: b"}} })
	nobody := &shell{t: t, vars: map[string]string{socketVariable: filepath.Join(t.TempDir(), "none")}}
	tests := []struct {
		in     *shell
		line   string
		code   int
		stderr string // must be in it
	}{
		{good, "reload", 0, "warning"},
		{bad, "reload", 1, "nothing is changed"},
		{bad, "reload --json", 1, ""},
		{good, "carp scan dmz", 1, "appliance: there is no interface"},
		{good, "capture lan nonsense", 1, "nonsense"},
		{nobody, "status", 3, "no node answers"},
		{nobody, "log -f", 3, "no node answers"},
		{nobody, "carp enable", 3, "no node answers"},
		{nobody, "states list --json", 3, "no node answers"},
		{nobody, "ping ::1 --json", 3, "no node answers"},
		{nobody, "traceroute ::1 --json", 3, "no node answers"},
		{good, "", 2, "a verb is missing"},
		{good, "stat", 2, "no verb"},
		{good, "carp", 2, "a verb is missing"},
		{good, "carp stats", 2, `did you mean "status"`},
		{good, "status now", 2, "appliance status --help"},
		{good, "status --colour", 2, "unknown flag"},
		{good, "carp maintenance", 2, "accepts 1 arg"},
		{good, "carp maintenance perhaps", 2, "perhaps"},
		{good, "states kill", 2, "--all"},
		{good, "states kill --all tcp", 2, "--all"},
		{good, "states top -n 0", 2, "--rows"},
		{good, "arp delete lan", 2, "no address"},
		{good, "ping example.test", 2, "names are not looked up"},
		{good, "log --since tomorrow", 2, "no time"},
		{good, "capture", 2, "at least 1 arg"},
		{good, "capture lan -w x --json", 2, "--json"},
		{good, "nat list --toml --json", 2, "none of the others"},
		{good, "version", 0, ""},
		{good, "help carp", 0, ""},
		{good, "completion bash", 0, ""},
		{nobody, "check -c testdata/no-such-file.toml", 1, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			stdout, stderr, code := tt.in.run(strings.Fields(tt.line)...)
			if code != tt.code || !strings.Contains(stderr, tt.stderr) || stderr != "" && tt.stderr == "" {
				t.Errorf("exit status %d, want %d; stderr %q, want %q in it", code, tt.code, stderr, tt.stderr)
			}
			if code >= 2 && stdout != "" {
				t.Errorf("stdout has %q", stdout)
			}
		})
	}
}

func TestEveryReadingVerbPrintsJSONWithoutNull(t *testing.T) {
	for _, n := range []*fakeNode{healthy(), demoted(), alone()} {
		s := serve(t, n, func(context.Context) status.Reload { return status.Reload{Applied: true} })
		for _, line := range []string{
			"status", "carp status", "carp scan", "states list", "states list none", "states count", "states top", "states top none",
			"rules list", "rules list --all", "nat list", "arp", "routes", "interfaces", "log", "log nothing-like-it", "log --firewall",
			"ping 198.51.100.7", "traceroute 198.51.100.7", "version", "reload",
		} {
			stdout, stderr, _ := s.run(append(strings.Fields(line), "--json")...)
			if !json.Valid([]byte(stdout)) || strings.Contains(stdout, "null") || stderr != "" {
				t.Errorf("%s --json: %s%s", line, stdout, stderr)
			}
		}
	}
}

func TestChangesReachTheNode(t *testing.T) {
	n := healthy()
	s := serve(t, n, nil)
	for _, line := range []string{"carp disable", "carp enable", "carp maintenance on", "carp maintenance off", "carp reset-demotion", "states kill --all", "arp delete ::1"} {
		if stdout, stderr, code := s.run(strings.Fields(line)...); code != 0 || stdout == "" || stderr != "" {
			t.Errorf("%s: %d %q %q", line, code, stdout, stderr)
		}
	}
	want := "disable,enable,maintenance on,maintenance off,reset-demotion,kill ,arp ::1"
	if got := strings.Join(n.did, ","); got != want {
		t.Errorf("the node did %q, want %q", got, want)
	}
}

func TestColoursOnlyForPeople(t *testing.T) {
	s := serve(t, demoted(), nil)
	plainText, _, _ := s.run("status")
	s.terminal = true
	coloured, _, _ := s.run("status")
	if !strings.Contains(coloured, "\x1b[") || strings.Contains(plainText, "\x1b[") {
		t.Error("colours where none belong, or none where they do")
	}
	p := &app{out: newPrinter(io.Discard, true, now)}
	if p.stripped(coloured) != plainText {
		t.Error("colours move the columns")
	}
	if stdout, _, _ := s.run("status", "--json"); strings.Contains(stdout, "\x1b[") {
		t.Error("JSON with colours")
	}
	for _, v := range []string{"NO_COLOR=1", "TERM=dumb"} {
		name, value, _ := strings.Cut(v, "=")
		s.vars[name] = value
		if stdout, _, _ := s.run("status"); stdout != plainText {
			t.Errorf("colours in spite of %s", v)
		}
		delete(s.vars, name)
	}
}

func TestTextsSayHACluster(t *testing.T) {
	s := serve(t, healthy(), nil)
	for _, line := range []string{"help", "carp --help", "carp status --help", "carp status", "status"} {
		stdout, _, _ := s.run(strings.Fields(line)...)
		if low := strings.ToLower(stdout); strings.Contains(low, "carp cluster") || strings.Contains(low, "carp interface") {
			t.Errorf("%s says %q", line, stdout)
		}
	}
}

func TestCompletionOffersTheNodesInterfaces(t *testing.T) {
	s := serve(t, healthy(), nil)
	for _, verb := range []string{"capture", "carp scan"} {
		args := append([]string{"__complete"}, append(strings.Fields(verb), "")...)
		if stdout, _, code := s.run(args...); code != 0 || !strings.HasPrefix(stdout, "wan\nlan\n") {
			t.Errorf("%s: %q", verb, stdout)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if stdout, _, code := s.run("completion", shell); code != 0 || len(stdout) < 1000 {
			t.Errorf("%s: exit status %d, %d bytes", shell, code, len(stdout))
		}
	}
}

func TestCaptureToFile(t *testing.T) {
	s := serve(t, healthy(), nil)
	file := filepath.Join(t.TempDir(), "x.pcapng")
	stdout, stderr, code := s.run("capture", "lan", "-w", file, "-n", "2")
	if code != 0 || stdout != "" || stderr != "2 frames\n" {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil || bytes.Count(text, arpFrame) != 2 || !bytes.HasPrefix(text, []byte("\x0a\x0d\x0d\x0a")) {
		t.Errorf("the file has %d bytes, %d frames (%v)", len(text), bytes.Count(text, arpFrame), err)
	}
	if stdout, _, _ := s.run("capture", "lan", "-w", "-", "-n", "1"); strings.Count(stdout, string(arpFrame)) != 1 {
		t.Errorf("%d bytes on stdout", len(stdout))
	}
	if _, stderr, code := s.run("capture", "lan", "-w", filepath.Join(file, "y")); code != 1 || stderr == "" {
		t.Errorf("a file that cannot be: %d %q", code, stderr)
	}
}

func TestVersion(t *testing.T) {
	s := &shell{t: t}
	stdout, _, code := s.run("version", "--json")
	var v version
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != 0 || v.Version == "" || v.Go == "" {
		t.Errorf("%q: %v", stdout, err)
	}
}
