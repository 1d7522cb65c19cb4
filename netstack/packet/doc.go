// Package packet reads, rewrites and builds Ethernet frames: IPv4, IPv6, TCP,
// UDP, ICMP, ARP and neighbour discovery.
//
// [Decode] looks at a frame once and leaves a [View]: offsets and the fields
// that filtering and routing ask for. All that comes after works on the view.
// [SetTuple], [DecTTL] and their neighbours change the frame where it lies and
// mend checksums by difference (RFC 1624), so that a frame which was wrong
// when it came stays wrong. The Append functions build the node's own frames;
// [Segment], [FragmentIPv4] and [FragmentIPv6] cut what is too long.
//
// The package keeps no state, allocates nothing per packet, knows neither
// links nor rules, and judges only whether bytes are well formed; what is
// formed well but unwanted is pf's matter.
//
// Specifications: RFC 791 and 1812 (IPv4), 8200 (IPv6), 9293 (TCP), 768 (UDP),
// 792 and 4443 (ICMP), 4884 (multi-part ICMP), 826 (ARP), 4861 (neighbour
// discovery), 3376 and 3810 (group membership).
//
// Invariant: after Decode has said [OK] every offset of the view lies inside
// View.B, in the order L3, L4, Payload, End, and the fixed headers they name
// are there in full. Nothing from a wire makes a function of this package
// panic.
package packet
