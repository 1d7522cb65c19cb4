package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	namespaceFolder = "/run/netns"
	namespacePrefix = "tandem-bench-"
)

// netns is the name of a network namespace.
type netns string

func (n netns) path() string { return filepath.Join(namespaceFolder, string(n)) }

// namespaces are those this process made. Their names carry its number.
type namespaces struct{ made []netns }

// add makes a namespace with the loopback up and without IPv6, of which the
// router solicitations would be noise.
func (s *namespaces) add(ctx context.Context, role string) (netns, error) {
	n := netns(namespacePrefix + strconv.Itoa(os.Getpid()) + "-" + role)
	if err := runCommand(exec.CommandContext(ctx, "ip", "netns", "add", string(n))); err != nil {
		return "", err
	}
	s.made = append(s.made, n)
	return n, n.script(ctx, `ip link set lo up
		echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 || true
		echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 || true`)
}

// remove takes all of them away again.
func (s *namespaces) remove() error {
	var errs []error
	for _, n := range s.made {
		errs = append(errs, removeNamespace(n))
	}
	s.made = nil
	return errors.Join(errs...)
}

// removeNamespace has its own time: it also runs when everything was cancelled.
func removeNamespace(n netns) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return runCommand(exec.CommandContext(ctx, "ip", "netns", "delete", string(n)))
}

// removeAbandoned removes the namespaces of runs that were killed.
func removeAbandoned() error {
	entries, err := os.ReadDir(namespaceFolder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for namespaces of killed runs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), namespacePrefix)
		pid, _, _ := strings.Cut(rest, "-")
		if _, err := strconv.Atoi(pid); !ours || err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, removeNamespace(netns(e.Name())))
		}
	}
	return errors.Join(errs...)
}

// command is a command that will run in n. It is nsenter, not `ip netns
// exec`, which mounts /sys anew each time and stalls beside a busy data path;
// nsenter replaces itself, so the process number is the command's.
func (n netns) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.path(), "--"}, args...)...)
}

// script runs shell lines in n, up to the first that fails.
func (n netns) script(ctx context.Context, lines string) error {
	return runCommand(n.command(ctx, "sh", "-ec", lines))
}

// inside runs f on a thread of n; what it opens stays in n.
func (n netns) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread ends with its goroutine.
		done <- n.enter(f)
	}()
	return <-done
}

func (n netns) enter(f func() error) error {
	file, err := os.Open(n.path())
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", n, err)
	}
	return f()
}

// runCommand runs c; its error holds what the command said.
func runCommand(c *exec.Cmd) error {
	_, err := output(c)
	return err
}

// output runs c and returns its standard output.
func output(c *exec.Cmd) ([]byte, error) {
	var said strings.Builder
	c.Stderr = &said
	c.SysProcAttr = childAttributes()
	out, err := c.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, strings.TrimSpace(said.String()))
	}
	return out, nil
}
