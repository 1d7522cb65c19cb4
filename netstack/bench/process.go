package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// childAttributes keep a terminal's interrupt away from the children, so that
// we end them in order, and end them with us if we are killed. The latter is
// tied to the thread that starts them: only the main one does.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// errEnded is an end without a fault, of a process that should go on.
var errEnded = errors.New("exit status 0")

// child is a process that runs beside the measurements.
type child struct {
	name string
	cmd  *exec.Cmd
	said tail
	done chan struct{}
	err  error // valid after done
}

// start begins cmd; what it prints is kept for complaints.
func start(name string, cmd *exec.Cmd) (*child, error) {
	c := &child{name: name, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &c.said, &c.said
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		c.err = cmp.Or(cmd.Wait(), errEnded)
		close(c.done)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// alive is nil while the process runs, else what became of it.
func (c *child) alive() error {
	select {
	case <-c.done:
		return fmt.Errorf("%s ended: %w: %s", c.name, c.err, c.said.String())
	default:
		return nil
	}
}

// stop asks the process to end, and makes it end after a while.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(3 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// tailBytesMax is how much of a child's words is kept.
const tailBytesMax = 4 << 10

// tail keeps the last bytes written to it.
type tail struct {
	mu   sync.Mutex
	last []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	if cut := len(t.last) - tailBytesMax; cut > 0 {
		t.last = append(t.last[:0], t.last[cut:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.last))
}

// eventually asks every 20 ms until it is settled, for better or worse. An
// error of an unsettled question is told if the time runs out.
func eventually(ctx context.Context, what string, limit time.Duration, ask func() (settled bool, err error)) error {
	var last error
	for end := time.Now().Add(limit); time.Now().Before(end); {
		settled, err := ask()
		if settled {
			return err
		}
		last = err
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("waited %v for %s: %w", limit, what, cmp.Or(last, errors.New("not yet")))
}
