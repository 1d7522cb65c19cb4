package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tandem/netstack/packet"
	"tandem/sync/carp"
)

// A node that gave way since its adverts did not leave sends none any more that
// could show that they would now. It announces an address of its own instead,
// so often and so many times.
const (
	mendEvery = time.Second
	mendGood  = 3
)

// mending is how far an interface has shown that it sends again.
type mending struct {
	good int // announcements in a row that left
	next time.Time
}

// mend looks after the interfaces whose last adverts did not leave, and tells
// the machines when one sends again.
func (h *HA) mend(now time.Time, acts []carp.Action) []carp.Action {
	for n := range h.cfg.Interfaces {
		i := &h.cfg.Interfaces[n]
		if !h.muted(i.Index) {
			delete(h.mending, i.Index)
			continue
		}
		m, begun := h.mending[i.Index]
		if begun && now.Before(m.next) {
			continue
		}
		m.next = now.Add(mendEvery)
		if m.good++; !begun || !h.canSend(now, i) {
			m.good = 0
		}
		h.mending[i.Index] = m
		if m.good < mendGood {
			continue
		}
		for key := range h.faults {
			if key.iface == i.Index {
				delete(h.faults, key)
			}
		}
		delete(h.mending, i.Index)
		h.log(now, "info", fmt.Sprintf("%s sends again", i.Name), map[string]string{"interface": i.Name})
		acts = h.group.SendsAgain(now, i.Index, acts)
	}
	return acts
}

// muted says whether adverts did not leave by an interface, and none will be
// sent now.
func (h *HA) muted(iface uint16) bool {
	muted := false
	for key := range h.faults {
		if key.iface != iface {
			continue
		}
		if h.holds[key.vhidKey].state == carp.Master {
			return false
		}
		muted = true
	}
	return muted
}

// canSend announces an own address and says whether that left.
func (h *HA) canSend(now time.Time, i *Interface) bool {
	if !h.links[i.Index] || i.Layer3 || now.Sub(h.env.Router.Alive()) > aliveMax {
		return false
	}
	own := slices.DeleteFunc(ownAddresses(i), func(p netip.Prefix) bool { return !h.usable(i, p.Addr()) })
	if len(own) == 0 {
		return false
	}
	a := own[0].Addr()
	if a.Is4() {
		all := packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		h.frame = packet.AppendARP(h.frame[:0], packet.ARPRequest, i.MAC, all, i.MAC, a, packet.MAC{}, a)
	} else {
		all := netip.IPv6LinkLocalAllNodes()
		h.frame = packet.AppendNA(h.frame[:0], i.MAC, packet.MulticastMAC(all), a, all, a, i.MAC, true, false, true)
	}
	return h.env.Router.Send(now, i.Index, h.frame)
}
