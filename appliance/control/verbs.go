package control

import (
	"context"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"tandem/appliance/status"
)

// The questions, one method each. Errors are the node's words, [ErrNoNode], or
// the context's.

// Status is the node on one screen.
func (c *Client) Status(ctx context.Context) (status.Node, error) {
	return ask[status.Node](ctx, c, request{path: "status"})
}

// CARP is the state of the virtual addresses.
func (c *Client) CARP(ctx context.Context) (status.CARP, error) {
	return ask[status.CARP](ctx, c, request{path: "carp"})
}

// Scan lists who speaks CARP or VRRP on an interface; "" is all of them.
func (c *Client) Scan(ctx context.Context, iface string) (status.Scan, error) {
	return ask[status.Scan](ctx, c, request{path: "carp/scan", query: url.Values{"interface": {iface}}})
}

// States calls each with every state that matches a filter.
func (c *Client) States(ctx context.Context, filter string, each func(*status.State) error) error {
	return list(ctx, c, request{path: "states", query: url.Values{"filter": {filter}}}, each)
}

// StateCount sums the state table up.
func (c *Client) StateCount(ctx context.Context) (status.StateCount, error) {
	return ask[status.StateCount](ctx, c, request{path: "states/count"})
}

// Rules lists the rules; withAutomatic: also those nobody wrote.
func (c *Client) Rules(ctx context.Context, withAutomatic bool) ([]status.Rule, error) {
	return all[status.Rule](ctx, c, request{path: "rules", query: url.Values{"all": {strconv.FormatBool(withAutomatic)}}})
}

// NAT lists the translations.
func (c *Client) NAT(ctx context.Context) ([]status.Translation, error) {
	return all[status.Translation](ctx, c, request{path: "nat"})
}

// NATText is the automatic outbound rules as text for the file.
func (c *Client) NATText(ctx context.Context) (string, error) {
	a, err := ask[natAnswer](ctx, c, request{path: "nat/toml"})
	return a.TOML, err
}

// ARP lists the neighbours of both families.
func (c *Client) ARP(ctx context.Context) ([]status.Neighbour, error) {
	return all[status.Neighbour](ctx, c, request{path: "arp"})
}

// Routes lists the routing table.
func (c *Client) Routes(ctx context.Context) ([]status.Route, error) {
	return all[status.Route](ctx, c, request{path: "routes"})
}

// Interfaces lists the interfaces.
func (c *Client) Interfaces(ctx context.Context) ([]status.Interface, error) {
	return all[status.Interface](ctx, c, request{path: "interfaces"})
}

// Events calls each with the lines of the node's log from since on.
func (c *Client) Events(ctx context.Context, since time.Time, each func(*status.Event) error) error {
	return list(ctx, c, request{path: "log", query: logQuery(since, false, false)}, each)
}

// FollowEvents is Events, and goes on with the lines that come until ctx ends.
func (c *Client) FollowEvents(ctx context.Context, since time.Time, each func(*status.Event) error) error {
	return follow(ctx, c, request{path: "log", query: logQuery(since, false, true)}, each)
}

// Packets calls each with the lines of the firewall log from since on.
func (c *Client) Packets(ctx context.Context, since time.Time, each func(*status.Packet) error) error {
	return list(ctx, c, request{path: "log", query: logQuery(since, true, false)}, each)
}

// FollowPackets is Packets, and goes on with the lines that come until ctx ends.
func (c *Client) FollowPackets(ctx context.Context, since time.Time, each func(*status.Packet) error) error {
	return follow(ctx, c, request{path: "log", query: logQuery(since, true, true)}, each)
}

func logQuery(since time.Time, firewall, follow bool) url.Values {
	q := url.Values{"firewall": {strconv.FormatBool(firewall)}, "follow": {strconv.FormatBool(follow)}}
	if !since.IsZero() {
		q.Set("since", since.Format(time.RFC3339Nano))
	}
	return q
}

// Capture calls each with the frames of an interface ("" or "any": of all)
// that match an expression, until each fails or ctx ends.
func (c *Client) Capture(ctx context.Context, iface, expr string, each func(*status.Frame) error) error {
	return follow(ctx, c, request{path: "capture", query: url.Values{"interface": {iface}, "expression": {expr}}}, each)
}

// Ping calls each with what became of every echo request, until they have all
// been sent or ctx ends.
func (c *Client) Ping(ctx context.Context, r status.PingRequest, each func(*status.Probe) error) error {
	return follow(ctx, c, request{path: "ping", post: true, body: r}, each)
}

// Traceroute calls each with what became of every probe.
func (c *Client) Traceroute(ctx context.Context, r status.TraceRequest, each func(*status.Probe) error) error {
	return follow(ctx, c, request{path: "traceroute", post: true, body: r}, each)
}

// The changes.

// SetEnabled switches CARP on or off until the node's next start.
func (c *Client) SetEnabled(ctx context.Context, on bool) error {
	path := "carp/disable"
	if on {
		path = "carp/enable"
	}
	return c.change(ctx, path, nil)
}

// SetMaintenance switches maintenance mode, which outlives a restart.
func (c *Client) SetMaintenance(ctx context.Context, on bool) error {
	return c.change(ctx, "carp/maintenance", maintenanceRequest{on})
}

// ResetDemotion forgets every demotion whose cause is no present fact.
func (c *Client) ResetDemotion(ctx context.Context) error {
	return c.change(ctx, "carp/reset-demotion", nil)
}

// DeleteARP forgets a neighbour.
func (c *Client) DeleteARP(ctx context.Context, addr netip.Addr) error {
	return c.change(ctx, "arp/delete", deleteRequest{addr.String()})
}

// KillStates ends the states that match a filter and returns how many.
func (c *Client) KillStates(ctx context.Context, filter string) (int, error) {
	a, err := ask[killAnswer](ctx, c, request{path: "states/kill", post: true, body: killRequest{filter}})
	return a.Killed, err
}

// Reload makes the node read its configuration again.
func (c *Client) Reload(ctx context.Context) (status.Reload, error) {
	return ask[status.Reload](ctx, c, request{path: "reload", post: true})
}

func (c *Client) change(ctx context.Context, path string, body any) error {
	_, err := ask[struct{}](ctx, c, request{path: path, post: true, body: body})
	return err
}
