//go:build interop

package interop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// jack is a packet socket on a device: frames in and out, tags and all.
type jack struct {
	fd    int
	hosts map[string]string // addresses whose MAC it tells while it listens
}

// jack opens a packet socket on a device of the namespace.
func (ns *namespace) jack(t *testing.T, device string) *jack {
	t.Helper()
	j := &jack{fd: -1, hosts: map[string]string{}}
	if err := ns.do(func() error {
		iface, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if j.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		if err := unix.Bind(j.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index}); err != nil {
			return fmt.Errorf("bind packet socket to %s: %w", device, err)
		}
		return errors.Join(
			unix.SetsockoptInt(j.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			unix.SetsockoptInt(j.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptPacketMreq(j.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
				&unix.PacketMreq{Ifindex: int32(iface.Index), Type: unix.PACKET_MR_PROMISC}),
			unix.SetsockoptTimeval(j.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}))
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(j.fd) })
	return j
}

// send puts a frame on the wire.
func (j *jack) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := unix.Write(j.fd, frame); err != nil {
		t.Fatalf("send a frame: %v", err)
	}
}

// receive returns the next frame, with its VLAN tag put back, or nil if there
// is none for a short while.
func (j *jack) receive() []byte {
	b, oob := make([]byte, 65536), make([]byte, 256)
	n, oobn, _, _, err := unix.Recvmsg(j.fd, b, oob, 0)
	if err != nil || n < 14 {
		return nil
	}
	b = b[:n]
	messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range messages {
		// struct tpacket_auxdata of packet(7): status, len, snaplen, mac, net,
		// vlan_tci, vlan_tpid.
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		if status := binary.NativeEndian.Uint32(m.Data); status&unix.TP_STATUS_VLAN_VALID != 0 {
			tag := binary.BigEndian.AppendUint16(nil, 0x8100)
			tag = binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(m.Data[16:]))
			b = append(b[:12:12], append(tag, b[12:]...)...)
		}
	}
	return b
}

// expect waits for a frame of which ask says that it is the one.
func (j *jack) expect(t *testing.T, limit time.Duration, what string, ask func(gopacket.Packet) bool) gopacket.Packet {
	t.Helper()
	if p := j.find(limit, ask); p != nil {
		return p
	}
	t.Fatalf("waited %v in vain: %s", limit, what)
	return nil
}

// find waits for a frame, and returns nil if it does not come in time.
func (j *jack) find(limit time.Duration, ask func(gopacket.Packet) bool) gopacket.Packet {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		b := j.receive()
		if b == nil {
			continue
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		j.answer(p)
		if ask(p) {
			return p
		}
	}
	return nil
}

// answer tells who asks for one of the jack's hosts, in the VLAN of the question.
func (j *jack) answer(p gopacket.Packet) {
	q, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || q.Operation != layers.ARPRequest {
		return
	}
	text, ok := j.hosts[net.IP(q.DstProtAddress).String()]
	if !ok {
		return
	}
	me, _ := net.ParseMAC(text)
	b := slices.Clone(p.Data())
	copy(b, q.SourceHwAddress)
	copy(b[6:], me)
	a := b[len(b)-len(p.Layer(layers.LayerTypeARP).LayerContents())-len(q.Payload):]
	a[7] = 2
	copy(a[8:], me)
	copy(a[14:], q.DstProtAddress)
	copy(a[18:], q.SourceHwAddress)
	copy(a[24:], q.SourceProtAddress)
	_, _ = unix.Write(j.fd, b)
}

// frame puts layers together; lengths and sums are filled in.
func frame(t *testing.T, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range all {
		switch l := l.(type) {
		case gopacket.NetworkLayer:
			network = l
		case interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}:
			if err := l.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mac(t *testing.T, text string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ip(text string) net.IP { return netip.MustParseAddr(text).AsSlice() }

// arpRequest asks who has an address.
func arpRequest(t *testing.T, from, sender, target string, tag ...gopacket.SerializableLayer) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: mac(t, from), DstMAC: mac(t, "ff:ff:ff:ff:ff:ff"), EthernetType: layers.EthernetTypeARP}
	if len(tag) > 0 {
		eth.EthernetType = layers.EthernetTypeDot1Q
	}
	return frame(t, append(append([]gopacket.SerializableLayer{eth}, tag...), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: mac(t, from), SourceProtAddress: ip(sender),
		DstHwAddress: make([]byte, 6), DstProtAddress: ip(target)})...)
}

// isARPReply says that a frame is an answer about an address.
func isARPReply(p gopacket.Packet, address string) (*layers.ARP, bool) {
	a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	return a, ok && a.Operation == layers.ARPReply && net.IP(a.SourceProtAddress).Equal(ip(address))
}

// echoRequest is a ping in one frame.
func echoRequest(t *testing.T, from, to, source, destination string, id uint16, tag ...gopacket.SerializableLayer) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: mac(t, from), DstMAC: mac(t, to), EthernetType: layers.EthernetTypeIPv4}
	if len(tag) > 0 {
		eth.EthernetType = layers.EthernetTypeDot1Q
	}
	return frame(t, append(append([]gopacket.SerializableLayer{eth}, tag...),
		&layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: ip(source), DstIP: ip(destination)},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: 1},
		gopacket.Payload("a ping in one frame"))...)
}

// isEchoReply says that a frame answers a ping.
func isEchoReply(p gopacket.Packet, id uint16) bool {
	i, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	return ok && i.TypeCode.Type() == layers.ICMPv4TypeEchoReply && i.Id == id
}

func macText(b []byte) string { return net.HardwareAddr(b).String() }
