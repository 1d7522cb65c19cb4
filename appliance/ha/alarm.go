package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tandem/appliance/status"
	"tandem/netstack/neigh"
	"tandem/sync/carp"
)

const (
	// claimHold is how long the alarm about another station with one of our
	// addresses stays without new evidence.
	claimHold = time.Minute
	// claimMax is how long another node may announce a VIP that we hold: while
	// roles change hands, its announcements may overtake our stepping down.
	claimMax = 900 * time.Millisecond
)

// alarm is one of our own; those about adverts are the machines'.
type alarm struct {
	status.Alarm
	until time.Time // it is over then; zero: when something says so
}

// alarm raises one, once, or renews it. It ends by itself after hold, if that
// is not zero.
func (h *HA) alarm(now time.Time, key, severity, source, text string, hold time.Duration) {
	a := alarm{status.Alarm{Severity: severity, Source: source, Message: text, Since: now}, time.Time{}}
	if hold > 0 {
		a.until = now.Add(hold)
	}
	old, known := h.alarms[key]
	if known {
		a.Since = old.Since
	}
	h.alarms[key] = a
	if known && old.Message == text {
		return
	}
	level := "warn"
	if severity == status.SeverityError {
		level = "error"
	}
	h.log(now, level, text, map[string]string{"alarm": key})
}

func (h *HA) clearAlarm(now time.Time, key string) {
	if old, ok := h.alarms[key]; ok {
		delete(h.alarms, key)
		h.log(now, "info", "over: "+old.Message, map[string]string{"alarm": key})
	}
}

// expireAlarms ends those that nothing has renewed.
func (h *HA) expireAlarms(now time.Time) {
	var over []string
	for key, a := range h.alarms {
		if !a.until.IsZero() && !now.Before(a.until) {
			over = append(over, key)
		}
	}
	slices.Sort(over)
	for _, key := range over {
		h.clearAlarm(now, key)
	}
}

// conflict notes that another station claims an address of this node. While an
// own address is probed for, the probe's end tells.
func (h *HA) conflict(now time.Time, a *neigh.Action) {
	i := h.iface(a.Port)
	if i == nil {
		return
	}
	key := addrKey{a.Port, a.Addr}
	if h.own[key].usable {
		h.alarm(now, claimAlarm(key, i), status.SeverityError, "interface", fmt.Sprintf(
			"%s claims %v on %s, which is this node's: give one of the two another address", a.MAC, a.Addr, i.Name), claimHold)
		return
	}
	v := slices.IndexFunc(h.cfg.VIPs, func(v VIP) bool { return v.Iface == a.Port && v.Address.Addr() == a.Addr })
	if v < 0 {
		return
	}
	vip := &h.cfg.VIPs[v]
	if h.holds[vhidKey{vip.Iface, vip.VHID}].state != carp.Master {
		return
	}
	since, known := h.claims[key]
	if !known || now.Sub(since) > claimHold {
		h.claims[key], since = now, now
	}
	foreign := a.MAC != h.vipMAC(i, vip.VHID)
	switch {
	case foreign:
		h.alarm(now, claimAlarm(key, i), status.SeverityError, "carp", fmt.Sprintf(
			"%s claims %v on %s, a VIP that this node holds: give that station another address", a.MAC, a.Addr, i.Name), claimHold)
	case now.Sub(since) >= claimMax:
		h.alarm(now, claimAlarm(key, i), status.SeverityError, "carp", fmt.Sprintf(
			"another node announces %v on %s, a VIP that this node holds: one of the two does not hear the other's adverts, "+
				"or this node's own frames come back (a loop at layer 2)", a.Addr, i.Name), claimHold)
	}
}

func claimAlarm(key addrKey, i *Interface) string {
	return "conflict:" + key.addr.String() + "@" + i.Name
}

// forgetClaims ends what was said about a vhid's addresses: it is not ours now.
func (h *HA) forgetClaims(now time.Time, key vhidKey) {
	i := h.iface(key.iface)
	for _, v := range h.cfg.VIPs {
		if i == nil || v.Iface != key.iface || v.VHID != key.vhid {
			continue
		}
		claimed := addrKey{v.Iface, v.Address.Addr()}
		delete(h.claims, claimed)
		h.clearAlarm(now, claimAlarm(claimed, i))
	}
}

// Alarms lists what is wrong now, the oldest first.
func (h *HA) Alarms() []status.Alarm {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []status.Alarm{}
	for _, a := range h.alarms {
		out = append(out, a.Alarm)
	}
	warn := func(since time.Time, format string, args ...any) {
		out = append(out, status.Alarm{Severity: status.SeverityWarning, Source: "carp", Since: since, Message: fmt.Sprintf(format, args...)})
	}
	s := h.group.Snapshot()
	for _, a := range s.Alarms {
		warn(a.Since, "%s", a.Text)
	}
	for _, d := range s.Demotions {
		warn(d.Since, "this node is demoted by %d (%s): it will not be master while another can, until %s", d.Amount, d.Name, d.ClearsWhen)
	}
	for n := range s.VHIDs {
		if v := &s.VHIDs[n]; v.State == "INIT" && v.Reason == carp.ReasonLinkDown && !h.links[v.Iface] {
			out = append(out, status.Alarm{Severity: status.SeverityError, Source: "carp", Since: v.LastTransition,
				Message: fmt.Sprintf("vhid %d on %s is INIT: the interface has no link; connect it, or delete its VIP if it is not used, since it demotes all others", v.VHID, v.Interface)})
		}
	}
	if !s.Enabled {
		warn(h.disabled, "CARP is switched off on this node; `carp enable` switches it on")
	}
	slices.SortFunc(out, func(a, b status.Alarm) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Message, b.Message)
	})
	return out
}

// duplicate keeps the alarm about an own address in line with what probing found.
func (h *HA) duplicate(now time.Time, i *Interface, a *neigh.Action) {
	key := duplicateAlarm(addrKey{a.Port, a.Addr}, i.Name)
	if a.OK {
		h.clearAlarm(now, key)
		return
	}
	h.alarm(now, key, status.SeverityError, "interface", fmt.Sprintf(
		"%s has %v on %s: this node does not use it; give one of the two another address", a.MAC, a.Addr, i.Name), 0)
}

func duplicateAlarm(key addrKey, iface string) string {
	return "duplicate:" + key.addr.String() + "@" + iface
}
