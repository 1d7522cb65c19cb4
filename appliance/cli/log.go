package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tandem/appliance/config"
	"tandem/appliance/control"
	"tandem/appliance/status"
)

// followBack is how far back `log -f` begins.
const followBack = time.Minute

// logFlags are what `log` is asked for.
type logFlags struct {
	follow, firewall bool
	since            string
}

func (a *app) logVerb() *cobra.Command {
	var f logFlags
	cmd := a.reads(&cobra.Command{
		Use: "log [FILTER]", Short: "What happened, or with --firewall what the filter did; -f follows",
		Long: `What happened on the node, or with --firewall what the filter logged.

FILTER is words that must all be found in a line. With -f the log is followed
until you interrupt; --json then prints one document a line.`,
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			since, err := a.sinceTime(f.since)
			if err != nil {
				return err
			}
			if f.follow && since.IsZero() {
				since = a.env.Now().Add(-followBack)
			}
			wanted := words(args)
			if f.firewall {
				get := pick(f.follow, c.FollowPackets, c.Packets)
				return showLog(a, f.follow, wanted, a.packetLine, func(each func(*status.Packet) error) error { return get(ctx, since, each) })
			}
			get := pick(f.follow, c.FollowEvents, c.Events)
			return showLog(a, f.follow, wanted, a.eventLine, func(each func(*status.Event) error) error { return get(ctx, since, each) })
		}),
	})
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with what comes, from a minute ago or --since")
	cmd.Flags().BoolVar(&f.firewall, "firewall", false, "the firewall's log")
	cmd.Flags().StringVar(&f.since, "since", "", "from how long ago (1h, 2d) or from when (15:04, 2006-01-02, RFC 3339) `TIME`")
	return cmd
}

// source is a method of the client that calls back for each line.
type source[T any] func(context.Context, time.Time, func(*T) error) error

func pick[T any](follow bool, following, listing source[T]) source[T] {
	if follow {
		return following
	}
	return listing
}

// showLog prints the lines that hold all the wanted words.
func showLog[T any](a *app, follow bool, wanted []string, text func(*T) string, get func(func(*T) error) error) error {
	var rows *array
	if a.json && !follow {
		rows = a.array()
	}
	err := get(func(v *T) error {
		line := text(v)
		if !holdsAll(a.stripped(line), wanted) {
			return nil
		}
		switch {
		case rows != nil:
			return rows.add(v)
		case a.json:
			return a.line(v)
		}
		a.out.printf("%s\n", line)
		if follow {
			return a.out.flush()
		}
		return nil
	})
	if err == nil && rows != nil {
		rows.end()
	}
	return err
}

// words are the arguments as single words in lower case.
func words(args []string) []string { return strings.Fields(strings.ToLower(strings.Join(args, " "))) }

func holdsAll(line string, wanted []string) bool {
	line = strings.ToLower(line)
	return !slices.ContainsFunc(wanted, func(w string) bool { return !strings.Contains(line, w) })
}

// stripped is a line without colours.
func (a *app) stripped(line string) string {
	if !a.out.colour {
		return line
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(line, "\x1b[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, line, _ = strings.Cut(rest, "m")
	}
}

// sinceTime reads --since; zero if it was not given.
func (a *app) sinceTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	now := a.env.Now()
	var d config.Duration
	if err := d.UnmarshalText([]byte(text)); err == nil {
		return now.Add(-d.Duration), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		t, err := time.ParseInLocation(layout, text, now.Location())
		if err != nil {
			continue
		}
		t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
		if t.After(now) {
			t = t.AddDate(0, 0, -1)
		}
		return t, nil
	}
	return time.Time{}, usage("--since %q is no time; give one such as 1h, 2d, 15:04 or 2006-01-02", text)
}

// eventLine is a line of the node's log.
func (a *app) eventLine(e *status.Event) string {
	return fmt.Sprintf("%s  %s %-9s  %s", a.out.clock(e.Time), a.out.paint(levelStyle(e.Level), fmt.Sprintf("%-5s", e.Level)), e.Source, e.Message)
}

func levelStyle(level string) style {
	switch level {
	case "error":
		return bad
	case "warn", "warning":
		return warn
	case "debug":
		return faint
	}
	return plain
}

// packetLine is a line of the firewall log.
func (a *app) packetLine(k *status.Packet) string {
	when := a.out.clock(k.Time)
	if k.Verdict == "summary" {
		return fmt.Sprintf("%s  %s more within a second that are not listed: %s", when, count(k.Length), k.Reason)
	}
	verdict := a.out.paint(actionStyle(k.Verdict), fmt.Sprintf("%-6s", k.Verdict))
	line := fmt.Sprintf("%s  %s %-3s %s  %s %s > %s", when, verdict, k.Direction, k.Interface, k.Protocol, k.Source, k.Destination)
	if k.TCPFlags != "" {
		line += " flags " + k.TCPFlags
	}
	return line + fmt.Sprintf(", length %d, rule %s, %s", k.Length, k.Rule, k.Reason)
}
