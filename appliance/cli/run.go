package cli

import (
	"context"
	crypto "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tandem/appliance/config"
	"tandem/appliance/control"
	"tandem/appliance/node"
	"tandem/appliance/plan"
)

// cloneDevice is opened again when a TAP or TUN device was gone.
const cloneDevice = "/dev/net/tun"

func (a *app) runVerb() *cobra.Command {
	lastGood := false
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a node in the foreground; SIGHUP or `reload` reads the file again, SIGTERM hands over and leaves",
		Long: `Run a node in the foreground.

SIGHUP or "appliance reload" reads the file again; on any fault the node goes on
as it was. SIGTERM or an interrupt hands the addresses over and ends it.

It needs root, or CAP_NET_ADMIN and CAP_NET_RAW; after the start it keeps no
other capability, and sees only the folders of its configuration, its state and
its control socket.`,
		Args: cobra.NoArgs,
		RunE: a.does(func(ctx context.Context, _ []string) error {
			if lastGood {
				return usage("--last-good is not built yet: no revision is kept that could be started")
			}
			return a.run(ctx)
		}),
	}
	cmd.Flags().BoolVar(&lastGood, "last-good", false, "start the last committed revision if the file is faulty (not built yet)")
	return cmd
}

// run reads the file, makes the node of it and stays until ctx ends.
func (a *app) run(ctx context.Context) error {
	name, err := a.configFile()
	if err != nil {
		return err
	}
	l, err := load(name)
	if err != nil {
		return err
	}
	if l.plan == nil {
		for _, p := range l.problems {
			fmt.Fprintln(a.env.Stderr, p)
		}
		a.complain("%s is faulty: nothing is started", name)
		return errUnhealthy
	}
	r := &runner{name: name, running: l}
	r.log = a.logger(&r.level)
	r.setLevel(l.doc)
	for _, p := range l.problems {
		r.log.Warn(p.String(), "source", "config")
	}
	// Whoever reads the log may go away; the node must not go with it.
	signal.Ignore(syscall.SIGPIPE)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	return a.start(ctx, r, hangup)
}

// start takes what a node needs for itself alone, in the order in which another
// node would be noticed before anything of it is touched.
func (a *app) start(ctx context.Context, r *runner, hangup <-chan os.Signal) error {
	doc := r.running.doc
	store, err := node.OpenDirStore(beside(r.name, doc.System.StateDir))
	if err != nil {
		return err
	}
	listener, err := control.Listen(controlPath(r.name, doc), doc.System.ControlGroup)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	random, err := newRandom()
	if err != nil {
		return errors.Join(err, listener.Close(), store.Close())
	}
	r.node, err = node.New(r.running.plan, node.Env{
		Clock: node.RealClock(), Rand: random, Open: node.OpenDevice, Store: store,
		Version: thisVersion().Version, Built: thisVersion().built, Workers: workers(r.running.plan),
	})
	if err != nil {
		return errors.Join(err, listener.Close(), store.Close())
	}
	r.node.SetSink(sinkTo(r.log))
	err = a.confine(r)
	if err == nil {
		err = r.serve(ctx, listener, hangup)
	} else {
		err = errors.Join(err, listener.Close())
	}
	r.node.Close()
	return errors.Join(err, store.Close())
}

// workers is one for each queue of the device that has most: a queue that
// nobody reads would swallow packets.
func workers(p *plan.Plan) int {
	n := 1
	for _, i := range p.Interfaces {
		n = max(n, i.Link.Queues)
	}
	return n
}

// newRandom returns a generator for several goroutines, seeded by the system.
func newRandom() (func() uint64, error) {
	var seed [32]byte
	if _, err := crypto.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	var mu sync.Mutex
	source := rand.NewChaCha8(seed)
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return source.Uint64()
	}, nil
}

// confine gives up what the running node does not need.
func (a *app) confine(r *runner) error {
	if a.env.Confine == nil {
		return nil
	}
	doc := r.running.doc
	state := beside(r.name, doc.System.StateDir)
	c := node.Confinement{
		Read:    foldersOf(r.running.files),
		Write:   append(socketFolders(doc), state, filepath.Dir(controlPath(r.name, doc))),
		Devices: []string{cloneDevice},
	}
	_, _ = time.Now().Zone() // It is read once, from a file out of reach later.
	notes, err := a.env.Confine(c)
	for _, n := range notes {
		r.log.Warn(n, "source", "node")
	}
	// Root without its capabilities may do only what the owner of a file lets
	// it: better to hear that now than at the next change.
	if unix.Faccessat(unix.AT_FDCWD, state, unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		r.log.Warn("the state folder cannot be written any more, since it belongs to somebody else: maintenance mode cannot be kept", "source", "node", "folder", state)
	}
	for _, f := range r.running.files {
		if unix.Faccessat(unix.AT_FDCWD, f, unix.R_OK, unix.AT_EACCESS) != nil {
			r.log.Warn("a file cannot be read any more, since it belongs to somebody else: reload will not work", "source", "node", "file", f)
		}
	}
	return err
}

// foldersOf are the folders of files, and of what they are links to.
func foldersOf(files []string) []string {
	var out []string
	add := func(file string) {
		if dir := filepath.Dir(file); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	for _, f := range files {
		add(f)
		if real, err := filepath.EvalSymlinks(f); err == nil {
			add(real)
		}
	}
	return out
}

// socketFolders are the folders of the sockets that links are made of.
func socketFolders(doc *config.Document) []string {
	var out []string
	for _, i := range doc.Interfaces {
		for _, path := range []string{i.Link.Listen, i.Link.Connect} {
			if filepath.IsAbs(path) {
				out = append(out, filepath.Dir(path))
			}
		}
	}
	return out
}

// serve answers on the control socket, and reads the file again when hangup
// says so, while the node runs, which it does until ctx ends.
func (r *runner) serve(ctx context.Context, listener net.Listener, hangup <-chan os.Signal) error {
	server := control.NewServer(control.Config{Node: r.node, Reload: r.reload, Note: func(who control.Peer, what string) {
		r.node.Note("control", what, who.String())
	}}, r.log)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	left, reloads := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reloads)
		for {
			select {
			case <-hangup:
				r.reload(ctx)
			case <-left:
				return
			}
		}
	}()
	err := r.node.Run(ctx)
	close(left)
	<-reloads
	return errors.Join(err, server.Close(), <-served)
}
