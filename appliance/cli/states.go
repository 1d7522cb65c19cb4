package cli

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tandem/appliance/control"
	"tandem/appliance/status"
)

// blockRows is how many states are aligned together; a long list begins to
// appear before it has come to its end.
const blockRows = 500

// topStates is how many rows `states top` shows by default.
const topStates = 10

const filterHelp = `FILTER is words that must all be found in a state: a protocol, an interface, an
address, a network, a port (":443"), ADDRESS:PORT, a TCP state, local or peer.`

func (a *app) statesVerb() *cobra.Command {
	states := &cobra.Command{Use: "states", Short: "The state table: list, count, top, kill", Long: "The state table.\n\n" + filterHelp}
	states.AddCommand(a.statesListVerb(), a.statesCountVerb(), a.statesTopVerb(), a.statesKillVerb())
	return states
}

func (a *app) statesListVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "list [FILTER]", Short: "The states, one line each", Long: "The states, one line each.\n\n" + filterHelp,
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			filter := strings.Join(args, " ")
			if a.json {
				out := a.array()
				err := c.States(ctx, filter, func(s *status.State) error { return out.add(s) })
				if err == nil {
					out.end()
				}
				return err
			}
			t, blocks := stateTable(), 0
			err := c.States(ctx, filter, func(s *status.State) error {
				addState(t, s)
				if len(t.rows) == blockRows {
					t.print(a.out)
					t.rows, blocks = nil, blocks+1
				}
				return nil
			})
			if err == nil && (len(t.rows) > 0 || blocks == 0) {
				t.print(a.out)
			}
			return err
		}),
	})
}

func stateTable() *table {
	return newTable("PROTO", "INTERFACE", "", "SOURCE", "DESTINATION", "BECOMES", "STATE", ">AGE", ">EXPIRES", ">PACKETS", ">BYTES", "RULE", "")
}

func addState(t *table, s *status.State) {
	becomes := ""
	switch src, dst := s.TranslatedSource != s.Source, s.TranslatedDestination != s.Destination; {
	case src && dst:
		becomes = s.TranslatedSource + " to " + s.TranslatedDestination
	case src:
		becomes = "from " + s.TranslatedSource
	case dst:
		becomes = "to " + s.TranslatedDestination
	}
	origin := cell{}
	if s.Origin == "peer" {
		origin = cell{"from the peer", second}
	}
	t.row(s.Protocol, s.Interface, s.Direction, s.Source, s.Destination, becomes, s.State,
		seconds(s.AgeSeconds), seconds(s.ExpiresSeconds), count(s.Packets), size(s.Bytes), s.Rule, origin)
}

func (a *app) statesCountVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use: "count", Short: "How many states there are, and the table's counters", Args: cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			s, err := c.StateCount(ctx)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(s)
			}
			t := newTable(">", "")
			t.row(count(s.States), "states of "+count(s.Limit)+" at most")
			t.row(count(s.Local), "made by this node")
			t.row(count(s.Peer), "from the peer")
			t.row(count(s.Inserts), "inserts")
			t.row(count(s.Removals), "removals")
			t.row(count(s.Searches), "searches")
			for _, d := range s.Drops {
				t.row(count(d.Packets), "packets dropped: "+d.Reason)
			}
			t.bare(a.out)
			return nil
		}),
	})
}

// topSource is one source of `states top --json`.
type topSource struct {
	Source  string `json:"source"`
	States  int    `json:"states"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// top is `states top --json`.
type top struct {
	Sources []*topSource   `json:"sources"`
	States  []status.State `json:"states"`
}

func (a *app) statesTopVerb() *cobra.Command {
	rows := topStates
	cmd := a.reads(&cobra.Command{
		Use: "top [FILTER]", Short: "Who has the most states, and which states carried the most", Long: "Who has the most states, and which states carried the most.\n\n" + filterHelp,
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			if rows < 1 {
				return usage("--rows must be 1 or more")
			}
			out, err := gatherTop(ctx, c, strings.Join(args, " "), rows)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(out)
			}
			t := newTable("SOURCE", ">STATES", ">PACKETS", ">BYTES")
			for _, s := range out.Sources {
				t.row(s.Source, count(s.States), count(s.Packets), size(s.Bytes))
			}
			t.print(a.out)
			a.out.printf("\n")
			st := stateTable()
			for i := range out.States {
				addState(st, &out.States[i])
			}
			st.print(a.out)
			return nil
		}),
	})
	cmd.Flags().IntVarP(&rows, "rows", "n", topStates, "how many rows of each")
	return cmd
}

// gatherTop goes through all states once; it keeps one counter for each source
// and rows states.
func gatherTop(ctx context.Context, c *control.Client, filter string, rows int) (*top, error) {
	sources := map[string]*topSource{}
	out := &top{Sources: []*topSource{}, States: []status.State{}}
	most := func(x, y status.State) int { return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(x.ID, y.ID)) }
	err := c.States(ctx, filter, func(s *status.State) error {
		who := sourceAddress(s.Source)
		sum := sources[who]
		if sum == nil {
			sum = &topSource{Source: who}
			sources[who] = sum
		}
		sum.States++
		sum.Packets += s.Packets
		sum.Bytes += s.Bytes
		if at, _ := slices.BinarySearchFunc(out.States, *s, most); at < rows {
			out.States = slices.Insert(out.States, at, *s)
			out.States = out.States[:min(len(out.States), rows)]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		out.Sources = append(out.Sources, s)
	}
	slices.SortFunc(out.Sources, func(x, y *topSource) int {
		return cmp.Or(cmp.Compare(y.States, x.States), cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(x.Source, y.Source))
	})
	out.Sources = out.Sources[:min(len(out.Sources), rows)]
	return out, nil
}

// sourceAddress is an endpoint without its port.
func sourceAddress(endpoint string) string {
	if ap, err := netip.ParseAddrPort(endpoint); err == nil {
		return ap.Addr().String()
	}
	return endpoint
}

func (a *app) statesKillVerb() *cobra.Command {
	everything := false
	cmd := &cobra.Command{
		Use: "kill FILTER", Short: "End the states that match, without a word to either end", Long: "End the states that match, without a word to either end.\n\n" + filterHelp,
		RunE: a.asks(func(ctx context.Context, c *control.Client, args []string) error {
			filter := strings.TrimSpace(strings.Join(args, " "))
			if (filter == "") != everything {
				return usage("give a FILTER, or --all to end every state")
			}
			n, err := c.KillStates(ctx, filter)
			if err == nil {
				a.out.printf("%s killed\n", plural(n, "state"))
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&everything, "all", false, "every state")
	return cmd
}
