package ha

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tandem/appliance/status"
	"tandem/sync/carp"
)

// Status is `carp status`.
func (h *HA) Status() status.CARP {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.group.Snapshot()
	out := status.CARP{
		Enabled: s.Enabled, Maintenance: s.Maintenance, Demotion: s.Demotion,
		VIPs: []status.VIP{}, Demotions: []status.Demotion{}, Heard: h.speakers(s.Heard, ""),
		Counters: h.counters(s.Counters),
	}
	for _, d := range s.Demotions {
		out.Demotions = append(out.Demotions, status.Demotion{Name: d.Name, Amount: d.Amount, Since: d.Since, ClearsWhen: d.ClearsWhen})
	}
	for _, v := range h.cfg.VIPs {
		i := slices.IndexFunc(s.VHIDs, func(st carp.Status) bool { return st.Iface == v.Iface && st.VHID == v.VHID })
		if i >= 0 {
			out.VIPs = append(out.VIPs, vipStatus(&v, &s.VHIDs[i]))
		}
	}
	return out
}

func vipStatus(v *VIP, s *carp.Status) status.VIP {
	out := status.VIP{
		Interface: s.Interface, VHID: s.VHID, Address: v.Address.String(), Type: "carp", State: s.State,
		AdvBase: s.Base, AdvSkew: s.Skew, EffectiveSkew: s.EffectiveSkew, Reason: string(s.Reason),
		Transitions: s.Transitions, LastTransition: s.LastTransition, Description: v.Description,
	}
	if v.Alias {
		out.Type = "ip_alias"
	}
	if s.MasterSource.IsValid() {
		out.MasterSource = s.MasterSource.String()
	}
	return out
}

// counters turns the machines' counters into the names of documents.
func (h *HA) counters(c carp.Counters) map[string]uint64 {
	out := make(map[string]uint64)
	if text, err := json.Marshal(c); err == nil {
		err = json.Unmarshal(text, &out)
		if err != nil {
			return map[string]uint64{}
		}
	}
	h.inMu.Lock()
	out["inbox_full"] = h.dropped
	h.inMu.Unlock()
	return out
}

// speakers lists who was heard, on one interface or (name "") on all.
func (h *HA) speakers(heard []carp.Heard, name string) []status.Speaker {
	out := []status.Speaker{}
	for _, s := range heard {
		on := h.ifaceName(s.Iface)
		if name != "" && name != on {
			continue
		}
		out = append(out, status.Speaker{Interface: on, Protocol: s.Protocol, VHID: s.VHID, Source: s.Source.String(),
			Base: int(s.Base), Skew: int(s.Skew), LastHeard: s.Last, Ours: s.Verified})
	}
	return out
}

// Scan lists who speaks CARP or VRRP and proposes a free vhid for each
// interface; name "" means all. It fails for an interface that is not there.
func (h *HA) Scan(name string) (status.Scan, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.group.Snapshot()
	out := status.Scan{Speakers: h.speakers(s.Heard, name), Free: []status.FreeVHIDs{}}
	found := name == ""
	for n := range h.cfg.Interfaces {
		i := &h.cfg.Interfaces[n]
		if name != "" && name != i.Name {
			continue
		}
		found = true
		var prefer netip.Addr
		if len(i.Addresses) > 0 {
			prefer = i.Addresses[0].Addr()
		}
		id, ok := h.group.FreeVHID(i.Index, prefer)
		if !ok {
			continue
		}
		why := "the first that nobody uses"
		if prefer.Is4() && prefer.As4()[3] == id {
			why = fmt.Sprintf("the last octet of %v, and nobody uses it", prefer)
		}
		out.Free = append(out.Free, status.FreeVHIDs{Interface: i.Name, VHID: id, Why: why})
	}
	if !found {
		return out, fmt.Errorf("there is no interface %q", name)
	}
	return out, nil
}

// Alarms lists what is wrong now, the oldest first.
func (h *HA) Alarms(now time.Time) []status.Alarm {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []status.Alarm{}
	for _, a := range h.alarms {
		out = append(out, a)
	}
	s := h.group.Snapshot()
	for _, a := range s.Alarms {
		out = append(out, status.Alarm{Severity: status.SeverityWarning, Source: "carp", Message: a.Text, Since: a.Since})
	}
	for _, d := range s.Demotions {
		out = append(out, status.Alarm{Severity: status.SeverityWarning, Source: "carp", Since: d.Since,
			Message: fmt.Sprintf("this node is demoted by %d (%s): it will not be master while another can, until %s", d.Amount, d.Name, d.ClearsWhen)})
	}
	for _, v := range s.VHIDs {
		if v.State == "INIT" && v.Reason == carp.ReasonLinkDown {
			out = append(out, status.Alarm{Severity: status.SeverityError, Source: "carp", Since: v.LastTransition,
				Message: fmt.Sprintf("vhid %d on %s is INIT: the interface has no link; connect it, or delete its VIP if it is not used, since it demotes all others", v.VHID, v.Interface)})
		}
	}
	if !s.Enabled {
		out = append(out, status.Alarm{Severity: status.SeverityWarning, Source: "carp", Message: "CARP is switched off on this node; `carp enable` switches it on", Since: now})
	}
	slices.SortFunc(out, func(a, b status.Alarm) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Message, b.Message)
	})
	return out
}

// Addresses lists an interface's addresses and what became of each.
func (h *HA) Addresses(iface uint16) []status.Address {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []status.Address{}
	i := h.iface(iface)
	if i == nil {
		return out
	}
	for n, p := range ownAddresses(i) {
		a := status.Address{Address: p.String(), Kind: "interface", State: "probing"}
		switch s, known := h.own[p.Addr()]; {
		case i.Layer3 || s.usable:
			a.State = "in use"
		case known:
			a.State, a.Holder = "duplicate", s.holder.String()
		}
		if p.Addr() == i.LinkLocal {
			a.Kind = "link_local"
		} else if n > 0 && i.Addresses[0].Addr().Is4() == p.Addr().Is4() {
			a.Kind = "ip_alias"
		}
		out = append(out, a)
	}
	for _, v := range h.cfg.VIPs {
		if v.Iface != iface {
			continue
		}
		a := status.Address{Address: v.Address.String(), Kind: "carp", State: "not held"}
		if v.Alias {
			a.Kind = "ip_alias"
		}
		if h.holds[vhidKey{v.Iface, v.VHID}].state == carp.Master {
			a.State = "held"
		}
		out = append(out, a)
	}
	return out
}
