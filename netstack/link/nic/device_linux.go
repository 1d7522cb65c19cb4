package nic

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tandem/netstack/link"
)

const (
	queuesMax   = 64
	mtuDefault  = 1500
	retryPeriod = time.Second
)

// Config describes an interface to attach to.
type Config struct {
	Device   string // its name: "eth0"
	Queues   int    // 0 means 1; more of them share the flows by hash
	TakeOver bool   // silence the kernel's stack on it
}

// Found is what the kernel had configured on an interface that was taken over.
type Found struct {
	Addresses []netip.Prefix
	Gateways  []netip.Addr // of its default routes
}

// Device is an attached interface. It is also a [link.AddressFilter] and a
// [link.DropCounter].
type Device struct {
	cfg     Config
	control int // any socket: interface ioctls, in the namespace we began in
	info    link.Info
	queues  []*queue
	drops   link.DropCount

	mu      sync.Mutex // over all below
	closed  bool
	index   uint32 // of the interface we are bound to; 0: to none
	raised  bool   // we found it down and brought it up
	silence *silence
	macs    []link.MAC // accepted beside the interface's own
	retryAt time.Time
}

// Open attaches to the interface. Errors name it and the step; they wrap the
// kernel's (ENODEV: there is no such interface; EPERM: the right is missing).
func Open(cfg Config) (*Device, error) {
	if cfg.Queues == 0 {
		cfg.Queues = 1
	}
	switch {
	case cfg.Device == "" || len(cfg.Device) >= unix.IFNAMSIZ:
		return nil, fmt.Errorf("nic %q: a device name has 1 to %d bytes", cfg.Device, unix.IFNAMSIZ-1)
	case cfg.Queues < 1 || cfg.Queues > queuesMax:
		return nil, fmt.Errorf("nic %q: %d queues; 1 to %d are possible", cfg.Device, cfg.Queues, queuesMax)
	}
	d := &Device{cfg: cfg}
	var err error
	if d.control, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("nic %q: open control socket: %w", cfg.Device, err)
	}
	for range cfg.Queues {
		d.queues = append(d.queues, newQueue(d))
	}
	if err := d.start(); err != nil {
		_ = d.Close() // The first error is the one to tell.
		return nil, fmt.Errorf("nic %q: %w", cfg.Device, err)
	}
	return d, nil
}

func (d *Device) start() error {
	index, err := d.kernel().Index()
	if err != nil {
		return fmt.Errorf("look up: %w", err)
	}
	if err := d.attach(index); err != nil {
		return err
	}
	mac, err := d.hardwareAddress()
	if err != nil {
		return err
	}
	d.info = link.Info{
		Driver: "packet", Device: d.cfg.Device, MAC: mac, MTU: d.mtu(), Queues: d.cfg.Queues,
		Features: link.Features{Checksum: true, TCP4: true, TCP6: true, UDP: knowsUDPSegments()},
	}
	return nil
}

// attach binds every queue to the interface with that index and, if asked,
// silences the kernel on it. What fails is undone by Close or the next attach.
func (d *Device) attach(index uint32) error {
	if d.cfg.TakeOver {
		// Ours is an interface that is up; another's is left as it is.
		raised, err := d.kernel().SetUp(true)
		if err != nil {
			return fmt.Errorf("bring up: %w", err)
		}
		d.raised = raised
	}
	group := fanoutNew
	for i, q := range d.queues {
		fd, err := openSocket(d.control, index)
		if err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
		if err := q.adopt(fd); err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
		if len(d.queues) > 1 {
			if group, err = joinFanout(q.fd, group); err != nil {
				return fmt.Errorf("queue %d: share flows: %w", i, err)
			}
		}
	}
	d.index = index
	if d.cfg.TakeOver {
		s, err := newSilence(d.cfg.Device, index)
		d.silence = s
		if err != nil {
			return fmt.Errorf("take over: %w", err)
		}
	}
	macs := d.macs
	d.macs = nil // A new socket is a member of nothing.
	return d.setAddresses(macs)
}

// Info says what the interface is.
func (d *Device) Info() link.Info { return d.info }

// Queue returns queue i.
func (d *Device) Queue(i int) link.Queue { return d.queues[i] }

// Found says what the kernel had on the interface before it was taken over.
func (d *Device) Found() Found {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.silence == nil {
		return Found{}
	}
	return d.silence.found()
}

// Incomplete says what of a take-over could not be had, nil if nothing: without
// the drop chain the kernel reads every frame in vain.
func (d *Device) Incomplete() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.silence == nil {
		return nil
	}
	return d.silence.incomplete
}

// Drops is what was lost here, and in the kernel's queue in front of us.
func (d *Device) Drops() link.Drops {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		for _, q := range d.queues {
			d.drops.Queue.Add(socketDrops(q.fd))
		}
	}
	return d.drops.Drops()
}

// Up says whether the interface has carrier and is up. One that is gone, or
// another one under its name, is looked for and taken over, once a second.
func (d *Device) Up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	index, err := d.kernel().Index()
	if err != nil {
		d.release()
		return false
	}
	if index != d.index {
		d.release()
		now := time.Now()
		if now.Before(d.retryAt) {
			return false
		}
		d.retryAt = now.Add(retryPeriod)
		if d.attach(index) != nil {
			d.release()
			return false
		}
	}
	flags, err := d.kernel().Flags()
	return err == nil && flags&(unix.IFF_UP|unix.IFF_RUNNING) == unix.IFF_UP|unix.IFF_RUNNING
}

// release forgets an interface that is gone, or that was taken only in part.
func (d *Device) release() {
	if d.silence != nil {
		_ = d.silence.restore() // Of an interface that is gone there is only the table.
		d.silence = nil
	}
	d.index = 0
}

// SetAddresses replaces the addresses whose frames are accepted beside the
// interface's own: virtual MACs held, groups joined. Interfaces that cannot
// filter them are made promiscuous by the kernel, for as long.
func (d *Device) SetAddresses(macs []link.MAC) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return link.ErrClosed
	}
	if d.index == 0 {
		d.macs = slices.Clone(macs) // Said again to the interface that comes.
		return nil
	}
	if err := d.setAddresses(macs); err != nil {
		return fmt.Errorf("nic %q: %w", d.cfg.Device, err)
	}
	return nil
}

// setAddresses joins first and leaves then, so that nothing that stays is
// interrupted. The first queue's socket is the member for all.
func (d *Device) setAddresses(macs []link.MAC) error {
	var errs []error
	var now []link.MAC
	for _, m := range macs {
		if slices.Contains(now, m) {
			continue
		}
		if !slices.Contains(d.macs, m) {
			if err := membership(d.queues[0].fd, d.index, unix.PACKET_ADD_MEMBERSHIP, m); err != nil {
				errs = append(errs, fmt.Errorf("receive for %x: %w", m, err))
				continue
			}
		}
		now = append(now, m)
	}
	for _, m := range d.macs {
		if !slices.Contains(now, m) {
			if err := membership(d.queues[0].fd, d.index, unix.PACKET_DROP_MEMBERSHIP, m); err != nil {
				errs = append(errs, fmt.Errorf("receive no more for %x: %w", m, err))
			}
		}
	}
	d.macs = now
	return errors.Join(errs...)
}

// Close detaches and gives the interface back to the kernel as it was found.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	for i, q := range d.queues {
		if err := q.close(); err != nil {
			errs = append(errs, fmt.Errorf("close queue %d: %w", i, err))
		}
	}
	if d.silence != nil {
		if err := d.silence.restore(); err != nil {
			errs = append(errs, fmt.Errorf("restore: %w", err))
		}
	}
	if d.raised {
		if _, err := d.kernel().SetUp(false); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("bring down: %w", err))
		}
	}
	errs = append(errs, unix.Close(d.control))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("nic %q: %w", d.cfg.Device, err)
	}
	return nil
}

// knowsUDPSegments says whether the kernel takes coalesced UDP in a virtio
// header, which it does since 6.2; nothing but its release tells.
func knowsUDPSegments() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	return releaseAtLeast(unix.ByteSliceToString(u.Release[:]), 6, 2)
}

func releaseAtLeast(release string, major, minor int) bool {
	a, rest, _ := strings.Cut(release, ".")
	b := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		b = rest[:i]
	}
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	return errX == nil && errY == nil && (x > major || x == major && y >= minor)
}
