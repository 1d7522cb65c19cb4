// Package tuntap attaches the node to TAP and TUN devices of the Linux kernel
// (tuntap.rst in the kernel's documentation).
//
// Every frame travels with its virtio header, so that a coalesced frame or an
// unfinished checksum crosses the node as it came; the header is read into
// and written from the head room of the frame's own buffer, without a copy.
// A header that makes no sense is counted and its frame dropped.
//
// A device is created if it does not exist, and joined if it does; one that
// was made beforehand and belongs to the user is joined without any
// privilege. It is never made persistent, and its hardware address is never
// used: that belongs to the host on the other side.
//
// A device that vanishes counts as down. [Device.Up] looks for it once a
// second and attaches the same descriptors again, which stay in the network
// namespace they were opened in and keep their numbers.
//
// TUN devices are served by the same code behind a made-up Ethernet header.
// The TUN package of wireguard-go was weighed: its reads block, it cuts
// coalesced packets into segments before it hands them out and joins them
// again on the way back, and it keeps a goroutine for events; a worker that
// polls many devices and forwards coalesced packets whole wants none of that.
//
// Invariant: the descriptors of a Device are valid, and keep their numbers,
// until Close, whatever becomes of the device.
package tuntap
