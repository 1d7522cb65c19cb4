//go:build interop

package nic

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace without a name: it goes with its last
// descriptor, also when the test is killed.
type namespace struct{ fd int }

// newNamespace needs root.
func newNamespace(t *testing.T) *namespace {
	t.Helper()
	made := make(chan error, 1)
	ns := &namespace{fd: -1}
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread ends with its goroutine.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("unshare network: %w", err)
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		ns.fd = fd
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatalf("make a network namespace (root is needed): %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(ns.fd) })
	ns.run(t, "ip link set lo up")
	return ns
}

// do runs f on a thread of the namespace and returns its error.
func (ns *namespace) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(ns.fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// run runs commands, one per line, in the namespace.
func (ns *namespace) run(t *testing.T, commands string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(commands) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		err := ns.do(func() error {
			out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
			all.Write(out)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, all.String())
		}
	}
	return all.String()
}

// path names the namespace to other programs.
func (ns *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.fd) }
