package config

import "slices"

// A choice is a string of which only some values are right. Values that the
// file format knows but this build does not are in the table of unbuilt.go.
type choice interface{ choices() []string }

type (
	Driver        string // of a link
	SocketKind    string // of a socket link
	LogLevel      string
	VIPType       string
	Detection     string // of a dead master
	VIPMAC        string // which MAC the VIPs answer with
	ReplayPolicy  string // what to do with repeated advertisements
	TimeoutPreset string
	Action        string // of a rule
	Family        string
	Direction     string
	StateMode     string
	NATMode       string
	ForwardRule   string // which filter rule comes with a port forward
	Expect        string // of an assert
	AssertRole    string
)

const (
	DriverTAP    Driver = "tap"
	DriverTUN    Driver = "tun"
	DriverPacket Driver = "packet"
	DriverSocket Driver = "socket"
	DriverVLAN   Driver = "vlan"
	DriverLab    Driver = "lab"

	SocketStream   SocketKind = "stream"
	SocketDatagram SocketKind = "dgram"

	VIPCARP  VIPType = "carp"
	VIPAlias VIPType = "ip_alias"

	DetectStandard Detection = "standard"

	VIPMACAuto      VIPMAC = "auto"
	VIPMACVirtual   VIPMAC = "virtual"
	VIPMACInterface VIPMAC = "interface"

	ReplayReport ReplayPolicy = "report"
	ReplayDrop   ReplayPolicy = "drop"

	TimeoutsNormal       TimeoutPreset = "normal"
	TimeoutsConservative TimeoutPreset = "conservative"
	TimeoutsAggressive   TimeoutPreset = "aggressive"
	TimeoutsHighLatency  TimeoutPreset = "high_latency"

	ActionPass   Action = "pass"
	ActionBlock  Action = "block"
	ActionReject Action = "reject"

	FamilyAny  Family = "any"
	FamilyIPv4 Family = "inet"
	FamilyIPv6 Family = "inet6"

	DirectionIn Direction = "in"

	StateKeep   StateMode = "keep"
	StateSloppy StateMode = "sloppy"
	StateNone   StateMode = "none"

	NATAutomatic NATMode = "automatic"
	NATHybrid    NATMode = "hybrid"
	NATManual    NATMode = "manual"
	NATDisabled  NATMode = "disabled"

	ForwardAssociated ForwardRule = "associated"
	ForwardPass       ForwardRule = "pass"
	ForwardNone       ForwardRule = "none"

	ExpectPass   Expect = "pass"
	ExpectBlock  Expect = "block"
	ExpectReject Expect = "reject"

	RoleMaster AssertRole = "master"
	RoleBackup AssertRole = "backup"
)

func (Driver) choices() []string {
	return []string{"tap", "tun", "packet", "socket", "vlan", "lab"}
}
func (SocketKind) choices() []string   { return []string{"stream", "dgram"} }
func (LogLevel) choices() []string     { return []string{"debug", "info", "warn", "error"} }
func (VIPType) choices() []string      { return []string{"carp", "ip_alias"} }
func (Detection) choices() []string    { return []string{"standard"} }
func (VIPMAC) choices() []string       { return []string{"auto", "virtual", "interface"} }
func (ReplayPolicy) choices() []string { return []string{"report", "drop"} }
func (TimeoutPreset) choices() []string {
	return []string{"normal", "conservative", "aggressive", "high_latency"}
}
func (Action) choices() []string    { return []string{"pass", "block", "reject"} }
func (Family) choices() []string    { return []string{"any", "inet", "inet6"} }
func (Direction) choices() []string { return []string{"in"} }
func (StateMode) choices() []string { return []string{"keep", "sloppy", "none"} }
func (NATMode) choices() []string {
	return []string{"automatic", "hybrid", "manual", "disabled"}
}
func (ForwardRule) choices() []string { return []string{"associated", "pass", "none"} }
func (Expect) choices() []string      { return []string{"pass", "block", "reject"} }
func (AssertRole) choices() []string  { return []string{"master", "backup"} }

// Covers says whether a rule of this family applies to IP version 4 or 6. The
// empty family is any.
func (f Family) Covers(version uint8) bool {
	switch f {
	case FamilyIPv4:
		return version == 4
	case FamilyIPv6:
		return version == 6
	}
	return true
}

func isChoice(c choice, s string) bool { return slices.Contains(c.choices(), s) }
