package node

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"tandem/netstack/link"
)

// spinTurns is how many empty turns a worker takes before it sleeps: a few
// save the wake-up of the next packet, many take the CPU from the ends.
const spinTurns = 20

// leaveMax bounds the farewell: flushing, bow-out, draining.
const leaveMax = 1500 * time.Millisecond

// pokes is how one part asks that another be run soon.
type pokes struct {
	wake    func() // the one scheduler's; nil under Run
	rolesCh chan struct{}
	mu      sync.Mutex
	poller  *link.Poller // of the first worker; nil before Run
}

func newPokes(env Env) *pokes { return &pokes{wake: env.Wake, rolesCh: make(chan struct{}, 1)} }

// roles asks for a step of the roles.
func (p *pokes) roles() {
	if p.wake != nil {
		p.wake()
		return
	}
	select {
	case p.rolesCh <- struct{}{}:
	default:
	}
}

// data asks for a step of the first worker.
func (p *pokes) data() {
	if p.wake != nil {
		p.wake()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.poller != nil {
		p.poller.Wake()
	}
}

func (p *pokes) setPoller(l *link.Poller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.poller = l
}

func (p *pokes) close() { p.setPoller(nil) }

// Run drives the node until ctx ends, then says farewell, waits until nothing
// arrives any more, and returns. It returns early only if a loop cannot start.
func (n *Node) Run(ctx context.Context) error {
	loops, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	var pollers []*link.Poller
	for i := range n.env.Workers {
		poller, err := link.NewPoller()
		if err != nil {
			return fmt.Errorf("worker %d: %w", i, err)
		}
		pollers = append(pollers, poller)
		defer poller.Close()
	}
	n.pokes.setPoller(pollers[0])
	defer n.pokes.close()
	for i, poller := range pollers {
		wg.Go(func() { n.workerLoop(loops, i, poller) })
	}
	wg.Go(func() { n.rolesLoop(loops) })

	<-ctx.Done()
	n.Leave(n.env.Clock.Now())
	for deadline := n.env.Clock.Now().Add(leaveMax); !n.Left() && n.env.Clock.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	for _, p := range pollers {
		p.Wake()
	}
	wg.Wait()
	return nil
}

// workerLoop is one worker of the data path, locked to its thread.
func (n *Node) workerLoop(ctx context.Context, i int, poller *link.Poller) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w := n.router.Worker(i)
	var fds []int
	empty := 0
	for ctx.Err() == nil {
		if w.Step(n.env.Clock.Now()) {
			empty = 0
			continue
		}
		if empty++; empty < spinTurns {
			continue
		}
		empty = 0
		fds = n.router.Descriptors(i, fds[:0])
		poller.Set(fds)
		wait := idleMax
		if i == 0 {
			wait = n.sleep()
		}
		if err := poller.Wait(wait); err != nil {
			n.event(n.env.Clock.Now(), "error", "node", fmt.Sprintf("worker %d: poll: %v", i, err), nil)
			time.Sleep(idleMax) // not in a busy loop, whatever is wrong
		}
	}
}

// sleep is how long the first worker may sleep; it alone keeps timers.
func (n *Node) sleep() time.Duration {
	d := n.router.Deadline()
	if d.IsZero() {
		return idleMax
	}
	return min(idleMax, max(0, d.Sub(n.env.Clock.Now())))
}

// rolesLoop drives roles and links, on a thread of its own so that load on the
// others delays it least.
func (n *Node) rolesLoop(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var looked time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.pokes.rolesCh:
		case <-timer.C:
		}
		now := n.env.Clock.Now()
		if now.Sub(looked) >= linkEvery {
			looked = now
			n.lookAtLinks(now)
			n.sumUp(now)
		}
		n.ha.Step(now)
		wait := linkEvery
		if d := n.ha.Deadline(); !d.IsZero() {
			wait = min(wait, max(0, d.Sub(n.env.Clock.Now())))
		}
		timer.Reset(wait)
	}
}
