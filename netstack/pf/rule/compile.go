package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"tandem/netstack/packet"
)

// linearMax is up to how many rules walking them is about as fast as looking
// up, as BenchmarkMatch measures. Sets in which the tag of a match rule may decide on a later rule are walked
// whatever their size, since a look-up knows no order in time.
const linearMax = 16

// rulesMax bounds a set; the largest that is measured has a tenth of it.
const rulesMax = 100_000

// tagsMax bounds the tags of a set, so that a tag fits Query.Tag.
const tagsMax = 1<<16 - 2

// tagUnknown is the number of a tag that no rule sets: no packet bears it.
const tagUnknown = 1<<16 - 1

// ErrRule is what every fault that Compile finds in a rule wraps.
var ErrRule = errors.New("rule cannot be compiled")

// Set is a compiled list of rules, safe for concurrent use.
type Set struct {
	rules    []Rule
	matchers []matcher
	byID     map[string]int
	tags     []string // by number minus one

	matchRules []int32 // indices of the rules with action match

	// By direction and family (0: IPv4, 1: IPv6); nil where no rule can match.
	classified bool
	quick      [2][2]*classifier
	slow       [2][2]*classifier // the rules that are not quick, last first

	queries [2]atomic.Uint64 // by direction
	decided []decisions      // by rule
	cells   []*cell          // by rule; shared with the set that carries on
}

// Compile builds the set of rules, which are judged in the order of the slice
// and which belongs to the set from then on. It errs on a rule that contradicts itself or has an
// identifier twice, and names it; the error wraps ErrRule.
func Compile(rules []Rule) (*Set, error) {
	if len(rules) > rulesMax {
		return nil, fmt.Errorf("%w: %d rules, at most %d", ErrRule, len(rules), rulesMax)
	}
	s := &Set{
		rules:    rules,
		matchers: make([]matcher, len(rules)),
		byID:     make(map[string]int, len(rules)),
		decided:  make([]decisions, len(rules)),
		cells:    make([]*cell, len(rules)),
	}
	if err := s.numberTags(); err != nil {
		return nil, err
	}
	known := &sets{byName: make(map[string]*AddrSet)}
	tagging, tagged := false, false
	for i := range rules {
		r := &s.rules[i]
		if err := s.add(i, r, known); err != nil {
			return nil, fmt.Errorf("rule %d (%s): %w: %w", r.Number, r.ID, ErrRule, err)
		}
		tagging = tagging || r.Action == Match && r.Tag != ""
		tagged = tagged || r.Tagged != ""
	}
	if len(rules) > linearMax && !(tagging && tagged) {
		s.classify()
	}
	return s, nil
}

// classify builds the classifiers.
func (s *Set) classify() {
	s.classified = true
	var quick, slow []int32
	for i := range s.matchers {
		switch m := &s.matchers[i]; {
		case m.action == Match:
		case m.quick:
			quick = append(quick, int32(i))
		default:
			slow = append(slow, int32(i))
		}
	}
	slices.Reverse(slow)
	for dir := range s.quick {
		for fam := range s.quick[dir] {
			s.quick[dir][fam] = newClassifier(s.matchers, quick, Direction(dir), fam)
			s.slow[dir][fam] = newClassifier(s.matchers, slow, Direction(dir), fam)
		}
	}
}

// add compiles rule i.
func (s *Set) add(i int, r *Rule, known *sets) error {
	if r.ID != "" {
		if j, twice := s.byID[r.ID]; twice {
			return fmt.Errorf("the identifier is also that of rule %d", s.rules[j].Number)
		}
		s.byID[r.ID] = i
	}
	if err := r.check(); err != nil {
		return err
	}
	m := &s.matchers[i]
	if err := m.compile(r, known); err != nil {
		return err
	}
	m.tag = s.tagNumber(r.Tag)
	m.tagged = s.tagNumber(strings.TrimPrefix(r.Tagged, "!"))
	m.notTagged = strings.HasPrefix(r.Tagged, "!")
	if r.Action == Match {
		s.matchRules = append(s.matchRules, int32(i))
	}
	s.cells[i] = new(cell)
	return nil
}

// check finds what contradicts itself in r.
func (r *Rule) check() error {
	if r.Action > Match || r.Direction > Any || r.State > None {
		return errors.New("action, direction or state is unknown")
	}
	if r.Family != 0 && r.Family != 4 && r.Family != 6 {
		return fmt.Errorf("family %d, must be 4, 6 or 0", r.Family)
	}
	if r.Role != AnyRole && r.Role != RoleMaster && r.Role != RoleBackup {
		return fmt.Errorf("role %q, must be master or backup", r.Role)
	}
	for _, p := range slices.Concat(r.SourcePorts, r.DestinationPorts) {
		if p.First > p.Last {
			return fmt.Errorf("ports %d-%d run backwards", p.First, p.Last)
		}
	}
	for _, t := range r.ICMPTypes {
		if t.Family != 4 && t.Family != 6 {
			return fmt.Errorf("ICMP type %d of family %d, must be 4 or 6", t.Type, t.Family)
		}
	}
	if r.TCPFlags.Set&^r.TCPFlags.Mask != 0 {
		return errors.New("TCP flags that are not in the mask can never be seen")
	}
	return nil
}

// numberTags gives every tag that a rule sets a number.
func (s *Set) numberTags() error {
	for i := range s.rules {
		if t := s.rules[i].Tag; t != "" {
			s.tags = append(s.tags, t)
		}
	}
	slices.Sort(s.tags)
	s.tags = slices.Compact(s.tags)
	if len(s.tags) > tagsMax {
		return fmt.Errorf("%w: %d tags, at most %d", ErrRule, len(s.tags), tagsMax)
	}
	return nil
}

func (s *Set) tagNumber(name string) uint16 {
	if name == "" {
		return 0
	}
	i, ok := slices.BinarySearch(s.tags, name)
	if !ok {
		return tagUnknown
	}
	return uint16(i + 1)
}

// TagName is the name of a tag's number, "" for 0. Numbers are the set's own.
func (s *Set) TagName(tag uint16) string {
	if tag == 0 || int(tag) > len(s.tags) {
		return ""
	}
	return s.tags[tag-1]
}

// Tag is the number of the tag that rule i sets, 0 if none.
func (s *Set) Tag(i int) uint16 { return s.matchers[i].tag }

// Len is the number of rules.
func (s *Set) Len() int { return len(s.rules) }

// Rule is rule i, not to be changed.
func (s *Set) Rule(i int) *Rule { return &s.rules[i] }

// ByID finds a rule by its identifier.
func (s *Set) ByID(id string) (i int, ok bool) {
	i, ok = s.byID[id]
	return i, ok
}

// matcher is a rule in the form in which packets are held against it.
type matcher struct {
	action    Action
	quick     bool
	dirs      uint8 // bit of each Direction
	family    uint8
	flagSet   uint8
	flagMask  uint8
	unsaid    bool // the flags go without saying: not asked of forwarded packets
	log       bool
	notTagged bool
	anySrc    [2]bool // by family: IPv4, IPv6
	anyDst    [2]bool
	tag       uint16
	tagged    uint16
	role      Role
	ifaces    []uint64 // bit set; nil: any
	protos    *[4]uint64
	src, dst  *AddrSet
	srcPorts  []PortRange // nil: any
	dstPorts  []PortRange
	icmpTypes []ICMPType
}

// compile fills m from r, but for the tags.
func (m *matcher) compile(r *Rule, known *sets) (err error) {
	m.action, m.quick, m.log = r.Action, r.Quick, r.Log
	m.family, m.role = r.Family, r.Role
	m.dirs = 1 << r.Direction
	if r.Direction == Any {
		m.dirs = 1<<In | 1<<Out
	}
	m.flagSet, m.flagMask = r.TCPFlags.Set, r.TCPFlags.Mask
	if r.Action == Pass && r.State == Keep && m.flagMask == 0 {
		m.flagSet, m.flagMask, m.unsaid = packet.SYN, packet.SYN|packet.ACK, true
	}
	if r.Interfaces != nil {
		m.ifaces = make([]uint64, 1)
		for _, n := range r.Interfaces {
			for int(n)/64 >= len(m.ifaces) {
				m.ifaces = append(m.ifaces, 0)
			}
			m.ifaces[n/64] |= 1 << (n % 64)
		}
	}
	if r.Protos != nil {
		m.protos = new([4]uint64)
		for _, p := range r.Protos {
			m.protos[p/64] |= 1 << (p % 64)
		}
	}
	m.srcPorts, m.dstPorts = joinPorts(r.SourcePorts), joinPorts(r.DestinationPorts)
	m.icmpTypes = r.ICMPTypes
	if m.src, err = known.compile(&r.Source); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if m.dst, err = known.compile(&r.Destination); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	m.anySrc = [2]bool{m.src.all4, m.src.all6}
	m.anyDst = [2]bool{m.dst.all4, m.dst.all6}
	return nil
}

// joinPorts sorts ranges and joins those that overlap or touch; nil stays nil.
func joinPorts(ranges []PortRange) []PortRange {
	if ranges == nil {
		return nil
	}
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b PortRange) int { return int(a.First) - int(b.First) })
	out := sorted[:0]
	for _, r := range sorted {
		if n := len(out); n > 0 && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}
