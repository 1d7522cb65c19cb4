package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"slices"

	"tandem/appliance/ha"
	"tandem/appliance/plan"
	"tandem/netstack/host"
	"tandem/netstack/link"
	"tandem/netstack/neigh"
	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/norm"
	"tandem/netstack/route"
	"tandem/netstack/router"
)

// hostQueue bounds the packets of the node's own that wait for the router.
const hostQueue = 1024

// policy is what the filter is given of a plan.
func policy(p *plan.Plan, gen uint32) *pf.Policy {
	norms := make([]norm.Policy, len(p.Interfaces)+1)
	for _, i := range p.Interfaces {
		norms[i.Index] = i.Norm
		norms[i.Index].AllowOptions = true // the rules decide about options
	}
	return &pf.Policy{Gen: gen, Rules: p.Rules, RuleKeys: p.RuleKeys, NAT: p.NAT, PassForward: p.PassForward,
		Norm: norms, LogDefaultBlock: p.LogDefaultBlock}
}

// newHost makes the guest stack with one interface for each port.
func (n *Node) newHost() (*host.Host, error) {
	var ifaces []host.Interface
	for _, p := range n.ports {
		ifaces = append(ifaces, host.Interface{Index: p.plan.Index, Name: p.plan.Name, MTU: p.mtu})
	}
	return host.New(host.Config{Interfaces: ifaces, Clock: n.env.Clock, Rand: n.env.Rand, QueueLen: hostQueue, Wake: n.pokes.data})
}

// plugIn gives the ports to router and neighbour machine, and the routes to
// router and guest stack.
func (n *Node) plugIn(p *plan.Plan) error {
	var cfgs []router.PortConfig
	for _, port := range n.ports {
		cfgs = append(cfgs, port.routerConfig())
		if !port.device.Info().Layer3 {
			n.neigh.AddPort(port.plan.Index, neigh.PortConfig{MAC: port.mac, LinkLocal: port.local, Networks: n.networks(p, port)})
		}
	}
	if err := n.router.SetPorts(cfgs); err != nil {
		return err
	}
	table, err := route.Build(p.Routes)
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	n.setRoutes(table)
	return nil
}

// setRoutes puts a routing table in force, in the guest stack too, which
// chooses source addresses by it.
func (n *Node) setRoutes(table *route.Table) {
	n.router.SetRoutes(table)
	var guest []host.Route
	for _, r := range table.List() {
		if r.Kind != route.Blackhole {
			guest = append(guest, host.Route{Prefix: r.Prefix, Iface: r.Iface})
		}
	}
	n.host.SetRoutes(guest)
}

// routerConfig describes a port to the router.
func (p *portOf) routerConfig() router.PortConfig {
	c := router.PortConfig{Index: p.plan.Index, Name: p.plan.Name, MAC: link.MAC(p.mac), MTU: p.mtu,
		Source6: packet.AddrFrom(p.local)}
	if p.plan.VLAN != 0 {
		c.Parent, c.VLAN, c.TPID = p.plan.Parent, p.plan.VLAN, packet.EtherTypeVLAN
	} else {
		c.Device = p.device
	}
	for i := len(p.plan.Addresses) - 1; i >= 0; i-- { // the first of a family counts
		a := p.plan.Addresses[i].Addr()
		switch {
		case a.Is4():
			c.Source4 = packet.AddrFrom(a)
		case !a.IsLinkLocalUnicast():
			c.Source6 = packet.AddrFrom(a)
		}
	}
	return c
}

// networks are the connected prefixes of a port, those of VIPs included.
func (n *Node) networks(p *plan.Plan, port *portOf) []netip.Prefix {
	var out []netip.Prefix
	add := func(a netip.Prefix) {
		if a = a.Masked(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for _, a := range port.plan.Addresses {
		add(a)
	}
	for _, v := range p.VIPs {
		if v.Iface == port.plan.Index {
			add(v.Address)
		}
	}
	return out
}

// roles is what the roles are given of a plan.
func (n *Node) roles(p *plan.Plan) ha.Config {
	cfg := ha.Config{Hostname: p.Doc.System.Hostname, CARP: p.CARP, InterfaceMAC: p.InterfaceMAC}
	for _, v := range p.VIPs {
		cfg.VIPs = append(cfg.VIPs, ha.VIP{Iface: v.Iface, VHID: v.VHID, Address: v.Address, Alias: v.Alias, Description: v.Description})
	}
	for _, port := range n.ports {
		cfg.Interfaces = append(cfg.Interfaces, ha.Interface{Index: port.plan.Index, Name: port.plan.Name, MAC: port.mac,
			Addresses: port.plan.Addresses, LinkLocal: port.local, Layer3: port.device.Info().Layer3})
	}
	// The machines choose adverts' sources from all addresses of an interface;
	// the link-local one is known only here.
	cfg.CARP.Interfaces = slices.Clone(p.CARP.Interfaces)
	for i := range cfg.CARP.Interfaces {
		c := &cfg.CARP.Interfaces[i]
		if port := n.port(c.Index); port != nil && !slices.Contains(c.Addresses, port.local) {
			c.Addresses = append(slices.Clone(c.Addresses), port.local)
		}
	}
	return cfg
}

// macOf is the MAC of an interface: as configured; of a NIC its own; else one
// that is made once from host and interface name, locally administered, and
// kept, so that a node that is renamed does not confuse its neighbours.
func (n *Node) macOf(hostname string, i *plan.Interface, info link.Info) (packet.MAC, error) {
	if i.MAC != [6]byte{} {
		return packet.MAC(i.MAC), nil
	}
	if info.MAC != (link.MAC{}) {
		return packet.MAC(info.MAC), nil
	}
	name := "mac-" + i.Name
	kept, err := n.env.Store.Get(name)
	if err == nil {
		if b, err := hex.DecodeString(string(kept)); err == nil && len(b) == 6 {
			return packet.MAC(b), nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return packet.MAC{}, fmt.Errorf("read its MAC: %w", err)
	}
	sum := fnv.New64a()
	sum.Write([]byte(hostname + "\x00" + i.Name))
	var mac packet.MAC
	h := sum.Sum64()
	for k := range mac {
		mac[k] = byte(h >> (8 * k))
	}
	mac[0] = mac[0]&^1 | 2
	if err := n.env.Store.Put(name, []byte(hex.EncodeToString(mac[:]))); err != nil {
		return packet.MAC{}, fmt.Errorf("keep its MAC: %w", err)
	}
	return mac, nil
}
