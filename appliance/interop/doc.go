// Package interop holds no code of the product. Its tests, behind the build
// tag interop, run the built binary as people do and hold it against what is
// not ours: the kernel's own TCP/IP, ucarp, nmap, curl, tcpdump and tshark, in
// network namespaces (root and Linux needed; `make interop`).
//
// They never skip: a missing tool or right is a failure. They wait for
// conditions, each with a deadline, never for a time. Nothing is made or sent
// outside namespaces of their own, which carry the process's number and are
// removed at the end, or by the next run where a run was killed.
//
// The environment lengthens them: INTEROP_NOISE=60s for the random frames,
// INTEROP_FLOOD=1000000 for the states of the SYN flood. INTEROP_APPLIANCE
// names a binary to hold to the tests instead of one built from the tree.
package interop
