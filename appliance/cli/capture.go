package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tandem/appliance/control"
	"tandem/appliance/status"
	"tandem/netstack/capture"
)

// errEnough ends a capture that has all it wanted.
var errEnough = errors.New("enough")

// captureFlags are what `capture` is asked for.
type captureFlags struct {
	file  string
	count int
}

func (a *app) captureVerb() *cobra.Command {
	var f captureFlags
	cmd := a.reads(&cobra.Command{
		Use:   "capture INTERFACE [EXPRESSION]",
		Short: "Show the frames that pass an interface, or write them to a file",
		Long: `Show the frames that pass an interface ("any": all of them) until you interrupt,
or write them to a pcapng file; - is stdout, for a reader behind a pipe.

EXPRESSION is as tcpdump takes it (pcap-filter(7)), with "in", "out" and "carp".`,
		Example: `  appliance capture wan proto carp
  appliance capture lan -w lan.pcapng -n 1000 host 192.168.1.50 and tcp port 443`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeInterfaces,
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			if f.count < 0 || f.file != "" && a.json {
				return usage("-n must not be negative, and --json does not go with -w")
			}
			return a.runCapture(ctx, c, args[0], strings.Join(args[1:], " "), &f)
		}),
	})
	cmd.Flags().StringVarP(&f.file, "write", "w", "", "write to `FILE` (pcapng)")
	cmd.Flags().IntVarP(&f.count, "count", "n", 0, "stop after `COUNT` frames (0: never)")
	return cmd
}

// frames is where captured frames go.
type frames struct {
	show  func(*status.Frame) error
	close func() error
}

func (a *app) runCapture(ctx context.Context, c *control.Client, iface, expr string, f *captureFlags) error {
	to, err := a.framesTo(f.file)
	if err != nil {
		return err
	}
	seen := 0
	err = c.Capture(ctx, iface, expr, func(fr *status.Frame) error {
		if err := to.show(fr); err != nil {
			return err
		}
		if seen++; seen == f.count {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if e := to.close(); err == nil {
		err = e
	}
	if err == nil && !a.json {
		fmt.Fprintf(a.env.Stderr, "%s\n", plural(seen, "frame"))
	}
	return err
}

// framesTo chooses between lines of text, JSON and a file.
func (a *app) framesTo(file string) (*frames, error) {
	nothing := func() error { return nil }
	switch {
	case a.json:
		return &frames{func(fr *status.Frame) error { return a.line(fr) }, nothing}, nil
	case file == "":
		var text []byte
		return &frames{func(fr *status.Frame) error {
			p := packetOf(fr)
			p.Time = p.Time.In(a.out.now.Location())
			text = append(capture.AppendText(text[:0], &p), '\n')
			if _, err := a.out.Write(text); err != nil {
				return err
			}
			return a.out.flush()
		}, nothing}, nil
	case file == "-":
		return framesToWriter(a.env.Stdout, true, nothing)
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // It may hold anybody's secrets.
	if err != nil {
		return nil, err
	}
	return framesToWriter(out, false, out.Close)
}

// framesToWriter writes pcapng; live: each frame at once.
func framesToWriter(out io.Writer, live bool, done func() error) (*frames, error) {
	w, err := capture.NewWriter(out)
	if err != nil {
		return nil, errors.Join(err, done())
	}
	return &frames{
		show: func(fr *status.Frame) error {
			p := packetOf(fr)
			if err := w.Write(&p); err != nil || !live {
				return err
			}
			return w.Flush()
		},
		close: func() error { return errors.Join(w.Flush(), done()) },
	}, nil
}

// packetOf turns what a node sends into what the capture package shows.
func packetOf(fr *status.Frame) capture.Packet {
	p := capture.Packet{Time: fr.Time, Iface: fr.Interface, Dir: capture.In, Len: fr.Length, Data: fr.Data}
	if fr.Direction == capture.Out.String() {
		p.Dir = capture.Out
	}
	return p
}
