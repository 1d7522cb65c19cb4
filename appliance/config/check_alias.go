package config

import (
	"net/netip"
	"slices"
)

// aliases decides for each whether it holds addresses or ports, and checks
// names and nesting.
func (c *checker) aliases() {
	c.sizes()
	for n := range c.doc.Aliases {
		a := &c.doc.Aliases[n]
		c.aliasName(a)
		a.IsPorts = c.holdsPorts(a, nil)
		for _, m := range a.members {
			switch {
			case m.isName && a.IsPorts:
				a.Ports = append(a.Ports, PortTerm{Name: m.addr.Name})
			case m.isPort:
				a.Ports = append(a.Ports, m.port)
			default:
				a.Addresses = append(a.Addresses, m.addr)
			}
		}
	}
	for n := range c.doc.Aliases {
		if a := &c.doc.Aliases[n]; !a.Disabled {
			c.aliasMembers(a)
		}
	}
}

func (c *checker) aliasName(a *Alias) {
	c.name(a.Key, a.Name)
	var asAddr AddressTerm
	var asPort PortTerm
	_, isInterface := c.doc.Interface(a.Name)
	_, isGroup := c.doc.Group(a.Name)
	_, isService := service(a.Name)
	switch {
	case isInterface || isGroup:
		c.errorf(a.Key, "is also an interface or group; give the alias a name of its own")
	case isService:
		c.errorf(a.Key, "is the name of a service; give the alias a name of its own")
	case asAddr.UnmarshalText([]byte(a.Name)) == nil && asAddr.Kind != TermAlias,
		asPort.UnmarshalTOML(a.Name) == nil && asPort.Name == "":
		c.errorf(a.Key, "reads as an address or port; begin the name with a letter")
	}
}

// holdsPorts follows the first member that tells.
func (c *checker) holdsPorts(a *Alias, trail []string) bool {
	for _, m := range a.members {
		switch {
		case m.isPort:
			return true
		case !m.isName:
			return false
		}
		if next, ok := c.doc.Alias(m.addr.Name); ok && !slices.Contains(trail, next.Name) && len(next.members) > 0 {
			return c.holdsPorts(next, append(slices.Clone(trail), a.Name))
		}
	}
	return false
}

func (c *checker) aliasMembers(a *Alias) {
	for _, m := range a.members {
		switch {
		case m.isName && m.addr.Not && a.IsPorts:
			c.errorf(m.key, "ports cannot be negated; list those that you want")
		case m.isName && a.IsPorts:
			c.port(m.key, PortTerm{Name: m.addr.Name})
		case m.isPort && !a.IsPorts, !m.isPort && !m.isName && a.IsPorts && m.addr.Kind != 0:
			c.errorf(m.key, "one alias holds addresses or ports, not both; make two of it")
		case !m.isPort:
			c.term(m.key, m.addr)
		}
		if m.isName && c.reaches(m.addr.Name, a.Name, map[string]bool{}) {
			c.errorf(m.key, "alias %s holds %s in the end, so the two go round in a circle; take one out of the other", m.addr.Name, a.Name)
		}
	}
}

// reaches says whether alias from is target or holds it at any depth.
func (c *checker) reaches(from, target string, seen map[string]bool) bool {
	a, ok := c.doc.Alias(from)
	switch {
	case from == target:
		return true
	case !ok || seen[from]:
		return false
	}
	seen[from] = true
	return slices.ContainsFunc(a.members, func(m aliasMember) bool {
		return m.isName && c.reaches(m.addr.Name, target, seen)
	})
}

// Bounds of an alias with all that it holds at any depth. Aliases that name
// others twice, level over level, grow without them by powers of two.
const (
	aliasMembersMax = 100_000
	aliasDepthMax   = 32
)

// sizes empties aliases that are larger or deeper than that, after a fault.
func (c *checker) sizes() {
	type size struct{ members, depth int }
	known := map[string]size{}
	var measure func(a *Alias) size
	measure = func(a *Alias) size {
		if s, ok := known[a.Name]; ok {
			return s
		}
		known[a.Name] = size{} // Ends a circle, which is reported as such.
		s := size{len(a.members), 1}
		for _, m := range a.members {
			if next, ok := c.doc.Alias(m.addr.Name); ok && m.isName {
				inner := measure(next)
				s.members, s.depth = s.members+inner.members, max(s.depth, inner.depth+1)
			}
		}
		if s.members > aliasMembersMax || s.depth > aliasDepthMax {
			c.errorf(a.Key, "holds more than %d members or %d levels of aliases; make it smaller", aliasMembersMax, aliasDepthMax)
			a.members, s = nil, size{}
		}
		known[a.Name] = s
		return s
	}
	for n := range c.doc.Aliases {
		measure(&c.doc.Aliases[n])
	}
}

// term checks that the names in an address term exist.
func (c *checker) term(key string, t AddressTerm) {
	switch t.Kind {
	case TermNet, TermAddress:
		_, isGroup := c.doc.Group(t.Name)
		switch _, isInterface := c.doc.Interface(t.Name); {
		case !isInterface && !isGroup:
			c.errorf(key, "there is no interface or group %q%s", t.Name, didYouMean(t.Name, c.placeNames()))
		case len(c.doc.Members(t.Name)) == 0:
			c.warnf(key, "%s is disabled, so %v is no address at all", t.Name, t)
		}
	case TermAlias:
		a, ok := c.doc.Alias(t.Name)
		_, isInterface := c.doc.Interface(t.Name)
		_, isGroup := c.doc.Group(t.Name)
		switch {
		case !ok && (isInterface || isGroup):
			c.errorf(key, "%q is an interface or group; write %s:net for its networks or %s:address for its addresses", t.Name, t.Name, t.Name)
		case !ok:
			c.errorf(key, "there is no alias %q%s", t.Name, didYouMean(t.Name, c.aliasNames()))
		case a.Disabled:
			c.errorf(key, "alias %s is disabled; enable it, or name another one", t.Name)
		case a.IsPorts:
			c.errorf(key, "alias %s holds ports; name one that holds addresses", t.Name)
		}
	}
}

// port checks that the alias of a port term exists and holds ports.
func (c *checker) port(key string, t PortTerm) {
	if t.Name == "" {
		return
	}
	a, ok := c.doc.Alias(t.Name)
	switch {
	case !ok:
		known := c.aliasNames()
		for name := range services {
			known = append(known, name)
		}
		slices.Sort(known)
		c.errorf(key, "%q is neither an alias nor a service%s; give a port, or define the alias", t.Name, didYouMean(t.Name, known))
	case a.Disabled:
		c.errorf(key, "alias %s is disabled; enable it, or name another one", t.Name)
	case !a.IsPorts:
		c.errorf(key, "alias %s holds no ports; name one that does", t.Name)
	}
}

func (c *checker) aliasNames() []string {
	var names []string
	for _, a := range c.doc.Aliases {
		names = append(names, a.Name)
	}
	return names
}

func (c *checker) placeNames() []string {
	names := c.interfaceNames()
	for _, g := range c.doc.Groups {
		names = append(names, g.Name)
	}
	return names
}

// terms checks a list of address terms, which may be a single value.
func (c *checker) terms(key string, list []AddressTerm) {
	for n, t := range list {
		c.term(c.at(key, n), t)
	}
}

// at is the key of element n of a list, or of the single value in its place.
func (c *checker) at(key string, n int) string {
	if e := element(key, n); c.index.has(e) {
		return e
	}
	return key
}

// onlyVersion is 4 or 6 if the terms can match that IP version alone, else 0:
// all positive terms are literal and of one version.
func (c *checker) onlyVersion(terms []AddressTerm) uint8 {
	only := uint8(0)
	for _, t := range terms {
		version := t.Version()
		if a, ok := c.doc.Alias(t.Name); ok && t.Kind == TermAlias {
			version = c.aliasVersion(a)
		}
		switch {
		case t.Not:
			continue
		case version == 0 || only != 0 && version != only:
			return 0
		}
		only = version
	}
	return only
}

func (c *checker) aliasVersion(a *Alias) uint8 {
	only := uint8(0)
	for _, t := range a.Addresses {
		version := t.Version()
		if version == 0 || t.Not || only != 0 && version != only {
			return 0
		}
		only = version
	}
	return only
}

// ownOn are the addresses that the node has, or may hold, on an interface.
func (c *checker) ownOn(i *Interface) []netip.Addr {
	var out []netip.Addr
	for _, p := range c.doc.interfacePrefixes(i) {
		out = append(out, p.Addr())
	}
	return out
}
