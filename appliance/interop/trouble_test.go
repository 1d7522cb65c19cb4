//go:build interop

package interop

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testDeviceDeleted takes the primary's WAN device away altogether. The node
// makes it again by itself; that it is on no wire then, it cannot know.
func testDeviceDeleted(t *testing.T, p *pair) {
	p.wires.ns.run(t, "ip link del fw1-wan")
	deleted := time.Now()
	eventually(t, "the node makes its device again", func() bool {
		_, err := p.primary.ns.try("ip link show fw1-wan")
		return err == nil
	})
	made := time.Since(deleted)
	p.primary.plugs["fw1-wan"](t, p.primary.ns, "fw1-wan")
	p.healthy(t)
	t.Logf("WAN device deleted: made again after %v", made.Round(time.Millisecond))
	p.seenAs(t, "with the device back")
}

// testFrozen stops the primary's process for longer than the secondary waits,
// and lets it go on as if nothing had happened.
func testFrozen(t *testing.T, p *pair) {
	ping := p.client.ping(t, "198.51.100.1", pingEvery)
	ping.waitMore(t, 20)
	frozen := time.Now()
	p.primary.proc.signal(t, syscall.SIGSTOP)
	took := p.taken(t, frozen)
	ping.waitMore(t, 20)
	p.primary.proc.signal(t, syscall.SIGCONT)
	p.healthy(t)
	ping.waitMore(t, 20)
	t.Logf("primary frozen: secondary MASTER for all VIPs after %v; thawed; %v in all", took.Round(time.Millisecond), ping.finish())
	before := p.transitions(t)
	holds(t, 3*time.Second, "the roles are settled", func() bool { return p.transitions(t) == before })
	p.seenAs(t, "after the frost")
}

// testSecondInstance starts another process on the same state and socket.
func testSecondInstance(t *testing.T, s *single) {
	out, err := appliance(t, "run", "-c", s.node.file)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("a second process on the same state directory: %v\n%s", err, out)
	} else if !strings.Contains(err.Error(), strconv.Itoa(s.node.proc.cmd.Process.Pid)) {
		t.Errorf("its complaint does not name process %d: %v", s.node.proc.cmd.Process.Pid, err)
	}
	if _, err := s.node.status(t); err != nil {
		t.Errorf("the first process after that: %v", err)
	}
}
