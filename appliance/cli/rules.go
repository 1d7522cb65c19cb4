package cli

import (
	"context"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"tandem/appliance/control"
	"tandem/appliance/status"
)

func (a *app) rulesVerb() *cobra.Command {
	rules := &cobra.Command{Use: "rules", Short: "The filter rules: list"}
	automatic := false
	list := a.reads(&cobra.Command{
		Use: "list", Short: "The rules in the order in which they are judged, with counters", Args: cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			rows, err := c.Rules(ctx, automatic)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(rows)
			}
			a.printRules(rows)
			return nil
		}),
	})
	list.Flags().BoolVar(&automatic, "all", false, "also the automatic rules")
	rules.AddCommand(list)
	return rules
}

func (a *app) printRules(rows []status.Rule) {
	t := newTable(">#", "", "ACTION", "INTERFACE", "", "FAMILY", "PROTO", "SOURCE", "DESTINATION", "MORE", ">EVALUATED", ">PACKETS", ">BYTES", ">STATES", "DESCRIPTION")
	for i := range rows {
		r := &rows[i]
		mark, family := "", r.Family
		if r.Automatic {
			mark = "auto"
		}
		if family == "any" {
			family = ""
		}
		t.row(r.Number, cell{mark, faint}, cell{r.Action, actionStyle(r.Action)}, r.Interface, r.Direction, family, r.Protocol,
			withPort(r.Source, r.SourcePort), withPort(r.Destination, r.DestinationPort), ruleExtras(r),
			count(r.Evaluations), count(r.Packets), size(r.Bytes), count(r.States), r.Description)
	}
	t.print(a.out)
}

func actionStyle(action string) style {
	switch action {
	case "pass":
		return good
	case "block", "reject":
		return bad
	}
	return plain
}

// ruleExtras are the less common things that a rule says.
func ruleExtras(r *status.Rule) string {
	words := append([]string{}, r.Extra...)
	if r.Log {
		words = append(words, "log")
	}
	if r.State != "" && r.State != "keep" {
		words = append(words, "state "+r.State)
	}
	if !r.Quick {
		words = append(words, "not quick")
	}
	return strings.Join(words, ", ")
}

// withPort joins an address and a port, either of which may be any.
func withPort(addr, port string) string {
	if port == "" || port == "any" {
		return addr
	}
	return addr + " port " + port
}

func (a *app) natVerb() *cobra.Command {
	nat := &cobra.Command{Use: "nat", Short: "The address translations: list"}
	text := false
	list := a.reads(&cobra.Command{
		Use: "list", Short: "The translations in the order in which they are judged", Args: cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			if text {
				s, err := c.NATText(ctx)
				a.out.printf("%s", s)
				return err
			}
			rows, err := c.NAT(ctx)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(rows)
			}
			a.printNAT(rows)
			return nil
		}),
	})
	list.Flags().BoolVar(&text, "toml", false, "the automatic outbound rules as text for the configuration")
	list.MarkFlagsMutuallyExclusive("toml", "json")
	nat.AddCommand(list)
	return nat
}

func (a *app) printNAT(rows []status.Translation) {
	t := newTable(">#", "", "KIND", "INTERFACE", "PROTO", "SOURCE", "DESTINATION", "TRANSLATION", "", ">USED", "DESCRIPTION")
	for i := range rows {
		r := &rows[i]
		mark, static := "", ""
		if r.Automatic {
			mark = "auto"
		}
		if r.StaticPort {
			static = "static port"
		}
		t.row(r.Number, cell{mark, faint}, r.Kind, r.Interface, r.Protocol, withPort(r.Source, r.SourcePort),
			withPort(r.Destination, r.DestinationPort), r.Translation, static, count(r.Used), r.Description)
	}
	t.print(a.out)
}

func (a *app) arpVerb() *cobra.Command {
	arp := a.reads(&cobra.Command{
		Use: "arp", Short: "The neighbours of both families (ARP and ND); arp delete ADDRESS", Args: cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			rows, err := c.ARP(ctx)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(rows)
			}
			t := newTable("ADDRESS", "MAC", "INTERFACE", "STATE", ">AGE", ">EXPIRES")
			for _, r := range rows {
				t.row(r.Address, r.MAC, r.Interface, r.State, seconds(r.AgeSeconds), seconds(r.ExpiresSeconds))
			}
			t.print(a.out)
			return nil
		}),
	})
	arp.AddCommand(&cobra.Command{
		Use: "delete ADDRESS", Short: "Forget a neighbour; it is asked for again when it is needed", Args: cobra.ExactArgs(1),
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			addr, err := netip.ParseAddr(args[0])
			if err != nil {
				return usage("%q is no address", args[0])
			}
			if err := c.DeleteARP(ctx, addr); err != nil {
				return err
			}
			a.out.printf("%v is forgotten\n", addr)
			return nil
		}),
	})
	return arp
}

func (a *app) routesVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "routes", Short: "The routing table", Args: cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			rows, err := c.Routes(ctx)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(rows)
			}
			t := newTable("DESTINATION", "KIND", "GATEWAY", "INTERFACE")
			for _, r := range rows {
				t.row(r.Destination, r.Kind, r.Gateway, r.Interface)
			}
			t.print(a.out)
			return nil
		}),
	})
}
