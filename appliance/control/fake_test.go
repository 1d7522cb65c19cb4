package control

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"tandem/appliance/status"
)

// start is when everything of the fake node happened.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fakeNode answers with little, and keeps what it was told.
type fakeNode struct {
	mu      sync.Mutex
	did     []string
	past    []status.Event
	live    chan status.Event
	packets chan status.Packet
	stopped chan struct{}
	fail    error
	panics  bool
}

func newFakeNode() *fakeNode {
	return &fakeNode{live: make(chan status.Event, 8), packets: make(chan status.Packet, 8), stopped: make(chan struct{}, 1)}
}

func (n *fakeNode) do(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.did = append(n.did, what)
}

func (n *fakeNode) done() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.did
}

func (n *fakeNode) Status() status.Node {
	if n.panics {
		panic("a slice is shorter than it was")
	}
	return status.Node{Hostname: "fw", Role: status.RoleMaster, Interfaces: []status.Interface{{Name: "wan"}}}
}
func (n *fakeNode) CARP() status.CARP { return status.CARP{Enabled: true} }
func (n *fakeNode) SetEnabled(on bool) {
	n.do("enabled " + onOff(on))
}
func (n *fakeNode) SetMaintenance(on bool) error {
	n.do("maintenance " + onOff(on))
	return n.fail
}
func (n *fakeNode) ResetDemotion() { n.do("reset") }
func (n *fakeNode) Scan(iface string) (status.Scan, error) {
	if iface == "dmz" {
		return status.Scan{}, errors.New(`there is no interface "dmz"`)
	}
	return status.Scan{}, nil
}
func (n *fakeNode) States(filter string) []status.State {
	out := make([]status.State, 3000)
	for i := range out {
		out[i].Protocol = filter
	}
	return out
}
func (n *fakeNode) StateCount() status.StateCount { return status.StateCount{States: 7} }
func (n *fakeNode) KillStates(filter string) int  { n.do("kill " + filter); return 3 }
func (n *fakeNode) Rules(all bool) []status.Rule {
	out := []status.Rule{{ID: "written"}}
	if all {
		out = append(out, status.Rule{ID: "automatic", Automatic: true})
	}
	return out
}
func (n *fakeNode) NAT() []status.Translation             { return nil }
func (n *fakeNode) NATText() string                       { return "[nat.outbound]\n" }
func (n *fakeNode) ARP() []status.Neighbour               { return nil }
func (n *fakeNode) DeleteARP(addr netip.Addr)             { n.do("arp " + addr.String()) }
func (n *fakeNode) Routes() []status.Route                { return nil }
func (n *fakeNode) Interfaces() []status.Interface        { return []status.Interface{{Name: "wan"}} }
func (n *fakeNode) Packets(time.Time) []status.Packet     { return []status.Packet{{ID: "1"}} }
func (n *fakeNode) Events(since time.Time) []status.Event { return n.past }

func (n *fakeNode) Watch(bool) (<-chan status.Event, <-chan status.Packet, func(), error) {
	if n.fail != nil {
		return nil, nil, nil, n.fail
	}
	return n.live, n.packets, func() { n.stopped <- struct{}{} }, nil
}

func (n *fakeNode) Capture(ctx context.Context, iface, expr string, emit func(status.Frame) bool) error {
	if n.fail != nil {
		return n.fail
	}
	defer func() { n.stopped <- struct{}{} }()
	for i := 0; ; i++ {
		if ctx.Err() != nil || !emit(status.Frame{Interface: iface, Length: i, Data: []byte(expr)}) {
			return nil
		}
	}
}

func (n *fakeNode) Ping(_ context.Context, r status.PingRequest, emit func(status.Probe)) error {
	for i := range r.Count {
		emit(status.Probe{Seq: i + 1, From: r.Remote, Result: "reply"})
	}
	return n.fail
}

func (n *fakeNode) Traceroute(_ context.Context, r status.TraceRequest, emit func(status.Probe)) error {
	emit(status.Probe{TTL: 1, From: r.Remote})
	return n.fail
}
