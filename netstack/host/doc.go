// Package host is the node's own end of TCP, UDP and ping: gVisor as a guest
// of the router, which gives it IP datagrams and takes IP datagrams from it.
//
// The guest has one layer-3 NIC for each interface. It has no MAC address,
// answers no ARP, forwards nothing and says nothing by itself: no duplicate
// address detection, no router solicitation, no membership report. All that
// below layer 4 makes a node is the router's. Nor does it decide who may talk
// to it; the filter does, before [Host.Deliver] and after [Host.Read].
//
// Sockets follow the host requirements (RFC 1122, RFC 9293 for TCP), with one
// addition: a listener may be bound to an address that is not held. It is
// silent until [Host.SetAddresses] adds the address, answers while it is held,
// and is silent again after. So a role change starts and stops no service.
//
// Invariants: no packet leaves from an address that is not held; output is
// queued, bounded and counted, and nothing in this package waits for whoever
// reads it; after [Host.Close] no goroutine of the guest is left.
//
// Virtual time: gVisor's timers follow [Config.Clock], but its TCP workers are
// goroutines that a testing/synctest bubble does not take for idle. A driver of
// virtual time therefore calls [Host.Pump] before it first lets time pass, and
// again after each delivery and each timer: between pumps the workers are
// parked where a bubble sees that they are idle, and a pump does all that was
// queued for them.
package host
