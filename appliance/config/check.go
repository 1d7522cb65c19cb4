package config

import (
	"slices"
	"strings"
)

// checker finds faults between keys, and what is allowed but unwise. It meets
// documents that the decoder has found fault with, so values may be zero and
// names may be empty; those are passed over, they were reported already.
type checker struct {
	*faults
	doc  *Document
	sync string // name of the interface between the nodes, if any
}

// check fills in what the document leaves to us (alias kinds, automatic vhids,
// default protocols) and reports all that is wrong between keys.
func check(f *faults, doc *Document) {
	c := &checker{faults: f, doc: doc, sync: syncInterface(doc)}
	c.system()
	c.names()
	c.aliases()
	c.vhids()
	for i := range doc.Interfaces {
		c.iface(&doc.Interfaces[i])
	}
	c.links()
	c.subnets()
	for i := range doc.VirtualIPs {
		c.vip(&doc.VirtualIPs[i])
	}
	c.cluster()
	c.routing()
	c.rules()
	c.nat()
	c.asserts()
}

// syncInterface is the interface between the nodes: one called sync. State sync
// over another interface, such as LAN, leaves that one what it is.
func syncInterface(doc *Document) string {
	for _, i := range doc.Interfaces {
		if strings.EqualFold(i.Name, "sync") {
			return i.Name
		}
	}
	return ""
}

func (c *checker) system() {
	s := &c.doc.System
	if c.doc.Schema != schemaVersion {
		c.errorf("schema", "is %d, and this build reads schema %d; an older or newer build wrote this file", c.doc.Schema, schemaVersion)
	}
	if s.Hostname != "" && !isHostname(s.Hostname) {
		c.errorf("system.hostname", "%q is no host name; give letters, digits and \"-\", such as fw-primary", s.Hostname)
	}
	for _, word := range strings.FieldsFunc(strings.ToLower(s.Hostname), func(r rune) bool { return r == '-' || r == '.' }) {
		if word == "master" || word == "backup" {
			c.warnf("system.hostname", "%s is a state, which both nodes have in turn; call the nodes primary and secondary", word)
		}
	}
	if s.Domain != "" && !isHostname(s.Domain) {
		c.errorf("system.domain", "%q is no domain; give one such as example.test", s.Domain)
	}
	if s.StateDir == "" {
		c.errorf("system.state_dir", "is empty; give a folder, or leave it out for /var/lib/appliance")
	}
	if s.Control == "" {
		c.errorf("system.control", "is empty; give a path, or leave it out for /run/appliance/control.sock")
	}
	c.firewall()
}

func (c *checker) firewall() {
	f := &c.doc.Firewall
	if f.MaxStates < maxStatesMin || f.MaxStates > maxStatesMax {
		c.errorf("firewall.max_states", "%d is not from %d to %d", f.MaxStates, maxStatesMin, maxStatesMax)
	}
	start, end := c.index.has("firewall.adaptive_start"), c.index.has("firewall.adaptive_end")
	switch {
	case start != end:
		c.errorf("firewall", "adaptive_start and adaptive_end go together; give both or neither")
	case start && (f.AdaptiveStart < 0 || f.AdaptiveEnd < f.AdaptiveStart):
		c.errorf("firewall.adaptive_end", "%d lies below adaptive_start %d; time-outs shrink from the start to the end", f.AdaptiveEnd, f.AdaptiveStart)
	}
	for _, t := range f.Timeouts.Set.All() {
		key := "firewall.timeouts." + t.Name
		if c.index.has(key) && (t.Value <= 0 || t.Value > timeoutMax) {
			c.errorf(key, "%v is not above zero and at most two years", t.Value)
		}
	}
}

const (
	maxStatesMin = 16
	maxStatesMax = 100_000_000
	timeoutMax   = 2 * 365 * day
)

func isHostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isName(label) || len(label) > 63 || strings.Contains(label, "_") || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// nameBytesMax bounds names of interfaces, groups, aliases and gateways.
const nameBytesMax = 31

// reserved are words that a name would be mistaken for.
func reserved() []string {
	return []string{"any", "self", "none", "tap", "tun", "packet", "xdp", "macvtap", "socket", "vlan", "lagg", "bridge", "wireguard", "lab"}
}

// name reports a name that cannot be used.
func (c *checker) name(key, name string) {
	switch {
	case !isName(name) || len(name) > nameBytesMax:
		c.errorf(key, "%q is no name; give at most %d letters, digits, \"_\" and \"-\"", name, nameBytesMax)
	case slices.Contains(reserved(), name):
		c.errorf(key, "%q is a word of the configuration; choose another name", name)
	}
}

// names checks interfaces and groups, whose names share one space.
func (c *checker) names() {
	if len(c.doc.Interfaces) == 0 {
		c.errorf("interfaces", "there is none; add [interfaces.lan] with a link and its addresses")
	}
	for _, i := range c.doc.Interfaces {
		c.name(i.Key, i.Name)
	}
	for _, g := range c.doc.Groups {
		c.name(g.Key, g.Name)
		if _, clash := c.doc.Interface(g.Name); clash {
			c.errorf(g.Key, "is also an interface; give the group a name of its own")
		}
		if g.Disabled {
			continue
		}
		if len(g.Members) == 0 {
			c.errorf(g.Key, "has no members; name at least one interface")
		}
		list := membersKey(c.index, g.Key)
		for n, m := range g.Members {
			switch {
			case m == "":
			case slices.Contains(g.Members[:n], m):
				c.errorf(element(list, n), "%s is a member already; leave it out here", m)
			default:
				c.mustBeInterface(element(list, n), m)
			}
		}
	}
}

// mustBeInterface reports a name that no interface has.
func (c *checker) mustBeInterface(key, name string) (*Interface, bool) {
	if name == "" {
		return nil, false
	}
	i, ok := c.doc.Interface(name)
	if !ok {
		c.errorf(key, "there is no interface %q%s", name, didYouMean(name, c.interfaceNames()))
	}
	return i, ok
}

func (c *checker) interfaceNames() []string {
	var names []string
	for _, i := range c.doc.Interfaces {
		names = append(names, i.Name)
	}
	return names
}

// where checks the interfaces of a rule or translation: names and groups.
func (c *checker) where(key string, names []string) {
	known := c.interfaceNames()
	for _, g := range c.doc.Groups {
		known = append(known, g.Name)
	}
	for n, name := range names {
		at := key
		if c.index.has(element(key, n)) {
			at = element(key, n)
		}
		switch {
		case name == "":
		case !slices.Contains(known, name):
			c.errorf(at, "there is no interface or group %q%s", name, didYouMean(name, known))
		case len(c.doc.Members(name)) == 0:
			c.warnf(at, "%s is disabled, so this never applies", name)
		}
	}
	if len(names) == 0 && c.index.has(key) {
		c.errorf(key, "names no interface; give one, such as \"wan\"")
	}
}
