//go:build linux

// Package sandbox makes network namespaces for the tests of link drivers, so
// that their traffic stays among devices that the test itself made. It needs
// root and the ip command, and is no part of the product: only tests with the
// tag interop import it.
package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace without a name: it goes with its last
// descriptor, also when the test is killed.
type Namespace struct{ fd int }

// New makes a namespace that ends with the test. It needs root.
func New(t testing.TB) *Namespace {
	t.Helper()
	made := make(chan error, 1)
	ns := &Namespace{fd: -1}
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
	ns.Run(t, "ip link set lo up")
	return ns
}

// Do runs f on a thread of the namespace and returns its error.
func (ns *Namespace) Do(f func() error) error {
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

// Run runs commands, one per line, in the namespace.
func (ns *Namespace) Run(t testing.TB, commands string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(commands) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		err := ns.Do(func() error {
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

// Path names the namespace to other programs.
func (ns *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.fd) }
