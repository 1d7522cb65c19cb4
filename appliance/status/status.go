// Package status holds what a node says about itself: the snapshot types
// behind `--json`, which the command line, the control socket and scripts
// share. Field names are an interface: they are added to, never changed.
//
// The package only names and orders; it reads no subsystem, and holds nothing
// that is not plain data. Times are RFC 3339, durations seconds, lists never
// null.
package status

import "time"

// Roles of a node, derived from the states of its vhids.
const (
	RoleInit       = "INIT"
	RoleBackup     = "BACKUP"
	RoleMaster     = "MASTER"
	RoleMixed      = "MIXED"
	RoleDisabled   = "DISABLED"
	RoleStandalone = "STANDALONE"
)

// Severities of an alarm.
const (
	SeverityWarning = "warning"
	SeverityError   = "error"
)

// Node is `status --json`.
type Node struct {
	Hostname      string      `json:"hostname"`
	HostID        uint32      `json:"host_id"`
	Version       string      `json:"version"`
	Role          string      `json:"role"`
	UptimeSeconds float64     `json:"uptime_seconds"`
	Healthy       bool        `json:"healthy"`
	Alarms        []Alarm     `json:"alarms"`
	Interfaces    []Interface `json:"interfaces"`
	CARP          CARP        `json:"carp"`
	States        StateCount  `json:"states"`
	Drops         []Drop      `json:"drops"`
}

// Alarm is something a person should look at.
type Alarm struct {
	Severity string    `json:"severity"`
	Source   string    `json:"source"` // "carp", "interface" ...
	Message  string    `json:"message"`
	Since    time.Time `json:"since"`
}

// Interface is one row of `interfaces --json`.
type Interface struct {
	Name      string    `json:"name"`
	Driver    string    `json:"driver"`
	Device    string    `json:"device"`
	MAC       string    `json:"mac"`
	MTU       int       `json:"mtu"`
	Link      string    `json:"link"` // up, down
	Addresses []Address `json:"addresses"`
	RX        Counters  `json:"rx"`
	TX        Counters  `json:"tx"`
}

// Address is an address of an interface and what became of it.
type Address struct {
	Address string `json:"address"`
	Kind    string `json:"kind"`  // interface, ip_alias, carp, link_local
	State   string `json:"state"` // in use, probing, duplicate, held, not held
	// Holder is the MAC of whoever has an address that is a duplicate.
	Holder string `json:"holder,omitempty"`
}

// Counters of one direction of an interface.
type Counters struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Dropped uint64 `json:"dropped"`
	Errors  uint64 `json:"errors"`
}

// Drop is one drop counter that is not zero.
type Drop struct {
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// CARP is `carp status --json`.
type CARP struct {
	Enabled     bool              `json:"enabled"`
	Maintenance bool              `json:"maintenance"`
	Demotion    int               `json:"demotion"`
	VIPs        []VIP             `json:"vips"`
	Demotions   []Demotion        `json:"demotions"`
	Counters    map[string]uint64 `json:"counters"`
	Heard       []Speaker         `json:"heard"`
}

// VIP is one virtual address and the state of its vhid.
type VIP struct {
	Interface      string    `json:"interface"`
	VHID           uint8     `json:"vhid"`
	Address        string    `json:"address"`
	Type           string    `json:"type"` // carp, ip_alias
	State          string    `json:"state"`
	AdvBase        uint8     `json:"advbase"`
	AdvSkew        uint8     `json:"advskew"`
	EffectiveSkew  uint8     `json:"effective_advskew"`
	Reason         string    `json:"reason"`
	MasterSource   string    `json:"master_source"`
	Transitions    uint64    `json:"transitions"`
	LastTransition time.Time `json:"last_transition"`
	Description    string    `json:"description,omitempty"`
}

// Demotion is one named cause for this node to be a worse master.
type Demotion struct {
	Name       string    `json:"name"`
	Amount     int       `json:"amount"`
	Since      time.Time `json:"since"`
	ClearsWhen string    `json:"clears_when"`
}

// Speaker is one CARP or VRRP speaker heard on a segment.
type Speaker struct {
	Interface string    `json:"interface"`
	Protocol  string    `json:"protocol"` // CARP, VRRPv2, VRRPv3
	VHID      uint8     `json:"vhid"`
	Source    string    `json:"source"`
	Base      int       `json:"advbase"`
	Skew      int       `json:"advskew"`
	LastHeard time.Time `json:"last_heard"`
	Ours      bool      `json:"ours"` // verifies with our password
}

// Scan is `carp scan --json`.
type Scan struct {
	Speakers []Speaker   `json:"speakers"`
	Free     []FreeVHIDs `json:"free"`
}

// FreeVHIDs proposes vhids that nobody uses on a segment.
type FreeVHIDs struct {
	Interface string `json:"interface"`
	VHID      uint8  `json:"vhid"`
	Why       string `json:"why"`
}

// State is one row of `states list --json`.
type State struct {
	ID                    string  `json:"id"`
	Creator               string  `json:"creator"`
	Interface             string  `json:"interface"`
	Direction             string  `json:"direction"`
	Protocol              string  `json:"protocol"`
	Source                string  `json:"source"`
	Destination           string  `json:"destination"`
	TranslatedSource      string  `json:"translated_source"`
	TranslatedDestination string  `json:"translated_destination"`
	State                 string  `json:"state"`
	AgeSeconds            float64 `json:"age_seconds"`
	ExpiresSeconds        float64 `json:"expires_seconds"`
	Packets               uint64  `json:"packets"`
	Bytes                 uint64  `json:"bytes"`
	Rule                  string  `json:"rule"`
	Origin                string  `json:"origin"` // local, peer
}

// StateCount is `states count --json`.
type StateCount struct {
	States   int    `json:"states"`
	Limit    int    `json:"limit"`
	Local    int    `json:"local"`
	Peer     int    `json:"peer"`
	Inserts  uint64 `json:"inserts"`
	Removals uint64 `json:"removals"`
	Searches uint64 `json:"searches"`
	Drops    []Drop `json:"drops"`
}

// Rule is one row of `rules list --json`.
type Rule struct {
	Number          int      `json:"number"`
	ID              string   `json:"id"`
	Interface       string   `json:"interface"`
	Action          string   `json:"action"`
	Direction       string   `json:"direction"`
	Family          string   `json:"family"`
	Protocol        string   `json:"protocol"`
	Source          string   `json:"source"`
	SourcePort      string   `json:"source_port"`
	Destination     string   `json:"destination"`
	DestinationPort string   `json:"destination_port"`
	State           string   `json:"state"`
	Quick           bool     `json:"quick"`
	Log             bool     `json:"log"`
	Extra           []string `json:"extra"` // what else it asks, as configured: "icmp_types = echoreq"
	Description     string   `json:"description"`
	Evaluations     uint64   `json:"evaluations"`
	Packets         uint64   `json:"packets"`
	Bytes           uint64   `json:"bytes"`
	States          int64    `json:"states"`
	Automatic       bool     `json:"automatic"`
}

// Translation is one row of `nat list --json`.
type Translation struct {
	Number          int    `json:"number"`
	Kind            string `json:"kind"` // port_forward, one_to_one, outbound
	Interface       string `json:"interface"`
	Family          string `json:"family"`
	Protocol        string `json:"protocol"`
	Source          string `json:"source"`
	SourcePort      string `json:"source_port"`
	Destination     string `json:"destination"`
	DestinationPort string `json:"destination_port"`
	Translation     string `json:"translation"`
	StaticPort      bool   `json:"static_port"`
	Description     string `json:"description"`
	Used            uint64 `json:"used"` // connections since the rules were loaded
	Automatic       bool   `json:"automatic"`
}

// Neighbour is one row of `arp --json`.
type Neighbour struct {
	Address        string  `json:"address"`
	MAC            string  `json:"mac"`
	Interface      string  `json:"interface"`
	State          string  `json:"state"`
	AgeSeconds     float64 `json:"age_seconds"`
	ExpiresSeconds float64 `json:"expires_seconds"`
}

// Route is one row of `routes --json`.
type Route struct {
	Destination string `json:"destination"`
	Gateway     string `json:"gateway"`
	Interface   string `json:"interface"`
	Kind        string `json:"kind"` // connected, via, blackhole
}

// Event is one line of the node's log.
type Event struct {
	Time    time.Time         `json:"time"`
	Level   string            `json:"level"`
	Source  string            `json:"source"`
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields,omitempty"`
}

// Packet is one line of the firewall log.
type Packet struct {
	ID          string    `json:"id"`
	Time        time.Time `json:"time"`
	Interface   string    `json:"interface"`
	Direction   string    `json:"direction"`
	Verdict     string    `json:"verdict"`
	Reason      string    `json:"reason"`
	Rule        string    `json:"rule"`
	Protocol    string    `json:"protocol"`
	Source      string    `json:"source"`
	Destination string    `json:"destination"`
	TCPFlags    string    `json:"tcp_flags,omitempty"`
	Length      int       `json:"length"`
}

// Probe is one answer of `ping` and `traceroute`.
type Probe struct {
	Seq    int     `json:"seq"`
	TTL    int     `json:"ttl"`
	From   string  `json:"from"`
	RTTms  float64 `json:"rtt_ms"`
	Result string  `json:"result"` // reply, timeout, or what an ICMP error says
}

// Reload is the outcome of `reload`.
type Reload struct {
	Applied  bool     `json:"applied"`
	Changed  []string `json:"changed"`  // what differed, in words
	Problems []string `json:"problems"` // FILE:LINE: key: text
}

// Frame is one frame of `capture`.
type Frame struct {
	Time      time.Time `json:"time"`
	Interface string    `json:"interface"`
	Direction string    `json:"direction"` // in, out
	Length    int       `json:"length"`    // on the wire
	Data      []byte    `json:"data"`      // from the Ethernet header, maybe cut
}

// PingRequest is what `ping` asks for.
type PingRequest struct {
	Remote          string  `json:"remote"`
	Source          string  `json:"source"`    // empty: chosen by the route
	Interface       string  `json:"interface"` // empty: by the route
	Count           int     `json:"count"`     // 0: until interrupted
	IntervalSeconds float64 `json:"interval_seconds"`
	TimeoutSeconds  float64 `json:"timeout_seconds"`
	TTL             int     `json:"ttl"`
	Size            int     `json:"size"` // payload bytes
}

// TraceRequest is what `traceroute` asks for.
type TraceRequest struct {
	Remote         string  `json:"remote"`
	Source         string  `json:"source"`
	Interface      string  `json:"interface"`
	HopsMax        int     `json:"hops_max"`
	Probes         int     `json:"probes"` // per hop
	TimeoutSeconds float64 `json:"timeout_seconds"`
}
