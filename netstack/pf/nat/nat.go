// Package nat chooses the translation of a connection's first packet: the
// destination where it came in (port forwards, then 1:1), the source where it
// leaves (1:1, then outbound rules, then the automatic ones).
//
// It only chooses. The state that the packet begins remembers the choice, and
// package packet rewrites. Whether a port is free the package asks by a
// function, because the state table is the only book of ports in use. Matching
// is package rule's: every list of translations is compiled to a rule set.
//
// Ports are chosen anew for each connection, in blocks of 64 that two nodes
// share out by their host_id, so that two masters of a split network do not
// choose the same. A port may serve any number of connections that differ in
// where they go (RFC 4787 section 4.1: endpoint-dependent mapping).
//
// Invariants: the first matching entry decides, also by translating nothing.
// The node's own packets are translated only by an entry that says so. A
// choice takes a bounded number of questions, never a loop over all ports.
package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"tandem/netstack/pf/rule"
)

// ErrConfig is what every fault that Compile finds wraps.
var ErrConfig = errors.New("translation cannot be compiled")

// Match says which packets an entry is for; as in rule.Rule, nil is any, and
// an empty AddrMatch holds no address.
type Match struct {
	Family           uint8 // 4, 6 or 0; that of the translation is implied
	Protos           []uint8
	Source           rule.AddrMatch
	SourcePorts      []rule.PortRange
	Destination      rule.AddrMatch
	DestinationPorts []rule.PortRange
}

// Forward translates the destination of what comes in by its interfaces.
type Forward struct {
	ID, Description string
	Interfaces      []uint16 // nil: any
	Match
	Target netip.Addr
	// TargetPort takes the first port of the range in DestinationPorts that
	// holds the packet's, the following ports take the next; 0: the same ports.
	TargetPort uint16
	None       bool // instead of Target: leave such packets alone and stop here
}

// OneToOne translates External to Internal on the way in, and back on the way
// out, address by address; both prefixes have the same length.
type OneToOne struct {
	ID, Description    string
	Interfaces         []uint16 // nil: any
	External, Internal netip.Prefix
	Peers              rule.AddrMatch // the other side: whom it is for ("destination" in the file)
}

// Outbound translates the source of what leaves by its interfaces.
type Outbound struct {
	ID, Description string
	Interfaces      []uint16 // nil: any
	Match
	Translation netip.Addr
	None        bool // instead of Translation: leave such packets alone and stop here
	StaticPort  bool // keep the source port
	// PortLow to PortHigh are the ports to choose from; 0, 0: 1024 to 65535.
	PortLow, PortHigh uint16
	Self              bool // is for the node's own packets too
	Automatic         bool // judged after all that are not
}

// Config is all translations of a node, each list in the order of judgement.
type Config struct {
	Forwards []Forward
	OneToOne []OneToOne
	Outbound []Outbound
}

// Kind is which list an entry is of.
type Kind uint8

const (
	KindForward Kind = iota
	KindOneToOne
	KindOutbound
)

// String gives the key of the configuration.
func (k Kind) String() string {
	return [...]string{"port_forward", "one_to_one", "outbound", "unknown"}[k&3]
}

// Entry is one translation of a set; exactly one pointer is set, by Kind.
type Entry struct {
	Kind            Kind
	ID, Description string
	Automatic       bool
	None            bool

	Forward  *Forward
	OneToOne *OneToOne
	Outbound *Outbound
}

// list is a rule set whose rules stand for entries.
type list struct {
	rules   *rule.Set
	entries []int // by rule
}

// Set is compiled translations, immutable and safe for concurrent use.
type Set struct {
	entries []Entry
	in      list // destinations
	out     list // sources of forwarded packets
	own     list // sources of the node's own packets
}

// Compile builds the set. It errs on an entry that contradicts itself, and
// names it; the error wraps ErrConfig.
func Compile(c Config) (*Set, error) {
	// The set keeps pointers into lists of its own.
	c.Forwards, c.OneToOne, c.Outbound = slices.Clone(c.Forwards), slices.Clone(c.OneToOne), slices.Clone(c.Outbound)
	s := &Set{}
	var in, out, own builder
	for i := range c.Forwards {
		if err := s.addForward(&c.Forwards[i], &in); err != nil {
			return nil, fmt.Errorf("port forward %d (%s): %w: %w", i+1, c.Forwards[i].ID, ErrConfig, err)
		}
	}
	for i := range c.OneToOne {
		if err := s.addOneToOne(&c.OneToOne[i], &in, &out); err != nil {
			return nil, fmt.Errorf("1:1 translation %d (%s): %w: %w", i+1, c.OneToOne[i].ID, ErrConfig, err)
		}
	}
	for _, automatic := range []bool{false, true} {
		for i := range c.Outbound {
			if c.Outbound[i].Automatic != automatic {
				continue
			}
			if err := s.addOutbound(&c.Outbound[i], &out, &own); err != nil {
				return nil, fmt.Errorf("outbound translation %d (%s): %w: %w", i+1, c.Outbound[i].ID, ErrConfig, err)
			}
		}
	}
	var errs [3]error
	s.in, errs[0] = in.compile()
	s.out, errs[1] = out.compile()
	s.own, errs[2] = own.compile()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return s, nil
}

// Entries lists the translations: forwards, 1:1, outbound, automatic ones
// last. The indices of Destination and Source are into this list.
func (s *Set) Entries() []Entry { return s.entries }

// Used is how many connections entry i was chosen for, in this set.
func (s *Set) Used(i int) uint64 {
	var n uint64
	for _, l := range []*list{&s.in, &s.out, &s.own} {
		for j, e := range l.entries {
			if e == i {
				n += l.rules.Decided(j)
			}
		}
	}
	return n
}

// builder gathers the rules of one list.
type builder struct {
	rules   []rule.Rule
	entries []int
}

func (b *builder) add(entry int, r rule.Rule) {
	r.Number = len(b.rules) + 1
	r.Action, r.Quick, r.State = rule.Pass, true, rule.None
	b.rules = append(b.rules, r)
	b.entries = append(b.entries, entry)
}

func (b *builder) compile() (list, error) {
	rules, err := rule.Compile(b.rules)
	return list{rules, b.entries}, err
}

// rule makes m one, for a translation to addr (invalid: to none).
func (m *Match) rule(interfaces []uint16, addr netip.Addr) (rule.Rule, error) {
	r := rule.Rule{
		Interfaces:       interfaces,
		Family:           m.Family,
		Protos:           m.Protos,
		Source:           m.Source,
		SourcePorts:      m.SourcePorts,
		Destination:      m.Destination,
		DestinationPorts: m.DestinationPorts,
	}
	if !addr.IsValid() {
		return r, nil
	}
	family := familyOf(addr)
	if r.Family != 0 && r.Family != family {
		return r, fmt.Errorf("%v is not of family %d", addr, r.Family)
	}
	r.Family = family
	return r, nil
}

func familyOf(a netip.Addr) uint8 {
	if a.Unmap().Is4() {
		return 4
	}
	return 6
}

var errTarget = errors.New("needs either an address to translate to or none")

func (s *Set) addForward(f *Forward, in *builder) error {
	if f.Target.IsValid() == f.None {
		return errTarget
	}
	for _, r := range f.DestinationPorts {
		if f.TargetPort != 0 && int(f.TargetPort)+int(r.Last)-int(r.First) > 65535 {
			return fmt.Errorf("ports %d-%d do not fit above target port %d", r.First, r.Last, f.TargetPort)
		}
	}
	if f.TargetPort != 0 && f.DestinationPorts == nil {
		return errors.New("a target port needs destination ports")
	}
	r, err := f.rule(f.Interfaces, f.Target)
	if err != nil {
		return err
	}
	r.Direction = rule.In
	in.add(len(s.entries), r)
	s.entries = append(s.entries, Entry{
		Kind: KindForward, ID: f.ID, Description: f.Description, None: f.None, Forward: f,
	})
	return nil
}

func (s *Set) addOneToOne(o *OneToOne, in, out *builder) error {
	if !o.External.IsValid() || !o.Internal.IsValid() ||
		o.External.Addr().BitLen() != o.Internal.Addr().BitLen() ||
		o.External.Bits() != o.Internal.Bits() {
		return fmt.Errorf("%v and %v must be prefixes of one family and length", o.External, o.Internal)
	}
	family := familyOf(o.External.Addr())
	in.add(len(s.entries), rule.Rule{
		Direction: rule.In, Interfaces: o.Interfaces, Family: family,
		Source: o.Peers, Destination: rule.AddrMatch{Prefixes: []netip.Prefix{o.External}},
	})
	out.add(len(s.entries), rule.Rule{
		Direction: rule.Out, Interfaces: o.Interfaces, Family: family,
		Source: rule.AddrMatch{Prefixes: []netip.Prefix{o.Internal}}, Destination: o.Peers,
	})
	s.entries = append(s.entries, Entry{
		Kind: KindOneToOne, ID: o.ID, Description: o.Description, OneToOne: o,
	})
	return nil
}

func (s *Set) addOutbound(o *Outbound, out, own *builder) error {
	if o.Translation.IsValid() == o.None {
		return errTarget
	}
	if o.PortLow > o.PortHigh || o.PortLow == 0 && o.PortHigh != 0 {
		return fmt.Errorf("ports %d-%d are no range", o.PortLow, o.PortHigh)
	}
	r, err := o.rule(o.Interfaces, o.Translation)
	if err != nil {
		return err
	}
	r.Direction = rule.Out
	out.add(len(s.entries), r)
	if o.Self {
		own.add(len(s.entries), r)
	}
	s.entries = append(s.entries, Entry{
		Kind: KindOutbound, ID: o.ID, Description: o.Description,
		Automatic: o.Automatic, None: o.None, Outbound: o,
	})
	return nil
}
