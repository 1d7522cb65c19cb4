package nic

import (
	"fmt"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

// kernel is the interface as the kernel knows it.
func (d *Device) kernel() link.KernelDevice {
	return link.KernelDevice{Control: d.control, Name: d.cfg.Device}
}

func (d *Device) mtu() int {
	mtu, err := d.kernel().MTU()
	if err != nil {
		return mtuDefault
	}
	return mtu
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
