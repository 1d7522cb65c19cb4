// Package control is the door to a running node: JSON over HTTP on a unix
// socket ([Server]), and the [Client] that the command line uses.
//
// Who may open the socket is admin; there are no users here. The process at
// the other end is known by the kernel's word (SO_PEERCRED, unix(7)) and named
// with every change. The version of the protocol stands in the path, /v1/...;
// a later one is refused in words. Answers are the documents of package
// status; faults are {"error": "what is wrong"}. What goes on for a while (a
// log that is followed, a capture, a ping) comes as one JSON document a line
// (NDJSON), each sent at once or within flushEvery; a fault after the first
// line is in the trailer Fault.
//
// The package decides nothing: it asks the [Node] it is given. It is bounded
// in connections, in the size of what it reads and in how long a reader may
// keep it waiting; a fault of one request ends that request only.
package control

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"tandem/appliance/status"
)

// Version of the protocol, the N of /vN/ in every path. Fields and paths are
// added under one version, never changed.
const Version = 1

// DefaultSocket is where a node listens unless its configuration says
// otherwise.
const DefaultSocket = "/run/appliance/control.sock"

// Node is what the door opens to. Its methods may be called from any
// goroutine.
type Node interface {
	Status() status.Node
	CARP() status.CARP
	SetEnabled(on bool)
	SetMaintenance(on bool) error
	ResetDemotion()
	Scan(iface string) (status.Scan, error)
	States(filter string) []status.State
	StateCount() status.StateCount
	KillStates(filter string) int
	Rules(all bool) []status.Rule
	NAT() []status.Translation
	NATText() string
	ARP() []status.Neighbour
	DeleteARP(addr netip.Addr)
	Routes() []status.Route
	Interfaces() []status.Interface
	Events(since time.Time) []status.Event
	Packets(since time.Time) []status.Packet
	Watch(firewall bool) (<-chan status.Event, <-chan status.Packet, func(), error)
	// Capture calls emit for each frame until emit returns false or ctx ends.
	Capture(ctx context.Context, iface, expr string, emit func(status.Frame) bool) error
	Ping(ctx context.Context, r status.PingRequest, emit func(status.Probe)) error
	Traceroute(ctx context.Context, r status.TraceRequest, emit func(status.Probe)) error
}

// Config is what a [Server] is made of.
type Config struct {
	Node Node
	// Reload reads the configuration again and applies it; Changed and
	// Problems say the rest.
	Reload func(ctx context.Context) status.Reload
	// Note takes a line for the log about each change, with who made it. Nil:
	// nobody keeps it.
	Note func(who Peer, what string)
}

// Peer is the process at the other end of a connection, as the kernel knew it
// when it connected.
type Peer struct {
	UID, PID int
}

// String names the peer in a log.
func (p Peer) String() string { return fmt.Sprintf("uid %d, process %d", p.UID, p.PID) }

// maintenanceRequest is the body of carp/maintenance.
type maintenanceRequest struct {
	On bool `json:"on"`
}

// killRequest is the body of states/kill, killAnswer what comes back.
type killRequest struct {
	Filter string `json:"filter"`
}

type killAnswer struct {
	Killed int `json:"killed"`
}

// deleteRequest is the body of arp/delete.
type deleteRequest struct {
	Address string `json:"address"`
}

// natAnswer is what nat/toml says.
type natAnswer struct {
	TOML string `json:"toml"`
}

// fault is the body of an answer that is none.
type fault struct {
	Error string `json:"error"`
}

// faultTrailer carries what went wrong after a stream has begun.
const faultTrailer = "Fault"
