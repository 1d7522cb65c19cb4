package config

import "slices"

func (c *checker) rules() {
	ids := map[string]string{}
	for n := range c.doc.Rules {
		r := &c.doc.Rules[n]
		m := c.match(r.Key, &r.Protocol, r.Family, r.Source, r.SourcePort, r.Destination, r.DestinationPort)
		c.id(r.Key, r.ID, ids)
		if r.Disabled {
			continue
		}
		c.where(r.Key+".interface", r.Interface)
		if len(r.Interface) > 1 {
			c.errorf(r.Key+".interface", "this build does not have floating rules yet, and a rule for a list of interfaces is one; name one interface, or a group")
		}
		c.matchNames(r.Key, r.Source, r.SourcePort, r.Destination, r.DestinationPort)
		c.icmpTypes(r, m)
		if r.TCPFlags != (TCPFlags{}) && !slices.Equal(r.Protocol.V4, []uint8{protoTCP}) {
			c.errorf(r.Key+".tcp_flags", "only TCP has flags; add protocol = \"tcp\"")
		}
		if slices.Equal(r.Protocol.V4, []uint8{protoCARP}) && r.Action != ActionPass {
			c.warnf(r.Key, "CARP on interfaces with a VIP is passed by an automatic rule above, so this does not stop it")
		}
		if r.State != StateKeep && r.Action != ActionPass && c.index.has(r.Key+".state") && r.Action != "" {
			c.warnf(r.Key+".state", "a rule that does not pass makes no states; leave it out")
		}
	}
}

// id checks an identifier, which counters and logs go by.
func (c *checker) id(key, id string, seen map[string]string) {
	switch other, twice := seen[id]; {
	case id == "":
		return
	case !isName(id):
		c.errorf(key+".id", "%q is no identifier; give letters, digits, \"_\" and \"-\"", id)
	case twice:
		c.errorf(key+".id", "%q is that of %s; give each its own", id, other)
	}
	seen[id] = key
}

// match checks what rules and translations have in common, gives a port its
// default protocols, and returns the IP version that alone can match, or 0.
func (c *checker) match(key string, protocol *Protocol, family Family, source []AddressTerm, sourcePort []PortTerm, destination []AddressTerm, destinationPort []PortTerm) uint8 {
	hasPorts := len(sourcePort)+len(destinationPort) > 0
	if hasPorts && protocol.Name == "" && !c.index.has(key+".protocol") {
		_ = protocol.UnmarshalTOML("tcp/udp") // It is in the table.
	}
	if hasPorts && !protocol.HasPorts() && protocol.Name != "" {
		at := key + ".destination_port"
		if len(destinationPort) == 0 {
			at = key + ".source_port"
		}
		c.errorf(at, "protocol %v has no ports to match; use tcp, udp or tcp/udp, or leave the port out", protocol)
	}
	version := uint8(0)
	for _, side := range []struct {
		key   string
		terms []AddressTerm
	}{{"source", source}, {"destination", destination}} {
		only := c.onlyVersion(side.terms)
		switch {
		case only == 0:
		case !family.Covers(only):
			c.errorf(child(key, side.key), "is IPv%d alone and the family is %s, so nothing matches; change one of the two", only, family)
		case version != 0 && version != only:
			c.errorf(child(key, side.key), "is IPv%d alone and the source IPv%d, so nothing matches; give both in one family", only, version)
		default:
			version = only
		}
	}
	switch {
	case version == 0 && family == FamilyIPv4:
		version = 4
	case version == 0 && family == FamilyIPv6:
		version = 6
	}
	if version == 4 && protocol.Name == "icmp6" {
		c.errorf(key+".protocol", "icmp6 is in IPv6 alone, and this is for IPv4; use icmp")
	}
	return version
}

// matchNames checks that the names of a match exist.
func (c *checker) matchNames(key string, source []AddressTerm, sourcePort []PortTerm, destination []AddressTerm, destinationPort []PortTerm) {
	c.terms(key+".source", source)
	c.terms(key+".destination", destination)
	for _, side := range []struct {
		key   string
		terms []PortTerm
	}{{key + ".source_port", sourcePort}, {key + ".destination_port", destinationPort}} {
		for n, t := range side.terms {
			c.port(c.at(side.key, n), t)
		}
	}
}

// icmpTypes checks the ICMP types of a rule that can only match one version,
// or either if version is 0.
func (c *checker) icmpTypes(r *Rule, version uint8) {
	if len(r.ICMPTypes) == 0 {
		return
	}
	key := r.Key + ".icmp_types"
	if !r.Protocol.IsICMP() {
		c.errorf(key, "protocol %v has no ICMP types; use icmp or icmp6", r.Protocol)
		return
	}
	if r.Protocol.Name == "icmp6" {
		version = 6
	}
	for n, t := range r.ICMPTypes {
		switch {
		case t.Name == "":
		case version == 4 && t.V4 < 0:
			c.errorf(c.at(key, n), "%s is a type of ICMPv6, and this is for IPv4; leave it out", t.Name)
		case version == 6 && t.V6 < 0:
			c.errorf(c.at(key, n), "%s is a type of ICMP, and this is for IPv6; leave it out", t.Name)
		case version == 0 && t.Name[0] <= '9':
			c.errorf(c.at(key, n), "type %s means different things in ICMP and ICMPv6; add family = \"inet\" or \"inet6\", or give its name", t.Name)
		}
	}
}
