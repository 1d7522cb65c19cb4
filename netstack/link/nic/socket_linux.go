package nic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

const (
	receiveBuffer = 16 << 20 // asked for; coalesced frames are large
	sendBuffer    = 8 << 20
	fanoutNew     = -1
)

// openSocket is a non-blocking packet socket bound to the interface index. It
// refuses to work in another network namespace than that of the socket
// control, where the same index means another interface.
func openSocket(control int, index uint32) (fd int, err error) {
	// Protocol 0 until it is bound: it must not hear the other interfaces.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if !sameNamespace(control, fd) {
		return -1, errors.New("called from another network namespace")
	}
	// The header cannot be switched on once there are frames to read.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return -1, fmt.Errorf("ask for virtio headers: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return -1, fmt.Errorf("ask for tags: %w", err)
	}
	// The rest is for speed, or older than some kernels; frames we sent are
	// told by their packet type where the kernel hands them back.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	force(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer)
	force(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	var all [2]byte // in network byte order, wherever we run
	binary.BigEndian.PutUint16(all[:], unix.ETH_P_ALL)
	to := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all[:]), Ifindex: int(index)}
	if err := unix.Bind(fd, to); err != nil {
		return -1, fmt.Errorf("bind: %w", err)
	}
	return fd, nil
}

// force sets a buffer beyond the system's limit, or to it without the right.
func force(fd, forced, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, forced, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

// sameNamespace compares where two sockets are; a kernel that cannot tell
// (before 5.14) is believed.
func sameNamespace(a, b int) bool {
	x, errX := unix.GetsockoptUint64(a, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	y, errY := unix.GetsockoptUint64(b, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return errX != nil || errY != nil || x == y
}

// joinFanout makes fd a member of a group that shares the flows, of a new one
// for fanoutNew, and returns the group's number.
func joinFanout(fd, group int) (int, error) {
	kind := unix.PACKET_FANOUT_HASH | unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	if group == fanoutNew {
		group, kind = 0, kind|unix.PACKET_FANOUT_FLAG_UNIQUEID
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, group|kind<<16); err != nil {
		return 0, err
	}
	value, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	return value & 0xffff, err
}

// membership adds or drops an address to receive for.
func membership(fd int, index uint32, option int, mac link.MAC) error {
	m := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_UNICAST, Alen: uint16(len(mac))}
	if mac[0]&1 != 0 {
		m.Type = unix.PACKET_MR_MULTICAST
	}
	copy(m.Address[:], mac[:])
	return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, option, &m)
}

// socketDrops is how many frames found the receive buffer full since it was
// last asked.
func socketDrops(fd int) uint64 {
	if fd < 0 {
		return 0
	}
	s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return uint64(s.Drops)
}

// hardwareAddress is SIOCGIFHWADDR, which has no form in x/sys.
func hardwareAddress(control int, name string) (kind uint16, address [14]byte, err error) {
	var ifr struct {
		name    [unix.IFNAMSIZ]byte
		kind    uint16
		address [14]byte
		_       [8]byte
	}
	copy(ifr.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(control), unix.SIOCGIFHWADDR, uintptr(unsafe.Pointer(&ifr)))
	if errno != 0 {
		return 0, address, errno
	}
	return ifr.kind, ifr.address, nil
}
