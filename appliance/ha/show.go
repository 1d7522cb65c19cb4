package ha

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"tandem/appliance/status"
	"tandem/sync/carp"
)

// reasonProbing is why a vhid does not run yet although the link is up.
const reasonProbing = "checking own addresses"

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
			row := vipStatus(&v, &s.VHIDs[i])
			if row.State == "INIT" && h.links[v.Iface] && h.probing(v.Iface) {
				row.Reason = reasonProbing
			}
			out.VIPs = append(out.VIPs, row)
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

// Addresses lists an interface's addresses and what became of each.
func (h *HA) Addresses(iface uint16) []status.Address {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []status.Address{}
	i := h.iface(iface)
	if i == nil {
		return out
	}
	listed := make(map[bool]bool) // by Is4
	for _, p := range ownAddresses(i) {
		a := status.Address{Address: p.String(), Kind: "interface", State: "probing"}
		switch s, known := h.own[addrKey{iface, p.Addr()}]; {
		case h.usable(i, p.Addr()):
			a.State = "in use"
		case known:
			a.State, a.Holder = "duplicate", s.holder.String()
		}
		if p.Addr() == i.LinkLocal {
			a.Kind = "link_local"
		} else if listed[p.Addr().Is4()] {
			a.Kind = "ip_alias"
		} else {
			listed[p.Addr().Is4()] = true // The first of a family is the interface's.
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
