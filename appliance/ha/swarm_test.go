package ha

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"tandem/netstack/packet"
	"tandem/netstack/router"
	"tandem/netstack/vnet"
)

var (
	swarmSeed = flag.Uint64("seed", 1, "first seed of the random faults")
	swarms    = flag.Uint64("seeds", 25, "how many runs with seeds from there on")
)

// swarm is a pair to which things happen by chance.
type swarm struct {
	*stage
	nodes [2]*box // nil: switched off
	cfgs  [2]Config
	draw  func() uint64
	did   []string
}

func (w *swarm) pick(n int) int { return int(w.draw() % uint64(n)) }

// node is one of those that are on, or nil.
func (w *swarm) node() (int, *box) {
	n := w.pick(2)
	return n, w.nodes[n]
}

// happen lets one thing happen.
func (w *swarm) happen() {
	n, b := w.node()
	net := names[1+w.pick(3)]
	say := func(format string, args ...any) {
		w.did = append(w.did, fmt.Sprintf("%s %s", w.Now().Format("05.000"), fmt.Sprintf(format, args...)))
	}
	if b == nil {
		w.nodes[n] = w.add(w.cfgs[n])
		say("%s boots", w.nodes[n].name)
		return
	}
	jack := b.ports[uint16(1+w.pick(3))].Jack()
	switch w.pick(12) {
	case 0:
		b.crash()
		w.nodes[n] = nil
		say("%s crashes", b.name)
	case 1, 2:
		jack.Pull()
		say("%s loses a cable", b.name)
	case 3, 4:
		jack.Push()
		say("%s gets a cable", b.name)
	case 5:
		jack.SetCable(vnet.Cable{Delay: 100 * time.Microsecond, Loss: float64(w.pick(60)) / 100, Jitter: time.Duration(w.pick(20)) * time.Millisecond,
			Duplicate: float64(w.pick(30)) / 100, Reorder: float64(w.pick(30)) / 100, Corrupt: float64(w.pick(10)) / 100})
		say("%s has a bad cable", b.name)
	case 6:
		w.switches[net].Cut([]string{"a", "b"}[n], []string{"b", "a"}[n])
		say("%s carries nothing away from %s", net, b.name)
	case 7:
		b.hung = !b.hung
		b.wake()
		say("%s hangs: %v", b.name, b.hung)
	case 8:
		b.ha.SetMaintenance(w.Now(), w.pick(2) == 0)
		say("%s: maintenance", b.name)
	case 9:
		b.ha.SetEnabled(w.Now(), w.pick(2) == 0)
		say("%s: CARP on or off", b.name)
	case 10:
		p := b.ports[uint16(1+w.pick(3))]
		p.refuses = !p.refuses
		say("%s: a device refuses: %v", b.name, p.refuses)
	case 11:
		w.switches[net].Reboot(time.Duration(w.pick(5000)) * time.Millisecond)
		say("%s reboots", net)
	}
}

// heal takes every fault away.
func (w *swarm) heal() {
	for n := range w.nodes {
		if w.nodes[n] == nil {
			w.nodes[n] = w.add(w.cfgs[n])
		}
		b := w.nodes[n]
		b.hung = false
		for _, p := range b.ports {
			p.refuses = false
			p.Jack().SetCable(vnet.Cable{Delay: 100 * time.Microsecond})
			p.Jack().Push()
		}
		b.ha.SetMaintenance(w.Now(), false)
		b.ha.SetEnabled(w.Now(), true)
		b.wake()
	}
	for _, sw := range w.switches {
		sw.Heal()
	}
}

// consistent holds what must hold at every moment on one node.
func (w *swarm) consistent(t *testing.T) {
	for _, b := range w.nodes {
		if b == nil {
			continue
		}
		for _, v := range b.cfg.VIPs {
			state := b.state(v.VHID)
			at, _ := b.router.Local(packet.AddrFrom(v.Address.Addr()))
			if held := b.guest.holds(v.Iface, v.Address.Addr()); held != (state == "MASTER") || (at.Kind == router.Held) != held {
				t.Errorf("%s is %s of vhid %d, the guest has its address: %v, it is of kind %v", b.name, state, v.VHID, held, at.Kind)
			}
		}
	}
}

// TestAPairFindsItsRolesAfterAnything lets faults come by chance, and expects
// that the pair is as it should be soon after the last is gone.
func TestAPairFindsItsRolesAfterAnything(t *testing.T) {
	for seed := *swarmSeed; seed < *swarmSeed+*swarms; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := &swarm{stage: newStage(t), cfgs: [2]Config{pairConfig("a", 2, 0), pairConfig("b", 3, 100)}}
			for range seed % 64 { // other streams for other seeds
				w.Rand("a")()
				w.Rand("b")()
			}
			w.draw = w.Rand(fmt.Sprint("swarm ", seed))
			for range 40 {
				w.happen()
				w.run(time.Duration(w.pick(4000)) * time.Millisecond)
				w.consistent(t)
			}
			w.heal()
			w.run(20 * time.Second)
			a, b := w.nodes[0], w.nodes[1]
			a.want("MASTER", "MASTER")
			b.want("BACKUP", "BACKUP")
			w.consistent(t)
			if d := a.ha.Status().Demotion + b.ha.Status().Demotion; d != 0 {
				t.Errorf("demotions are left: %+v, %+v", a.ha.Status().Demotions, b.ha.Status().Demotions)
			}
			w.frames = nil
			w.run(10 * time.Second)
			for _, net := range []string{"wan", "lan"} {
				if n := len(w.adverts(net, "")); n < 9 || n > 11 {
					t.Errorf("%d adverts on %s in ten seconds", n, net)
				}
			}
			w.run(20 * time.Minute) // what was suspected is forgotten
			a.wantNoAlarm()
			b.wantNoAlarm()
			if t.Failed() {
				for _, line := range w.did {
					t.Log(line)
				}
			}
		})
	}
}
