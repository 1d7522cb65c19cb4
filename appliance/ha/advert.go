package ha

import (
	"fmt"
	"net/netip"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/packet"
	"tandem/sync/carp"
)

// CARP's IP header: DSCP 56 as FreeBSD sends it, TTL 255, DF.
const (
	advertTOS = 0xe0
	advertTTL = 255
)

// An advert to a unicast peer waits for the peer's MAC, looked at often, and
// for less than an interval.
const (
	peerLookEvery = 20 * time.Millisecond
	peerWaitMax   = 800 * time.Millisecond
)

// unsent is an advert that waits for a unicast peer's MAC.
type unsent struct {
	act         carp.Action
	since, next time.Time
}

// advertKey names a stream of adverts.
type advertKey struct {
	vhidKey
	family carp.Family
}

// fault is why adverts did not leave.
type fault struct {
	why  string
	good int // how many have left since
}

// advertise sends one advert and tells the machines whether it left. One whose
// unicast peer has no MAC yet is kept for a moment.
func (h *HA) advertise(now time.Time, a *carp.Action, acts []carp.Action) []carp.Action {
	i := h.iface(a.Iface)
	if i == nil {
		return acts
	}
	if still := now.Sub(h.env.Router.Alive()); still > aliveMax {
		return h.sent(now, a, fmt.Sprintf("the data path has stood still for %d ms", still.Milliseconds()), acts)
	}
	src := packet.MAC(virtualMAC(a.VHID))
	if a.RealMAC || h.cfg.InterfaceMAC {
		src = i.MAC
	}
	dst, known := h.advertTo(now, i, a)
	if !known {
		h.unsent = append(h.unsent, unsent{*a, now, now.Add(peerLookEvery)})
		return acts
	}
	h.ident++
	h.frame = packet.AppendIP(h.frame[:0], src, dst, a.Src, a.Dst, packet.ProtoCARP, advertTTL, advertTOS, true, h.ident, a.Payload[:])
	if !h.env.Router.Send(now, a.Iface, h.frame) {
		return h.sent(now, a, "the device did not take it", acts)
	}
	return h.sent(now, a, "", acts)
}

// advertTo is the MAC that an advert goes to; false: a unicast peer is being
// asked for it.
func (h *HA) advertTo(now time.Time, i *Interface, a *carp.Action) (packet.MAC, bool) {
	switch {
	case a.Dst.IsMulticast():
		return packet.MulticastMAC(a.Dst), true
	case i.Layer3:
		return packet.MAC{}, true
	}
	if mac, ok := h.env.Neigh.Lookup(i.Index, packet.AddrFrom(a.Dst)); ok {
		return mac, true
	}
	mac, _, asks := h.env.Neigh.Resolve(now, i.Index, a.Dst, a.Src, nil)
	h.env.Router.NeighActions(now, asks)
	return mac, mac != packet.MAC{}
}

// sendLate tries again to send the adverts that wait for a peer. A peer that
// does not answer is no fault of this node's, and demoting it would tell
// nobody: it is an alarm.
func (h *HA) sendLate(now time.Time, acts []carp.Action) []carp.Action {
	waiting := h.unsent
	h.unsent = nil
	for n := range waiting {
		u := &waiting[n]
		key := peerAlarm(u.act.Dst)
		switch {
		case now.Before(u.next):
			h.unsent = append(h.unsent, *u)
		case now.Sub(u.since) >= peerWaitMax:
			h.alarm(now, key, status.SeverityWarning, "carp", fmt.Sprintf(
				"%v, the unicast peer of vhid %d@%s, does not answer: it is off, or not at that address", u.act.Dst, u.act.VHID, h.ifaceName(u.act.Iface)), 0)
		default:
			have := len(h.unsent)
			acts = h.advertise(now, &u.act, acts)
			if len(h.unsent) > have {
				h.unsent[have].since = u.since
			}
		}
	}
	return acts
}

func peerAlarm(peer netip.Addr) string { return "peer:" + peer.String() }

// sent tells the machines what became of an advert (why is empty if it left),
// and people when that changes.
func (h *HA) sent(now time.Time, a *carp.Action, why string, acts []carp.Action) []carp.Action {
	key := advertKey{vhidKey{a.Iface, a.VHID}, a.Family}
	name := fmt.Sprintf("%d@%s", a.VHID, h.ifaceName(a.Iface))
	fields := map[string]string{"vhid": name}
	f, faulty := h.faults[key]
	switch {
	case why != "":
		if !faulty || f.good > 0 {
			h.log(now, "warn", fmt.Sprintf("an advert of %s was not sent: %s", name, why), fields)
		}
		h.faults[key] = fault{why: why}
	case faulty:
		if f.good++; f.good == 1 {
			h.log(now, "info", fmt.Sprintf("adverts of %s leave again (before: %s)", name, f.why), fields)
		}
		h.faults[key] = f
		if f.good >= mendGood { // The machines have forgiven by now, too.
			delete(h.faults, key)
		}
	}
	if why == "" && !a.Dst.IsMulticast() {
		h.clearAlarm(now, peerAlarm(a.Dst))
	}
	return h.group.Sent(now, a.Iface, a.VHID, a.Family, why == "", acts)
}
