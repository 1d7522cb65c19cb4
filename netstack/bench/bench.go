package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// options are the flags of a run.
type options struct {
	appliance string
	rounds    int
	seconds   time.Duration
	more      bool
	json      bool
	only      *regexp.Regexp // cells; nil for all
	nice      int            // of the run's tasks; 0: as they are
}

// bench is one run.
type bench struct {
	opts     options
	self     string
	progress io.Writer
	worlds   []*world
	samples  samples
	foreign  []float64 // processors that strangers used, by measurement
	problems []string
}

// samples are the values by row and world, one for each round.
type samples map[string]map[string][]float64

func (s samples) add(row, world string, v float64) {
	if s[row] == nil {
		s[row] = map[string][]float64{}
	}
	s[row][world] = append(s[row][world], v)
}

// needs are the programs we call, and the Debian packages they are in.
func needs() [][2]string {
	return [][2]string{{"ip", "iproute2"}, {"nsenter", "util-linux"}, {"nft", "nftables"}, {"iperf3", "iperf3"}, {"ethtool", "ethtool"}, {"gcc", "gcc"}}
}

// missing names what is not there of what a run needs.
func missing(appliance string) error {
	var errs []error
	if _, err := os.Stat(appliance); err != nil {
		errs = append(errs, fmt.Errorf("the node's program: %w; `make build` makes it", err))
	}
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("root is needed: network namespaces and TAP devices are made"))
	}
	for _, n := range needs() {
		if _, err := exec.LookPath(n[0]); err != nil {
			errs = append(errs, fmt.Errorf("%s is not there; package %s has it", n[0], n[1]))
		}
	}
	return errors.Join(errs...)
}

// run measures everything and gives the machine back as it was. What could
// not be measured is among the problems; the error is for a run that ended early.
func (b *bench) run(ctx context.Context) (err error) {
	if err := missing(b.opts.appliance); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "tandem-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := removeAbandoned(); err != nil {
		return err
	}
	spaces := &namespaces{}
	defer func() { err = errors.Join(err, spaces.remove()) }()
	defer b.closeWorlds()
	if b.opts.nice != 0 {
		p, err := raisePriority(b.opts.nice)
		if err != nil {
			b.problem("priority not raised: %v", err)
		}
		defer p.restore()
	}
	states := 1_000_000
	if b.opts.more {
		states += flowsMany // beside those that other cells left behind
	}
	b.build(ctx, &builder{spaces: spaces, folder: folder, self: b.self, appliance: b.opts.appliance, states: states})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return b.measure(ctx)
}

func (b *bench) closeWorlds() {
	for _, w := range b.worlds {
		w.close()
	}
}

// build makes the worlds. One that cannot be made is left out.
func (b *bench) build(ctx context.Context, from *builder) {
	for _, make := range []func(context.Context) (*world, error){from.kernel, from.ours, from.copier} {
		w, err := make(ctx)
		if err != nil {
			b.problem("%s: left out: %v", w.name, err)
			w.close()
			continue
		}
		fmt.Fprintf(b.progress, "%s is ready\n", w.name)
		b.worlds = append(b.worlds, w)
	}
}

func (b *bench) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(b.progress, text)
	b.problems = append(b.problems, text)
}

// measure goes through the rounds. The worlds take turns cell by cell, so that
// they see the same weather, and the first turn goes round too.
func (b *bench) measure(ctx context.Context) error {
	for _, plain := range []bool{false, true} {
		chosen := slices.DeleteFunc(cells(b.opts.more), func(c cell) bool {
			return c.plain != plain || b.opts.only != nil && !b.opts.only.MatchString(c.name)
		})
		if plain && len(chosen) > 0 {
			if err := b.plainEnds(ctx); err != nil {
				return err
			}
		}
		for round := range b.opts.rounds {
			for _, c := range chosen {
				b.turn(ctx, round, &c)
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
		}
	}
	return nil
}

// turn measures one cell in every world.
func (b *bench) turn(ctx context.Context, round int, c *cell) {
	var line strings.Builder
	for i := range b.worlds {
		w := b.worlds[(round+i)%len(b.worlds)]
		if !c.in(w) || ctx.Err() != nil {
			continue
		}
		values, err := c.measure(b, ctx, w)
		if err != nil && ctx.Err() == nil {
			b.problem("round %d, %s, %s: %v", round+1, c.name, w.name, err)
		}
		for row, v := range values {
			b.samples.add(row, w.name, v)
		}
		if v, ok := values[cmp.Or(c.row, c.name)]; ok {
			fmt.Fprintf(&line, "  %s %s", w.name, number(v))
		}
	}
	fmt.Fprintf(b.progress, "round %d/%d  %s%s\n", round+1, b.opts.rounds, c.name, line.String())
}

// plainEnds takes the offloads from client and server: their stacks then cut
// and join every segment themselves, as hosts behind a plain network card do.
func (b *bench) plainEnds(ctx context.Context) error {
	for _, w := range b.worlds {
		for _, end := range []struct {
			space  netns
			device string
		}{{w.client, clientDevice}, {w.server, serverDevice}} {
			if err := runCommand(end.space.command(ctx, "ethtool", "-K", end.device, "tso", "off", "gso", "off", "gro", "off")); err != nil {
				return err
			}
		}
	}
	return nil
}
