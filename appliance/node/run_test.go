package node

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/vnet"
)

// live is a node under Run, in a world in real time: the loops have goroutines
// of their own, and so has everybody who asks.
type live struct {
	*scene
	cancel context.CancelFunc
	ended  chan error
}

func runLive(t *testing.T, text string, workers int) *live {
	t.Helper()
	s := newScene(t, vnet.Config{Seed: 1, RealTime: true})
	env := s.env()
	env.Clock, env.Wake, env.Workers = RealClock(), nil, workers
	n, err := New(planOf(t, text), env)
	if err != nil {
		t.Fatal(err)
	}
	s.node = n
	ctx, cancel := context.WithCancel(context.Background())
	l := &live{scene: s, cancel: cancel, ended: make(chan error, 1)}
	go func() { l.ended <- n.Run(ctx) }()
	return l
}

// stop ends the node and everything it started.
func (l *live) stop() {
	l.t.Helper()
	l.cancel()
	select {
	case err := <-l.ended:
		if err != nil {
			l.t.Error(err)
		}
	case <-time.After(10 * time.Second):
		l.t.Fatal("Run does not end")
	}
	l.off()
}

// until lets the world go on until cond holds; its own RunUntil looks only when
// something happens in the world.
func (l *live) until(cond func() bool) bool {
	for range 500 {
		if cond() {
			return true
		}
		l.run(10 * time.Millisecond)
	}
	return false
}

// TestEverythingAtOnce has all that may be asked of a running node asked at
// once; the race detector judges.
func TestEverythingAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	l := runLive(t, single+shared+passLAN, 2)
	l.node.SetSink(func(status.Event) {})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	often := func(f func()) {
		wg.Go(func() {
			for ctx.Err() == nil {
				f()
				runtime.Gosched()
			}
		})
	}
	often(func() { l.node.Status(); l.node.Rules(true); l.node.States("tcp"); l.node.NAT() })
	often(func() { l.node.ARP(); l.node.Routes(); l.node.Interfaces(); l.node.Events(time.Time{}) })
	often(func() {
		for _, more := range []string{"[[rules]]\ninterface = \"lan\"\naction = \"pass\"\nprotocol = \"udp\"\n", ""} {
			if _, err := l.node.Apply(planOf(t, single+shared+passLAN+more)); err != nil {
				t.Error(err)
			}
		}
	})
	often(func() { l.node.SetEnabled(false); l.node.SetEnabled(true); l.node.ResetDemotion() })
	often(func() {
		if err := l.node.SetMaintenance(true); err != nil {
			t.Error(err)
		}
		if err := l.node.SetMaintenance(false); err != nil {
			t.Error(err)
		}
	})
	often(func() {
		if _, _, stop, err := l.node.Watch(false); err == nil {
			stop()
		}
		if _, err := l.node.Scan(""); err != nil {
			t.Error(err)
		}
		l.node.KillStates(":81")
	})
	wg.Go(func() {
		if err := l.node.Capture(ctx, "", "tcp", func(status.Frame) bool { return true }); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		r := status.PingRequest{Remote: "198.51.100.1", Count: 3, IntervalSeconds: 0.05, TimeoutSeconds: 0.3}
		if err := l.node.Ping(ctx, r, func(status.Probe) {}); err != nil {
			t.Error(err)
		}
	})
	l.run(300 * time.Millisecond)
	for range 3 { // the link comes and goes
		l.cards["lan"].Jack().Pull()
		l.run(60 * time.Millisecond)
		l.cards["lan"].Jack().Push()
		l.run(60 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	l.stop()
	l.World.Close()
	if n := settleGoroutines(before); n > before {
		t.Errorf("%d goroutines are left of what was started", n-before)
	}
}

// settleGoroutines waits until no more than want goroutines are left, and says
// how many there are.
func settleGoroutines(want int) int {
	for deadline := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > want && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	return runtime.NumGoroutine()
}

func TestARunningNodeForwards(t *testing.T) {
	l := runLive(t, single+passLAN, 1)
	defer l.stop()
	if !l.until(func() bool {
		return !slices.ContainsFunc(l.node.Interfaces(), func(i status.Interface) bool {
			return slices.ContainsFunc(i.Addresses, func(a status.Address) bool { return a.State != "in use" })
		})
	}) {
		t.Fatalf("its addresses are not used: %+v", l.node.Interfaces())
	}
	c := l.client.Connector(netip.AddrPortFrom(serverAddr, 80), time.Hour)
	if !l.until(func() bool { return c.Report(time.Time{}, time.Time{}).Answered == 1 }) {
		t.Errorf("the connection is %+v", c.Connections(time.Time{}, time.Time{}))
	}
	c.Stop()
}

func TestANodeThatStopsEndsItsLogInOrder(t *testing.T) {
	l := runLive(t, single+shared, 1)
	var mu sync.Mutex
	var got []string
	l.node.SetSink(func(e status.Event) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, e.Message)
	})
	if !l.until(func() bool { return l.said("is BACKUP of 9@lan") }) {
		t.Fatal("its vhid does not run")
	}
	l.stop()
	mu.Lock()
	defer mu.Unlock()
	if len(got) < 4 || !strings.Contains(got[0], "fw starts") || !strings.Contains(got[len(got)-1], "INIT of 9@lan: node is leaving") {
		t.Errorf("the sink got %q", got)
	}
}
