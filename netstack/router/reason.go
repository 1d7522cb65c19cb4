package router

import "tandem/netstack/packet"

// Reason is why the router dropped a packet; each is a counter.
type Reason uint8

// The reasons, in the order in which a packet meets them.
const (
	UnknownVLAN Reason = iota
	NotForUs
	BadOffload // what its sender left to others does not fit the frame
	UnknownType
	ForeignND
	VIPNotHeld
	AddressUnusable
	OwnSource    // from a wire, and yet from an address of this node
	NotForwarded // multicast, broadcast and link-local do not leave their link
	NoRoute
	Blackhole
	TTLExceeded
	TooBig
	NoNeighbour
	HoldFull
	PortDown
	HostBusy
	BadChecksum // of a packet for the node itself
	NoRoom      // a frame of our own did not fit its buffer
	reasonCount
)

// String is the counter's name.
func (r Reason) String() string {
	names := [...]string{"unknown-vlan", "not-for-us", "bad-offload", "unknown-ethertype", "router-discovery-ignored",
		"vip-not-held", "address-unusable", "own-address-as-source", "link-only-not-forwarded", "no-route", "blackhole",
		"ttl-exceeded", "too-big", "no-neighbour", "neighbour-queue-full", "port-down", "host-busy", "bad-checksum", "no-room"}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}

// Drop is one drop counter that is not zero.
type Drop struct {
	Reason  string
	Packets uint64
}

// Drops lists the counters of packets that the router dropped, those that did
// not decode first.
func (r *Router) Drops() []Drop {
	var out []Drop
	for i := range r.decoded {
		if n := r.decoded[i].Load(); n > 0 {
			out = append(out, Drop{packet.Reason(i).String(), n})
		}
	}
	for i := range r.drops {
		if n := r.drops[i].Load(); n > 0 {
			out = append(out, Drop{Reason(i).String(), n})
		}
	}
	return out
}

func (r *Router) drop(why Reason) { r.drops[why].Add(1) }
