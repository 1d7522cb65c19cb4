package tuntap

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

// setIff is TUNSETIFF: it makes fd a queue of the device name.
func setIff(fd int, name string, flags uint16) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(flags)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

// kernel is the device as the kernel knows it.
func (d *Device) kernel() link.KernelDevice {
	return link.KernelDevice{Control: d.control, Name: d.cfg.Device}
}

// joinBridge makes the device a port and says whether it was none before,
// which needs no privilege to find out.
func (d *Device) joinBridge(bridge string) (bool, error) {
	index, err := d.kernel().Index()
	if err != nil {
		return false, err
	}
	if isPort(d.control, bridge, index) {
		return false, nil
	}
	return true, d.bridgePort(unix.SIOCBRADDIF, bridge, index)
}

func (d *Device) leaveBridge(bridge string) error {
	index, err := d.kernel().Index()
	if err != nil {
		return err
	}
	return d.bridgePort(unix.SIOCBRDELIF, bridge, index)
}

func (d *Device) bridgePort(request uint, bridge string, index uint32) error {
	ifr, err := unix.NewIfreq(bridge)
	if err != nil {
		return err
	}
	ifr.SetUint32(index)
	return unix.IoctlIfreq(d.control, request, ifr)
}

// portsMax is how many ports a Linux bridge can have.
const portsMax = 1024

// isPort asks the bridge for its ports (BRCTL_GET_PORT_LIST of linux/if_bridge.h,
// the one question about them that neither netlink nor sysfs is needed for).
func isPort(control int, bridge string, index uint32) bool {
	const getPortList = 7
	var ports [portsMax]int32
	var args = [4]uintptr{getPortList, uintptr(unsafe.Pointer(&ports)), portsMax, 0}
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		rest [16]byte
	}
	copy(ifr.name[:unix.IFNAMSIZ-1], bridge)
	ifr.data = unsafe.Pointer(&args)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(control), unix.SIOCDEVPRIVATE, uintptr(unsafe.Pointer(&ifr)))
	if errno != 0 {
		return false
	}
	for _, p := range ports {
		if uint32(p) == index {
			return true
		}
	}
	return false
}
