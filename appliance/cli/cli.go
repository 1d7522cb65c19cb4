package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tandem/appliance/control"
	"tandem/appliance/node"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitNoNode = 3
)

// program is what the binary is called in texts.
const program = "appliance"

// Env is what the command line finds around it.
type Env struct {
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	// Now is the time, in the zone in which times are shown.
	Now func() time.Time
	// Terminal says whether a person reads what is written there.
	Terminal func(io.Writer) bool
	// Confine gives up the rights of the process that a running node does not
	// need. Nil: it keeps them, as a test must.
	Confine func(node.Confinement) ([]string, error)
}

// Main runs the command line of this process and returns its exit status.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	return Run(ctx, os.Args[1:], Env{
		Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now, Terminal: isTerminal,
		Confine: node.Confine,
	})
}

// isTerminal asks the kernel.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// app is one command line being carried out.
type app struct {
	env     Env
	out     *printer
	json    bool   // --json
	file    string // -c
	socket  string // --control
	running bool   // the arguments were right
}

// Errors that say how to exit.
var (
	errUnhealthy = errors.New("unhealthy") // everything was said already
	errUsage     = errors.New("usage")
)

// usage is an error about the command line itself.
func usage(format string, args ...any) error {
	return fmt.Errorf("%w%w", fmt.Errorf(format, args...), hidden{errUsage})
}

// hidden is an error that is there to be found, not to be read.
type hidden struct{ error }

func (hidden) Error() string   { return "" }
func (h hidden) Unwrap() error { return h.error }

// Run carries out one command line and returns the exit status. It ends early
// when ctx does: what streams stops, `run` hands over and leaves.
func Run(ctx context.Context, args []string, env Env) int {
	a := &app{env: env, out: newPrinter(env.Stdout, env.coloured(env.Stdout), env.Now())}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if e := a.out.flush(); err == nil && e != nil {
		err = fmt.Errorf("write the answer: %w", e)
	}
	return a.exit(cmd, err)
}

// exit says what went wrong and chooses the exit status.
func (a *app) exit(cmd *cobra.Command, err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errUnhealthy):
		return exitFailed
	case !a.running || errors.Is(err, errUsage):
		a.complain("%v; see `%s --help`", err, cmd.CommandPath())
		return exitUsage
	case errors.Is(err, control.ErrNoNode):
		a.complain("%v", err)
		return exitNoNode
	case errors.Is(err, context.Canceled):
		return exitFailed // The person who interrupted knows.
	}
	a.complain("%v", err)
	return exitFailed
}

// complain writes one line for people to stderr.
func (a *app) complain(format string, args ...any) {
	fmt.Fprintf(a.env.Stderr, program+": "+format+"\n", args...)
}

// coloured says whether what goes to w may have colours.
func (e *Env) coloured(w io.Writer) bool {
	return e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb" && e.Terminal(w)
}

// root is the tree of all verbs.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   program,
		Short: "A firewall and router that two machines can share: one HA cluster, one binary.",
		Long: `A firewall and router that two machines can share: one HA cluster, one binary.

Exit status: 0 done, 1 failed or unhealthy, 2 wrong command line, 3 no node answers.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.file, "config", "c", "", "configuration `FILE` (default ./appliance.toml, else /etc/appliance.toml)")
	f.StringVar(&a.socket, "control", "", "control `SOCKET` of the node to ask (default $APPLIANCE_CONTROL, then the configuration's)")
	root.AddCommand(
		a.runVerb(), a.checkVerb(), a.labVerb(),
		a.statusVerb(), a.carpVerb(), a.statesVerb(), a.rulesVerb(), a.natVerb(),
		a.arpVerb(), a.routesVerb(), a.interfacesVerb(),
		a.reloadVerb(), a.logVerb(), a.captureVerb(), a.pingVerb(), a.tracerouteVerb(), a.versionVerb(),
	)
	a.refuseBare(root)
	return root
}

// refuseBare makes a verb that only holds others a fault when it stands alone
// or before a word that is none of them, where cobra would print help and be
// content.
func (a *app) refuseBare(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		a.refuseBare(c)
	}
	if cmd.Runnable() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			text := fmt.Sprintf("%q is no verb of `%s`", args[0], cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				text += fmt.Sprintf("; did you mean %q", near[0])
			}
			return usage("%s", text)
		}
		cmd.SetOut(a.env.Stderr)
		if err := cmd.Help(); err != nil {
			return err
		}
		return usage("a verb is missing")
	}
}

// does wraps what a verb does, so that everything that fails before it is
// known to be a fault of the command line.
func (a *app) does(do func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.running = true
		return do(cmd.Context(), args)
	}
}

// asks is does for verbs that talk to a node.
func (a *app) asks(do func(ctx context.Context, c *control.Client, args []string) error) func(*cobra.Command, []string) error {
	return a.does(func(ctx context.Context, args []string) error {
		c := control.NewClient(a.controlSocket())
		defer c.Close()
		return do(ctx, c, args)
	})
}

// reads gives a verb the flag --json.
func (a *app) reads(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// document prints v as JSON.
func (a *app) document(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// line prints v as one line of JSON, at once.
func (a *app) line(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return a.out.flush()
}

// array prints a JSON array row by row.
type array struct {
	a   *app
	sep string
}

func (a *app) array() *array { return &array{a, "["} }

func (l *array) add(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.a.out.printf("%s\n  %s", l.sep, text)
	l.sep = ","
	return nil
}

func (l *array) end() {
	if l.sep == "[" {
		l.a.out.printf("[")
	}
	l.a.out.printf("\n]\n")
}
