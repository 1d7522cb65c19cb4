package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// cell is one kind of measurement; it yields values for one or more rows.
type cell struct {
	name    string
	worlds  string // the worlds it is for, by their initials; empty for all
	plain   bool   // with ends that send no coalesced frames
	row     string // the row to show while it runs; empty: the one named as the cell
	measure func(*bench, context.Context, *world) (map[string]float64, error)
}

// in says whether the cell is measured in w.
func (c *cell) in(w *world) bool {
	if c.worlds == "" {
		return true
	}
	for _, initial := range c.worlds {
		if rune(w.name[0]) == initial {
			return true
		}
	}
	return false
}

// cells are the measurements in their order; more adds those that -more asks for.
func cells(more bool) []cell {
	all := []cell{
		{name: "tcp-1-up", measure: tcp("tcp-1-up", 1, false)},
		{name: "tcp-1-down", measure: tcp("tcp-1-down", 1, true)},
		{name: "tcp-4-up", measure: tcp("tcp-4-up", 4, false)},
		{name: "tcp-4-down", measure: tcp("tcp-4-down", 4, true)},
		{name: "packets", measure: packets("packets", 1, flowsFew)},
		{name: "packets-2", worlds: "k", measure: packets("packets-2", 2, flowsFew)},
		{name: "connections-1", measure: connections("connections-1", 1)},
		{name: "connections-8", measure: connections("connections-8", connectThreads)},
		{name: "latency", row: "latency-50", measure: (*bench).latency},
	}
	if more {
		all = append(all,
			cell{name: "plain-tcp-1-up", plain: true, measure: tcp("plain-tcp-1-up", 1, false)},
			cell{name: "plain-tcp-4-up", plain: true, measure: tcp("plain-tcp-4-up", 4, false)},
			cell{name: "packets-many", worlds: "o", measure: packets("packets-many", 1, flowsMany)},
		)
	}
	return all
}

const (
	flowsFew  = 10_000
	flowsMany = 1_000_000
)

// tcp measures iperf3's throughput; up is from client to server. With one
// stream up it also tells what the traffic cost in CPU time.
func tcp(row string, streams int, down bool) func(*bench, context.Context, *world) (map[string]float64, error) {
	return func(b *bench, ctx context.Context, w *world) (map[string]float64, error) {
		args := []string{"iperf3", "-J", "-C", "cubic", "-c", serverAddr, "-P", strconv.Itoa(streams),
			"-t", strconv.FormatFloat(b.opts.seconds.Seconds(), 'f', -1, 64)}
		if down {
			args = append(args, "-R")
		}
		var report iperfReport
		u, err := b.during(w, func() error {
			out, err := output(w.client.command(ctx, args...))
			if err != nil {
				return fmt.Errorf("%w: %.300s", err, out)
			}
			return json.Unmarshal(out, &report)
		})
		sum := report.End.SumReceived
		if err != nil || sum.Bytes == 0 {
			return nil, fmt.Errorf("iperf3: %w: %s", err, report.Error)
		}
		values := map[string]float64{row: sum.BitsPerSecond / 1e9}
		if row == "tcp-1-up" {
			gigabytes := sum.Bytes / 1e9
			values["cpu-all"] = (u.Machine - u.Foreign) / gigabytes
			if w.dut != nil {
				values["cpu-device"] = u.Device / gigabytes
			}
		}
		return values, nil
	}
}

// iperfReport is what we need of iperf3 -J.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		SumReceived struct {
			Bytes         float64 `json:"bytes"`
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
}

// packets measures how many of the shortest frames per second arrive, while
// generators send more than that.
func packets(row string, generators, flows int) func(*bench, context.Context, *world) (map[string]float64, error) {
	return func(b *bench, ctx context.Context, w *world) (map[string]float64, error) {
		warm := warmUp
		if flows == flowsMany {
			warm = manyWarmUp // every flow has its state before counting begins
		}
		total := warm + b.opts.seconds + warmUp
		var senders []*child
		defer func() {
			for _, s := range senders {
				s.stop()
			}
		}()
		for i := range generators {
			each := flows / generators
			s, err := start("generator", endCommand(ctx, w.client, b.self, "flood", "-device", clientDevice, "-to", w.mac,
				"-source", w.source, "-dest", serverAddr, "-for", total.String(),
				"-first", strconv.Itoa(i*each), "-flows", strconv.Itoa(each)))
			if err != nil {
				return nil, err
			}
			senders = append(senders, s)
		}
		if err := pause(ctx, warm); err != nil {
			return nil, err
		}
		arrived, err := w.received()
		if err != nil {
			return nil, err
		}
		u, err := b.during(w, func() error { return pause(ctx, b.opts.seconds) })
		if err != nil {
			return nil, err
		}
		after, err := w.received()
		if err != nil {
			return nil, err
		}
		for _, s := range senders {
			if err := s.alive(); err != nil {
				return nil, err
			}
		}
		n := float64(after - arrived)
		values := map[string]float64{row: n / u.Wall / 1e3}
		if row == "packets" && n > 0 && w.dut != nil {
			values["packet-cpu"] = u.Device / n * 1e9
		}
		return values, nil
	}
}

// manyWarmUp is how long a million first packets may take.
const manyWarmUp = 8 * time.Second

// pause waits, unless everything is over.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// connections measures new connections per second, opened by so many threads.
func connections(row string, threads int) func(*bench, context.Context, *world) (map[string]float64, error) {
	return func(b *bench, ctx context.Context, w *world) (map[string]float64, error) {
		var c connected
		if err := ask(endCommand(ctx, w.client, b.self, "connect", "-to", serverAddr, "-port", strconv.Itoa(echoPort),
			"-threads", strconv.Itoa(threads), "-for", b.opts.seconds.String()), &c); err != nil {
			return nil, err
		}
		if c.Connections == 0 {
			return nil, fmt.Errorf("no connection in %.1f s, %d errors", c.Seconds, c.Errors)
		}
		if c.Errors > 0 {
			b.problem("%s, %s: %d of %d connections failed", row, w.name, c.Errors, c.Errors+c.Connections)
		}
		return map[string]float64{row: float64(c.Connections) / c.Seconds / 1e3}, nil
	}
}

// latency measures how long a byte takes there and back.
func (b *bench) latency(ctx context.Context, w *world) (map[string]float64, error) {
	var p ponged
	if err := ask(endCommand(ctx, w.client, b.self, "pingpong", "-to", serverAddr, "-port", strconv.Itoa(echoPort),
		"-for", b.opts.seconds.String()), &p); err != nil {
		return nil, err
	}
	return map[string]float64{"latency-50": p.P50Microseconds, "latency-99": p.P99Microseconds}, nil
}

// ask runs one of our generators and reads its answer.
func ask(c *exec.Cmd, answer any) error {
	out, err := output(c)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, answer)
}

// during runs f and tells the CPU time that went by.
func (b *bench) during(w *world, f func() error) (usage, error) {
	before, err := now()
	if err != nil {
		return usage{}, err
	}
	if err := f(); err != nil {
		return usage{}, err
	}
	after, err := now()
	if err != nil {
		return usage{}, err
	}
	u := after.since(before, w.pid(), os.Getpid())
	b.foreign = append(b.foreign, u.Foreign/u.Wall)
	return u, nil
}
