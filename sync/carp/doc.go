// Package carp speaks the Common Address Redundancy Protocol, version 2, as
// the BSDs send it (carp(4)): which of the nodes on a segment holds the
// addresses of a virtual host.
//
// It has three layers, each usable without the one above it:
//
//   - [Advert] reads and writes the 36-byte advertisement, [Key] signs and
//     verifies it, [ParseForeign] recognises VRRP, which shares the protocol
//     number, the groups and the virtual MAC addresses.
//   - [Machine] is one virtual host: FreeBSD's timers and comparisons, and on
//     request OpenBSD's demotion byte.
//   - [Group] is all virtual hosts of a node: links, demotions by name,
//     counters, draining, the role of the node, and an eye on what should not
//     be on the segment (own echoes, second masters, foreign speakers,
//     replays).
//
// The package never opens a socket, starts a goroutine, reads a clock or draws
// a random number: packets, events, the time and randomness come in, and
// [Action] values for the caller come out. It does not answer ARP, hold
// addresses or install routes; whoever performs the actions does.
//
// There is no RFC. The specification is the behaviour of FreeBSD's and
// OpenBSD's ip_carp.c and of ucarp; where they differ the docstrings say whom
// we follow. The golden files under testdata hold adverts of all three.
//
// Invariants: outside [Init] a Machine always has a deadline; a Machine in
// [Master] has sent an advert for each of its families when the call that made
// it master returns; the effective skew is never above [SkewDemoted]; every
// list that packets can grow has a limit.
package carp
