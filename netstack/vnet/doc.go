// Package vnet is a virtual Ethernet world: cables, learning switches, network
// cards for nodes, small hosts that make and answer traffic, and the clock all
// of them live by. The lab runs in it, and so do the tests.
//
// A [World] is one goroutine and one heap of events, ordered by time and then
// by the order in which they were asked for. It is driven in one of three ways,
// and everything in it behaves the same under each:
//
//   - virtual: time jumps from event to event;
//   - in a testing/synctest bubble (Config.Wait): as before, but the bubble's
//     clock goes along, so that goroutines with standard timers take part;
//   - in real time (Config.RealTime): events wait for the wall clock. World
//     time never passes an event that has not run, so a stall of the process
//     makes the world late but never changes the order of things in it.
//
// What nodes and hosts compute takes no time of the world, in real time neither:
// a latency measured here is that of the cables.
//
// Sending a frame only queues it. When all that can run at an instant has run,
// the world takes the queued frames in a fixed order of their jacks, draws the
// cables' faults from seeded streams, and makes each arrival an event. So equal
// seeds give equal frames, which [World.Hash] lets a test compare.
//
// Nodes are driven as a [Task]; hosts are gVisor stacks whose TCP workers are
// held paused and released for an instant whenever there is something for them
// to do. Hosts count what they report from the frames on their own jack.
//
// Switches follow IEEE 802.1Q's learning and ageing without its spanning tree.
// The package opens no socket and no file, and reads the system's clock only
// to keep pace with it.
//
// Unless it says otherwise, a method is called by the goroutine that runs the
// world: between runs, in an event, or in a function given to [World.Post].
package vnet
