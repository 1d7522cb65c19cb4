package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a file of a folder.
func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const goodFile = `[system]
hostname = "fw"
control = "run/c.sock"
state_dir = "state"

[interfaces.lan]
link = { driver = "tap", device = "x-lan" }
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

func TestCheckSaysWhatIsWrongAndWhere(t *testing.T) {
	dir := t.TempDir()
	secret := write(t, dir, "secret", "lab-only\n", 0o600)
	file := write(t, dir, "fw.toml", goodFile, 0o600)
	s := &shell{t: t}
	want := file + ": ok, 1 rule (and "
	if stdout, stderr, code := s.run("check", "-c", file); code != 0 || stderr != "" || !strings.HasPrefix(stdout, want) || !strings.Contains(stdout, "1 VIP") {
		t.Errorf("good: %d %q %q", code, stdout, stderr)
	}

	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if stdout, _, code := s.run("check", "-c", file); code != 0 || !strings.Contains(stdout, file+":18: virtual_ips[0].password_file: warning: ") || !strings.Contains(stdout, "ok, ") {
		t.Errorf("warning: %d %q", code, stdout)
	}

	bad := write(t, dir, "bad.toml", strings.Replace(goodFile, "vhid = 1", "vhid = 300\ncolour = 1", 1), 0o600)
	stdout, _, code := s.run("check", "-c", bad)
	if code != 1 || !strings.Contains(stdout, bad+":17: virtual_ips[0].vhid: ") || !strings.Contains(stdout, bad+":18: virtual_ips[0].colour: ") || strings.Contains(stdout, "ok") {
		t.Errorf("bad: %d %q", code, stdout)
	}
	stdout, _, code = s.run("check", "-c", bad, "--json")
	var list []problem
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 1 || len(list) < 2 || list[0].Line != 17 || list[0].Severity != "error" {
		t.Errorf("bad --json: %d %q %v", code, stdout, err)
	}
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	if stdout, _, code = s.run("check", "-c", file, "--json"); code != 0 || stdout != "[]\n" {
		t.Errorf("good --json: %d %q", code, stdout)
	}

	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	if stdout, _, code := s.run("check", "-c", file); code != 1 || strings.Count(stdout, secret) != 1 {
		t.Errorf("no secret: %d %q", code, stdout)
	}
}

func TestFileIsSearchedFor(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s := &shell{t: t}
	if _, err := os.Stat(fileEtc); err != nil { // a machine of ours may have one
		if _, stderr, code := s.run("check"); code != 1 || !strings.Contains(stderr, "-c") {
			t.Errorf("none: %d %q", code, stderr)
		}
	}
	write(t, dir, "secret", "lab-only", 0o600)
	write(t, dir, fileHere, goodFile, 0o600)
	if stdout, _, code := s.run("check"); code != 0 || !strings.HasPrefix(stdout, fileHere+": ok") {
		t.Errorf("here: %d %q", code, stdout)
	}
}

func TestControlSocketIsFoundInOrder(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(t.TempDir())
	file := write(t, dir, "fw.toml", goodFile, 0o600) // the secret is missing: that does not matter
	broken := write(t, dir, "broken.toml", "[[", 0o600)
	tests := []struct {
		name, flag, variable, file, want string
	}{
		{"the flag", "/flag", "/variable", file, "/flag"},
		{"the environment", "", "/variable", file, "/variable"},
		{"the configuration's", "", "", file, filepath.Join(dir, "run/c.sock")},
		{"a broken configuration", "", "", broken, "/run/appliance/control.sock"},
		{"a missing configuration", "", "", filepath.Join(dir, "none"), "/run/appliance/control.sock"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &app{socket: tt.flag, file: tt.file, env: Env{Getenv: func(string) string { return tt.variable }}}
			if got := a.controlSocket(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
