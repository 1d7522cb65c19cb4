package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/vnet"
)

// during runs something beside the world, in virtual time, until it is done.
func during(t *testing.T, text string, do func(n *Node) error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, vnet.Config{Seed: 1, Wait: synctest.Wait})
		s.on(text)
		s.run(time.Second)
		done := make(chan error, 1)
		go func() { done <- do(s.node) }()
		if !s.RunUntil(func() bool { return len(done) > 0 }, time.Minute) {
			t.Fatal("it does not end")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPingFromTheNodesOwnStack(t *testing.T) {
	tests := []struct {
		request status.PingRequest
		want    []string
	}{
		{status.PingRequest{Remote: "198.51.100.1", Count: 3}, []string{"1 198.51.100.1 reply", "2 198.51.100.1 reply", "3 198.51.100.1 reply"}},
		{status.PingRequest{Remote: "192.168.1.50", Count: 1, Source: "192.168.1.2", Size: 1000}, []string{"1 192.168.1.50 reply"}},
		{status.PingRequest{Remote: "198.51.100.77", Count: 2, IntervalSeconds: 0.1}, []string{"1  timeout", "2  timeout"}},
		{status.PingRequest{Remote: "198.51.100.1", Count: 1, Interface: "wan", TTL: 1}, []string{"1 198.51.100.1 reply"}},
		{status.PingRequest{Remote: "198.51.100.2", Count: 1}, []string{"1 198.51.100.2 reply"}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%+v", tt.request), func(t *testing.T) {
			var got []string
			during(t, single, func(n *Node) error {
				return n.Ping(context.Background(), tt.request, func(p status.Probe) {
					got = append(got, fmt.Sprintf("%d %s %s", p.Seq, p.From, p.Result))
				})
			})
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTracerouteFromTheNodesOwnStack(t *testing.T) {
	var got []string
	during(t, single, func(n *Node) error {
		return n.Traceroute(context.Background(), status.TraceRequest{Remote: "198.51.100.1", Probes: 2}, func(p status.Probe) {
			got = append(got, fmt.Sprintf("%d %s %s", p.TTL, p.From, p.Result))
		})
	})
	if want := []string{"1 198.51.100.1 reply", "1 198.51.100.1 reply"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAProbeThatMakesNoSenseIsRefused(t *testing.T) {
	s := boot(t, single)
	ctx := context.Background()
	for _, r := range []status.PingRequest{{Remote: "server"}, {Remote: "198.51.100.1", Source: "me"}, {Remote: "198.51.100.1", Interface: "dmz"},
		{Remote: "198.51.100.1", Size: -1}, {Remote: "198.51.100.1", Size: probeSizeMax + 1}, {Remote: "198.51.100.1", TTL: 256}} {
		if err := s.node.Ping(ctx, r, func(status.Probe) { t.Error("it was sent") }); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
	if err := s.node.Traceroute(ctx, status.TraceRequest{Remote: "server"}, nil); err == nil {
		t.Error("a trace to no address was taken")
	}
	if err := s.node.Capture(ctx, "dmz", "", nil); err == nil {
		t.Error("an interface that is not there was captured")
	}
	if err := s.node.Capture(ctx, "lan", "port what", nil); err == nil {
		t.Error("an expression that means nothing was taken")
	}
}

func TestACaptureShowsTheFramesOfAnInterface(t *testing.T) {
	var got []string
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, vnet.Config{Seed: 1, Wait: synctest.Wait})
		s.on(single + passLAN)
		s.run(time.Second)
		done := make(chan error, 1)
		go func() {
			done <- s.node.Capture(context.Background(), "lan", "icmp", func(f status.Frame) bool {
				got = append(got, f.Interface+" "+f.Direction)
				return len(got) < 2
			})
		}()
		synctest.Wait()
		if _, err := s.client.Pinger(s.node.ports[1].plan.Addresses[0].Addr(), time.Hour); err != nil {
			t.Fatal(err)
		}
		s.run(time.Second)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if strings.Join(got, ", ") != "lan in, lan out" {
		t.Errorf("got %q", got)
	}
}
