package vnet

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// hostLink is a host's card as its gVisor stack sees it: whole frames in and
// out. The stack calls it from any goroutine and with locks held, so that it
// only queues.
type hostLink struct {
	host *Host

	mu         sync.Mutex // guards dispatcher
	dispatcher stack.NetworkDispatcher
}

// inject gives the stack a frame.
func (l *hostLink) inject(data []byte) {
	l.mu.Lock()
	d := l.dispatcher
	l.mu.Unlock()
	if d == nil {
		return // The stack is being taken down.
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(data)})
	defer pkt.DecRef()
	d.DeliverNetworkPacket(0, pkt) // The Ethernet layer above reads the type.
}

// WritePackets implements [stack.LinkWriter].
func (l *hostLink) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	pump := false
	for _, pkt := range pkts.AsSlice() {
		pump = pump || pkt.TransportProtocolNumber == header.TCPProtocolNumber
		data := make([]byte, 0, pkt.Size())
		for _, part := range pkt.AsSlices() {
			data = append(data, part...)
		}
		l.host.dev.transmit(data)
	}
	l.host.touch(pump)
	return pkts.Len(), nil
}

// MTU implements [stack.LinkEndpoint]. The Ethernet layer above takes its
// header off it.
func (l *hostLink) MTU() uint32 { return uint32(l.host.cfg.MTU + header.EthernetMinimumSize) }

// SetMTU implements [stack.LinkEndpoint]; the MTU is the device's.
func (l *hostLink) SetMTU(uint32) {}

// MaxHeaderLength implements [stack.LinkEndpoint].
func (l *hostLink) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements [stack.LinkEndpoint].
func (l *hostLink) LinkAddress() tcpip.LinkAddress {
	return tcpip.LinkAddress(l.host.cfg.MAC[:])
}

// SetLinkAddress implements [stack.LinkEndpoint]; the address is the device's.
func (l *hostLink) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements [stack.LinkEndpoint].
func (l *hostLink) Capabilities() stack.LinkEndpointCapabilities { return 0 }

// Attach implements [stack.LinkEndpoint].
func (l *hostLink) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached implements [stack.LinkEndpoint].
func (l *hostLink) IsAttached() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dispatcher != nil
}

// Wait implements [stack.LinkEndpoint]; there is no goroutine.
func (l *hostLink) Wait() {}

// ARPHardwareType implements [stack.LinkEndpoint].
func (l *hostLink) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements [stack.LinkEndpoint]; the layer above has done so.
func (l *hostLink) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements [stack.LinkEndpoint].
func (l *hostLink) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements [stack.LinkEndpoint].
func (l *hostLink) Close() {}

// SetOnCloseAction implements [stack.LinkEndpoint].
func (l *hostLink) SetOnCloseAction(func()) {}
