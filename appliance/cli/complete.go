package cli

import (
	"time"

	"github.com/spf13/cobra"

	"context"

	"tandem/appliance/control"
)

// completionPatience is how long a person who pressed Tab waits for a node.
const completionPatience = 500 * time.Millisecond

// completeInterfaces offers the names of the running node's interfaces.
func (a *app) completeInterfaces(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	c := control.NewClient(a.controlSocket())
	defer c.Close()
	rows, err := c.Interfaces(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp // Nothing to offer, and no place to say why.
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
