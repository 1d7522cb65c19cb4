package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tandem/appliance/node"
	"tandem/appliance/status"
)

// patience is how long a test waits for a node to say something.
const patience = 20 * time.Second

// transcript is a writer that can be waited on.
type transcript struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func newTranscript() *transcript { return &transcript{wrote: make(chan struct{}, 1)} }

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	select {
	case tr.wrote <- struct{}{}:
	default:
	}
	return tr.text.Write(p)
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// await waits until a text was written count times.
func (tr *transcript) await(t *testing.T, text string, count int) {
	t.Helper()
	late := time.After(patience)
	for strings.Count(tr.String(), text) < count {
		select {
		case <-tr.wrote:
		case <-late:
			t.Fatalf("%q is not said:\n%s", text, tr)
		}
	}
}

// running is a node that `run` has started in this process.
type running struct {
	*shell
	dir, file string
	said      *transcript
	stop      context.CancelFunc
	code      chan int
}

// runFile is a node whose only wire is a socket, so that no right is needed.
const runFile = `[system]
hostname = "fw-test"
control = "c"
state_dir = "state"

[interfaces.lan]
link = { driver = "socket", listen = "DIR/wire" }
addresses = ["192.168.1.2/24"]

[high_availability]
host_id = 1

[[virtual_ips]]
type = "carp"
interface = "lan"
address = "192.168.1.1/24"
vhid = 1
password_file = "secret"

[[rules]]
interface = "lan"
action = "pass"
`

func startNode(t *testing.T, dir string) *running {
	t.Helper()
	r := &running{dir: dir, file: filepath.Join(dir, "fw.toml"), said: newTranscript(), code: make(chan int, 1)}
	r.shell = &shell{t: t, vars: map[string]string{socketVariable: filepath.Join(dir, "c")}}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() {
		r.code <- Run(ctx, []string{"run", "-c", r.file}, Env{
			Stdout: io.Discard, Stderr: r.said, Getenv: func(string) string { return "" }, Now: time.Now,
			Terminal: func(io.Writer) bool { return false },
		})
	}()
	t.Cleanup(r.stop)
	r.said.await(t, "fw-test starts", 1)
	return r
}

// leave ends the node as SIGTERM would.
func (r *running) leave() {
	r.t.Helper()
	r.stop()
	select {
	case code := <-r.code:
		if code != 0 {
			r.t.Errorf("run ended with %d:\n%s", code, r.said)
		}
	case <-time.After(patience):
		r.t.Fatal("the node does not end")
	}
}

// folder holds the file of a node; its name is short enough for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	write(t, dir, "secret", "lab-only", 0o600)
	write(t, dir, "fw.toml", strings.ReplaceAll(runFile, "DIR", dir), 0o600)
	return dir
}

func TestNodeRunsAnswersReloadsAndLeaves(t *testing.T) {
	r := startNode(t, folder(t))
	stdout, stderr, _ := r.run("status", "--json")
	var n status.Node
	if err := json.Unmarshal([]byte(stdout), &n); err != nil || n.Hostname != "fw-test" || len(n.CARP.VIPs) != 1 {
		t.Fatalf("status: %s%s", stdout, stderr)
	}
	if _, stderr, code := r.run("carp", "maintenance", "on"); code != 0 {
		t.Errorf("maintenance: %d %s", code, stderr)
	}
	r.said.await(t, `"by":"uid `, 1)

	good, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.dir, "fw.toml", string(good)+"\n[[rules]]\ninterface = \"lan\"\naction = \"black\"\n", 0o600)
	_, stderr, code := r.run("reload")
	if code != 1 || !strings.Contains(stderr, r.file+":26: rules[1].action: ") || !strings.Contains(stderr, "nothing is changed") {
		t.Errorf("faulty reload: %d %s", code, stderr)
	}
	if stdout, _, _ := r.run("rules", "list"); strings.Count(stdout, "\n") != 2 {
		t.Errorf("rules after a faulty reload:\n%s", stdout)
	}

	changed := strings.Replace(string(good), `control = "c"`, `control = "d"`, 1)
	write(t, r.dir, "fw.toml", changed+"\n[[rules]]\ninterface = \"lan\"\naction = \"block\"\n", 0o600)
	stdout, _, code = r.run("reload")
	if code != 0 || !strings.Contains(stdout, "rules: ") || !strings.Contains(stdout, "system.control: from the next start on") {
		t.Errorf("reload: %d %s", code, stdout)
	}
	if stdout, _, _ := r.run("rules", "list"); strings.Count(stdout, "\n") != 3 {
		t.Errorf("rules after a reload:\n%s", stdout)
	}
	write(t, r.dir, "fw.toml", string(good), 0o600)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.said.await(t, "configuration applied", 2)

	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	if stdout, _, code := r.run("reload", "--json"); code != 1 || !strings.Contains(stdout, "no such file") {
		t.Errorf("reload without a file: %d %s", code, stdout)
	}
	write(t, r.dir, "fw.toml", string(good), 0o600)

	r.leave()
	if _, err := os.Lstat(filepath.Join(r.dir, "c")); err == nil {
		t.Error("the control socket stays behind")
	}
	if _, _, code := r.run("status"); code != 3 {
		t.Errorf("status without a node: %d", code)
	}

	again := startNode(t, r.dir)
	if stdout, _, _ := again.run("carp", "status"); !strings.Contains(stdout, "MAINTENANCE MODE") {
		t.Errorf("after a restart:\n%s", stdout)
	}
	again.leave()
}

func TestSecondNodeIsRefusedByName(t *testing.T) {
	r := startNode(t, folder(t))
	defer r.leave()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	other := write(t, r.dir, "other.toml", strings.Replace(string(text), `state_dir = "state"`, `state_dir = "state2"`, 1), 0o600)
	for file, want := range map[string]error{r.file: node.ErrLocked, other: nil} {
		_, stderr, code := r.run("run", "-c", file)
		if code != 1 || !strings.Contains(stderr, "process ") || want != nil && !strings.Contains(stderr, want.Error()) {
			t.Errorf("%s: %d %s", file, code, stderr)
		}
	}
	if _, _, code := r.run("routes"); code != 0 {
		t.Error("the first node is gone")
	}
}

func TestRunRefusesWhatItCannotStart(t *testing.T) {
	dir := folder(t)
	s := &shell{t: t, vars: map[string]string{}}
	file := filepath.Join(dir, "fw.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	faulty := write(t, dir, "faulty.toml", strings.Replace(string(text), "vhid = 1", "vhid = 0\nx = 1", 1), 0o600)
	taken := write(t, dir, "taken.toml", strings.Replace(string(text), dir+"/wire", "/no/such/folder/wire", 1), 0o600)
	tests := []struct {
		args []string
		code int
		want string
	}{
		{[]string{"run", "-c", file, "--last-good"}, 2, "--last-good is not built yet"},
		{[]string{"run", "-c", file, "now"}, 2, "now"},
		{[]string{"run", "-c", filepath.Join(dir, "none")}, 1, "no such file"},
		{[]string{"run", "-c", faulty}, 1, "nothing is started"},
		{[]string{"run", "-c", taken}, 1, "interface lan"},
	}
	for _, tt := range tests {
		stdout, stderr, code := s.run(tt.args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) || stdout != "" {
			t.Errorf("%v: %d %q %q", tt.args, code, stdout, stderr)
		}
	}
	if _, stderr, _ := s.run("run", "-c", faulty); strings.Count(stderr, faulty+":") < 2 {
		t.Errorf("not all faults: %s", stderr)
	}
	if _, err := os.Lstat(filepath.Join(dir, "c")); err == nil {
		t.Error("a node that could not start leaves its control socket")
	}
	if s, err := node.OpenDirStore(filepath.Join(dir, "state")); err != nil {
		t.Errorf("a node that could not start keeps its lock: %v", err)
	} else if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfinementIsWhatTheFilesNeed(t *testing.T) {
	dir := folder(t)
	elsewhere := t.TempDir()
	write(t, elsewhere, "real", "lab-only", 0o600)
	if err := errors.Join(os.Remove(filepath.Join(dir, "secret")), os.Symlink(filepath.Join(elsewhere, "real"), filepath.Join(dir, "secret"))); err != nil {
		t.Fatal(err)
	}
	var got node.Confinement
	refused := errors.New("refused")
	var stderr bytes.Buffer
	code := Run(context.Background(), []string{"run", "-c", filepath.Join(dir, "fw.toml")}, Env{
		Stdout: io.Discard, Stderr: &stderr, Getenv: func(string) string { return "" }, Now: time.Now, Terminal: func(io.Writer) bool { return false },
		Confine: func(c node.Confinement) ([]string, error) {
			got = c
			return []string{"no Landlock"}, refused
		},
	})
	if code != 1 || !strings.Contains(stderr.String(), "refused") || !strings.Contains(stderr.String(), "no Landlock") {
		t.Errorf("%d %s", code, &stderr)
	}
	want := node.Confinement{Read: []string{dir, elsewhere}, Write: []string{dir, filepath.Join(dir, "state"), dir}, Devices: []string{cloneDevice}}
	for _, pair := range [][2][]string{{got.Read, want.Read}, {got.Write, want.Write}, {got.Devices, want.Devices}} {
		if strings.Join(pair[0], " ") != strings.Join(pair[1], " ") {
			t.Errorf("got %q, want %q", pair[0], pair[1])
		}
	}
}

func TestLogOfANode(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		var out bytes.Buffer
		a := &app{env: Env{Stderr: &out, Terminal: func(io.Writer) bool { return terminal }}}
		r := &runner{}
		sink := sinkTo(a.logger(&r.level))
		sink(status.Event{Time: now, Level: "debug", Message: "not shown"})
		sink(status.Event{Time: now, Level: "warn", Source: "carp", Message: "demoted", Fields: map[string]string{"b": "2", "a": "1"}})
		want := `{"time":"2026-03-04T05:06:07Z","level":"WARN","msg":"demoted","source":"carp","a":"1","b":"2"}` + "\n"
		if terminal {
			want = "time=2026-03-04T05:06:07.000Z level=WARN msg=demoted source=carp a=1 b=2\n"
		}
		if out.String() != want {
			t.Errorf("got %swant %s", &out, want)
		}
	}
}
