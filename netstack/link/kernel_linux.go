package link

import "golang.org/x/sys/unix"

// KernelDevice is a network device as the kernel knows it, asked about and set
// by name over any socket (netdevice(7)). Drivers use it beside the descriptor
// that carries their frames.
type KernelDevice struct {
	Control int // a socket of any family
	Name    string
}

// get makes a request that has no argument but the name.
func (k KernelDevice) get(request uint) (*unix.Ifreq, error) {
	ifr, err := unix.NewIfreq(k.Name)
	if err != nil {
		return nil, err
	}
	return ifr, unix.IoctlIfreq(k.Control, request, ifr)
}

// Index is the device's number; it changes when the device is made anew.
func (k KernelDevice) Index() (uint32, error) {
	ifr, err := k.get(unix.SIOCGIFINDEX)
	if err != nil {
		return 0, err
	}
	return ifr.Uint32(), nil
}

// Flags are IFF_UP, IFF_RUNNING and so on.
func (k KernelDevice) Flags() (uint16, error) {
	ifr, err := k.get(unix.SIOCGIFFLAGS)
	if err != nil {
		return 0, err
	}
	return ifr.Uint16(), nil
}

// MTU is the longest layer-3 packet, in bytes.
func (k KernelDevice) MTU() (int, error) {
	ifr, err := k.get(unix.SIOCGIFMTU)
	if err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}

// SetMTU needs CAP_NET_ADMIN, as does SetUp.
func (k KernelDevice) SetMTU(mtu int) error {
	ifr, err := unix.NewIfreq(k.Name)
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(mtu))
	return unix.IoctlIfreq(k.Control, unix.SIOCSIFMTU, ifr)
}

// SetUp brings the device up or down and says whether that changed anything.
func (k KernelDevice) SetUp(up bool) (bool, error) {
	flags, err := k.Flags()
	if err != nil {
		return false, err
	}
	if flags&unix.IFF_UP != 0 == up {
		return false, nil
	}
	ifr, err := unix.NewIfreq(k.Name)
	if err != nil {
		return false, err
	}
	ifr.SetUint16(flags ^ unix.IFF_UP)
	if err := unix.IoctlIfreq(k.Control, unix.SIOCSIFFLAGS, ifr); err != nil {
		return false, err
	}
	return true, nil
}
