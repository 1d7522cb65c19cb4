package config

// Document is a whole configuration. Lists are in file order, also where the
// file has tables with names (interfaces, groups, aliases).
type Document struct {
	Name string // of the file, for messages

	Schema     int         `toml:"schema"`
	System     System      `toml:"system"`
	Interfaces []Interface `toml:"interfaces"`
	Groups     []Group     `toml:"interface_groups"`
	VirtualIPs []VirtualIP `toml:"virtual_ips"`
	HA         HA          `toml:"high_availability"`
	Firewall   Firewall    `toml:"firewall"`
	Aliases    []Alias     `toml:"aliases"`
	Rules      []Rule      `toml:"rules"`
	NAT        NAT         `toml:"nat"`
	Gateways   []Gateway   `toml:"gateways"`
	Routing    Routing     `toml:"routing"`
	Routes     []Route     `toml:"routes"`
	Asserts    []Assert    `toml:"assert"`

	index *index
}

// Object is what every entry of the file may say about itself.
type Object struct {
	Key         string `toml:"-"` // where it stands: "rules[2]", "interfaces.wan"
	Description string `toml:"description"`
	Disabled    bool   `toml:"disabled"`
}

// Shared is an object that config sync carries to the peer.
type Shared struct {
	Object
	Local bool `toml:"local"` // not sent to the peer
}

// System is the node itself.
type System struct {
	Hostname     string   `toml:"hostname,required"`
	Domain       string   `toml:"domain"`
	Timezone     string   `toml:"timezone"`
	StateDir     string   `toml:"state_dir"`
	Control      string   `toml:"control"`       // path of the control socket
	ControlGroup string   `toml:"control_group"` // group that may open it; empty: the owner alone
	LogLevel     LogLevel `toml:"log_level"`
}

// Interface is a logical interface: a name, a link and its addresses.
type Interface struct {
	Object
	Name         string   `toml:"-"`
	Link         Link     `toml:"link,required"`
	Addresses    []Prefix `toml:"addresses"` // the first of a family is the interface address
	Gateway      string   `toml:"gateway"`   // IPv4: an address or the name of a gateway; makes it an uplink
	Gateway6     string   `toml:"gateway6"`
	BlockPrivate bool     `toml:"block_private"`
	BlockBogons  bool     `toml:"block_bogons"`
	Antispoof    bool     `toml:"antispoof"`
	MAC          MAC      `toml:"mac"` // zero: of the device, or made by the node
	MTU          int      `toml:"mtu"` // bytes of an IP packet; 0: the device's
	MSS          int      `toml:"mss"` // bytes; 0: not clamped
	NoDF         bool     `toml:"no_df"`
	RandomID     bool     `toml:"random_id"`
}

// Link says what an interface is attached to. Which keys count depends on the
// driver.
type Link struct {
	Driver   Driver     `toml:"driver,required"`
	Device   string     `toml:"device"`
	Queues   int        `toml:"queues"`
	Offload  bool       `toml:"offload"`
	Bridge   string     `toml:"bridge"`
	TakeOver bool       `toml:"take_over"`
	Listen   string     `toml:"listen"`
	Connect  string     `toml:"connect"`
	Kind     SocketKind `toml:"kind"`
	Parent   string     `toml:"parent"` // name of an interface
	ID       int        `toml:"id"`     // of a VLAN, 1 to 4094
	Switch   string     `toml:"switch"`
}

// Group is one name for several interfaces.
type Group struct {
	Object
	Name    string
	Members []string // names of interfaces
}

// VirtualIP is an address that the nodes share, or an alias.
type VirtualIP struct {
	Shared
	Type        VIPType `toml:"type,required"`
	Interface   string  `toml:"interface,required"`
	Address     Prefix  `toml:"address,required"`
	VHID        VHID    `toml:"vhid"`     // of an alias: the CARP VIP it is stacked on; 0: none
	Password    Secret  `toml:"password"` // at most 19 bytes count
	AdvBase     int     `toml:"advbase"`  // seconds, 1 to 255
	AdvSkew     int     `toml:"advskew"`  // 1/256 s, 0 to 254
	Peer        Addr    `toml:"peer"`     // IPv4 unicast; zero: multicast
	Peer6       Addr    `toml:"peer6"`
	ExtraSubnet bool    `toml:"extra_subnet"`
}

// HA is the section high_availability.
type HA struct {
	HostID           uint32       `toml:"host_id"` // 0: not given
	Preempt          bool         `toml:"preempt"`
	FailureDetection Detection    `toml:"failure_detection"`
	VIPMAC           VIPMAC       `toml:"vip_mac"`
	DemoteByte       bool         `toml:"demote_byte"`
	Replay           ReplayPolicy `toml:"replay"`
	Classic          bool         `toml:"classic"`
}

// Firewall holds the settings of the packet filter that are this node's own.
type Firewall struct {
	MaxStates        int      `toml:"max_states"`
	Timeouts         Timeouts `toml:"timeouts"`
	AdaptiveStart    int      `toml:"adaptive_start"` // states from which time-outs shrink; 0: 60 % of MaxStates
	AdaptiveEnd      int      `toml:"adaptive_end"`   // states at which they would be zero; 0: 120 %
	LogDefaultBlock  bool     `toml:"log_default_block"`
	LogPrivate       bool     `toml:"log_private"`
	LogBogons        bool     `toml:"log_bogons"`
	LogAutomaticPass bool     `toml:"log_automatic_pass"`
	IPv6             bool     `toml:"ipv6"`
}

// Timeouts is a preset, or single time-outs over the normal preset.
type Timeouts struct {
	Preset TimeoutPreset
	Set    TimeoutSet
}

// TimeoutSet holds pf's time-outs; zero leaves the preset's.
type TimeoutSet struct {
	TCPFirst       Duration `toml:"tcp_first"`
	TCPOpening     Duration `toml:"tcp_opening"`
	TCPEstablished Duration `toml:"tcp_established"`
	TCPClosing     Duration `toml:"tcp_closing"`
	TCPFinWait     Duration `toml:"tcp_finwait"`
	TCPClosed      Duration `toml:"tcp_closed"`
	UDPFirst       Duration `toml:"udp_first"`
	UDPSingle      Duration `toml:"udp_single"`
	UDPMultiple    Duration `toml:"udp_multiple"`
	ICMPFirst      Duration `toml:"icmp_first"`
	ICMPError      Duration `toml:"icmp_error"`
	OtherFirst     Duration `toml:"other_first"`
	OtherSingle    Duration `toml:"other_single"`
	OtherMultiple  Duration `toml:"other_multiple"`
}

// Alias is one name for several addresses or for several ports.
type Alias struct {
	Shared
	Name      string
	Addresses []AddressTerm // of an address alias
	Ports     []PortTerm    // of a port alias
	IsPorts   bool          // decided by the members; an empty alias holds addresses

	members []aliasMember
}

// Rule is one filter rule.
type Rule struct {
	Shared
	ID              string        `toml:"id"` // empty: the plan makes one from the content
	Interface       []string      `toml:"interface,required,one"`
	Action          Action        `toml:"action,required"`
	Family          Family        `toml:"family"`
	Protocol        Protocol      `toml:"protocol"`
	Source          []AddressTerm `toml:"source,one"` // of none: any
	SourcePort      []PortTerm    `toml:"source_port,one"`
	Destination     []AddressTerm `toml:"destination,one"`
	DestinationPort []PortTerm    `toml:"destination_port,one"`
	Direction       Direction     `toml:"direction"`
	State           StateMode     `toml:"state"`
	ICMPTypes       []ICMPType    `toml:"icmp_types,one"`
	TCPFlags        TCPFlags      `toml:"tcp_flags"`
	AllowOptions    bool          `toml:"allow_options"`
	NoSync          bool          `toml:"no_sync"`
	Log             bool          `toml:"log"`
}

// NAT is address translation.
type NAT struct {
	Outbound     Outbound      `toml:"outbound"`
	PortForwards []PortForward `toml:"port_forwards"`
	OneToOne     []OneToOne    `toml:"one_to_one"`
}

// Outbound is translation of sources on the way out.
type Outbound struct {
	Mode  NATMode        `toml:"mode"`
	Rules []OutboundRule `toml:"rules"`
}

// OutboundRule translates sources that leave by an interface.
type OutboundRule struct {
	Shared
	ID              string        `toml:"id"`
	Interface       []string      `toml:"interface,required,one"`
	Family          Family        `toml:"family"`
	Protocol        Protocol      `toml:"protocol"`
	Source          []AddressTerm `toml:"source,required,one"`
	SourcePort      []PortTerm    `toml:"source_port,one"`
	Destination     []AddressTerm `toml:"destination,one"`
	DestinationPort []PortTerm    `toml:"destination_port,one"`
	Translation     Target        `toml:"translation,required"`
	TranslationPort PortRange     `toml:"translation_port"` // zero: 1024-65535
	StaticPort      bool          `toml:"static_port"`
}

// PortForward translates the destination of what comes in.
type PortForward struct {
	Shared
	ID              string        `toml:"id"`
	Interface       []string      `toml:"interface,required,one"`
	Family          Family        `toml:"family"`
	Protocol        Protocol      `toml:"protocol"`
	Source          []AddressTerm `toml:"source,one"`
	SourcePort      []PortTerm    `toml:"source_port,one"`
	Destination     []AddressTerm `toml:"destination,required,one"`
	DestinationPort []PortTerm    `toml:"destination_port,one"`
	Target          Target        `toml:"target,required"`
	TargetPort      Port          `toml:"target_port"` // first of the range; 0: the same
	Rule            ForwardRule   `toml:"rule"`
}

// OneToOne maps an outside address or prefix to an inside one, both ways.
type OneToOne struct {
	Shared
	ID          string        `toml:"id"`
	Interface   []string      `toml:"interface,required,one"`
	External    Network       `toml:"external,required"`
	Internal    Network       `toml:"internal,required"`
	Destination []AddressTerm `toml:"destination,one"` // only for these remote hosts
}

// Gateway is a next hop with a name.
type Gateway struct {
	Shared
	Name      string `toml:"name,required"`
	Interface string `toml:"interface,required"`
	Address   Addr   `toml:"address,required"`
	Default   bool   `toml:"default"`
}

// Routing names the default gateways.
type Routing struct {
	Default  string `toml:"default"` // name of a gateway; empty: the first uplink's
	Default6 string `toml:"default6"`
}

// Route is a static route.
type Route struct {
	Shared
	Destination AddressTerm `toml:"destination,required"` // a network or an alias
	Gateway     string      `toml:"gateway,required"`     // name of a gateway, or "blackhole"
}

// Assert is a packet and what must happen to it.
type Assert struct {
	Shared
	From           AssertFrom   `toml:"from,required"`
	To             AssertTo     `toml:"to,required"`
	Expect         Expect       `toml:"expect,required"`
	NATSource      AssertTarget `toml:"nat_source"`
	NATDestination AssertTarget `toml:"nat_destination"`
	OutInterface   string       `toml:"out_interface"` // or "self"
	Role           AssertRole   `toml:"role"`
}
