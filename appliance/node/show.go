package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tandem/appliance/plan"
	"tandem/appliance/status"
	"tandem/netstack/packet"
	"tandem/netstack/pf/state"
	"tandem/netstack/route"
)

// Status is the node on one screen.
func (n *Node) Status() status.Node {
	now := n.env.Clock.Now()
	p := n.currentPlan()
	out := status.Node{
		Hostname: p.Doc.System.Hostname, HostID: p.HostID, Version: n.env.Version, Role: n.ha.Role(),
		UptimeSeconds: now.Sub(n.started).Seconds(), Alarms: n.ha.Alarms(), Interfaces: n.Interfaces(),
		CARP: n.ha.Status(), States: n.StateCount(), Drops: n.drops(),
	}
	if since := n.fullSince(now, &out.States); !since.IsZero() {
		out.Alarms = append(out.Alarms, status.Alarm{Severity: status.SeverityError, Source: "states", Since: since,
			Message: fmt.Sprintf("the state table is full (%d): new connections are refused; raise max_states or look at `states top`", out.States.Limit)})
	}
	if a, wrong := wrongClock(now, n.env.Built, n.started); wrong {
		out.Alarms = append(out.Alarms, a)
	}
	out.Healthy = len(out.Alarms) == 0
	return out
}

// fullSince is when the state table was first seen full; zero: it is not.
func (n *Node) fullSince(now time.Time, c *status.StateCount) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case c.States < c.Limit:
		n.full = time.Time{}
	case n.full.IsZero():
		n.full = now
	}
	return n.full
}

// CARP is `carp status`.
func (n *Node) CARP() status.CARP { return n.ha.Status() }

// Scan is `carp scan`; an empty name means all interfaces.
func (n *Node) Scan(iface string) (status.Scan, error) { return n.ha.Scan(iface) }

// Interfaces lists the interfaces with their addresses and counters.
func (n *Node) Interfaces() []status.Interface {
	n.mu.Lock()
	ports := n.ports
	n.mu.Unlock()
	out := []status.Interface{}
	for _, p := range ports {
		info := p.device.Info()
		s, _ := n.router.PortStats(p.plan.Index)
		row := status.Interface{Name: p.plan.Name, Driver: info.Driver, Device: info.Device, MAC: p.mac.String(), MTU: p.mtu,
			Link: "down", Addresses: n.ha.Addresses(p.plan.Index),
			RX: status.Counters{Packets: s.RxPackets, Bytes: s.RxBytes, Dropped: s.RxDropped, Errors: s.ReadErrors},
			TX: status.Counters{Packets: s.TxPackets, Bytes: s.TxBytes, Errors: s.TxErrors},
		}
		if p.plan.VLAN != 0 {
			row.Driver, row.Device = "vlan", fmt.Sprintf("%s.%d", info.Device, p.plan.VLAN)
		}
		if p.device.Up() {
			row.Link = "up"
		}
		out = append(out, row)
	}
	return out
}

// drops joins the drop counters of router and filter.
func (n *Node) drops() []status.Drop {
	out := []status.Drop{}
	for _, d := range n.router.Drops() {
		out = append(out, status.Drop{Reason: d.Reason, Packets: d.Packets})
	}
	for _, d := range n.filter.Drops() {
		out = append(out, status.Drop{Reason: d.Reason, Packets: d.Packets})
	}
	return out
}

// StateCount is `states count`.
func (n *Node) StateCount() status.StateCount {
	s := n.filter.States().Stats()
	out := status.StateCount{States: s.States, Limit: s.Limit, Local: s.Local, Peer: s.Peer,
		Inserts: s.Inserts, Removals: s.Removals, Searches: s.Searches, Drops: []status.Drop{}}
	for i, count := range s.Reasons {
		if count > 0 && state.Reason(i) != state.OK {
			out.Drops = append(out.Drops, status.Drop{Reason: state.Reason(i).String(), Packets: count})
		}
	}
	return out
}

// States lists the states that match a filter: words that must all be found,
// each a protocol, an interface, an address, a prefix, a port (":443") or a
// state. It fails for nothing; a word that means nothing matches nothing.
func (n *Node) States(filter string) []status.State {
	mono := n.router.Mono(n.env.Clock.Now())
	p := n.currentPlan()
	numbers := ruleNumbers(p)
	words := strings.Fields(filter)
	out := []status.State{}
	n.filter.States().List(func(f *state.Flow) bool {
		row := n.stateRow(f, mono)
		if matches(&row, f, words) {
			if i, ok := numbers[f.RuleID]; ok {
				row.Rule = p.RuleRows[i].ID
			}
			out = append(out, row)
		}
		return true
	})
	return out
}

// ruleNumbers finds a rule by its key. A state's own number is that of the
// rules under which it was last judged, which may be older ones.
func ruleNumbers(p *plan.Plan) map[uint64]int {
	out := make(map[uint64]int, len(p.RuleKeys))
	for i, key := range p.RuleKeys {
		out[key] = i
	}
	return out
}

// KillStates ends the states that match a filter and says how many.
func (n *Node) KillStates(filter string) int {
	mono := n.router.Mono(n.env.Clock.Now())
	words := strings.Fields(filter)
	return n.filter.States().Kill(func(f *state.Flow) bool {
		row := n.stateRow(f, mono)
		return matches(&row, f, words)
	})
}

func (n *Node) stateRow(f *state.Flow, mono int64) status.State {
	row := status.State{
		ID: fmt.Sprintf("%016x", f.WireIn), Creator: fmt.Sprintf("%08x", f.Creator),
		Protocol: protoName(f.Proto), State: f.State(), Origin: "local", Rule: "default",
		Source: endpoint(f.In.Src, f.In.SrcPort, f.Proto), Destination: endpoint(f.In.Dst, f.In.DstPort, f.Proto),
		TranslatedSource:      endpoint(f.Out.Src, f.Out.SrcPort, f.Proto),
		TranslatedDestination: endpoint(f.Out.Dst, f.Out.DstPort, f.Proto),
		AgeSeconds:            float64(mono-f.Created) / 1e9, ExpiresSeconds: max(0, float64(f.Expires-mono)/1e9),
		Packets: f.Packets[0] + f.Packets[1], Bytes: f.Bytes[0] + f.Bytes[1],
	}
	row.Interface, row.Direction = n.ifaceName(f.IfIn), "in"
	if f.IfIn == 0 {
		row.Interface, row.Direction = n.ifaceName(f.IfOut), "out"
	}
	if f.Peer {
		row.Origin = "peer"
	}
	return row
}

// matches says whether every word is found in a state.
func matches(row *status.State, f *state.Flow, words []string) bool {
	for _, w := range words {
		if !matchesWord(row, f, w) {
			return false
		}
	}
	return true
}

func matchesWord(row *status.State, f *state.Flow, w string) bool {
	if strings.EqualFold(w, row.Protocol) || w == row.Interface || w == row.ID || w == row.Origin || strings.Contains(row.State, strings.ToUpper(w)) {
		return true
	}
	if port, ok := strings.CutPrefix(w, ":"); ok {
		v, err := strconv.Atoi(port)
		return err == nil && slices.Contains([]uint16{f.In.SrcPort, f.In.DstPort, f.Out.SrcPort, f.Out.DstPort}, uint16(v))
	}
	ends := []netip.Addr{f.In.Src.Netip(), f.In.Dst.Netip(), f.Out.Src.Netip(), f.Out.Dst.Netip()}
	if prefix, err := netip.ParsePrefix(w); err == nil {
		return slices.ContainsFunc(ends, prefix.Contains)
	}
	if addr, err := netip.ParseAddr(w); err == nil {
		return slices.Contains(ends, addr)
	}
	return slices.Contains([]string{row.Source, row.Destination, row.TranslatedSource, row.TranslatedDestination}, w)
}

// Rules lists the rules in the order in which they are judged; all says
// whether the automatic ones are among them.
func (n *Node) Rules(all bool) []status.Rule {
	p := n.currentPlan()
	counters := n.filter.RuleCounters(p.Rules, p.RuleKeys)
	out := []status.Rule{}
	for i, r := range p.RuleRows {
		if r.Automatic && !all {
			continue
		}
		c := counters[i]
		out = append(out, status.Rule{
			Number: r.Number, ID: r.ID, Interface: r.Interface, Action: r.Action, Direction: r.Direction, Family: r.Family,
			Protocol: r.Protocol, Source: r.Source, SourcePort: r.SourcePort, Destination: r.Destination,
			DestinationPort: r.DestinationPort, State: r.State, Quick: r.Quick, Log: r.Log, Extra: slices.Clip(append([]string{}, r.Extra...)),
			Description: r.Description, Automatic: r.Automatic,
			Evaluations: c.Evaluations, Packets: c.Packets, Bytes: c.Bytes, States: c.States,
		})
	}
	return out
}

// NAT lists the translations in the order in which they are judged.
func (n *Node) NAT() []status.Translation {
	p := n.currentPlan()
	out := []status.Translation{}
	for i, r := range p.NATRows {
		out = append(out, status.Translation{
			Number: r.Number, Kind: r.Kind, Interface: r.Interface, Family: r.Family, Protocol: r.Protocol, Source: r.Source,
			SourcePort: r.SourcePort, Destination: r.Destination, DestinationPort: r.DestinationPort, Translation: r.Translation,
			StaticPort: r.StaticPort, Description: r.Description, Automatic: r.Automatic, Used: p.NAT.Used(i),
		})
	}
	return out
}

// NATText is the automatic outbound rules as text for the file.
func (n *Node) NATText() string { return n.currentPlan().NATText() }

// ARP lists the neighbours of both families.
func (n *Node) ARP() []status.Neighbour {
	out := []status.Neighbour{}
	for _, e := range n.neigh.List(n.env.Clock.Now()) {
		out = append(out, status.Neighbour{Address: e.Addr.String(), MAC: e.MAC.String(), Interface: n.ifaceName(e.Port),
			State: e.State.String(), AgeSeconds: e.Age.Seconds(), ExpiresSeconds: e.Expires.Seconds()})
	}
	return out
}

// DeleteARP forgets a neighbour; it is asked for again when it is needed.
func (n *Node) DeleteARP(addr netip.Addr) {
	now := n.env.Clock.Now()
	n.router.NeighActions(now, n.neigh.Delete(addr, nil))
}

// Routes lists the routing table.
func (n *Node) Routes() []status.Route {
	out := []status.Route{}
	for _, r := range n.router.Routes().List() {
		row := status.Route{Destination: r.Prefix.String(), Kind: r.Kind.String()}
		if r.Kind == route.Via {
			row.Gateway = r.Gateway.String()
		}
		if r.Kind != route.Blackhole {
			row.Interface = n.ifaceName(r.Iface)
		}
		out = append(out, row)
	}
	return out
}

// ifaceName names an interface; 0 is the node itself.
func (n *Node) ifaceName(index uint16) string {
	if index == 0 {
		return "self"
	}
	for i := range n.interfaces() {
		if p := &n.interfaces()[i]; p.Index == index {
			return p.Name
		}
	}
	return fmt.Sprintf("interface %d", index)
}

// protoName is a protocol as the configuration writes it.
func protoName(proto uint8) string {
	switch proto {
	case packet.ProtoICMP:
		return "icmp"
	case packet.ProtoICMPv6:
		return "icmp6"
	case packet.ProtoTCP:
		return "tcp"
	case packet.ProtoUDP:
		return "udp"
	case packet.ProtoCARP:
		return "carp"
	case packet.ProtoPfsync:
		return "pfsync"
	case packet.ProtoIGMP:
		return "igmp"
	case packet.ProtoGRE:
		return "gre"
	case packet.ProtoESP:
		return "esp"
	case packet.ProtoAH:
		return "ah"
	}
	return strconv.Itoa(int(proto))
}

// endpoint writes an address, with its port where the protocol has ports.
func endpoint(a packet.Addr, port uint16, proto uint8) string {
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6:
		return netip.AddrPortFrom(a.Netip(), port).String()
	}
	return a.Netip().String()
}
