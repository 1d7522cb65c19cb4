package nic

import (
	"fmt"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

// get asks the control socket about the interface (netdevice(7)).
func (d *Device) get(request uint) (*unix.Ifreq, error) {
	ifr, err := unix.NewIfreq(d.cfg.Device)
	if err != nil {
		return nil, err
	}
	return ifr, unix.IoctlIfreq(d.control, request, ifr)
}

func (d *Device) ifindex() (uint32, error) {
	ifr, err := d.get(unix.SIOCGIFINDEX)
	if err != nil {
		return 0, err
	}
	return ifr.Uint32(), nil
}

func (d *Device) flags() (uint16, error) {
	ifr, err := d.get(unix.SIOCGIFFLAGS)
	if err != nil {
		return 0, err
	}
	return ifr.Uint16(), nil
}

func (d *Device) mtu() int {
	ifr, err := d.get(unix.SIOCGIFMTU)
	if err != nil {
		return mtuDefault
	}
	return int(ifr.Uint32())
}

// hardwareAddress refuses interfaces that are not Ethernet.
func (d *Device) hardwareAddress() (link.MAC, error) {
	kind, address, err := hardwareAddress(d.control, d.cfg.Device)
	if err != nil {
		return link.MAC{}, fmt.Errorf("ask for hardware address: %w", err)
	}
	if kind != unix.ARPHRD_ETHER {
		return link.MAC{}, fmt.Errorf("not an Ethernet interface (hardware type %d)", kind)
	}
	return link.MAC(address[:6]), nil
}

// setUp brings the interface up or down and says whether that changed anything.
func (d *Device) setUp(up bool) (bool, error) {
	ifr, err := d.get(unix.SIOCGIFFLAGS)
	if err != nil {
		return false, err
	}
	flags := ifr.Uint16()
	if flags&unix.IFF_UP != 0 == up {
		return false, nil
	}
	ifr.SetUint16(flags ^ unix.IFF_UP)
	if err := unix.IoctlIfreq(d.control, unix.SIOCSIFFLAGS, ifr); err != nil {
		return false, err
	}
	return true, nil
}
