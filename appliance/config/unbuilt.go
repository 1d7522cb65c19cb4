package config

import (
	"reflect"
	"strings"
)

// A gap is a key, or a value of a key, that the file format has and this build
// has not. It is refused by name, never silently accepted: a firewall that
// overlooks half of its configuration is worse than one that does not start.
type gap struct {
	key     string // in the form of pattern
	value   string // the gap is this value alone; empty: the key, whatever its value
	neutral any    // a value of the key that asks for nothing, and is accepted
	what    string // "this build does not have WHAT yet"
}

// gaps is the one list of what is not built. Building a thing removes its line.
var gaps = []gap{
	{key: "users", what: "user accounts"},
	{key: "management", what: "web pages and the management API"},
	{key: "schedules", what: "schedules"},
	{key: "gateway_groups", what: "gateway groups"},
	{key: "dhcp", what: "the DHCP server"},
	{key: "dhcp_relay", what: "the DHCP relay"},
	{key: "dhcpv6_relay", what: "the DHCP relay"},
	{key: "dns", what: "the DNS server"},
	{key: "router_advertisements", what: "router advertisements"},

	{key: "system.timezone", neutral: "UTC", what: "time zones other than UTC"},
	{key: "system.syslog", neutral: []any{}, what: "remote syslog"},
	{key: "system.ntp_servers", neutral: []any{}, what: "clock checks"},
	{key: "system.dns_servers", neutral: []any{}, what: "look-ups of names by the node"},

	{key: "interfaces.*.addresses[]", value: "dhcp", what: "the DHCP client"},
	{key: "interfaces.*.addresses[]", value: "dhcp6", what: "the DHCPv6 client"},
	{key: "interfaces.*.addresses[]", value: "slaac", what: "autoconfigured addresses"},
	{key: "interfaces.*.bandwidth", what: "fair queueing"},
	{key: "interfaces.*.link.driver", value: "xdp", what: "the link driver xdp"},
	{key: "interfaces.*.link.driver", value: "macvtap", what: "the link driver macvtap"},
	{key: "interfaces.*.link.driver", value: "lagg", what: "the link driver lagg"},
	{key: "interfaces.*.link.driver", value: "bridge", what: "the link driver bridge"},
	{key: "interfaces.*.link.driver", value: "wireguard", what: "the link driver wireguard"},
	{key: "interfaces.*.link.members", what: "the link drivers lagg and bridge"},
	{key: "interfaces.*.link.mode", what: "the link driver lagg"},
	{key: "interfaces.*.link.private_key", what: "the link driver wireguard"},
	{key: "interfaces.*.link.private_key_file", what: "the link driver wireguard"},
	{key: "interfaces.*.link.listen_port", what: "the link driver wireguard"},
	{key: "interfaces.*.link.listen_address", what: "the link driver wireguard"},
	{key: "interfaces.*.link.peers", what: "the link driver wireguard"},

	{key: "virtual_ips[].type", value: "proxy_arp", what: "virtual addresses of type proxy_arp"},

	{key: "high_availability.failure_detection", value: "fast", what: "fast failure detection"},
	{key: "high_availability.state_sync", what: "state synchronisation"},
	{key: "high_availability.config_sync", what: "configuration synchronisation"},
	{key: "high_availability.config_receive", what: "configuration synchronisation"},

	{key: "firewall.bogons", what: "bogon lists other than the built-in one"},

	{key: "aliases.*.url", what: "aliases from a URL"},
	{key: "aliases.*.url_file", what: "aliases from a URL"},
	{key: "aliases.*.file", what: "aliases from a file"},
	{key: "aliases.*.refresh", what: "aliases from a URL"},

	{key: "rules[].action", value: "match", what: "match rules"},
	{key: "rules[].direction", value: "out", what: "floating rules"},
	{key: "rules[].direction", value: "any", what: "floating rules"},
	{key: "rules[].interface", value: "any", what: "floating rules"},
	{key: "rules[].interface[]", value: "any", what: "floating rules"},
	{key: "rules[].floating", neutral: false, what: "floating rules"},
	{key: "rules[].quick", neutral: true, what: "floating rules"},
	{key: "rules[].state", value: "synproxy", what: "the SYN proxy"},
	{key: "rules[].gateway", neutral: "", what: "policy routing"},
	{key: "rules[].gateway_down", neutral: "default", what: "policy routing"},
	{key: "rules[].reply_to", neutral: true, what: "rules without reply-to"},
	{key: "rules[].tag", neutral: "", what: "tags"},
	{key: "rules[].tagged", neutral: "", what: "tags"},
	{key: "rules[].schedule", neutral: "", what: "schedules"},
	{key: "rules[].role", what: "rules that depend on the role"},
	{key: "rules[].max_states", what: "limits of a rule"},
	{key: "rules[].max_src_nodes", what: "limits of a rule"},
	{key: "rules[].max_src_states", what: "limits of a rule"},
	{key: "rules[].max_src_conn", what: "limits of a rule"},
	{key: "rules[].max_src_conn_rate", what: "limits of a rule"},
	{key: "rules[].overload", what: "limits of a rule"},
	{key: "rules[].timeout", what: "time-outs of a rule"},
	{key: "rules[].limiter", what: "limiters"},
	{key: "rules[].limiter_per_source", what: "limiters"},

	{key: "nat.outbound.rules[].pool", what: "pools of addresses"},
	{key: "nat.outbound.rules[].endpoint_independent", neutral: false, what: "endpoint-independent translation"},
	{key: "nat.port_forwards[].reflection", neutral: false, what: "reflection"},
	{key: "nat.port_forwards[].pool", what: "pools of addresses"},
	{key: "nat.one_to_one[].reflection", neutral: false, what: "reflection"},
	{key: "nat.npt", what: "network prefix translation"},
	{key: "nat.nat64", what: "NAT64"},

	{key: "gateways[].monitor", neutral: "none", what: "gateway monitoring"},
	{key: "gateways[].quorum", what: "gateway monitoring"},
	{key: "gateways[].probe", what: "gateway monitoring"},
	{key: "gateways[].interval", what: "gateway monitoring"},
	{key: "gateways[].loss_window", what: "gateway monitoring"},
	{key: "gateways[].latency_low", what: "gateway monitoring"},
	{key: "gateways[].latency_high", what: "gateway monitoring"},
	{key: "gateways[].loss_low", what: "gateway monitoring"},
	{key: "gateways[].loss_high", what: "gateway monitoring"},
	{key: "gateways[].weight", what: "gateway groups"},
	{key: "gateways[].states_on_down", what: "gateway monitoring"},
	{key: "gateways[].states_on_return", what: "gateway monitoring"},
	{key: "gateways[].demote", neutral: false, what: "gateway monitoring"},
}

// findGap looks key up with its raw value. A gap with a neutral value is
// returned also for that value; use refuses to tell.
func findGap(key string, raw any) (gap, bool) {
	p := pattern(key)
	for _, g := range gaps {
		if g.key == p && (g.value == "" || g.value == raw) {
			return g, true
		}
	}
	return gap{}, false
}

// refuses says whether the value asks for what is not built.
func (g gap) refuses(raw any) bool {
	return g.neutral == nil || !reflect.DeepEqual(g.neutral, raw)
}

// pattern is key with its indices and the names that the operator gave taken
// out: interfaces.wan.addresses[1] is interfaces.*.addresses[].
func pattern(key string) string {
	var b strings.Builder
	inIndex := false
	for _, r := range key {
		switch {
		case r == '[':
			inIndex = true
		case r == ']':
			inIndex = false
			b.WriteString("[]")
		case !inIndex:
			b.WriteRune(r)
		}
	}
	parts := strings.Split(b.String(), ".")
	if len(parts) > 1 && (parts[0] == "interfaces" || parts[0] == "aliases" || parts[0] == "interface_groups") {
		parts[1] = "*"
	}
	return strings.Join(parts, ".")
}

// gapKeys are the names of unbuilt keys in the table at key, for suggestions.
func gapKeys(table string) []string {
	prefix := ""
	if table != "" {
		prefix = pattern(table) + "."
	}
	var names []string
	for _, g := range gaps {
		if name, found := strings.CutPrefix(g.key, prefix); found && !strings.ContainsAny(name, ".[") {
			names = append(names, name)
		}
	}
	return names
}
