package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/capture"
	"tandem/netstack/host"
)

// Limits of what people may ask probes to be.
const (
	probeSizeMax  = 65000
	probeHopsMax  = 64
	probeTTL      = 64
	probeTimeout  = time.Second
	traceIDOffset = 0x4000 // keeps traces and pings apart
)

// seconds converts a request's duration, or gives the default for zero.
func seconds(s float64, byDefault time.Duration) time.Duration {
	if s <= 0 {
		return byDefault
	}
	return time.Duration(s * float64(time.Second))
}

// probeConfig checks what ping and traceroute have in common.
func (n *Node) probeConfig(remote, source, iface string) (host.PingConfig, error) {
	var c host.PingConfig
	var err error
	if c.Remote, err = netip.ParseAddr(remote); err != nil {
		return c, fmt.Errorf("%q is not an address", remote)
	}
	if source != "" {
		if c.Source, err = netip.ParseAddr(source); err != nil {
			return c, fmt.Errorf("source %q is not an address", source)
		}
	}
	if iface == "" {
		return c, nil
	}
	for _, p := range n.interfaces() {
		if p.Name == iface {
			c.Iface = p.Index
			return c, nil
		}
	}
	return c, fmt.Errorf("there is no interface %q", iface)
}

// Ping sends echo requests from the node's own stack, one after the other, and
// reports each answer, until the count is reached or ctx ends.
func (n *Node) Ping(ctx context.Context, r status.PingRequest, emit func(status.Probe)) error {
	c, err := n.probeConfig(r.Remote, r.Source, r.Interface)
	if err != nil {
		return err
	}
	if r.Size < 0 || r.Size > probeSizeMax || r.TTL < 0 || r.TTL > 255 {
		return fmt.Errorf("size must be 0 to %d bytes and ttl 0 to 255", probeSizeMax)
	}
	c.Payload, c.TTL, c.Timeout = r.Size, uint8(r.TTL), seconds(r.TimeoutSeconds, probeTimeout)
	if c.TTL == 0 {
		c.TTL = probeTTL
	}
	c.ID = uint16(n.env.Rand()) &^ traceIDOffset
	interval := seconds(r.IntervalSeconds, time.Second)
	for seq := 1; r.Count == 0 || seq <= r.Count; seq++ {
		began := n.env.Clock.Now()
		c.Seq = uint16(seq)
		emit(n.probe(ctx, c, seq))
		if r.Count != 0 && seq == r.Count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval - n.env.Clock.Now().Sub(began)):
		}
	}
	return nil
}

// probe sends one echo request and puts its fate in words.
func (n *Node) probe(ctx context.Context, c host.PingConfig, seq int) status.Probe {
	out := status.Probe{Seq: seq, TTL: int(c.TTL), Result: "timeout"}
	reply, err := n.host.Ping(ctx, c)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, host.ErrTimeout) {
			out.Result = err.Error()
		}
		return out
	}
	out.From, out.RTTms = reply.From.String(), float64(reply.RTT.Microseconds())/1000
	out.Result = resultOf(&reply)
	return out
}

// resultOf puts an answer in words.
func resultOf(r *host.PingReply) string {
	if r.IsEcho() {
		return "reply"
	}
	switch {
	case r.From.Is4() && r.Type == 11 || r.From.Is6() && r.Type == 3:
		return "time exceeded"
	case r.From.Is4() && r.Type == 3 && r.Code == 4 || r.From.Is6() && r.Type == 2:
		return "packet too big"
	case r.From.Is4() && r.Type == 3 && r.Code == 13 || r.From.Is6() && r.Type == 1 && r.Code == 1:
		return "administratively prohibited"
	case r.From.Is4() && r.Type == 3 || r.From.Is6() && r.Type == 1:
		return "destination unreachable"
	}
	return fmt.Sprintf("ICMP type %d code %d", r.Type, r.Code)
}

// Traceroute sends echo requests with a rising TTL and reports who answers
// each, until the remote itself does.
func (n *Node) Traceroute(ctx context.Context, r status.TraceRequest, emit func(status.Probe)) error {
	c, err := n.probeConfig(r.Remote, r.Source, r.Interface)
	if err != nil {
		return err
	}
	hops, probes := r.HopsMax, max(1, r.Probes)
	if hops <= 0 || hops > probeHopsMax {
		hops = probeHopsMax / 2
	}
	c.Timeout = seconds(r.TimeoutSeconds, probeTimeout)
	c.ID = uint16(n.env.Rand()) | traceIDOffset
	for ttl := 1; ttl <= hops; ttl++ {
		arrived := false
		for range probes {
			c.TTL, c.Seq = uint8(ttl), c.Seq+1
			p := n.probe(ctx, c, int(c.Seq))
			if ctx.Err() != nil {
				return nil
			}
			emit(p)
			arrived = arrived || p.From == c.Remote.String()
		}
		if arrived {
			return nil
		}
	}
	return nil
}

// Capture shows the frames of an interface, or of all for an empty name, that
// match an expression, until emit says false or ctx ends.
func (n *Node) Capture(ctx context.Context, iface, expr string, emit func(status.Frame) bool) error {
	var names []string
	if iface != "" && iface != "any" {
		if _, err := n.probeConfig("::", "", iface); err != nil {
			return err
		}
		names = append(names, iface)
	}
	sub, err := n.tap.Subscribe(expr, 0, 0, names...)
	if err != nil {
		return err
	}
	defer sub.Close()
	return follow(ctx, sub, emit)
}

// follow hands on what a listener takes out of its queue.
func follow(ctx context.Context, sub *capture.Sub, emit func(status.Frame) bool) error {
	var p capture.Packet
	for {
		if err := sub.Next(ctx, &p); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		f := status.Frame{Time: p.Time, Interface: p.Iface, Direction: p.Dir.String(), Length: p.Len, Data: p.Data}
		if !emit(f) {
			return nil
		}
	}
}
