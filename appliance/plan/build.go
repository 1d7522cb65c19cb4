package plan

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"tandem/appliance/config"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
	"tandem/netstack/route"
	"tandem/sync/carp"
)

// builder gathers a plan. Parts meet in it in the order of the file.
type builder struct {
	doc      *config.Document
	plan     *Plan
	problems []config.Problem
	numbers  map[string]uint16         // of enabled interfaces
	aliases  map[string]rule.AddrMatch // worked out already
	ids      map[string]bool           // taken by rules and translations
	same     map[string]int            // how many more entries do the same as an earlier one

	rules []rule.Rule
	keys  []string // of rule i in the document; "" for automatic ones
	nat   nat.Config
}

// Build makes the plan of a document that has no errors. The plan is nil if a
// problem is an error: something that the parts refuse, or an assertion that
// does not hold.
func Build(doc *config.Document) (*Plan, []config.Problem) {
	b := &builder{
		doc: doc, plan: &Plan{Doc: doc, HostID: doc.HA.HostID, PassForward: map[string]bool{}},
		numbers: map[string]uint16{}, aliases: map[string]rule.AddrMatch{}, ids: map[string]bool{}, same: map[string]int{},
	}
	b.interfaces()
	b.virtual()
	b.routes()
	b.states()
	b.claimIDs()
	b.translations()
	b.filter()
	b.compile()
	if !config.HasErrors(b.problems) {
		b.hidden()
		b.asserts()
	}
	problems := config.SortProblems(b.problems)
	if config.HasErrors(problems) {
		return nil, problems
	}
	return b.plan, problems
}

func (b *builder) errorf(key, format string, args ...any) {
	b.problems = append(b.problems, b.doc.Problem(config.Error, key, fmt.Sprintf(format, args...)))
}

func (b *builder) warnf(key, format string, args ...any) {
	b.problems = append(b.problems, b.doc.Problem(config.Warning, key, fmt.Sprintf(format, args...)))
}

// interfaces numbers them by their place in the file. A disabled one keeps its
// number, so that enabling it moves no other.
func (b *builder) interfaces() {
	for n := range b.doc.Interfaces {
		if i := &b.doc.Interfaces[n]; !i.Disabled {
			b.numbers[i.Name] = uint16(n + 1)
		}
	}
	for n := range b.doc.Interfaces {
		i := &b.doc.Interfaces[n]
		if i.Disabled {
			continue
		}
		out := Interface{
			Index: uint16(n + 1), Name: i.Name, Link: i.Link, MAC: i.MAC, MTU: i.MTU, Uplink: i.Uplink(),
			// Whether options pass is each rule's to say.
			Norm:   norm.Policy{MSS: uint16(i.MSS), NoDF: i.NoDF, RandomID: i.RandomID, AllowOptions: true},
			Parent: b.numbers[i.Link.Parent],
		}
		if i.Link.Driver == config.DriverVLAN {
			out.VLAN = uint16(i.Link.ID)
		}
		for _, p := range i.Addresses {
			out.Addresses = append(out.Addresses, p.Prefix)
		}
		for _, v := range b.doc.VirtualIPs {
			if !v.Disabled && v.Interface == i.Name && v.Type == config.VIPAlias && v.VHID.N == 0 {
				out.Addresses = append(out.Addresses, v.Address.Prefix)
			}
		}
		b.plan.Interfaces = append(b.plan.Interfaces, out)
	}
}

// virtual gathers what the nodes share: the VIPs, and the vhids that carry
// them. The addresses of a vhid are in order, so that both nodes hash the same
// whatever the order in their files.
func (b *builder) virtual() {
	c := &b.plan.CARP
	c.Preempt, c.DemoteByte = b.doc.HA.Preempt, b.doc.HA.DemoteByte
	c.DemotionLinkDown, c.DemotionSendError = carp.DemotionDefault, carp.DemotionDefault
	if b.doc.HA.Replay == config.ReplayDrop {
		c.Replay = carp.ReplayDrop
	}
	b.plan.InterfaceMAC = b.doc.HA.VIPMAC == config.VIPMACInterface
	for _, v := range b.doc.VirtualIPs {
		if v.Disabled || v.VHID.N == 0 {
			continue
		}
		b.plan.VIPs = append(b.plan.VIPs, VIP{
			Iface: b.numbers[v.Interface], VHID: v.VHID.N, Address: v.Address.Prefix,
			Alias: v.Type == config.VIPAlias, Description: v.Description,
		})
		if v.Type == config.VIPCARP {
			c.VHIDs = append(c.VHIDs, b.vhid(&v))
		}
	}
	for _, i := range b.plan.Interfaces {
		if !slices.ContainsFunc(c.VHIDs, func(v carp.VHID) bool { return v.Iface == i.Index }) {
			continue
		}
		listed := carp.Interface{Index: i.Index, Name: i.Name}
		for _, p := range i.Addresses {
			listed.Addresses = append(listed.Addresses, p.Addr())
		}
		c.Interfaces = append(c.Interfaces, listed)
	}
}

func (b *builder) vhid(v *config.VirtualIP) carp.VHID {
	out := carp.VHID{
		Iface: b.numbers[v.Interface], ID: v.VHID.N, Base: uint8(v.AdvBase), Skew: uint8(v.AdvSkew),
		Password: v.Password.Reveal(), Peer: v.Peer.Addr, Peer6: v.Peer6.Addr,
	}
	for _, other := range b.doc.VirtualIPs {
		if !other.Disabled && other.Interface == v.Interface && other.VHID.N == v.VHID.N {
			out.Addresses = append(out.Addresses, other.Address.Addr())
		}
	}
	slices.SortFunc(out.Addresses, netip.Addr.Compare)
	return out
}

func (b *builder) states() {
	f := &b.doc.Firewall
	c := &b.plan.States
	c.Max = f.MaxStates
	c.Timeouts, _ = state.Preset(string(f.Timeouts.Preset))
	for _, t := range f.Timeouts.Set.All() {
		if t.Value != 0 {
			*c.Timeouts.Field(t.Name) = t.Value
		}
	}
	c.AdaptiveStart, c.AdaptiveEnd = f.AdaptiveStart, f.AdaptiveEnd
	if b.doc.Has("firewall.adaptive_start") && f.AdaptiveStart == 0 && f.AdaptiveEnd == 0 {
		c.AdaptiveStart = -1 // pf's way to switch it off; to the table zero is the default.
	}
	b.plan.LogDefaultBlock = f.LogDefaultBlock
}

// compile turns what was gathered into sets.
func (b *builder) compile() {
	for n := range b.rules {
		b.rules[n].Number = n + 1
		b.plan.RuleRows[n].Number = n + 1
		b.plan.RuleKeys = append(b.plan.RuleKeys, keyOf(b.rules[n].ID))
	}
	var err error
	if b.plan.Rules, err = rule.Compile(b.rules); err != nil {
		b.errorf("rules", "%v; change the rule", err)
	}
	if b.plan.NAT, err = nat.Compile(b.nat); err != nil {
		b.errorf("nat", "%v; change the translation", err)
	}
	if b.plan.table, err = route.Build(b.plan.Routes); err != nil {
		b.errorf("routes", "%v; change the route", err)
	}
	for n := range b.plan.NATRows {
		b.plan.NATRows[n].Number = n + 1
	}
}

// keyOf is a rule's identifier as a number.
func keyOf(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64()
}

// Norms lists the normalisation of each interface by its number.
func (p *Plan) Norms() []norm.Policy {
	top := uint16(0)
	for _, i := range p.Interfaces {
		top = max(top, i.Index)
	}
	out := make([]norm.Policy, top+1)
	for _, i := range p.Interfaces {
		out[i.Index] = i.Norm
	}
	return out
}
