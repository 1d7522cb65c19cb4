package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// floodFrameBytes is the shortest Ethernet frame, without its check sequence.
	floodFrameBytes  = 60
	floodBatch       = 64 // frames of one sendmmsg(2)
	floodSendBytes   = 8 << 20
	floodFirstPort   = 1024
	floodPortsOfOne  = 10000 // source ports before the next destination port is taken
	floodDestination = 9     // discard
)

// flood sends the shortest UDP datagrams as fast as it can, round robin over
// its flows, by a packet socket that goes around the queueing discipline.
type flood struct {
	device       string
	to           string // MAC of the next hop
	source, dest string
	first, flows int
	duration     time.Duration
}

// flooded is what a flood prints: frames the device took, and how many it refused.
type flooded struct {
	Sent    uint64  `json:"sent"`
	Refused uint64  `json:"refused"`
	Seconds float64 `json:"seconds"`
}

func (f *flood) flags(s *flag.FlagSet) {
	s.StringVar(&f.device, "device", "", "device to send by")
	s.StringVar(&f.to, "to", "", "MAC address of the next hop")
	s.StringVar(&f.source, "source", "", "IPv4 source")
	s.StringVar(&f.dest, "dest", "", "IPv4 destination")
	s.IntVar(&f.first, "first", 0, "number of the first flow")
	s.IntVar(&f.flows, "flows", 10000, "flows")
	s.DurationVar(&f.duration, "for", time.Second, "how long")
}

func (f *flood) run() (any, error) {
	ifi, err := net.InterfaceByName(f.device)
	if err != nil {
		return nil, fmt.Errorf("flood by %q: %w", f.device, err)
	}
	frames, err := f.frames(ifi.HardwareAddr)
	if err != nil {
		return nil, fmt.Errorf("flood by %q: %w", f.device, err)
	}
	fd, err := packetSocket(ifi.Index)
	if err != nil {
		return nil, fmt.Errorf("flood by %q: %w", f.device, err)
	}
	defer unix.Close(fd)
	return send(fd, frames, f.duration)
}

// frames builds one frame for each flow, one behind the other in memory.
func (f *flood) frames(from net.HardwareAddr) ([]byte, error) {
	to, err := net.ParseMAC(f.to)
	if err != nil || len(to) != 6 || len(from) != 6 {
		return nil, fmt.Errorf("next hop %q: six bytes of MAC address are needed on both ends", f.to)
	}
	src, err1 := netip.ParseAddr(f.source)
	dst, err2 := netip.ParseAddr(f.dest)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if !src.Is4() || !dst.Is4() || f.flows < 1 || f.first < 0 {
		return nil, errors.New("two IPv4 addresses and at least one flow are needed")
	}
	frames := make([]byte, 0, f.flows*floodFrameBytes)
	for i := f.first; i < f.first+f.flows; i++ {
		srcPort := uint16(floodFirstPort + i%floodPortsOfOne)
		dstPort := uint16(floodDestination + i/floodPortsOfOne)
		frames = appendDatagram(frames, to, from, src.As4(), dst.As4(), srcPort, dstPort)
	}
	return frames, nil
}

// appendDatagram appends an Ethernet frame of [floodFrameBytes] with a UDP
// datagram over IPv4 (RFC 768, RFC 791). The UDP checksum is there, so that a
// translation has to keep it right.
func appendDatagram(b []byte, to, from net.HardwareAddr, src, dst [4]byte, srcPort, dstPort uint16) []byte {
	const ipBytes, udpBytes = floodFrameBytes - 14, floodFrameBytes - 14 - 20
	b = append(append(b, to...), from...)
	b = append(b, 0x08, 0x00)
	ip := len(b)
	b = append(b, 0x45, 0, 0, ipBytes, 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0)
	b = append(append(b, src[:]...), dst[:]...)
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, srcPort)
	b = binary.BigEndian.AppendUint16(b, dstPort)
	b = append(b, 0, udpBytes, 0, 0)
	b = append(b, "tandem bench load."[:udpBytes-8]...)
	binary.BigEndian.PutUint16(b[ip+10:], onesSum(b[ip:udp], 0))
	binary.BigEndian.PutUint16(b[udp+6:], onesSum(b[ip+12:], unix.IPPROTO_UDP+udpBytes))
	return b
}

// onesSum is the internet checksum (RFC 1071) of b, of which the length is even.
func onesSum(b []byte, sum uint32) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// packetSocket opens a socket that only sends (packet(7)): protocol 0 receives nothing.
func packetSocket(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("bind packet socket: %w", err)
	}
	// Without either it is slower, and still right.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, floodSendBytes)
	return fd, nil
}

// message is struct mmsghdr of sendmmsg(2).
type message struct {
	header unix.Msghdr
	sent   uint32
	_      uint32
}

// send goes round the frames until the time is over.
func send(fd int, frames []byte, duration time.Duration) (flooded, error) {
	n := len(frames) / floodFrameBytes
	vectors, messages := make([]unix.Iovec, n), make([]message, n)
	for i := range vectors {
		vectors[i].Base = &frames[i*floodFrameBytes]
		vectors[i].SetLen(floodFrameBytes)
		messages[i].header.Iov = &vectors[i]
		messages[i].header.SetIovlen(1)
	}
	var f flooded
	begin := time.Now()
	for at := 0; time.Since(begin) < duration; {
		batch := min(floodBatch, n-at)
		got, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[at])), uintptr(batch), 0, 0, 0)
		switch errno {
		case 0:
			f.Sent += uint64(got)
			at += int(got)
		case unix.EINTR:
		case unix.ENOBUFS, unix.EAGAIN: // The device has no room: the load is more than it carries.
			f.Refused++
			at++
		default:
			return f, fmt.Errorf("send: %w", errno)
		}
		if at >= n {
			at = 0
		}
	}
	f.Seconds = time.Since(begin).Seconds()
	return f, nil
}
