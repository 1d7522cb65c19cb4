package ha

import (
	"fmt"
	"strings"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/packet"
	"tandem/sync/carp"
)

// perform turns what the machines decided into deeds. The transitions of one
// call are one change: books first, then addresses, adverts, announcements,
// and one sentence for people.
func (h *HA) perform(now time.Time, acts []carp.Action) {
	var changed []carp.Action
	readdress := false
	for i := range acts {
		switch a := &acts[i]; a.Kind {
		case carp.BecomeMaster, carp.BecomeBackup, carp.BecomeInit, carp.DrainEnd:
			readdress = true
			h.note(a)
			if a.Kind != carp.DrainEnd {
				changed = append(changed, *a)
			}
		}
	}
	if readdress {
		h.applyAddresses(now)
	}
	h.acts = h.advertise(now, acts)
	for i := range changed {
		if changed[i].Kind == carp.BecomeMaster {
			h.announce(now, vhidKey{changed[i].Iface, changed[i].VHID})
		}
	}
	h.tell(now, changed)
}

// note keeps what a transition means for a vhid's addresses.
func (h *HA) note(a *carp.Action) {
	key := vhidKey{a.Iface, a.VHID}
	hold := h.holds[key]
	switch a.Kind {
	case carp.BecomeMaster:
		hold.state, hold.draining = carp.Master, false
	case carp.BecomeBackup:
		hold.state, hold.draining = carp.Backup, a.Drain
	case carp.BecomeInit:
		hold.state, hold.draining = carp.Init, a.Drain
	case carp.DrainEnd:
		hold.draining = false
	}
	h.holds[key] = hold
}

// advertise sends the adverts among acts, and does what reporting their fate
// asks for, until nothing is left. It returns the emptied slice for reuse.
func (h *HA) advertise(now time.Time, acts []carp.Action) []carp.Action {
	for i := 0; i < len(acts); i++ {
		a := acts[i]
		switch a.Kind {
		case carp.SendAdvert:
			ok := h.send(now, &a)
			acts = h.group.Sent(now, a.Iface, a.VHID, a.Family, ok, acts)
		case carp.DemotionChanged:
			h.tellDemotion(now, &a)
		case carp.AlarmRaised:
			h.log(now, "warn", a.Alarm.Text, map[string]string{"alarm": a.Alarm.Kind.String()})
		case carp.AlarmCleared:
			h.log(now, "info", fmt.Sprintf("over: %s", a.Alarm.Text), map[string]string{"alarm": a.Alarm.Kind.String()})
		case carp.RoleChanged:
			h.role = string(a.Role)
			h.env.RoleChanged(h.role)
		}
	}
	return acts[:0]
}

// CARP's IP header: DSCP 56 as FreeBSD sends it, TTL 255, DF.
const (
	advertTOS = 0xe0
	advertTTL = 255
)

// send puts one advert on the wire; false: it did not leave.
func (h *HA) send(now time.Time, a *carp.Action) bool {
	i := h.iface(a.Iface)
	if i == nil || now.Sub(h.env.Router.Alive()) > aliveMax {
		return false
	}
	src, dst := virtualMAC(a.VHID), packet.MAC{}
	if a.RealMAC || h.cfg.InterfaceMAC {
		src = i.MAC
	}
	if a.Dst.IsMulticast() {
		dst = packet.MulticastMAC(a.Dst)
	} else if !i.Layer3 {
		mac, ok := h.resolve(now, i, a)
		if !ok {
			return false
		}
		dst = mac
	}
	h.ident++
	h.frame = packet.AppendIP(h.frame[:0], src, dst, a.Src, a.Dst, packet.ProtoCARP, advertTTL, advertTOS, true, h.ident, a.Payload[:])
	return h.env.Router.Send(now, a.Iface, h.frame)
}

// resolve finds a unicast peer's MAC; while it is being asked for the advert
// counts as not sent.
func (h *HA) resolve(now time.Time, i *Interface, a *carp.Action) (packet.MAC, bool) {
	if mac, ok := h.env.Neigh.Lookup(i.Index, packet.AddrFrom(a.Dst)); ok {
		return mac, true
	}
	mac, _, acts := h.env.Neigh.Resolve(now, i.Index, a.Dst, a.Src, nil)
	h.env.Router.NeighActions(now, acts)
	return mac, mac != packet.MAC{}
}

// tell writes the one sentence of a role change: what, why, from whom.
func (h *HA) tell(now time.Time, changed []carp.Action) {
	type group struct {
		kind   carp.Kind
		reason carp.Reason
	}
	var order []group
	vhids := make(map[group][]string)
	heard := make(map[group]string)
	for i := range changed {
		a := &changed[i]
		g := group{a.Kind, a.Reason}
		if vhids[g] == nil {
			order = append(order, g)
		}
		vhids[g] = append(vhids[g], fmt.Sprintf("%d@%s", a.VHID, h.ifaceName(a.Iface)))
		if a.Peer.IsValid() {
			heard[g] = h.lastWord(now, a)
		}
	}
	for _, g := range order {
		to := map[carp.Kind]string{carp.BecomeMaster: "MASTER", carp.BecomeBackup: "BACKUP", carp.BecomeInit: "INIT"}[g.kind]
		list := strings.Join(vhids[g], ", ")
		h.log(now, "info", fmt.Sprintf("%s is %s of %s: %s%s", h.cfg.Hostname, to, list, g.reason, heard[g]),
			map[string]string{"state": to, "vhids": list, "reason": string(g.reason), "role": h.role})
	}
}

// lastWord says whom a transition has to do with and, where it is about
// silence, for how long.
func (h *HA) lastWord(now time.Time, a *carp.Action) string {
	if a.Reason != carp.ReasonTimedOut {
		return fmt.Sprintf(" (%v)", a.Peer)
	}
	for _, s := range h.group.Scan(a.Iface, time.Time{}) {
		if s.VHID == a.VHID && s.Source == a.Peer {
			return fmt.Sprintf(" (last advert of %v %d ms ago)", a.Peer, now.Sub(s.Last).Milliseconds())
		}
	}
	return fmt.Sprintf(" (%v)", a.Peer)
}

// tellDemotion writes a line for a demotion that came, changed or went.
func (h *HA) tellDemotion(now time.Time, a *carp.Action) {
	d := a.Demotion
	fields := map[string]string{"demotion": d.Name, "total": fmt.Sprint(a.Total)}
	if d.Amount == 0 {
		h.log(now, "info", fmt.Sprintf("demotion %s is over: %+d to %d", d.Name, a.Delta, a.Total), fields)
		return
	}
	h.log(now, "warn", fmt.Sprintf("demoted by %d to %d: %s, until %s", a.Delta, a.Total, d.Name, d.ClearsWhen), fields)
}

func (h *HA) log(now time.Time, level, message string, fields map[string]string) {
	h.env.Event(status.Event{Time: now, Level: level, Source: "ha", Message: message, Fields: fields})
}

// alarm raises one of our own, once.
func (h *HA) alarm(now time.Time, key, severity, source, text string) {
	if old, ok := h.alarms[key]; ok && old.Message == text {
		return
	}
	h.alarms[key] = status.Alarm{Severity: severity, Source: source, Message: text, Since: now}
	h.log(now, "warn", text, map[string]string{"alarm": key})
}

func (h *HA) clearAlarm(now time.Time, key string) {
	if old, ok := h.alarms[key]; ok {
		delete(h.alarms, key)
		h.log(now, "info", "over: "+old.Message, map[string]string{"alarm": key})
	}
}
