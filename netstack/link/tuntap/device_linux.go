package tuntap

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

const (
	clonePath   = "/dev/net/tun"
	queuesMax   = 64
	mtuMin      = 68    // RFC 791, section 3.2
	mtuMax      = 65535 // what an IPv4 packet can be
	mtuDefault  = 1500
	retryPeriod = time.Second

	offloadsTCP = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadsUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// TAPConfig describes a TAP device.
type TAPConfig struct {
	Device  string // its name, at most 15 bytes
	Queues  int    // 0 means 1
	Offload bool   // take and give coalesced frames and unfinished checksums
	Bridge  string // host bridge to be a port of, or empty
	MTU     int    // 0: as the device has it; set only on a device we create
}

// TUNConfig describes a TUN device; the fields are those of [TAPConfig].
type TUNConfig struct {
	Device  string
	Queues  int
	Offload bool
	MTU     int
}

// Device is an open TAP or TUN device.
type Device struct {
	cfg     TAPConfig
	layer3  bool
	flags   uint16 // for TUNSETIFF
	header  int    // bytes of the virtio header
	control int    // any socket: interface ioctls, in the namespace we began in
	info    link.Info
	queues  []*queue
	drops   link.DropCount
	created bool // the device is there because of us, and goes with us

	mu       sync.Mutex // what Up and Close change
	closed   bool
	ready    bool // attached and prepared, the last time we looked
	raised   bool // we found it down and brought it up
	enslaved bool // we made it a port of cfg.Bridge
	retryAt  time.Time
}

// OpenTAP creates or joins a TAP device. Errors name the device and the step;
// they wrap the kernel's (EPERM: neither owner nor privileged; EBUSY: in use
// by another process; EINVAL: made for another number of queues).
func OpenTAP(cfg TAPConfig) (*Device, error) {
	d, err := open(cfg, false)
	if err != nil {
		return nil, fmt.Errorf("tap %q: %w", cfg.Device, err)
	}
	return d, nil
}

// OpenTUN creates or joins a TUN device. Its frames carry an Ethernet header
// with zero addresses, of which only the type means anything. Errors are as
// for [OpenTAP].
func OpenTUN(cfg TUNConfig) (*Device, error) {
	d, err := open(TAPConfig{Device: cfg.Device, Queues: cfg.Queues, Offload: cfg.Offload, MTU: cfg.MTU}, true)
	if err != nil {
		return nil, fmt.Errorf("tun %q: %w", cfg.Device, err)
	}
	return d, nil
}

func open(cfg TAPConfig, layer3 bool) (*Device, error) {
	if cfg.Queues == 0 {
		cfg.Queues = 1
	}
	switch {
	case cfg.Device == "" || len(cfg.Device) >= unix.IFNAMSIZ:
		return nil, fmt.Errorf("a device name has 1 to %d bytes", unix.IFNAMSIZ-1)
	case cfg.Queues < 1 || cfg.Queues > queuesMax:
		return nil, fmt.Errorf("%d queues; 1 to %d are possible", cfg.Queues, queuesMax)
	case cfg.MTU != 0 && (cfg.MTU < mtuMin || cfg.MTU > mtuMax):
		return nil, fmt.Errorf("mtu %d; %d to %d are possible", cfg.MTU, mtuMin, mtuMax)
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	d := &Device{cfg: cfg, layer3: layer3, control: control}
	d.flags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if layer3 {
		d.flags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	}
	if cfg.Queues > 1 {
		d.flags |= unix.IFF_MULTI_QUEUE
	}
	if err := d.start(); err != nil {
		_ = d.Close() // The first error is the one to tell.
		return nil, err
	}
	return d, nil
}

// start opens the queues and makes the device ready, once.
func (d *Device) start() error {
	_, err := d.kernel().Index()
	d.created = errors.Is(err, unix.ENODEV)
	for range d.cfg.Queues {
		fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", clonePath, err)
		}
		d.queues = append(d.queues, newQueue(d, fd))
	}
	features, err := d.attach()
	if err != nil {
		return err
	}
	if err := d.prepare(); err != nil {
		return err
	}
	d.ready = true
	d.info = link.Info{
		Driver: "tap", Device: d.cfg.Device, MTU: d.mtu(), Features: features,
		Layer3: d.layer3, Queues: d.cfg.Queues,
	}
	if d.layer3 {
		d.info.Driver = "tun"
	}
	return nil
}

// attach binds every descriptor to the device and agrees on offloads.
func (d *Device) attach() (link.Features, error) {
	for i, q := range d.queues {
		err := setIff(q.fd, d.cfg.Device, d.flags)
		if errors.Is(err, unix.EEXIST) {
			err = nil // Still attached, from an attempt that did not get further.
		}
		if errors.Is(err, unix.EINVAL) && len(d.queues) == 1 {
			// Made beforehand, with or without room for more queues: one of them will do.
			d.flags ^= unix.IFF_MULTI_QUEUE
			err = setIff(q.fd, d.cfg.Device, d.flags)
		}
		if err != nil {
			return link.Features{}, fmt.Errorf("attach queue %d: %w", i, err)
		}
		if d.header == 0 {
			// Found out once: the queues read it without a lock.
			d.header = headerBytes(q.fd)
		}
		if err := unix.IoctlSetPointerInt(q.fd, unix.TUNSETVNETHDRSZ, d.header); err != nil {
			return link.Features{}, fmt.Errorf("set virtio header of %d bytes: %w", d.header, err)
		}
	}
	return d.setOffloads(), nil
}

// headerBytes is the longer virtio header where the kernel has it.
func headerBytes(fd int) int {
	if unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, link.VnetBytes) != nil {
		return link.VnetBytesShort
	}
	return link.VnetBytes
}

// setOffloads asks for the offloads the kernel has, the newest first. They
// belong to the device, not to a queue.
func (d *Device) setOffloads() link.Features {
	fd := d.queues[0].fd
	if d.cfg.Offload {
		if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloadsTCP|offloadsUDP) == nil {
			return link.Features{Checksum: true, TCP4: true, TCP6: true, UDP: true}
		}
		if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloadsTCP) == nil {
			return link.Features{Checksum: true, TCP4: true, TCP6: true}
		}
	}
	_ = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0) // Nothing to ask for: it cannot be refused.
	return link.Features{}
}

// prepare makes the attached device a link: MTU, bridge, up. On a device that
// is not ours to change the last two are left as they are.
func (d *Device) prepare() error {
	if d.cfg.MTU != 0 && d.created {
		if err := d.kernel().SetMTU(d.cfg.MTU); err != nil {
			return fmt.Errorf("set mtu %d: %w", d.cfg.MTU, err)
		}
	}
	if d.cfg.Bridge != "" {
		joined, err := d.joinBridge(d.cfg.Bridge)
		if err != nil {
			return fmt.Errorf("join bridge %q: %w", d.cfg.Bridge, err)
		}
		d.enslaved = joined
	}
	raised, err := d.kernel().SetUp(true)
	if err != nil && d.created {
		return fmt.Errorf("bring up: %w", err)
	}
	d.raised = raised
	return nil
}

// mtu is what the configuration says, else the device, else 1500.
func (d *Device) mtu() int {
	if d.cfg.MTU != 0 {
		return d.cfg.MTU
	}
	if n, err := d.kernel().MTU(); err == nil && n >= mtuMin && n <= mtuMax {
		return n
	}
	return mtuDefault
}

// Info says what the device is; it never has a MAC.
func (d *Device) Info() link.Info { return d.info }

// Queue returns queue i.
func (d *Device) Queue(i int) link.Queue { return d.queues[i] }

// Drops is what was lost here.
func (d *Device) Drops() link.Drops { return d.drops.Drops() }

// Up says whether the device exists and is up, as its descriptor tells: it
// does so also where the device was moved to another namespace. A device that
// is gone is looked for, once a second.
func (d *Device) Up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	up, gone := state(d.queues[0].fd)
	if gone {
		d.ready = false
	}
	if d.ready {
		return up
	}
	now := time.Now()
	if now.Before(d.retryAt) {
		return false
	}
	d.retryAt = now.Add(retryPeriod)
	if d.ready = d.returned(); !d.ready {
		return false
	}
	up, _ = state(d.queues[0].fd)
	return up
}

// state asks the descriptor: it is writable while the device is up, and in
// error while there is none.
func state(fd int) (up, gone bool) {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if _, err := unix.Poll(p[:], 0); err != nil {
		return false, false // A signal: the next question will tell.
	}
	if p[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
		return false, true
	}
	return p[0].Revents&unix.POLLOUT != 0, false
}

// returned attaches the descriptors again. A device that others made is left
// to them to make again.
func (d *Device) returned() bool {
	if _, err := d.kernel().Index(); err != nil && !d.created {
		return false
	}
	if _, err := d.attach(); err != nil {
		return false
	}
	return d.prepare() == nil
}

// Close detaches. A device we created is gone then; any other one is left as
// it was found, down or out of the bridge if it was.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if !d.created {
		d.giveBack()
	}
	var errs []error
	for i, q := range d.queues {
		if err := q.close(); err != nil {
			errs = append(errs, fmt.Errorf("%s: close queue %d: %w", d.cfg.Device, i, err))
		}
	}
	if err := unix.Close(d.control); err != nil {
		errs = append(errs, fmt.Errorf("%s: close control socket: %w", d.cfg.Device, err))
	}
	return errors.Join(errs...)
}

// giveBack undoes what we did to a device of others. It may be gone: then
// there is nothing to undo, and no error worth telling.
func (d *Device) giveBack() {
	if d.raised {
		_, _ = d.kernel().SetUp(false)
	}
	if d.enslaved {
		_ = d.leaveBridge(d.cfg.Bridge)
	}
	if len(d.queues) > 0 {
		_ = unix.IoctlSetInt(d.queues[0].fd, unix.TUNSETOFFLOAD, 0)
	}
}
