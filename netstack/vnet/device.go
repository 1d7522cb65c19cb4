package vnet

import (
	"sync"
	"sync/atomic"

	"tandem/netstack/link"
)

const (
	// receiveQueueLen is how many frames wait to be read where DeviceConfig
	// does not say.
	receiveQueueLen = 1024
	// sendQueueLen is how many frames may be sent between two moments at which
	// the world comes to rest.
	sendQueueLen = 8192
	// frameSlack is by how much a frame may be longer than the MTU: an
	// Ethernet header and two VLAN tags.
	frameSlack = 14 + 2*4
	defaultMTU = 1500
)

// DeviceConfig is what a device is made from.
type DeviceConfig struct {
	MAC link.MAC
	MTU int // layer-3 bytes; zero for 1500
	// Features are the offloads taken on frames written. The device does them
	// itself, as a network card does: what comes to the wire is of wire size
	// and complete.
	Features link.Features
	// QueueLen is how many received frames wait to be read before others are
	// dropped; zero for 1024.
	QueueLen int
}

// Device is a virtual network card. It implements [link.Device], whose methods
// may be called from any goroutine, and [link.AddressFilter]: until it is told
// addresses it lets every frame in.
type Device struct {
	w    *World
	name string
	cfg  DeviceConfig

	// Owned by the world's goroutine.
	jack  *Jack
	power bool
	host  *Host // that the device belongs to, or nil

	up atomic.Bool

	mu       sync.Mutex // guards what follows
	closed   bool
	sending  bool // in the world's list
	tx       [][]byte
	rx       [][]byte // a ring of cfg.QueueLen
	rxHead   int
	rxLen    int
	accept   map[link.MAC]bool // nil: all
	readable func()
	changed  func()
	stats    DeviceStats
}

var (
	_ link.Device        = (*Device)(nil)
	_ link.Queue         = (*Device)(nil)
	_ link.AddressFilter = (*Device)(nil)
)

// DeviceStats counts frames of a device.
type DeviceStats struct {
	Written   uint64 // taken from the node, before segmentation
	Read      uint64 // handed to the node
	Overruns  uint64 // received frames dropped, since the node did not read
	Filtered  uint64 // received frames for an address the device was not told
	TooLong   uint64 // frames longer than the MTU, either way
	Refused   uint64 // written frames with an offload the device does not take, or too short
	SendDrops uint64 // written frames beyond the send queue
}

// NewDevice returns a device with power that is attached to nothing.
func (w *World) NewDevice(name string, cfg DeviceConfig) *Device {
	if cfg.MTU == 0 {
		cfg.MTU = defaultMTU
	}
	if cfg.QueueLen == 0 {
		cfg.QueueLen = receiveQueueLen
	}
	return &Device{w: w, name: name, cfg: cfg, power: true}
}

func (d *Device) device() *Device { return d }

// Attach puts the device's cable into j.
func (d *Device) Attach(j *Jack) { j.Attach(d) }

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Jack is where the device is attached; nil for nowhere.
func (d *Device) Jack() *Jack { return d.jack }

// Info implements [link.Device].
func (d *Device) Info() link.Info {
	return link.Info{
		Driver: "lab", Device: d.name, MAC: d.cfg.MAC, MTU: d.cfg.MTU,
		Features: d.cfg.Features, Queues: 1,
	}
}

// Queue implements [link.Device]; there is one.
func (d *Device) Queue(int) link.Queue { return d }

// Up implements [link.Device]: the cable is in and both its ends have power.
func (d *Device) Up() bool { return d.up.Load() }

// FD implements [link.Queue]; there is none.
func (d *Device) FD() int { return -1 }

// OnReadable has fn called when a frame has come in; it must not read at once,
// but may wake a task that will. OnLink does the same for changes of Up.
func (d *Device) OnReadable(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readable = fn
}

// OnLink has fn called when Up has changed.
func (d *Device) OnLink(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = fn
}

// SetPower turns the device on or off, as the machine it is in. Off, neither
// end of its cable has a link, and frames not yet read are lost.
func (d *Device) SetPower(on bool) {
	d.power = on
	if !on {
		d.clear()
	}
	if d.jack != nil {
		d.jack.relink()
	}
}

// SetAddresses implements [link.AddressFilter].
func (d *Device) SetAddresses(macs []link.MAC) error {
	accept := make(map[link.MAC]bool, len(macs)+1)
	accept[d.cfg.MAC] = true
	for _, m := range macs {
		accept[m] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return link.ErrGone
	}
	d.accept = accept
	return nil
}

// Close implements [link.Device]: the device loses its link and is gone. The
// world takes it from its jack when it next comes to rest.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.clear()
	d.up.Store(false)
	d.w.Post(func() {
		d.power = false
		if d.jack != nil {
			d.jack.Detach()
		}
	})
	return nil
}

// Stats returns the counters so far. It may be called from any goroutine.
func (d *Device) Stats() DeviceStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Read implements [link.Queue].
func (d *Device) Read(frames []*link.Frame) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, link.ErrGone
	}
	n := min(len(frames), d.rxLen)
	for _, f := range frames[:n] {
		f.Set(d.rx[d.rxHead])
		d.rx[d.rxHead] = nil
		d.rxHead = (d.rxHead + 1) % len(d.rx)
	}
	d.rxLen -= n
	d.stats.Read += uint64(n)
	return n, nil
}

// Write implements [link.Queue]. The frames are copied and queued; they leave
// when the world comes to rest. What the wire would not carry is taken and
// counted, as by a card.
func (d *Device) Write(frames []*link.Frame) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, link.ErrGone
	}
	for n, f := range frames {
		if len(d.tx) >= sendQueueLen {
			d.stats.SendDrops += uint64(len(frames) - n)
			return n, nil
		}
		d.stats.Written++
		if f.Offload.Segment != link.SegmentNone || f.Offload.NeedsChecksum {
			d.finishLocked(f)
		} else {
			d.queueLocked(append([]byte(nil), f.Bytes()...))
		}
	}
	return len(frames), nil
}

// transmit queues one whole frame, which is the device's from then on.
func (d *Device) transmit(data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	if len(d.tx) >= sendQueueLen {
		d.stats.SendDrops++
		return
	}
	d.queueLocked(data)
}

func (d *Device) queueLocked(data []byte) {
	switch {
	case len(data) < frameBytesMin:
		d.stats.Refused++
		return
	case len(data) > d.cfg.MTU+frameSlack:
		d.stats.TooLong++
		return
	}
	d.tx = append(d.tx, data)
	if d.sending {
		return
	}
	d.sending = true
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.sending = append(d.w.sending, d)
	d.w.signalLocked()
}

// flush puts what was sent on the cable.
func (d *Device) flush() {
	d.mu.Lock()
	tx := d.tx
	d.tx, d.sending = nil, false
	d.mu.Unlock()
	for _, data := range tx {
		if d.host != nil && d.Up() {
			d.host.sent(data)
		}
		if d.jack != nil {
			d.jack.send(data)
		}
	}
}

// rank is the device's place in the order of sending.
func (d *Device) rank() int {
	if d.jack == nil {
		return 0
	}
	return d.jack.order
}

// receive takes a frame from the cable.
func (d *Device) receive(data []byte) {
	if d.host != nil {
		d.host.received(data)
		return
	}
	d.mu.Lock()
	readable := d.readable
	taken := d.keepLocked(data)
	d.mu.Unlock()
	if taken && readable != nil {
		readable()
	}
}

func (d *Device) keepLocked(data []byte) bool {
	switch {
	case d.closed:
		return false
	case d.accept != nil && !d.accept[link.MAC(data[:6])] && link.MAC(data[:6]) != broadcast:
		d.stats.Filtered++
		return false
	case len(data) > d.cfg.MTU+frameSlack:
		d.stats.TooLong++
		return false
	case d.rxLen == d.cfg.QueueLen:
		d.stats.Overruns++
		return true // The node has still to hear that there is something.
	}
	if d.rx == nil {
		d.rx = make([][]byte, d.cfg.QueueLen)
	}
	d.rx[(d.rxHead+d.rxLen)%len(d.rx)] = data
	d.rxLen++
	return true
}

func (d *Device) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.rx)
	d.rxHead, d.rxLen, d.tx = 0, 0, nil
}

func (d *Device) setUp(up bool) {
	if d.up.Swap(up) == up {
		return
	}
	d.mu.Lock()
	changed := d.changed
	d.mu.Unlock()
	if changed != nil {
		changed()
	}
}

var broadcast = link.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
