package cli

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"tandem/appliance/control"
	"tandem/appliance/status"
)

const carpLong = `The addresses that the nodes of an HA cluster share.

CARP is the protocol by which the nodes agree who holds each address; sharing
states and configuration are other parts of an HA cluster.`

func (a *app) carpVerb() *cobra.Command {
	carp := &cobra.Command{Use: "carp", Short: "The virtual addresses of the HA cluster: status, enable, disable, maintenance, ...", Long: carpLong}
	carp.AddCommand(a.carpStatusVerb(), a.carpScanVerb(), a.maintenanceVerb(),
		a.carpChange("enable", "Take part again: this node may hold virtual addresses", "CARP is enabled.",
			func(ctx context.Context, c *control.Client) error { return c.SetEnabled(ctx, true) }),
		a.carpChange("disable", "Give up all virtual addresses until `carp enable` or the next start", "CARP is disabled until `appliance carp enable` or the next start.",
			func(ctx context.Context, c *control.Client) error { return c.SetEnabled(ctx, false) }),
		a.carpChange("reset-demotion", "Forget demotions whose cause is over; maintenance and dead links stay", "Demotions whose cause is over are forgotten.",
			func(ctx context.Context, c *control.Client) error { return c.ResetDemotion(ctx) }),
	)
	return carp
}

// carpChange is a verb that changes something and says so.
func (a *app) carpChange(use, short, said string, do func(context.Context, *control.Client) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			if err := do(ctx, c); err != nil {
				return err
			}
			a.out.printf("%s\n", said)
			return nil
		}),
	}
}

func (a *app) maintenanceVerb() *cobra.Command {
	return &cobra.Command{
		Use: "maintenance on|off", Short: "Maintenance mode: the peer takes over and keeps the addresses, also over a restart",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"on", "off"},
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			on := args[0] == "on"
			if err := c.SetMaintenance(ctx, on); err != nil {
				return err
			}
			if on {
				a.out.printf("Maintenance mode is on until `appliance carp maintenance off`, also over a restart.\n")
			} else {
				a.out.printf("Maintenance mode is off.\n")
			}
			return nil
		}),
	}
}

func (a *app) carpStatusVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "status", Short: "Each virtual address and its state, demotions with cause, counters (exit 1: demoted, disabled or INIT)",
		Args: cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			if a.json {
				s, err := c.CARP(ctx)
				if err == nil {
					err = a.document(s)
				}
				return unhealthy(err, &s)
			}
			n, err := c.Status(ctx) // It also says which node answers.
			if err == nil {
				a.printCARP(&n)
			}
			return unhealthy(err, &n.CARP)
		}),
	})
}

// unhealthy makes an error of what keeps the node from holding addresses.
func unhealthy(err error, s *status.CARP) error {
	sick := !s.Enabled || s.Demotion > 0
	for _, v := range s.VIPs {
		sick = sick || v.State == status.RoleInit
	}
	if err == nil && sick && len(s.VIPs) > 0 {
		return errUnhealthy
	}
	return err
}

func (a *app) printCARP(n *status.Node) {
	p, s := a.out, &n.CARP
	if len(s.VIPs) == 0 {
		p.printf("%s  %s: no virtual address is shared\n", p.paint(bold, n.Hostname), n.Role)
		return
	}
	p.printf("%s  %s\n", p.paint(bold, n.Hostname), p.paint(roleStyle(n.Role), n.Role))
	if !s.Enabled {
		p.printf("%s CARP is switched off on this node: it holds no virtual address. `appliance carp enable` switches it on.\n", p.paint(bad, "DISABLED:"))
	}
	if s.Maintenance {
		p.printf("%s the peer keeps the addresses until `appliance carp maintenance off`.\n", p.paint(warn, "MAINTENANCE MODE:"))
	}
	if s.Demotion > 0 {
		p.printf("%s this node is demoted by %d: it is not master while another node can be.\n", p.paint(bad, "ERROR:"), s.Demotion)
	}
	a.printDemotions(s)
	p.printf("\n")
	a.printVIPs(s.VIPs, true)
	a.printCounters(s.Counters)
	if others := foreign(s.Heard); len(others) > 0 {
		p.printf("\nOthers with CARP or VRRP on these segments (`appliance carp scan` proposes free vhids):\n")
		a.printSpeakers(others)
	}
}

// printDemotions shows the demotion, what caused it and what ends it.
func (a *app) printDemotions(s *status.CARP) {
	p := a.out
	if s.Demotion == 0 && len(s.Demotions) == 0 {
		p.printf("demotion 0\n")
		return
	}
	p.printf("demotion %s\n", p.paint(bad, fmt.Sprint(s.Demotion)))
	t := newTable(">", "", "", "")
	t.ahead = "  "
	for _, d := range s.Demotions {
		t.row(fmt.Sprintf("%+d", d.Amount), d.Name, "for "+p.ago(d.Since), "clears when "+d.ClearsWhen)
	}
	t.bare(p)
}

// printVIPs shows the virtual addresses; whole: with all that `carp status`
// knows of them. Those that are INIT are explained.
func (a *app) printVIPs(vips []status.VIP, whole bool) {
	p := a.out
	t := newTable("VIRTUAL ADDRESS", "INTERFACE", ">VHID", "STATE", ">FOR", "MASTER", "REASON")
	if whole {
		t = newTable("VIRTUAL ADDRESS", "INTERFACE", ">VHID", "STATE", ">FOR", "MASTER", "REASON", ">ADVBASE", ">ADVSKEW", ">CHANGES", "DESCRIPTION")
	}
	var notes []string
	for i := range vips {
		v := &vips[i]
		address, skew, master := v.Address, fmt.Sprint(v.AdvSkew), v.MasterSource
		if v.Type == "ip_alias" {
			address += " (alias)"
		}
		if v.EffectiveSkew != v.AdvSkew {
			skew = fmt.Sprintf("%d, now %d", v.AdvSkew, v.EffectiveSkew)
		}
		if v.State == status.RoleMaster {
			master = "this node"
		}
		row := []any{address, v.Interface, v.VHID, cell{v.State, roleStyle(v.State)}, p.ago(v.LastTransition), master, v.Reason}
		if whole {
			row = append(row, v.AdvBase, skew, v.Transitions, v.Description)
		}
		t.row(row...)
		if v.State == status.RoleInit && v.Type != "ip_alias" {
			notes = append(notes, fmt.Sprintf("vhid %d on %s is INIT: %s", v.VHID, v.Interface, initCause(v)))
		}
	}
	t.print(p)
	for _, n := range notes {
		p.printf("%s\n", p.paint(bad, n))
	}
}

// initCause says in words why a virtual address takes no part.
func initCause(v *status.VIP) string {
	switch {
	case strings.Contains(v.Reason, "interface down"):
		return v.Interface + " has no link; connect it, or delete its VIP if it is not used, since it demotes all others"
	case strings.Contains(v.Reason, "no address"):
		return v.Interface + " has no address that the vhid can speak from"
	case v.Reason == "":
		return "the node has just started"
	}
	return v.Reason
}

// printCounters shows what happened to advertisements, as far as it did.
func (a *app) printCounters(counters map[string]uint64) {
	var names []string
	for name, n := range counters {
		if n > 0 {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %s", name, count(counters[name]))
	}
	if len(names) > 0 {
		a.out.printf("\ncounters: %s\n", strings.Join(names, ", "))
	}
}

// foreign keeps the speakers that do not belong to this cluster.
func foreign(heard []status.Speaker) []status.Speaker {
	var out []status.Speaker
	for _, h := range heard {
		if !h.Ours {
			out = append(out, h)
		}
	}
	return out
}

func (a *app) printSpeakers(speakers []status.Speaker) {
	t := newTable("INTERFACE", "PROTOCOL", ">VHID", "SOURCE", ">ADVBASE", ">ADVSKEW", ">LAST HEARD", "")
	for _, s := range speakers {
		whose := cell{"somebody else's", warn}
		if s.Ours {
			whose = cell{"our cluster's", good}
		}
		t.row(s.Interface, s.Protocol, s.VHID, s.Source, s.Base, s.Skew, a.out.ago(s.LastHeard)+" ago", whose)
	}
	t.print(a.out)
}

func (a *app) carpScanVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "scan [INTERFACE]", Short: "Who speaks CARP or VRRP on the segments, and a vhid that nobody uses",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeInterfaces,
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			s, err := c.Scan(ctx, strings.Join(args, ""))
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(s)
			}
			if len(s.Speakers) == 0 {
				a.out.printf("Nobody else was heard with CARP or VRRP.\n")
			} else {
				a.printSpeakers(s.Speakers)
			}
			a.out.printf("\n")
			t := newTable("INTERFACE", ">FREE VHID", "WHY")
			for _, f := range s.Free {
				t.row(f.Interface, f.VHID, f.Why)
			}
			t.print(a.out)
			return nil
		}),
	})
}
