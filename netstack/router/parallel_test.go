package router

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"tandem/netstack/link"
	"tandem/netstack/packet"
	"tandem/netstack/pf/state"
)

// Two workers walk packets while everything that may change under them does.
// It is for the race detector; what it can say itself is that nobody's packet
// waits for ever.
func TestWorkersAndChangesAtOnce(t *testing.T) {
	l := newLab(t, labConfig{Rules: everything(), NAT: masquerade(), Workers: 2, States: 500,
		VIPs: []Address{{packet.AddrFrom(vipAddr), wan, Held}}})
	const rounds = 300
	var wg sync.WaitGroup
	loop := func(f func(i int)) {
		wg.Go(func() {
			for i := range rounds {
				f(i)
			}
		})
	}
	for i := range 2 {
		w := l.router.Worker(i)
		loop(func(int) { w.Step(l.now) })
	}
	loop(func(i int) {
		dst := netip.AddrFrom4([4]byte{198, 51, 100, byte(20 + i%200)})
		l.wires[lan].put(udp(lan, ap(client4, uint16(1+i)), ap(dst, 53), text(100)), udp(lan, ap(client6, 7), ap(far6, 53), nil))
		l.wires[lan].put(cutUp(t, udp(lan, ap(client4, uint16(1+i)), ap(far4, 53), text(3000)), 1000)...)
		l.wires[wan].put(echo(wan, far4, vipAddr, uint16(i), 1), icmp(wan, far4, wanAddr, 3, 3, 0, udp(wan, ap(wanAddr, 1), ap(far4, 2), nil)[14:]))
	})
	loop(func(i int) {
		l.mu.Lock()
		l.guest = append(l.guest, wireFrame{b: udp(0, ap(wanAddr, uint16(1+i)), ap(far4, 9), nil)})
		l.guestBy = append(l.guestBy, wan)
		l.mu.Unlock()
		l.router.Send(l.now, wan, udp(wan, ap(wanAddr, 1), ap(far4, 2), nil))
	})
	loop(func(i int) {
		list := append([]Address(nil), l.addresses.List...)
		list[len(list)-1].Kind = []AddressKind{Held, Draining, NotHeld}[i%3]
		l.router.SetAddresses(Addresses{List: list, VirtualMACs: map[uint16][]link.MAC{wan: {virtualMAC}}})
		l.router.NeighActions(l.now, l.neigh.Delete(netip.AddrFrom4([4]byte{198, 51, 100, byte(20 + i%200)}), nil))
	})
	loop(func(i int) {
		switch i % 10 {
		case 0:
			if err := l.router.SetPorts(l.ports); err != nil {
				t.Error(err)
			}
		case 1:
			l.router.LinkDown(wan)
		case 2:
			l.setRules(everything())
		case 3:
			l.filter.States().Kill(func(*state.Flow) bool { return true })
		}
		l.router.Drops()
		l.router.PortStats(wan)
		l.filter.Drops()
	})
	wg.Wait()
	l.wait(10 * time.Second)
	if l.router.hold.count != 0 || len(l.router.hold.byHop) != 0 {
		t.Errorf("%d packets still wait", l.router.hold.count)
	}
}
