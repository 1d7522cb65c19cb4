package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"tandem/appliance/control"
	"tandem/appliance/status"
)

func (a *app) reloadVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "reload", Short: "Make the node read its configuration again; on any fault it goes on as it was", Args: cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			out, err := c.Reload(ctx)
			switch {
			case err != nil:
				return err
			case a.json:
				err = a.document(out)
			default:
				a.printReload(&out)
			}
			if err == nil && !out.Applied {
				err = errUnhealthy
			}
			return err
		}),
	})
}

// printReload says what changed; problems are faults, also those that are only
// warnings, and go to stderr.
func (a *app) printReload(out *status.Reload) {
	for _, p := range out.Problems {
		fmt.Fprintln(a.env.Stderr, p)
	}
	switch {
	case !out.Applied:
		a.complain("nothing is changed: the node goes on with the configuration it has")
	case len(out.Changed) == 0:
		a.out.printf("nothing differs\n")
	default:
		a.out.printf("applied:\n")
		for _, c := range out.Changed {
			a.out.printf("  %s\n", c)
		}
	}
}
