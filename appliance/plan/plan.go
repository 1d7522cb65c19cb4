// Package plan turns a configuration document into what should run: the
// configurations of the leaf packages, compiled rules and translations, and
// everything that is automatic (rules, outbound NAT, link-local addresses).
// It opens nothing, starts nothing and reads no clock; the same document gives
// the same plan. [Build] reports what only shows once names are resolved and
// rules compiled, and runs the document's assertions.
//
// The order in which rules and translations are judged is that of the guide on
// rules in docs/; names like "lan:net" are resolved here and nowhere else.
package plan

import (
	"net/netip"

	"tandem/appliance/config"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
	"tandem/netstack/route"
	"tandem/sync/carp"
)

// Plan is what should run on one node.
type Plan struct {
	Doc *config.Document

	Interfaces []Interface // in file order, numbered from 1
	CARP       carp.Config
	VIPs       []VIP // in file order
	// InterfaceMAC: VIPs answer with the interface's MAC (vip_mac = "interface").
	InterfaceMAC bool

	Routes route.Config
	table  *route.Table // of Routes, for judging packets

	Rules    *rule.Set
	RuleRows []RuleRow // what `rules list` shows of rule i, as configured
	RuleKeys []uint64  // a number for the identifier of rule i, for the state table
	NAT      *nat.Set
	NATRows  []NATRow // what `nat list` shows of entry i
	// PassForward holds the identifiers of the port forwards with rule =
	// "pass", whose packets ask no rule.
	PassForward     map[string]bool
	LogDefaultBlock bool

	// States is without key, creator and boot time, which are the node's.
	States state.Config
	HostID uint32
}

// Interface is one interface of the node.
type Interface struct {
	Index     uint16
	Name      string
	Link      config.Link
	Addresses []netip.Prefix // its own: the interface addresses and direct IP aliases
	MAC       [6]byte        // zero: the device's, or made by the node
	MTU       int            // bytes of an IP packet; 0: the device's
	Norm      norm.Policy
	Uplink    bool
	Parent    uint16 // of a VLAN child
	VLAN      uint16
}

// VIP is one address that the pair shares.
type VIP struct {
	Iface       uint16
	VHID        uint8
	Address     netip.Prefix
	Alias       bool // stacked
	Description string
}

// RuleRow is a rule in the words of the configuration.
type RuleRow struct {
	Number          int
	ID              string
	Interface       string
	Action          string
	Direction       string
	Family          string
	Protocol        string
	Source          string
	SourcePort      string
	Destination     string
	DestinationPort string
	State           string
	Quick, Log      bool
	Extra           []string // the other keys that are not at their defaults: "icmp_types = echoreq"
	Description     string
	Automatic       bool
}

// NATRow is a translation in the words of the configuration.
type NATRow struct {
	Number          int
	Kind            string // port_forward, one_to_one, outbound
	Interface       string
	Family          string
	Protocol        string
	Source          string
	SourcePort      string
	Destination     string
	DestinationPort string
	Translation     string
	StaticPort      bool
	Description     string
	Automatic       bool
}
