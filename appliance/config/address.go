package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// TermKind says what an [AddressTerm] names.
type TermKind uint8

const (
	TermAny     TermKind = iota + 1
	TermSelf             // every address of the node
	TermNet              // NAME:net, the networks of an interface or group
	TermAddress          // NAME:address, the interface's first address of each family
	TermPrefix           // a network, or a host as the network of all its bits
	TermRange            // From to To, both included
	TermAlias            // an alias by its name
)

// AddressTerm is one word where addresses can stand. A list of terms is any of
// its positive members (of none: any) and none of its negated ones.
type AddressTerm struct {
	Not      bool
	Kind     TermKind
	Name     string // of the interface, group or alias
	Prefix   netip.Prefix
	From, To netip.Addr
}

const (
	suffixNet     = ":net"
	suffixAddress = ":address"
)

// UnmarshalText reads a word; "!" in front negates it.
func (t *AddressTerm) UnmarshalText(b []byte) error {
	s, not := strings.CutPrefix(string(b), "!")
	term, err := parseTerm(strings.TrimSpace(s))
	if err != nil {
		return err
	}
	term.Not = not
	if not && term.Kind == TermAny {
		return fmt.Errorf("\"!any\" matches nothing; leave it out, or negate something smaller")
	}
	*t = term
	return nil
}

func parseTerm(s string) (AddressTerm, error) {
	switch s {
	case "":
		return AddressTerm{}, fmt.Errorf("the address is empty; give an address, a network, an alias, \"any\", \"self\", NAME:net or NAME:address")
	case "any":
		return AddressTerm{Kind: TermAny}, nil
	case "self":
		return AddressTerm{Kind: TermSelf}, nil
	}
	if name, found := strings.CutSuffix(s, suffixNet); found && isName(name) {
		return AddressTerm{Kind: TermNet, Name: name}, nil
	}
	if name, found := strings.CutSuffix(s, suffixAddress); found && isName(name) {
		return AddressTerm{Kind: TermAddress, Name: name}, nil
	}
	if from, to, found := strings.Cut(s, "-"); found {
		a, errFrom := netip.ParseAddr(strings.TrimSpace(from))
		b, errTo := netip.ParseAddr(strings.TrimSpace(to))
		if errFrom == nil && errTo == nil {
			return rangeTerm(s, a, b)
		}
	}
	if looksLikeAddress(s) {
		p, err := parseNetwork(s)
		return AddressTerm{Kind: TermPrefix, Prefix: p}, err
	}
	if isName(s) {
		return AddressTerm{Kind: TermAlias, Name: s}, nil
	}
	if strings.Contains(s, ".") {
		return AddressTerm{}, fmt.Errorf("%q is a host name: this build does not have aliases of host names yet; give the address", s)
	}
	return AddressTerm{}, fmt.Errorf("%q is no address, network or name; names have letters, digits, \"_\" and \"-\"", s)
}

func rangeTerm(s string, from, to netip.Addr) (AddressTerm, error) {
	switch {
	case from.Zone() != "" || to.Zone() != "" || from.Is4In6() || to.Is4In6():
		return AddressTerm{}, fmt.Errorf("%q: the ends of a range are plain addresses", s)
	case from.Is4() != to.Is4():
		return AddressTerm{}, fmt.Errorf("%q mixes IPv4 and IPv6; give both ends in one family", s)
	case to.Less(from):
		return AddressTerm{}, fmt.Errorf("%q runs backwards; write %v-%v", s, to, from)
	}
	return AddressTerm{Kind: TermRange, From: from, To: to}, nil
}

// looksLikeAddress tells a mistyped address from a name, so that the fault
// speaks of what was meant.
func looksLikeAddress(s string) bool {
	if strings.ContainsAny(s, ":/") {
		return true
	}
	for _, r := range s {
		if r != '.' && (r < '0' || r > '9') {
			return false
		}
	}
	return true
}

// isName says whether s can name an interface, group, alias or gateway.
func isName(s string) bool {
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-':
		default:
			return false
		}
	}
	return s != ""
}

// String writes the term as the file has it.
func (t AddressTerm) String() string {
	var s string
	switch t.Kind {
	case TermAny:
		s = "any"
	case TermSelf:
		s = "self"
	case TermNet:
		s = t.Name + suffixNet
	case TermAddress:
		s = t.Name + suffixAddress
	case TermRange:
		s = t.From.String() + "-" + t.To.String()
	case TermAlias:
		s = t.Name
	case TermPrefix:
		s = t.Prefix.String()
		if t.Prefix.IsSingleIP() {
			s = t.Prefix.Addr().String()
		}
	}
	if t.Not {
		return "!" + s
	}
	return s
}

// Version is 4 or 6 if the term can only match one IP version, else 0.
func (t AddressTerm) Version() uint8 {
	var a netip.Addr
	switch t.Kind {
	case TermPrefix:
		a = t.Prefix.Addr()
	case TermRange:
		a = t.From
	default:
		return 0
	}
	if a.Is4() {
		return 4
	}
	return 6
}

// Target is what a translation puts in, or "none": leave the packet alone and
// look no further.
type Target struct {
	None bool
	Term AddressTerm // TermPrefix (one host), TermAddress or TermAlias
}

// UnmarshalText reads an address, NAME:address, the name of an alias or "none".
func (t *Target) UnmarshalText(b []byte) error {
	if string(b) == "none" {
		*t = Target{None: true}
		return nil
	}
	var term AddressTerm
	if err := term.UnmarshalText(b); err != nil {
		return err
	}
	switch {
	case term.Not:
		return fmt.Errorf("%q is negated; give the one address to put in", b)
	case term.Kind == TermPrefix && !term.Prefix.IsSingleIP(), term.Kind == TermRange:
		return fmt.Errorf("%q is a pool of addresses, and this build does not have pools yet; give one address", b)
	case term.Kind == TermPrefix, term.Kind == TermAddress, term.Kind == TermAlias:
		*t = Target{Term: term}
		return nil
	}
	return fmt.Errorf("%q is no single address; give an address, NAME:address, an alias of one address, or \"none\"", b)
}

// String writes the target as the file has it.
func (t Target) String() string {
	if t.None {
		return "none"
	}
	return t.Term.String()
}
