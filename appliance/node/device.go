package node

import (
	"fmt"
	"time"

	"tandem/appliance/config"
	"tandem/appliance/plan"
	"tandem/netstack/host"
	"tandem/netstack/link"
	"tandem/netstack/link/nic"
	"tandem/netstack/link/tuntap"
)

// OpenDevice attaches an interface as its driver says, for [Env.Open] of a
// node that runs for real.
func OpenDevice(i *plan.Interface) (link.Device, error) {
	l := &i.Link
	switch l.Driver {
	case config.DriverTAP:
		return tuntap.OpenTAP(tuntap.TAPConfig{Device: l.Device, Queues: l.Queues, Offload: l.Offload, Bridge: l.Bridge, MTU: i.MTU})
	case config.DriverTUN:
		return tuntap.OpenTUN(tuntap.TUNConfig{Device: l.Device, Queues: l.Queues, Offload: l.Offload, MTU: i.MTU})
	case config.DriverPacket:
		return nic.Open(nic.Config{Device: l.Device, Queues: l.Queues, TakeOver: l.TakeOver})
	case config.DriverSocket:
		return link.OpenSocket(link.SocketConfig{Listen: l.Listen, Connect: l.Connect, Kind: string(l.Kind), MTU: i.MTU})
	case config.DriverLab:
		return nil, fmt.Errorf("driver lab is a cable to a switch of `appliance lab`; `run` has none")
	}
	return nil, fmt.Errorf("driver %s cannot be opened", l.Driver)
}

// realClock is the clock of the machine.
type realClock struct{}

// RealClock returns the clock of the machine, for a node that runs for real.
func RealClock() Clock { return realClock{} }

func (realClock) Now() time.Time { return time.Now() }

func (realClock) AfterFunc(d time.Duration, f func()) host.Timer {
	return realTimer{time.AfterFunc(d, f)}
}

type realTimer struct{ t *time.Timer }

func (t realTimer) Stop() bool            { return t.t.Stop() }
func (t realTimer) Reset(d time.Duration) { t.t.Reset(d) }
