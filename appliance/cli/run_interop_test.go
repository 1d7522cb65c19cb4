//go:build interop

package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestInteropRunGivesUpRights holds a real process, linked without C as it is
// shipped, against what the kernel says about each of its threads.
func TestInteropRunGivesUpRights(t *testing.T) {
	dir, elsewhere := folder(t), t.TempDir()
	file := filepath.Join(dir, "fw.toml")
	cmd := exec.Command(shipped(t), "run", "-c", file)
	said := newTranscript()
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill() // It may be gone; Wait tells.
			_ = cmd.Wait()
		}
	})
	said.await(t, "fw-test starts", 1)
	s := &shell{t: t, vars: map[string]string{socketVariable: filepath.Join(dir, "c")}}
	if stdout, stderr, code := s.run("routes"); code != 0 { // Answered after the confinement.
		t.Fatalf("%d %s%s", code, stdout, stderr)
	}

	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
	if err != nil || len(threads) < 3 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	for _, status := range threads {
		checkThread(t, status)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err != nil || !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("core dumps: %v\n%s", err, limits)
	}

	if !strings.Contains(said.String(), "no Landlock") {
		secret := write(t, elsewhere, "secret", "lab-only", 0o600)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "fw.toml", strings.Replace(string(text), `"secret"`, fmt.Sprintf("%q", secret), 1), 0o600)
		if _, stderr, code := s.run("reload"); code != 1 || !strings.Contains(stderr, "permission denied") || !strings.Contains(stderr, "restart") {
			t.Errorf("a file elsewhere: %d %s", code, stderr)
		}
		write(t, dir, "fw.toml", string(text), 0o600)
	}
	for _, line := range []string{"reload", "carp maintenance on", "carp maintenance off"} { // What it still must be able to do.
		if _, stderr, code := s.run(strings.Fields(line)...); code != 0 {
			t.Errorf("%s: %d %s", line, code, stderr)
		}
	}

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended = true
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, said)
	}
	for _, name := range []string{"c", "wire"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("socket %s stays behind", name)
		}
	}
}

// shipped builds the binary.
func shipped(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), program)
	build := exec.Command("go", "build", "-o", binary, "tandem/appliance")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// checkThread reads what the kernel says about one thread (proc_pid_status(5)).
func checkThread(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return // The thread has ended meanwhile.
	}
	if err != nil {
		t.Fatal(err)
	}
	const kept = 1<<12 | 1<<13 // CAP_NET_ADMIN, CAP_NET_RAW
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":\t")
		var caps uint64
		switch name {
		case "CapEff", "CapPrm", "CapBnd":
			if _, err := fmt.Sscanf(value, "%x", &caps); err != nil {
				t.Fatal(err)
			}
			if os.Geteuid() == 0 && caps != kept || name != "CapBnd" && caps&^kept != 0 {
				t.Errorf("%s: %s %s", file, name, value)
			}
		case "CapInh", "CapAmb":
			if strings.Trim(value, "0") != "" {
				t.Errorf("%s: %s %s", file, name, value)
			}
		case "NoNewPrivs":
			if value != "1" {
				t.Errorf("%s: NoNewPrivs %s", file, value)
			}
		}
	}
}
