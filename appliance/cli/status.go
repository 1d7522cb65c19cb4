package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tandem/appliance/control"
	"tandem/appliance/status"
)

// dropsShown is how many drop counters `status` shows, the largest first.
const dropsShown = 5

func (a *app) statusVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "status",
		Short: "One screen: role, what is wrong, interfaces, virtual addresses, states (exit 1: unhealthy)",
		Args:  cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			n, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if a.json {
				err = a.document(n)
			} else {
				a.printStatus(&n)
			}
			if err == nil && !n.Healthy {
				err = errUnhealthy
			}
			return err
		}),
	})
}

// roleStyle is the colour of a role or of a virtual address's state.
func roleStyle(role string) style {
	switch role {
	case status.RoleMaster, status.RoleStandalone:
		return good
	case status.RoleBackup:
		return second
	case status.RoleMixed:
		return warn
	}
	return bad // INIT, DISABLED: it cannot take over
}

func (a *app) printStatus(n *status.Node) {
	p := a.out
	health := p.paint(good, "healthy")
	if !n.Healthy {
		health = p.paint(bad, "NOT HEALTHY")
	}
	p.printf("%s  %s  %s\n", p.paint(bold, n.Hostname), p.paint(roleStyle(n.Role), n.Role), health)
	a.printAlarms(n.Alarms)
	detail := fmt.Sprintf("up %s, version %s", seconds(n.UptimeSeconds), n.Version)
	if n.HostID != 0 {
		detail += fmt.Sprintf(", host id %d", n.HostID)
	}
	p.printf("%s\n\n", p.paint(faint, detail))
	a.printInterfaces(n.Interfaces, false)
	if len(n.CARP.VIPs) > 0 {
		p.printf("\n")
		a.printVIPs(n.CARP.VIPs, false)
		a.printDemotions(&n.CARP)
	}
	s := &n.States
	p.printf("\nstates %s of %s", count(s.States), count(s.Limit))
	if s.Peer > 0 {
		p.printf(" (%s from the peer)", count(s.Peer))
	}
	p.printf(", %s made and %s ended since the start\n", count(s.Inserts), count(s.Removals))
	a.printDrops(n.Drops)
}

func (a *app) printAlarms(alarms []status.Alarm) {
	t := newTable("", "", "")
	t.ahead = "  "
	for _, al := range alarms {
		s := warn
		if al.Severity == status.SeverityError {
			s = bad
		}
		text := al.Message
		if age := a.out.now.Sub(al.Since); age >= time.Second && !al.Since.IsZero() {
			text += ", for " + duration(age)
		}
		t.row(cell{al.Severity, s}, al.Source, text)
	}
	t.bare(a.out)
}

// printDrops shows why packets were dropped, the largest counters first.
func (a *app) printDrops(drops []status.Drop) {
	drops = slices.Clone(drops)
	slices.SortFunc(drops, func(x, y status.Drop) int {
		return cmp.Or(cmp.Compare(y.Packets, x.Packets), cmp.Compare(x.Reason, y.Reason))
	})
	if len(drops) == 0 {
		a.out.printf("no packet dropped\n")
		return
	}
	words := []string{}
	for _, d := range drops[:min(len(drops), dropsShown)] {
		words = append(words, fmt.Sprintf("%s %s", count(d.Packets), d.Reason))
	}
	text := strings.Join(words, ", ")
	if more := len(drops) - dropsShown; more > 0 {
		text += fmt.Sprintf(", and %s more", plural(more, "reason"))
	}
	a.out.printf("packets dropped: %s\n", text)
}

func (a *app) interfacesVerb() *cobra.Command {
	return a.reads(&cobra.Command{
		Use:   "interfaces",
		Short: "The interfaces: link, addresses and what became of them, counters",
		Args:  cobra.NoArgs,
		RunE: a.asks(func(ctx context.Context, c *control.Client, _ []string) error {
			rows, err := c.Interfaces(ctx)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(rows)
			}
			a.printInterfaces(rows, true)
			return nil
		}),
	})
}

// printInterfaces shows interfaces; whole: with every address, those that are
// shared or made up by the node included, with packets and the hardware.
func (a *app) printInterfaces(rows []status.Interface, whole bool) {
	t := newTable("INTERFACE", "LINK", "ADDRESS", "", ">RECEIVED", ">SENT", ">DROPPED", ">ERRORS")
	if whole {
		t = newTable("INTERFACE", "LINK", "ADDRESS", "", ">RECEIVED", ">PACKETS", ">SENT", ">PACKETS", ">DROPPED", ">ERRORS", "MAC", ">MTU", "DEVICE")
	}
	var notes []string
	for i := range rows {
		r := &rows[i]
		shown := []status.Address{}
		for _, d := range r.Addresses {
			if d.State == "duplicate" {
				notes = append(notes, fmt.Sprintf("%s on %s is a duplicate: %s has it too, so it is not used here", d.Address, r.Name, d.Holder))
			}
			shared := d.State == "held" || d.State == "not held" // printVIPs has them
			if whole || !shared && (d.Kind != "link_local" || d.State == "duplicate") {
				shown = append(shown, d)
			}
		}
		if len(shown) == 0 {
			shown = append(shown, status.Address{Address: "-"})
		}
		t.row(interfaceRow(r, &shown[0], whole)...)
		for k := range shown[1:] {
			t.row("", "", shown[k+1].Address, addressNote(&shown[k+1]))
		}
	}
	t.print(a.out)
	for _, n := range notes {
		a.out.printf("%s\n", a.out.paint(bad, n))
	}
}

func interfaceRow(r *status.Interface, first *status.Address, whole bool) []any {
	link := cell{r.Link, good}
	if r.Link != "up" {
		link.style = bad
	}
	head := []any{cell{r.Name, bold}, link, first.Address, addressNote(first)}
	dropped, errs := count(r.RX.Dropped+r.TX.Dropped), count(r.RX.Errors+r.TX.Errors)
	if !whole {
		return append(head, size(r.RX.Bytes), size(r.TX.Bytes), dropped, errs)
	}
	return append(head, size(r.RX.Bytes), count(r.RX.Packets), size(r.TX.Bytes), count(r.TX.Packets), dropped, errs,
		r.MAC, r.MTU, strings.TrimSpace(r.Driver+" "+r.Device))
}

// addressNote says what is worth knowing about an address; "" where it is
// simply in use.
func addressNote(d *status.Address) cell {
	switch d.State {
	case "in use", "":
		return cell{}
	case "duplicate":
		return cell{d.State, bad}
	case "held":
		return cell{"held", good}
	}
	return cell{d.State, second}
}
