//go:build interop

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	namespaceFolder = "/run/netns"
	namespacePrefix = "tandem-interop-"

	// patience bounds every wait that has no bound of its own.
	patience = 20 * time.Second
	// askEvery is how often a condition is looked at.
	askEvery = 20 * time.Millisecond
)

// namespace is a network namespace with a name.
type namespace struct {
	name string
	fd   int
}

// newNamespace makes a namespace that goes with the test.
func newNamespace(t *testing.T, role string) *namespace {
	t.Helper()
	executable(t) // says what is missing, rights first
	ns := &namespace{name: fmt.Sprintf("%s%d-%s", namespacePrefix, os.Getpid(), role)}
	if out, err := exec.Command("ip", "netns", "add", ns.name).CombinedOutput(); err != nil {
		t.Fatalf("make namespace %s: %v\n%s", role, err, out)
	}
	fd, err := unix.Open(ns.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ns.fd = fd
	t.Cleanup(func() {
		_ = unix.Close(fd)
		removeNamespace(ns.name)
	})
	ns.run(t, "ip link set lo up")
	return ns
}

func (ns *namespace) path() string { return filepath.Join(namespaceFolder, ns.name) }

// do runs f on a thread of the namespace; sockets it makes stay there.
func (ns *namespace) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread ends with its goroutine.
		if err := unix.Setns(ns.fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", ns.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// command is a command line that will run in the namespace.
func (ns *namespace) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + ns.path()}, args...)...)
}

// run runs commands, one per line, and returns what they print.
func (ns *namespace) run(t *testing.T, lines string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(lines) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		out, err := ns.command(args...).CombinedOutput()
		all.Write(out)
		if err != nil {
			t.Fatalf("%s: %s: %v\n%s", ns.name, strings.Join(args, " "), err, out)
		}
	}
	return all.String()
}

// try runs one command and returns what it prints and how it ended.
func (ns *namespace) try(line string) (string, error) {
	out, err := ns.command(strings.Fields(line)...).CombinedOutput()
	return string(out), err
}

var etherPattern = regexp.MustCompile(`link/ether ([0-9a-f:]{17})`)

// macOf is the MAC of a device in the namespace.
func (ns *namespace) macOf(t *testing.T, device string) string {
	t.Helper()
	m := etherPattern.FindStringSubmatch(ns.run(t, "ip -o link show "+device))
	if m == nil {
		t.Fatalf("%s has no MAC", device)
	}
	return m[1]
}

var namespacePattern = regexp.MustCompile("^" + namespacePrefix + `(\d+)-`)

// eachNamespace calls f for the namespaces of this suite, of any process.
func eachNamespace(f func(name string, pid int)) {
	entries, err := os.ReadDir(namespaceFolder)
	if err != nil {
		return // there is none
	}
	for _, e := range entries {
		if m := namespacePattern.FindStringSubmatch(e.Name()); m != nil {
			pid, _ := strconv.Atoi(m[1])
			f(e.Name(), pid)
		}
	}
}

// sweep removes the namespaces and folders that killed runs left.
func sweep() {
	eachNamespace(func(name string, pid int) {
		if abandoned(pid) {
			removeNamespace(name)
		}
	})
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), namespacePrefix+"*"))
	for _, folder := range folders {
		if m := namespacePattern.FindStringSubmatch(filepath.Base(folder)); m != nil {
			if pid, _ := strconv.Atoi(m[1]); abandoned(pid) {
				_ = os.RemoveAll(folder)
			}
		}
	}
}

// abandoned says that a process number of a former run is no run now.
func abandoned(pid int) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err != nil || pid == os.Getpid() || !strings.HasPrefix(string(comm), "interop.test")
}

// removeNamespaces removes what this run made.
func removeNamespaces() {
	eachNamespace(func(name string, pid int) {
		if pid == os.Getpid() {
			removeNamespace(name)
		}
	})
}

// removeNamespace ends what still runs in a namespace of ours, and the
// namespace.
func removeNamespace(name string) {
	out, _ := exec.Command("ip", "netns", "pids", name).Output()
	for _, word := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(word); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "remove namespace %s: %v %s\n", name, err, out)
	}
}

// eventually waits until ask says yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	within(t, patience, what, ask)
}

// within waits until ask says yes, but no longer than a limit, and returns
// how long it took.
func within(t *testing.T, limit time.Duration, what string, ask func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ask() {
		if time.Since(began) > limit {
			t.Fatalf("waited %v in vain: %s", limit, what)
		}
		time.Sleep(askEvery)
	}
	return time.Since(began)
}

// holds fails if ask says no within a span: for what must not happen.
func holds(t *testing.T, span time.Duration, what string, ask func() bool) {
	t.Helper()
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(askEvery) {
		if !ask() {
			t.Fatalf("did not last %v: %s", span, what)
		}
	}
}
