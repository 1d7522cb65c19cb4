package router

import (
	"time"

	"tandem/netstack/capture"
	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/state"
)

const (
	batchMax   = 64   // frames read at once from one queue
	sparesMax  = 128  // frames of our own (errors, resets, fragments) of a worker
	sparesPool = 8    // ... of a sender that is no worker
	spareBytes = 2048 // enough for any frame of our own on links up to this MTU
)

// touchEvery is how often the neighbour table is told which hops are in use.
const touchEvery = int64(time.Second)

// Worker walks packets. Worker i owns queue i of every device; the first one
// also sends what the node's own stack has queued and keeps the timers.
type Worker struct {
	r      *Router
	index  int
	snap   *snapshot
	policy *pf.Policy // in force when the step began
	tapped bool       // somebody looks at frames
	now    time.Time
	mono   int64

	frames []*link.Frame
	views  []packet.View
	out    []outQueue // by interface number

	// the part of a batch that the state table is asked about at once
	askFrame []*link.Frame
	askView  []*packet.View
	askPort  []*port
	askIface []uint16
	hits     []state.Hit
	inserted bool // a state was made since the batch was matched
	tally    tally

	spares    []*link.Frame // used in turn
	spareNext int
	sparesOut int // taken since the last flush

	large     *link.Frame // for datagrams that are put together
	wholeView packet.View
	whole     *link.Frame   // the frame in hand that was put together; nil: none
	joined    norm.Datagram // of what it was
	cut       []byte

	decision pf.Decision
	hit      state.Hit
	inner    packet.View
	acts     []neigh.Action
	punt     Punt
	ifaces   []uint16
	touched  int64 // when the neighbour table was told last
}

// outQueue is what leaves by an interface until the batch ends: its counters,
// and the frames, which those of a VLAN child are among its trunk's.
type outQueue struct {
	port           *port
	frames         []*link.Frame
	packets, bytes uint64
}

// tally is the packets of one rule's states that have not been added to the
// rule's counters yet: those of a batch mostly follow few rules.
type tally struct {
	rule           uint32
	packets, bytes uint64
}

// count notes a packet that follows a state of a rule of the policy.
func (t *tally) count(policy *pf.Policy, rule uint32, v *packet.View) {
	if rule != t.rule {
		t.settle(policy)
		t.rule = rule
	}
	packets, bytes := pf.Weight(v)
	t.packets += packets
	t.bytes += bytes
}

// settle adds what was noted to the rule's counters.
func (t *tally) settle(policy *pf.Policy) {
	if t.packets != 0 {
		policy.Count(t.rule, t.packets, t.bytes)
		t.packets, t.bytes = 0, 0
	}
}

func newWorker(r *Router, index, batch int) *Worker {
	n := max(batch, 1)
	w := &Worker{
		r: r, index: index, frames: newFrames(batch), views: make([]packet.View, n),
		hits: make([]state.Hit, n), ifaces: make([]uint16, n),
		askFrame: make([]*link.Frame, 0, n), askView: make([]*packet.View, 0, n),
		askPort: make([]*port, 0, n), askIface: make([]uint16, 0, n),
	}
	spares := sparesMax
	if batch == 0 {
		spares = sparesPool
	}
	for range spares {
		w.spares = append(w.spares, link.NewFrame(spareBytes))
	}
	return w
}

// newFrames makes n frames in one piece of memory, each beginning at another
// place within its page: headers of a batch that all lay at the same one would
// share a few sets of the processor's cache.
func newFrames(n int) []*link.Frame {
	const page, shift = 4096, 3 * 64
	const stride = (link.BufferBytes+page-1)/page*page + shift
	memory := make([]byte, n*stride)
	frames := make([]*link.Frame, n)
	for i := range frames {
		b := memory[i*stride:]
		frames[i] = &link.Frame{Buf: b[:link.BufferBytes:link.BufferBytes], Off: link.HeadRoom}
	}
	return frames
}

// begin prepares w for work at a moment.
func (w *Worker) begin(now time.Time) {
	w.now, w.mono, w.snap = now, w.r.Mono(now), w.r.snap.Load()
	w.policy = w.r.env.Filter.Policy()
	w.tapped = w.r.env.Tap.Active()
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
	var bytes uint64
	for i, f := range w.frames[:n] {
		bytes += uint64(f.Len)
		if w.tapped {
			w.r.env.Tap.Offer(w.now, p.Name, capture.In, f.Bytes())
		}
		v := &w.views[i]
		at, ok := w.accept(p, f, v)
		switch {
		case !ok:
		case v.Fragment:
			w.act() // what came before it goes before it
			w.reassemble(at, v)
		default:
			w.askFrame = append(w.askFrame, f)
			w.askView = append(w.askView, v)
			w.askPort = append(w.askPort, at)
			w.askIface = append(w.askIface, at.Index)
		}
	}
	p.stats.rxPackets.Add(uint64(n))
	p.stats.rxBytes.Add(bytes)
	w.act()
}

// act matches the packets that were decoded and walks them.
func (w *Worker) act() {
	if len(w.askView) == 0 {
		return
	}
	hits := w.hits[:len(w.askView)]
	w.r.env.Filter.States().MatchBatch(w.mono, w.askIface, w.askView, hits)
	w.inserted = false
	for k, f := range w.askFrame {
		w.walk(w.askPort[k], f, w.askView[k], &hits[k])
	}
	w.tally.settle(w.policy)
	w.askFrame, w.askView, w.askPort, w.askIface = w.askFrame[:0], w.askView[:0], w.askPort[:0], w.askIface[:0]
}

// housekeep does what time asks for; the first worker calls it each step.
func (w *Worker) housekeep() {
	r := w.r
	for _, e := range r.env.Filter.Sweep(w.mono) {
		w.expired(&e)
	}
	if deadline := r.env.Neigh.Deadline(); !deadline.IsZero() && !w.now.Before(deadline) {
		if w.mono-w.touched >= touchEvery {
			w.touched = w.mono
			w.snap.hops.touch()
		}
		w.acts = r.env.Neigh.Tick(w.now, w.acts[:0])
		w.neighActions()
	}
	w.report()
	w.flush()
}

// Deadline is when the first worker next wants a step without a frame; zero: never.
func (r *Router) Deadline() time.Time {
	next := r.env.Neigh.Deadline()
	if g := r.groups.deadline.Load(); g != never {
		if at := r.epoch.Add(time.Duration(g)); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// emit queues a frame for the device of p. The frame must stay until flush.
func (w *Worker) emit(p *port, f *link.Frame) {
	q := w.count(p, f)
	if p.trunk != nil {
		link.PushTag(f, p.TPID, p.VLAN)
		q = w.count(p.trunk, f)
	}
	q.frames = append(q.frames, f)
}

// count notes that f leaves by p.
func (w *Worker) count(p *port, f *link.Frame) *outQueue {
	if w.tapped {
		w.r.env.Tap.Offer(w.now, p.Name, capture.Out, f.Bytes())
	}
	q := &w.out[p.Index]
	q.port = p
	q.packets++
	q.bytes += uint64(f.Len)
	return q
}

// flush writes all that is queued and says how many frames the devices did not
// take: those are lost, as on any wire.
func (w *Worker) flush() (lost int) {
	for i := range w.out {
		q := &w.out[i]
		if q.packets == 0 {
			continue
		}
		q.port.stats.txPackets.Add(q.packets)
		q.port.stats.txBytes.Add(q.bytes)
		q.packets, q.bytes = 0, 0
		if len(q.frames) == 0 {
			continue
		}
		queue := 0
		if w.index > 0 && w.index < q.port.info.Queues {
			queue = w.index
		}
		n, _ := q.port.Device.Queue(queue).Write(q.frames)
		if n < len(q.frames) {
			q.port.stats.txErrors.Add(uint64(len(q.frames) - n))
			lost += len(q.frames) - n
		}
		q.frames = q.frames[:0]
	}
	w.sparesOut = 0
	return lost
}

// spare returns an empty frame of our own. They are used in turn, and when
// half of them are queued those are sent: so the buffer that a caller has in
// hand when that happens is not used again before it, too, was sent.
func (w *Worker) spare() *link.Frame {
	if w.sparesOut >= len(w.spares)/2 {
		w.flush()
	}
	f := w.spares[w.spareNext]
	w.spareNext = (w.spareNext + 1) % len(w.spares)
	w.sparesOut++
	f.Off, f.Len, f.Offload = link.HeadRoom, 0, link.Offload{}
	return f
}
