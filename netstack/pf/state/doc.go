// Package state is the table of flows that the firewall has let in, and the
// only book of which translated ports are in use.
//
// A state is one record with two keys: the tuple as the first packet came in,
// and the tuple as it went out, after all translation. Packets of the flow
// match the first on the interface where the flow came in, answers match the
// reverse of the second on the interface where it left; interface 0 is the
// node itself. The table follows TCP by sequence numbers and scaled windows as
// pf(4) does, UDP and the rest by pf's pseudo states, and times states out by
// pf.conf(5)'s names and numbers. It never decides who may open a flow, never
// rewrites a packet (it says what tuple the packet must become), reads no
// clock and keeps no random source: time comes in as nanoseconds on the node's
// monotonic clock, and the key of its hash with [Config].
//
// Layout: an index of 8-byte slots (32 bits of hash, 32 bits of place) with
// linear probing, cut into shards that grow one at a time; records of two or
// three cache lines in chunks that never move; and what only the control side
// asks for (wire ids, creation) in cold records beside them. No memory that
// grows with the number of states holds a pointer, so the garbage collector
// does not walk it.
//
// Locks: a record is read and changed under the lock of its stripe, a shard's
// slots are changed under the shard's lock, and Insert and removal take the
// shards of both keys (in order) before the stripe. A look-up reads slots by
// atomic loads without a lock and believes nothing it read there: it compares
// the key under the stripe's lock, and it believes a miss only if no slot of
// the shard moved meanwhile.
//
// Invariants: every state has exactly two slots; no key has two states; a
// place is not used for another state without its [ID] changing; a packet that
// is dropped changes no state and no timeout.
//
// Specifications: pf(4), pf.conf(5) of OpenBSD; RFC 9293 (TCP), RFC 7323
// (window scale), RFC 5508 (ICMP and translation).
package state
