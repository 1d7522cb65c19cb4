// Package nic attaches the node to a network interface that exists already: a
// container's eth0, a NIC of a virtual machine, one end of a veth pair. It
// reads and writes frames by AF_PACKET sockets (packet(7)), with virtio
// headers, so that the coalesced frames and unfinished checksums that are
// normal there cross the node as they came.
//
// It never changes a frame, and never turns promiscuous mode on: the virtual
// addresses and groups to receive are said by [Device.SetAddresses].
//
// With take-over the kernel's own stack is silenced on the interface, which
// then belongs to the node: its addresses and routes are removed, it makes
// none of its own, and, where nftables can be had, a chain at the ingress
// hook drops what the kernel would have read; the frames have been copied for
// us before. [Device.Close] puts all of that back, message for message as it
// was told by the kernel (rtnetlink(7)). After a kill nobody does.
//
// An interface that vanishes counts as down; [Device.Up] looks for one of
// that name, once a second, and takes it over again.
//
// Needed are CAP_NET_RAW and, for take-over, virtual addresses and large
// buffers, CAP_NET_ADMIN; no file system is.
//
// Invariants: a descriptor keeps its number until Close. What was taken from
// the kernel is written down before it is taken.
package nic
