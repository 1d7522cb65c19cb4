// Package main is the program of `make bench`. It measures the node beside
// two others in one run, on one machine, between the same kind of ends:
//
//   - kernel: Linux's own forwarding over veth pairs, with a masquerade and a
//     stateful filter of nftables;
//   - ours: the node (`appliance run`) on two TAP devices, with outbound
//     translation and the same filter;
//   - copier: a C program that carries frames between two TAP devices and
//     looks at none of them, which is the most a user-space path can reach.
//
// Each has a client and a server namespace of its own, with the kernel's
// TCP/IP at both ends. The three take turns cell by cell, in rounds, and what
// counts is the ratio of medians: absolute numbers belong to the machine. The
// program prints the design's targets beside the ratios and judges nothing.
//
// It needs root, and leaves nothing behind: namespaces carry its process
// number, are removed at its end, after an interrupt too, and those of a run
// that was killed by the next one.
//
// Called with the name of an end (flood, echo, connect, pingpong) it is a
// load generator or server; the benchmark starts itself so in its namespaces.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

func main() {
	// Children are tied to the thread that starts them; this one lasts.
	runtime.LockOSThread()
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// end is a load generator or a server.
type end interface {
	flags(*flag.FlagSet)
	run() (any, error) // what it has found out, to be printed as JSON
}

func dispatch(args []string) error {
	ends := map[string]end{"flood": &flood{}, "echo": &echo{}, "connect": &connect{}, "pingpong": &pingpong{}}
	if len(args) > 0 && ends[args[0]] != nil {
		return runEnd(args[0], ends[args[0]], args[1:])
	}
	return runBench(args)
}

func runEnd(name string, e end, args []string) error {
	s := flag.NewFlagSet(name, flag.ExitOnError)
	e.flags(s)
	if err := s.Parse(args); err != nil {
		return err
	}
	found, err := e.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// parse reads the flags of a run.
func parse(args []string) (options, error) {
	var o options
	s := flag.NewFlagSet("bench", flag.ExitOnError)
	s.StringVar(&o.appliance, "appliance", "bin/appliance", "the node's program")
	s.IntVar(&o.rounds, "rounds", 3, "rounds through all cells")
	seconds := s.Float64("seconds", 2, "seconds of each measurement")
	s.BoolVar(&o.more, "more", false, "also: ends without segmentation offload, a million flows")
	s.BoolVar(&o.json, "json", false, "print the results as one JSON document")
	s.IntVar(&o.nice, "nice", -11, "priority of the run's tasks; 0 leaves it as it is")
	only := s.String("cells", "", "regular expression: only the cells it matches")
	if err := s.Parse(args); err != nil {
		return o, err
	}
	if s.NArg() > 0 || o.rounds < 1 || *seconds < 0.2 || *seconds > 60 {
		return o, errors.New("at least one round of 0.2 to 60 seconds, and no arguments beside the flags")
	}
	o.seconds = time.Duration(*seconds * float64(time.Second))
	if *only != "" {
		re, err := regexp.Compile(*only)
		if err != nil {
			return o, fmt.Errorf("cells: %w", err)
		}
		o.only = re
	}
	return o, nil
}

func runBench(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.appliance, err = filepath.Abs(o.appliance); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	b := &bench{opts: o, self: self, progress: os.Stderr, samples: samples{}}
	if err := b.run(ctx); err != nil {
		return err
	}
	r := b.report()
	if o.json {
		return r.writeJSON(os.Stdout)
	}
	return r.writeText(os.Stdout)
}
