package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tandem/appliance/lab"
)

// oneNode is a topology in which nothing happens for long.
const oneNode = `title = "one node"

[switches.lan]

[appliances.fw]
config = "node.toml"

[[expect]]
name = "it is there"
to = "450ms"
`

const labNode = `[system]
hostname = "fw"

[interfaces.lan]
link = { driver = "lab", switch = "lan" }
addresses = ["192.168.1.2/24"]
`

func topology(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "node.toml", labNode, 0o600)
	return write(t, dir, "topology.toml", text, 0o600)
}

func TestLabRunsATopology(t *testing.T) {
	s := &shell{t: t}
	stdout, stderr, code := s.run("lab", topology(t, oneNode), "--json", "--seed", "7")
	var result lab.Result
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || !result.Held && code == 0 || result.Seed != 7 || len(result.Verdicts) != 1 || strings.Contains(stdout, "null") {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
	folder := t.TempDir()
	stdout, stderr, _ = s.run("lab", topology(t, oneNode), "--pcap", folder)
	if !strings.Contains(stdout, "fw is switched on") || !strings.Contains(stdout, "it is there") || stderr != "" {
		t.Errorf("%s%s", stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(folder, "lan.pcapng")); err != nil {
		t.Error(err)
	}
}

func TestLabRefusesWhatItCannotRun(t *testing.T) {
	s := &shell{t: t}
	bad := topology(t, strings.Replace(oneNode, `to = "450ms"`, `to = "soon"`, 1))
	if stdout, stderr, code := s.run("lab", bad); code != 1 || !strings.Contains(stderr, bad+":10: ") || stdout != "" {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	if _, stderr, code := s.run("lab", filepath.Join(t.TempDir(), "none.toml")); code != 1 || !strings.Contains(stderr, "no such file") {
		t.Errorf("%d %q", code, stderr)
	}
	if _, _, code := s.run("lab", "a", "b"); code != 2 {
		t.Errorf("two topologies: %d", code)
	}
}

func TestLabThatIsKeptAnswers(t *testing.T) {
	said := newTranscript()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, []string{"lab", topology(t, oneNode), "--keep"}, Env{Stdout: said, Stderr: said,
			Getenv: func(string) string { return "" }, Now: time.Now, Terminal: func(io.Writer) bool { return false }})
	}()
	said.await(t, "ask fw: ", 1)
	path := regexp.MustCompile(`--control (\S+)`).FindStringSubmatch(said.String())[1]
	s := &shell{t: t}
	stdout, _, _ := s.run("status", "--control", path, "--json")
	if !strings.Contains(stdout, `"hostname": "fw"`) {
		t.Errorf("status: %s", stdout)
	}
	stop()
	<-code
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("the folder of the control sockets stays behind")
	}
}
