// Package norm makes packets what the filter behind it may rely on: whole
// datagrams instead of fragments, and nothing that is wrong under any rules.
//
// [Check] drops what no host sends for an honest reason. A [Policy] is what an
// interface asks to be changed: the maximum segment size, the don't-fragment
// flag, the identification. A [Reassembler] holds fragments until their
// datagram is whole; datagrams whose fragments overlap are dropped with all
// that still comes of them (RFC 5722), in IPv4 too, since two receivers may
// read them in two ways.
//
// The package opens nothing, reads no clock and draws no randomness; both are
// passed in. It sends nothing either: who wants to report an expired datagram
// is told by [Reassembler.Expire].
//
// Specifications: RFC 791 and 815 (reassembly), 8200 section 4.5, 5722, 3168
// section 5.3 (congestion marks), 6864 (IPv4 identification), and the scrub
// options of pf.conf(5).
//
// Invariants: fragments, their memory and the datagrams of one source never
// exceed the limits; nobody's fragments are held past their deadline once
// Sweep was called; a datagram handed out holds exactly the bytes that were
// sent, each of them once.
package norm
