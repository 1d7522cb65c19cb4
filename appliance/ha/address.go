package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/router"
	"tandem/sync/carp"
)

// virtualMAC is the address of a vhid's virtual host: 00:00:5e:00:01:VHID.
func virtualMAC(vhid uint8) packet.MAC { return packet.MAC{0, 0, 0x5e, 0, 1, vhid} }

// vipMAC is what the VIPs of a vhid answer with.
func (h *HA) vipMAC(i *Interface, vhid uint8) packet.MAC {
	if h.cfg.InterfaceMAC {
		return i.MAC
	}
	return virtualMAC(vhid)
}

// ifaceName names an interface for people.
func (h *HA) ifaceName(index uint16) string {
	if i := h.iface(index); i != nil {
		return i.Name
	}
	return fmt.Sprintf("interface %d", index)
}

func (h *HA) iface(index uint16) *Interface {
	for i := range h.cfg.Interfaces {
		if h.cfg.Interfaces[i].Index == index {
			return &h.cfg.Interfaces[i]
		}
	}
	return nil
}

// ownAddresses are the interface's own, the link-local one among them.
func ownAddresses(i *Interface) []netip.Prefix {
	out := slices.Clone(i.Addresses)
	has := slices.ContainsFunc(out, func(p netip.Prefix) bool { return p.Addr() == i.LinkLocal })
	if i.LinkLocal.IsValid() && !has {
		out = append(out, netip.PrefixFrom(i.LinkLocal, 64))
	}
	return out
}

// probe begins anew to look for others with our addresses: a link that was
// away may have come back to another segment.
func (h *HA) probe(now time.Time, iface uint16) {
	i := h.iface(iface)
	if i == nil || i.Layer3 {
		return
	}
	for _, p := range ownAddresses(i) {
		delete(h.own, p.Addr())
	}
	acts := h.env.Neigh.SetOwn(now, iface, nil, nil)
	acts = h.env.Neigh.SetOwn(now, iface, h.answered(i), acts)
	h.env.Router.NeighActions(now, acts)
}

// probing says whether it is still open who has one of an interface's own
// addresses.
func (h *HA) probing(iface uint16) bool {
	i := h.iface(iface)
	if i == nil || i.Layer3 {
		return false
	}
	return slices.ContainsFunc(ownAddresses(i), func(p netip.Prefix) bool {
		_, known := h.own[p.Addr()]
		return !known
	})
}

// answered is what the neighbour machine answers for on an interface.
func (h *HA) answered(i *Interface) []neigh.Own {
	var out []neigh.Own
	for _, p := range ownAddresses(i) {
		out = append(out, neigh.Own{Addr: p.Addr(), MAC: i.MAC, Probe: true})
	}
	for _, v := range h.cfg.VIPs {
		if v.Iface == i.Index && h.holds[vhidKey{v.Iface, v.VHID}].state == carp.Master {
			out = append(out, neigh.Own{Addr: v.Address.Addr(), MAC: h.vipMAC(i, v.VHID), Virtual: true})
		}
	}
	return out
}

// applyAddresses brings router, neighbour machine and guest stack in line
// with what is held now. It is the one place where they learn of it.
func (h *HA) applyAddresses(now time.Time) {
	all := router.Addresses{VirtualMACs: make(map[uint16][]link.MAC)}
	for n := range h.cfg.Interfaces {
		i := &h.cfg.Interfaces[n]
		var guest []netip.Prefix
		for _, p := range ownAddresses(i) {
			kind := router.Unusable
			if i.Layer3 || h.own[p.Addr()].usable {
				kind = router.Own
				guest = append(guest, p)
			}
			all.List = append(all.List, router.Address{Addr: packet.AddrFrom(p.Addr()), Iface: i.Index, Kind: kind})
		}
		guest = append(guest, h.applyVIPs(i, &all)...)
		if err := h.env.Guest.SetAddresses(i.Index, guest); err != nil {
			h.log(now, "error", fmt.Sprintf("addresses of %s: %v", i.Name, err), nil)
		}
	}
	h.env.Router.SetAddresses(all)
	for n := range h.cfg.Interfaces {
		if i := &h.cfg.Interfaces[n]; !i.Layer3 {
			h.env.Router.NeighActions(now, h.env.Neigh.SetOwn(now, i.Index, h.answered(i), nil))
		}
	}
}

// applyVIPs adds an interface's virtual addresses to all and returns those
// that the guest stack has now.
func (h *HA) applyVIPs(i *Interface, all *router.Addresses) (held []netip.Prefix) {
	for _, v := range h.cfg.VIPs {
		if v.Iface != i.Index {
			continue
		}
		state := h.holds[vhidKey{v.Iface, v.VHID}]
		kind := router.NotHeld
		switch {
		case state.state == carp.Master:
			kind = router.Held
			held = append(held, v.Address)
		case state.draining:
			kind = router.Draining
		}
		all.List = append(all.List, router.Address{Addr: packet.AddrFrom(v.Address.Addr()), Iface: i.Index, Kind: kind})
		mac := link.MAC(virtualMAC(v.VHID))
		if kind != router.NotHeld && !h.cfg.InterfaceMAC && !slices.Contains(all.VirtualMACs[i.Index], mac) {
			all.VirtualMACs[i.Index] = append(all.VirtualMACs[i.Index], mac)
		}
	}
	return held
}

// announce tells an interface's neighbours where the addresses of a vhid live now.
func (h *HA) announce(now time.Time, key vhidKey) {
	i := h.iface(key.iface)
	if i == nil || i.Layer3 {
		return
	}
	var own []neigh.Own
	for _, v := range h.cfg.VIPs {
		if v.Iface == key.iface && v.VHID == key.vhid {
			own = append(own, neigh.Own{Addr: v.Address.Addr(), MAC: h.vipMAC(i, v.VHID), Virtual: true})
		}
	}
	h.env.Router.NeighActions(now, h.env.Neigh.Announce(now, key.iface, own, nil))
}

// neighEvent acts on what the neighbour machine found out.
func (h *HA) neighEvent(now time.Time, a *neigh.Action) {
	name := h.ifaceName(a.Port)
	switch a.Kind {
	case neigh.ProbeDone:
		was := h.own[a.Addr]
		h.own[a.Addr] = ownState{usable: a.OK, holder: a.MAC}
		key := "duplicate:" + a.Addr.String()
		if !a.OK {
			h.alarm(now, key, status.SeverityError, "interface", fmt.Sprintf(
				"%s has %v on %s: this node does not use it; give one of the two another address", a.MAC, a.Addr, name))
		} else {
			h.clearAlarm(now, key)
		}
		if was.usable != a.OK {
			h.applyAddresses(now)
		}
		h.runnable(now, a.Port)
	case neigh.Conflict:
		h.alarm(now, "conflict:"+a.Addr.String(), status.SeverityError, "interface", fmt.Sprintf(
			"%s claims %v on %s, which is this node's", a.MAC, a.Addr, name))
	}
}

// forgetRemoved drops what was remembered about addresses and vhids that are
// not configured any more.
func (h *HA) forgetRemoved() {
	keep := make(map[netip.Addr]bool)
	for n := range h.cfg.Interfaces {
		for _, p := range ownAddresses(&h.cfg.Interfaces[n]) {
			keep[p.Addr()] = true
		}
	}
	for a := range h.own {
		if !keep[a] {
			delete(h.own, a)
		}
	}
	for key := range h.holds {
		if !slices.ContainsFunc(h.cfg.VIPs, func(v VIP) bool { return v.Iface == key.iface && v.VHID == key.vhid }) {
			delete(h.holds, key)
		}
	}
}
