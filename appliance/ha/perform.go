package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tandem/appliance/status"
	"tandem/sync/carp"
)

// perform turns what the machines decided into deeds, and does the same with
// what reporting the fate of adverts makes them decide, until nothing is left.
// Cause is when this node first could have known what it answers.
func (h *HA) perform(now, cause time.Time, acts []carp.Action) {
	for len(acts) > 0 {
		acts = h.performOnce(now, cause, acts)
	}
}

// performOnce does what one list of actions asks for. Its transitions are one
// change: books and role first, then addresses, adverts, announcements, and
// one sentence for people. It returns what the machines want besides.
func (h *HA) performOnce(now, cause time.Time, acts []carp.Action) (more []carp.Action) {
	var changed []carp.Action
	readdress := false
	for i := range acts {
		switch a := &acts[i]; a.Kind {
		case carp.BecomeMaster, carp.BecomeBackup, carp.BecomeInit:
			readdress = true
			h.note(now, a)
			changed = append(changed, *a)
		case carp.DrainEnd:
			readdress = true
			h.note(now, a)
		case carp.RoleChanged:
			h.role = string(a.Role)
			h.env.RoleChanged(h.role)
		}
	}
	if readdress {
		h.applyAddresses(now)
	}
	for i := range acts {
		switch a := &acts[i]; a.Kind {
		case carp.SendAdvert:
			more = h.advertise(now, a, more)
		case carp.DemotionChanged:
			h.tellDemotion(now, a)
		case carp.AlarmRaised:
			h.log(now, "warn", a.Alarm.Text, map[string]string{"alarm": a.Alarm.Kind.String()})
		case carp.AlarmCleared:
			h.log(now, "info", fmt.Sprintf("over: %s", a.Alarm.Text), map[string]string{"alarm": a.Alarm.Kind.String()})
		}
	}
	for i := range changed {
		if a := &changed[i]; a.Kind == carp.BecomeMaster {
			h.announce(now, a.Iface, func(v *VIP) bool { return v.VHID == a.VHID })
		}
	}
	h.tell(now, cause, changed)
	return more
}

// note keeps what a transition means for a vhid's addresses.
func (h *HA) note(now time.Time, a *carp.Action) {
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
	if hold.state != carp.Master {
		h.unsent = slices.DeleteFunc(h.unsent, func(u unsent) bool { return u.act.Iface == a.Iface && u.act.VHID == a.VHID })
		h.forgetClaims(now, key)
	}
}

// tell writes the one sentence of a role change: what, why, from whom, and how
// long after its cause.
func (h *HA) tell(now, cause time.Time, changed []carp.Action) {
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
		if heard[g] == "" && a.Peer.IsValid() {
			heard[g] = h.lastWord(now, a)
		}
	}
	for _, g := range order {
		to := map[carp.Kind]string{carp.BecomeMaster: "MASTER", carp.BecomeBackup: "BACKUP", carp.BecomeInit: "INIT"}[g.kind]
		list := strings.Join(vhids[g], ", ")
		text := fmt.Sprintf("%s is %s of %s: %s%s", h.cfg.Hostname, to, list, g.reason, heard[g])
		if g.kind == carp.BecomeMaster {
			text += fmt.Sprintf("; announced in %d ms", now.Sub(cause).Milliseconds())
		}
		h.log(now, "info", text, map[string]string{"state": to, "vhids": list, "reason": string(g.reason), "role": h.role})
	}
}

// lastWord says whom a transition has to do with: where it is about silence,
// for how long it lasts, else what made the other the worse master.
func (h *HA) lastWord(now time.Time, a *carp.Action) string {
	for _, s := range h.group.Scan(a.Iface, time.Time{}) {
		if s.VHID != a.VHID || s.Source != a.Peer {
			continue
		}
		switch {
		case a.Reason == carp.ReasonTimedOut:
			return fmt.Sprintf(" (last advert of %v %d ms ago)", a.Peer, now.Sub(s.Last).Milliseconds())
		case a.Kind == carp.BecomeMaster && s.Base == carp.BowOut && s.Skew == carp.BowOut:
			return fmt.Sprintf(" (%v says farewell)", a.Peer)
		case a.Kind == carp.BecomeMaster && s.Skew >= carp.SkewDemoted:
			return fmt.Sprintf(" (%v has demoted itself)", a.Peer)
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
