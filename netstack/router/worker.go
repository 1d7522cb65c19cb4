package router

import (
	"tandem/netstack/capture"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/state"
)

const (
	batchMax   = 64   // frames read at once from one queue
	spareMax   = 64   // frames of our own (errors, resets, fragments) between two flushes
	spareBytes = 2048 // enough for any frame of our own on links up to this MTU
	sweepMax   = 256  // states looked at by each step
)

// Worker walks packets. Worker i owns queue i of every device; the first one
// also sends what the node's own stack has queued and keeps the timers.
type Worker struct {
	r     *Router
	index int
	snap  *snapshot
	now   time.Time
	mono  int64

	frames []*link.Frame
	views  []packet.View
	ports  []*port
	out    []outQueue // by interface number of the device written to

	// the part of a batch that the state table is asked about at once
	askFrame []int
	askView  []*packet.View
	askIface []uint16
	hits     []state.Hit
	inserted bool // a state was made since the batch was matched

	spares    []*link.Frame
	sparesOut int
	large     *link.Frame // for datagrams that were put together
	wholeView packet.View
	joined    norm.Datagram // of what is in large
	cut       []byte
	decision  pf.Decision
	hit       state.Hit
	inner     packet.View
	acts      []neigh.Action
	limit     bucket // ICMP errors and resets
	ifaces    []uint16
}

// outQueue collects the frames that leave by one device until the batch ends.
type outQueue struct {
	port   *port
	frames []*link.Frame
}

func newWorker(r *Router, index, batch int) *Worker {
	w := &Worker{r: r, index: index, limit: newBucket()}
	for range batch {
		w.frames = append(w.frames, link.NewFrame(link.FrameBytesMax))
	}
	n := max(batch, 1)
	w.views, w.ports, w.ifaces = make([]packet.View, n), make([]*port, n), make([]uint16, n)
	w.hits = make([]state.Hit, n)
	for range spareMax {
		w.spares = append(w.spares, link.NewFrame(spareBytes))
	}
	return w
}

// begin prepares w for work at a moment.
func (w *Worker) begin(now time.Time) {
	w.now, w.mono, w.snap = now, w.r.Mono(now), w.r.snap.Load()
	if len(w.out) < len(w.snap.ports) {
		w.out = append(w.out, make([]outQueue, len(w.snap.ports)-len(w.out))...)
	}
}

// Step reads one batch from each of the worker's queues, walks it and writes
// what leaves. It says whether there was anything to do.
func (w *Worker) Step(now time.Time) bool {
	w.begin(now)
	if w.index == 0 {
		w.r.alive.Store(w.mono)
	}
	worked := false
	for _, p := range w.snap.ports {
		if p == nil || p.Device == nil || w.index >= max(1, p.info.Queues) {
			continue
		}
		n, err := p.Device.Queue(w.index).Read(w.frames)
		if err != nil {
			p.stats.readErrors.Add(1)
		}
		if n > 0 {
			worked = true
			w.batch(p, n)
			w.flush()
		}
	}
	if w.index == 0 {
		worked = w.fromHost() || worked
		w.housekeep()
	}
	return worked
}

// batch walks n frames that came in by p, in stages: decode all, ask the
// state table about all, then act in order.
func (w *Worker) batch(p *port, n int) {
	w.askFrame, w.askView, w.askIface = w.askFrame[:0], w.askView[:0], w.askIface[:0]
	var bytes uint64
	for i := range n {
		f := w.frames[i]
		bytes += uint64(f.Len)
		if w.r.env.Tap != nil {
			w.r.env.Tap.Offer(w.now, p.Name, capture.In, f.Bytes())
		}
		at, ok := w.accept(p, f, &w.views[i])
		if !ok {
			continue
		}
		w.ports[i] = at
		w.askFrame = append(w.askFrame, i)
		w.askView = append(w.askView, &w.views[i])
		w.askIface = append(w.askIface, at.Index)
	}
	p.stats.rxPackets.Add(uint64(n))
	p.stats.rxBytes.Add(bytes)
	if len(w.askView) == 0 {
		return
	}
	hits := w.hits[:len(w.askView)]
	w.r.env.Filter.States().MatchBatch(w.mono, w.askIface, w.askView, hits)
	w.inserted = false
	for k, i := range w.askFrame {
		w.walk(w.ports[i], w.frames[i], &w.views[i], &hits[k])
	}
}

// housekeep does what time asks for; the first worker calls it each step.
func (w *Worker) housekeep() {
	r := w.r
	r.env.Filter.Sweep(w.mono, sweepMax)
	if deadline := r.env.Neigh.Deadline(); !deadline.IsZero() && !w.now.Before(deadline) {
		r.hops.inUse(func(k hopKey) { r.env.Neigh.Lookup(k.iface, k.addr) })
		w.acts = r.env.Neigh.Tick(w.now, w.acts[:0])
		w.neighActions()
	}
	w.flush()
}

// Deadline is when the first worker next wants a step without a frame; zero: never.
func (r *Router) Deadline() time.Time { return r.env.Neigh.Deadline() }

// emit queues a frame for the device of p. The frame must stay until flush.
func (w *Worker) emit(p *port, f *link.Frame) {
	if w.r.env.Tap != nil {
		w.r.env.Tap.Offer(w.now, p.Name, capture.Out, f.Bytes())
	}
	p.stats.txPackets.Add(1)
	p.stats.txBytes.Add(uint64(f.Len))
	to := p
	if p.trunk != nil {
		link.PushTag(f, p.TPID, p.VLAN)
		to = p.trunk
	}
	q := &w.out[to.Index]
	q.port = to
	q.frames = append(q.frames, f)
}

// flush writes all that is queued. What a device does not take is lost, as on any wire.
func (w *Worker) flush() {
	for i := range w.out {
		q := &w.out[i]
		if len(q.frames) == 0 {
			continue
		}
		queue := 0
		if w.index > 0 && w.index < q.port.info.Queues {
			queue = w.index
		}
		n, _ := q.port.Device.Queue(queue).Write(q.frames)
		if lost := len(q.frames) - n; lost > 0 {
			q.port.stats.txErrors.Add(uint64(lost))
		}
		q.frames = q.frames[:0]
	}
	w.sparesOut = 0
}

// spare returns an empty frame of our own. When all are queued they are sent first.
func (w *Worker) spare() *link.Frame {
	if w.sparesOut == len(w.spares) {
		w.flush()
	}
	f := w.spares[w.sparesOut]
	w.sparesOut++
	f.Off, f.Len, f.Offload = link.HeadRoom, 0, link.Offload{}
	return f
}

// bucket limits what hostile packets can make the node send: 200 a second,
// bursts of 50.
type bucket struct {
	tokens float64
	last   int64
}

const (
	errorsPerSecond = 200
	errorsBurst     = 50
)

func newBucket() bucket { return bucket{tokens: errorsBurst} }

// take says whether one more may be sent at mono nanoseconds.
func (b *bucket) take(mono int64) bool {
	if mono > b.last {
		b.tokens = min(errorsBurst, b.tokens+float64(mono-b.last)*errorsPerSecond/1e9)
		b.last = mono
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
