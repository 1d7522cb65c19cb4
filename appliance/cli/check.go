package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"tandem/appliance/config"
)

func (a *app) checkVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "check",
		Short: "Validate the configuration: one line for each fault, with file and line",
		Args:  cobra.NoArgs,
		RunE: a.does(func(context.Context, []string) error {
			name, err := a.configFile()
			if err != nil {
				return err
			}
			l, err := load(name)
			if err != nil {
				return err
			}
			return a.printCheck(l)
		}),
	})
}

// problem is one element of `check --json`.
type problem struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Severity string `json:"severity"`
	Key      string `json:"key"`
	Text     string `json:"text"`
}

func (a *app) printCheck(l *loaded) error {
	faulty := config.HasErrors(l.problems)
	if a.json {
		out := []problem{}
		for _, p := range l.problems {
			out = append(out, problem{p.File, p.Line, p.Severity.String(), p.Key, p.Text})
		}
		if err := a.document(out); err != nil {
			return err
		}
	} else {
		for _, p := range l.problems {
			a.out.printf("%v\n", p)
		}
		if !faulty {
			a.out.printf("%s: ok, %s\n", l.name, summary(l))
		}
	}
	if faulty {
		return errUnhealthy
	}
	return nil
}

// summary says what a good file holds.
func summary(l *loaded) string {
	automatic := 0
	for _, r := range l.plan.RuleRows {
		if r.Automatic {
			automatic++
		}
	}
	text := fmt.Sprintf("%s (and %d automatic), %s, %s, %s", plural(len(l.plan.RuleRows)-automatic, "rule"), automatic,
		plural(len(l.plan.NATRows), "translation"), plural(len(l.plan.Interfaces), "interface"),
		plural(len(l.plan.VIPs), "VIP"))
	if n := len(l.doc.Asserts); n > 0 {
		text += ", " + plural(n, "assertion") + " held"
	}
	return text
}
