package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"tandem/appliance/config"
	"tandem/appliance/control"
	"tandem/appliance/lab"
	"tandem/appliance/node"
)

func (a *app) labVerb() *cobra.Command {
	opts := lab.Options{Seed: 1}
	cmd := a.reads(&cobra.Command{
		Use:   "lab [TOPOLOGY.toml]",
		Short: "A whole HA cluster with its hosts and switches in this one process: the failover tests, with verdicts",
		Long: `A whole HA cluster, its hosts and its switches in this one process; no root, and
nothing to install. It performs the failover tests that people do by hand, or
what a topology file says, prints what happens, and exits 0 only if everything
that was expected held.`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.does(func(ctx context.Context, args []string) error {
			if len(args) == 1 {
				t, err := a.loadTopology(args[0])
				if err != nil {
					return err
				}
				opts.Topology = t
			}
			return a.runLab(ctx, opts)
		}),
	})
	cmd.Flags().BoolVar(&opts.Keep, "keep", false, "leave it running afterwards, each node with a control socket, until you interrupt")
	cmd.Flags().StringVar(&opts.PCAP, "pcap", "", "capture every switch into this `FOLDER` (pcapng)")
	cmd.Flags().Uint64Var(&opts.Seed, "seed", opts.Seed, "of everything that is left to chance")
	return cmd
}

// loadTopology reads a topology file; its faults go to stderr.
func (a *app) loadTopology(name string) (*lab.Topology, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	t, problems := lab.Load(name, text, os.ReadFile)
	for _, p := range problems {
		fmt.Fprintln(a.env.Stderr, p)
	}
	if config.HasErrors(problems) {
		return nil, errUnhealthy
	}
	return t, nil
}

// runLab runs the lab: the time line goes to stdout as it happens or, beside
// JSON, to a person who waits at stderr.
func (a *app) runLab(ctx context.Context, opts lab.Options) error {
	switch {
	case !a.json:
		opts.Report = a.env.Stdout
	case a.env.Terminal(a.env.Stderr):
		opts.Report = a.env.Stderr
	}
	doors := &doors{}
	opts.Stay = func(nodes map[string]*node.Node) {
		if err := doors.open(nodes, opts.Report); err != nil {
			a.complain("the nodes cannot be asked: %v", err)
		}
	}
	result, err := lab.Run(ctx, opts)
	err = errors.Join(err, doors.close())
	if err != nil {
		return err
	}
	if a.json {
		err = a.document(result)
	} else {
		result.Summary(a.out)
	}
	if err == nil && !result.Held {
		err = errUnhealthy
	}
	return err
}

// doors are the control sockets of a lab's nodes.
type doors struct {
	folder  string
	servers []*control.Server
}

// open makes one for each node and says how to knock.
func (d *doors) open(nodes map[string]*node.Node, report io.Writer) error {
	var err error
	if d.folder, err = os.MkdirTemp("", program+"-lab-"); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		path := filepath.Join(d.folder, name)
		listener, err := control.Listen(path, "")
		if err != nil {
			return err
		}
		s := control.NewServer(control.Config{Node: nodes[name]}, slog.New(slog.DiscardHandler))
		d.servers = append(d.servers, s)
		go func() { _ = s.Serve(listener) }() // It ends when it is closed.
		if report != nil {
			fmt.Fprintf(report, "          ask %s: %s status --control %s\n", name, program, path)
		}
	}
	return nil
}

func (d *doors) close() error {
	var err error
	for _, s := range d.servers {
		err = errors.Join(err, s.Close())
	}
	if d.folder != "" {
		err = errors.Join(err, os.RemoveAll(d.folder))
	}
	return err
}
