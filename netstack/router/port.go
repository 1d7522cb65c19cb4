package router

import (
	"sync/atomic"

	"tandem/netstack/link"
)

// portStats are the counters of one interface. They outlive a reload.
type portStats struct {
	rxPackets, rxBytes, rxDropped atomic.Uint64
	txPackets, txBytes, txErrors  atomic.Uint64
	readErrors, filterErrors      atomic.Uint64
}

// PortStats is a copy of an interface's counters.
type PortStats struct {
	RxPackets, RxBytes, RxDropped uint64
	TxPackets, TxBytes, TxErrors  uint64
	ReadErrors                    uint64
}

// port is one interface as the walk sees it.
type port struct {
	PortConfig
	info     link.Info     // of the device; of a child nothing
	features link.Features // the offloads that frames leaving here may carry
	trunk    *port         // of a VLAN child
	children []*port       // VLAN children of a trunk
	stats    *portStats
}

func newPort(c PortConfig) *port {
	p := &port{PortConfig: c, stats: new(portStats)}
	if c.Device != nil {
		p.info = c.Device.Info()
		p.features = p.info.Features
	}
	return p
}

// device is what frames of p are written to.
func (p *port) device() link.Device {
	if p.trunk != nil {
		return p.trunk.Device
	}
	return p.Device
}

// layer3 says that p has no neighbours to ask for.
func (p *port) layer3() bool { return p.info.Layer3 }

// child finds the VLAN child of p for a tag.
func (p *port) child(tpid, vid uint16) *port {
	for _, c := range p.children {
		if c.VLAN == vid && c.TPID == tpid {
			return c
		}
	}
	return nil
}

// PortStats returns the counters of interface i; false: there is none.
func (r *Router) PortStats(i uint16) (PortStats, bool) {
	ports := r.snap.Load().ports
	if int(i) >= len(ports) || ports[i] == nil {
		return PortStats{}, false
	}
	s := ports[i].stats
	return PortStats{
		RxPackets: s.rxPackets.Load(), RxBytes: s.rxBytes.Load(), RxDropped: s.rxDropped.Load(),
		TxPackets: s.txPackets.Load(), TxBytes: s.txBytes.Load(), TxErrors: s.txErrors.Load(),
		ReadErrors: s.readErrors.Load(),
	}, true
}

// Descriptors appends the descriptors that worker i must poll for reading.
func (r *Router) Descriptors(i int, fds []int) []int {
	for _, p := range r.snap.Load().ports {
		if p == nil || p.Device == nil || i >= max(1, p.info.Queues) {
			continue
		}
		if fd := p.Device.Queue(i).FD(); fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}
