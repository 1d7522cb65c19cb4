package carp

import (
	"net/netip"
	"time"
)

// did completes what v's machine has appended to acts from n on: names the
// vhid, signs adverts, and keeps the books about changes of state.
func (g *Group) did(now time.Time, v *vhost, n int, acts []Action) []Action {
	for end := len(acts); n < end; n++ {
		act := &acts[n]
		act.Iface, act.VHID = v.cfg.Iface, v.cfg.ID
		switch act.Kind {
		case SendAdvert:
			g.address(v, act)
			twin := *act
			v.sign(v.key, act)
			if v.oldKey != nil && now.Before(v.oldKeyUntil) {
				v.sign(v.oldKey, &twin)
				acts = append(acts, twin)
			}
		case BecomeMaster, BecomeBackup, BecomeInit:
			acts = g.changed(now, v, n, acts)
		}
	}
	return acts
}

// sign makes the advert that act describes.
func (v *vhost) sign(key *Key, act *Action) {
	adv := Encode(act.Payload[:], v.cfg.ID, act.Base, act.Skew, act.Demote)
	key.Sign(adv, v.counter)
	v.counter++
}

// address chooses where an advert comes from and goes to.
func (g *Group) address(v *vhost, act *Action) {
	act.Dst = group4
	if act.Family == IPv6 {
		act.Dst = group6
	}
	if peer := v.unicast(act.Family); peer.IsValid() {
		act.Dst, act.RealMAC = peer, true
	}
	act.Src = v.source(act.Family, act.Dst)
}

func (v *vhost) unicast(f Family) netip.Addr {
	if f == IPv6 {
		return v.cfg.Peer6
	}
	return v.cfg.Peer
}

// source is the interface's first address of the family, for IPv6 the first
// of the scope that dst has; without one of its own, the virtual host's first,
// which a sender of adverts holds.
func (v *vhost) source(f Family, dst netip.Addr) netip.Addr {
	var found netip.Addr
	local := dst.IsLinkLocalUnicast() || dst.IsMulticast()
	for _, list := range [2][]netip.Addr{v.iface.cfg.Addresses, v.cfg.Addresses} {
		for _, addr := range list {
			switch {
			case addr.Is6() != (f == IPv6):
			case f == IPv4 || isLinkLocal6(addr) == local:
				return addr.WithZone("")
			case !found.IsValid():
				found = addr.WithZone("")
			}
		}
		if found.IsValid() {
			return found
		}
	}
	return found
}

// changed keeps the books when v changes to the state that acts[n] tells.
func (g *Group) changed(now time.Time, v *vhost, n int, acts []Action) []Action {
	act := &acts[n]
	was := v.state
	v.state = v.machine.State()
	v.reason, v.lastTransition = act.Reason, now
	v.transitions++
	if act.Kind == BecomeMaster && !act.Peer.IsValid() {
		act.Peer = v.peer // who has fallen silent
	}
	v.peer = act.Peer
	switch {
	case act.Kind == BecomeMaster:
		g.counters.BecameMaster++
		v.peer, v.drainUntil = netip.Addr{}, time.Time{}
	case was == Master:
		v.drainUntil = drainEnd(now, act.Reason)
		act.Drain = !v.drainUntil.IsZero()
	}
	if act.Reason == ReasonTimedOut || act.Reason == ReasonWillTimeOut {
		acts = g.noteFlap(now, v, acts)
	}
	return acts
}

// drainEnd is when a master that steps down stops forwarding at the latest;
// zero: at once, since nothing can arrive or be sent any more.
func drainEnd(now time.Time, why Reason) time.Time {
	switch why {
	case ReasonLinkDown, ReasonNoAddress, ReasonRemoved:
		return time.Time{}
	case ReasonDisabled, ReasonLeaving:
		return now.Add(drainMax)
	}
	return now.Add(drainAfterAdvert) // It was the new master's advert that made us step down.
}

// heardSuccessor shortens draining once another node advertises.
func (v *vhost) heardSuccessor(now time.Time) {
	if soon := now.Add(drainAfterAdvert); v.state != Master && soon.Before(v.drainUntil) {
		v.drainUntil = soon
	}
}

// finish ends every call: what the vhids' states together mean.
func (g *Group) finish(now time.Time, acts []Action) []Action {
	acts = g.takeTogether(now, acts)
	role := g.roleNow()
	acts = g.watchMixed(now, role, acts)
	if role != g.role {
		g.role = role
		acts = append(acts, Action{Kind: RoleChanged, Role: role})
	}
	return acts
}

// takeTogether lets the backups that could preempt healthy masters do so, once
// every backup knows where it stands. A node that comes back would otherwise
// take its vhids one by one, as their adverts happen to arrive, and for up to
// an advert's interval what comes in by one of its addresses could not leave
// by the other. One that hears nothing at all settles by its own timer.
func (g *Group) takeTogether(now time.Time, acts []Action) []Action {
	for _, v := range g.vhosts {
		if !v.machine.Settled() {
			return acts
		}
	}
	for _, v := range g.vhosts {
		n := len(acts)
		acts = g.did(now, v, n, v.machine.TakeTogether(now, acts))
	}
	return acts
}
