package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

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

// usable says whether the node may use one of an interface's own addresses.
func (h *HA) usable(i *Interface, a netip.Addr) bool {
	return i.Layer3 || h.own[addrKey{i.Index, a}].usable
}

// probe begins anew to look for others with our addresses: a link that was
// away may have come back to another segment. Until that has ended none of
// them is used.
func (h *HA) probe(now time.Time, iface uint16) {
	i := h.iface(iface)
	if i == nil || i.Layer3 {
		return
	}
	for _, p := range ownAddresses(i) {
		delete(h.own, addrKey{iface, p.Addr()})
	}
	h.env.Router.NeighActions(now, h.env.Neigh.SetOwn(now, iface, nil, nil))
	h.applyAddresses(now)
}

// probing says whether it is still open who has one of an interface's own
// addresses.
func (h *HA) probing(iface uint16) bool {
	i := h.iface(iface)
	if i == nil || i.Layer3 {
		return false
	}
	return slices.ContainsFunc(ownAddresses(i), func(p netip.Prefix) bool {
		_, known := h.own[addrKey{iface, p.Addr()}]
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
			if h.usable(i, p.Addr()) {
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

// announce tells an interface's neighbours where those of its virtual
// addresses live now that the caller chooses.
func (h *HA) announce(now time.Time, iface uint16, chosen func(*VIP) bool) {
	i := h.iface(iface)
	if i == nil || i.Layer3 {
		return
	}
	var own []neigh.Own
	for n := range h.cfg.VIPs {
		if v := &h.cfg.VIPs[n]; v.Iface == iface && chosen(v) {
			own = append(own, neigh.Own{Addr: v.Address.Addr(), MAC: h.vipMAC(i, v.VHID), Virtual: true})
		}
	}
	if len(own) > 0 {
		h.env.Router.NeighActions(now, h.env.Neigh.Announce(now, iface, own, nil))
	}
}

// heldVIPs are the virtual addresses held now, with the MAC of each.
func (h *HA) heldVIPs() map[addrKey]packet.MAC {
	out := make(map[addrKey]packet.MAC)
	for _, v := range h.cfg.VIPs {
		if i := h.iface(v.Iface); i != nil && h.holds[vhidKey{v.Iface, v.VHID}].state == carp.Master {
			out[addrKey{v.Iface, v.Address.Addr()}] = h.vipMAC(i, v.VHID)
		}
	}
	return out
}

// announceNew tells the neighbours of held addresses that a change of the
// configuration brought, or gave another MAC.
func (h *HA) announceNew(now time.Time, before map[addrKey]packet.MAC) {
	held := h.heldVIPs()
	for n := range h.cfg.Interfaces {
		h.announce(now, h.cfg.Interfaces[n].Index, func(v *VIP) bool {
			key := addrKey{v.Iface, v.Address.Addr()}
			mac, now := held[key]
			was, then := before[key]
			return now && (!then || was != mac)
		})
	}
}

// neighEvent acts on what the neighbour machine found out.
func (h *HA) neighEvent(now time.Time, a *neigh.Action, acts []carp.Action) []carp.Action {
	i := h.iface(a.Port)
	if i == nil {
		return acts
	}
	switch a.Kind {
	case neigh.ProbeDone:
		return h.probed(now, i, a, acts)
	case neigh.Conflict:
		h.conflict(now, a)
	}
	return acts
}

// probed notes whether an own address is free.
func (h *HA) probed(now time.Time, i *Interface, a *neigh.Action, acts []carp.Action) []carp.Action {
	if !slices.ContainsFunc(ownAddresses(i), func(p netip.Prefix) bool { return p.Addr() == a.Addr }) {
		return acts
	}
	key := addrKey{a.Port, a.Addr}
	was := h.own[key].usable
	h.own[key] = ownState{usable: a.OK, holder: a.MAC}
	h.duplicate(now, i, a)
	if was != a.OK {
		h.applyAddresses(now)
		var err error
		if acts, err = h.group.SetConfig(now, h.carpConfig(), acts); err != nil {
			h.log(now, "error", err.Error(), nil) // checked when it was taken
		}
	}
	return h.tellLink(now, a.Port, acts)
}

// forgetOwn drops what was remembered about own addresses that are not
// configured any more.
func (h *HA) forgetOwn(now time.Time) {
	keep := make(map[addrKey]bool)
	for n := range h.cfg.Interfaces {
		i := &h.cfg.Interfaces[n]
		for _, p := range ownAddresses(i) {
			keep[addrKey{i.Index, p.Addr()}] = true
		}
	}
	for key := range h.own {
		if !keep[key] {
			delete(h.own, key)
			h.clearAlarm(now, duplicateAlarm(key, h.ifaceName(key.iface)))
		}
	}
}

// forgetHolds does so for vhids.
func (h *HA) forgetHolds() {
	for key := range h.holds {
		if !slices.ContainsFunc(h.cfg.VIPs, func(v VIP) bool { return v.Iface == key.iface && v.VHID == key.vhid }) {
			delete(h.holds, key)
		}
	}
}
