package pf

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tandem/netstack/packet"
	"tandem/netstack/pf/nat"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/rule"
	"tandem/netstack/pf/state"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txt")

// TestVerdicts plays the files of testdata: rules, packets, and what became of
// each packet.
func TestVerdicts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s := newScript(t)
			out := s.play(string(in))
			if out == string(in) {
				return
			}
			if *update {
				if err := os.WriteFile(name, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s: -update rewrites it\n%s", name, firstDifference(string(in), out))
		})
	}
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d:\n got %s\nwant %s", i+1, b[i], a[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(b), len(a))
}

// script plays one file.
type script struct {
	t       *testing.T
	filter  *Filter
	rules   []rule.Rule
	nat     nat.Config
	pass    map[string]bool
	limit   int
	backup  bool
	notHeld map[packet.Addr]bool
	random  uint64
	now     int64
	changed bool // the policy, since the last packet
	gen     uint32
	d       Decision
	logged  []string
}

func newScript(t *testing.T) *script {
	return &script{t: t, limit: 1000, pass: map[string]bool{}, notHeld: map[packet.Addr]bool{}, now: int64(time.Second)}
}

// resultMark begins the lines that the test writes.
const resultMark = "    = "

func (s *script) play(text string) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, resultMark) {
			continue
		}
		out = append(out, line)
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		w := &words{s.t, line, fields[1:]}
		for _, result := range s.line(fields[0], w) {
			out = append(out, resultMark+result)
		}
	}
	return strings.Join(out, "\n")
}

// line does what a line says and returns what came of it.
func (s *script) line(verb string, w *words) []string {
	switch verb {
	case "rules":
		s.rules, s.nat, s.pass, s.changed = nil, nat.Config{}, map[string]bool{}, true
	case "rule":
		s.rules, s.changed = append(s.rules, w.rule()), true
	case "forward", "nat", "binat":
		s.translation(verb, w)
	case "limit":
		s.limit = w.number(w.next())
	case "role":
		s.backup = w.next() == "backup"
	case "lost", "held":
		s.notHeld[packet.AddrFrom(netip.MustParseAddr(w.next()))] = verb == "lost"
	case "wait":
		d, err := time.ParseDuration(w.next())
		if err != nil {
			s.t.Fatal(err)
		}
		s.now += int64(d)
	case "in":
		return s.in(w)
	case "self":
		return s.self(w)
	case "counters":
		return s.counters()
	case "states":
		return s.states()
	case "drops":
		s.commit()
		var out []string
		for _, d := range s.filter.Drops() {
			out = append(out, fmt.Sprintf("%s %d", d.Reason, d.Packets))
		}
		return out
	default:
		s.t.Fatalf("%q: %s?", w.line, verb)
	}
	return nil
}

func (s *script) translation(verb string, w *words) {
	s.changed = true
	w.translation(verb, &s.nat, s.pass)
}

// rand counts, so that ports in the files are easy to follow.
func (s *script) rand() uint64 { s.random++; return s.random << 32 }

// commit puts the policy in force that the lines so far describe.
func (s *script) commit() {
	s.t.Helper()
	if !s.changed && s.filter != nil {
		return
	}
	s.changed = false
	s.gen++
	rules, err := rule.Compile(append([]rule.Rule(nil), s.rules...))
	if err != nil {
		s.t.Fatal(err)
	}
	translations, err := nat.Compile(s.nat)
	if err != nil {
		s.t.Fatal(err)
	}
	keys := make([]uint64, len(s.rules))
	for i := range s.rules {
		for _, c := range s.rules[i].ID {
			keys[i] = keys[i]*131 + uint64(c)
		}
	}
	p := &Policy{Gen: s.gen, Rules: rules, RuleKeys: keys, NAT: translations, PassForward: s.pass,
		Norm: []norm.Policy{{AllowOptions: true}, {AllowOptions: true}, {AllowOptions: true}, {AllowOptions: true}}}
	if s.filter != nil {
		s.filter.SetPolicy(p)
		return
	}
	s.filter, err = New(Config{States: state.Config{Max: s.limit, AdaptiveStart: -1}}, p, Env{
		Rand: s.rand, Master: func() bool { return !s.backup },
		Holds: func(a packet.Addr) bool { return !s.notHeld[a] },
		Log: func(r *Record) {
			id := "default"
			if r.Rule != nil {
				id = r.Rule.ID
			}
			s.logged = append(s.logged, fmt.Sprintf("log %s %s %s", id, r.Direction, r.Reason))
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// packet reads the rest of a packet line: protocol, ends, and what is special.
func (s *script) packet(w *words) *packet.View {
	s.t.Helper()
	proto := uint8(w.numbers(protoNumbers)[0])
	src, srcPort := s.end(w.next())
	w.next() // >
	dst, dstPort := s.end(w.next())
	var b []byte
	flags, seq, ack, icmpType, size, options := uint8(0), 0, 0, 0, 0, false
	for len(w.rest) > 0 {
		switch word := w.next(); {
		case word == "seq":
			seq = w.number(w.next())
		case word == "ack":
			ack = w.number(w.next())
		case word == "type":
			icmpType = w.number(w.next())
		case word == "size":
			size = w.number(w.next())
		case word == "options":
			options = true
		default:
			flags = flagsOf(word)
		}
	}
	switch proto {
	case packet.ProtoTCP:
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, srcPort), dstPort)
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, uint32(seq)), uint32(ack))
		b = append(b, 0x50, flags, 0x20, 0, 0, 0, 0, 0)
	case packet.ProtoUDP:
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, srcPort), dstPort)
		b = append(binary.BigEndian.AppendUint16(b, uint16(8+size)), 0, 0)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		b = append([]byte{byte(icmpType), 0, 0, 0}, byte(srcPort>>8), byte(srcPort), 0, 1)
	}
	b = append(b, make([]byte, size)...)
	v := new(packet.View)
	if why := packet.Decode(packet.AppendIP(nil, packet.MAC{}, packet.MAC{}, src, dst, proto, 64, 0, false, 1, b), v); why != packet.OK {
		s.t.Fatalf("%q: %v", w.line, why)
	}
	v.Options = options
	return v
}

// end reads an address with or without a port.
func (s *script) end(text string) (netip.Addr, uint16) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a, 0
	}
	p, err := netip.ParseAddrPort(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return p.Addr(), p.Port()
}

// in plays a packet that comes in: its state, or rules in, then rules out
// unless it is for the node.
func (s *script) in(w *words) []string {
	s.t.Helper()
	s.commit()
	iface, out := uint16(w.numbers(ifaceNumbers)[0]), uint16(0)
	if w.rest[0] == "out" {
		w.next()
		out = uint16(w.numbers(ifaceNumbers)[0])
	}
	v := s.packet(w)
	f, d := s.filter, &s.d
	if !f.Sane(v) || !f.Scrub(iface, v) {
		return s.told("dropped: not sane")
	}
	var hit state.Hit
	f.States().Match(s.now, iface, false, v, &hit)
	switch {
	case hit.Verdict == state.Drop && hit.Reason == state.NotAllowed && hit.RuleGen != f.Generation() && f.Recheck(s.now, &hit):
		f.States().Match(s.now, iface, false, v, &hit)
		fallthrough
	case hit.Verdict == state.Pass:
		return s.told(s.follow(v, &hit))
	case hit.Verdict == state.Drop:
		return s.told("dropped by its state: " + hit.Reason.String())
	}
	f.In(s.now, iface, v, d)
	verdict := [...]string{"dropped", "passed", "rejected"}
	if d.Verdict != Pass {
		return s.told(verdict[d.Verdict] + " in")
	}
	after := d.To
	if out == 0 {
		if !f.Local(s.now, iface, v, d) {
			return s.told("dropped: no state")
		}
		return s.told("to the node" + s.became(v, &after))
	}
	f.Out(s.now, iface, out, v, d)
	if d.Verdict != Pass {
		return s.told(verdict[d.Verdict] + " out")
	}
	return s.told("passed" + s.became(v, &d.To))
}

// follow is what becomes of a packet with a state.
func (s *script) follow(v *packet.View, hit *state.Hit) string {
	f := s.filter
	if hit.RuleGen != f.Generation() && !f.Recheck(s.now, hit) {
		return "dropped: its state is no longer allowed"
	}
	if v.Options && !f.OptionsPass(hit) {
		return "dropped: options"
	}
	packets, size := Weight(v)
	f.Policy().Count(hit.Rule, packets, size)
	return "passed by its state, " + hit.Dir.String() + s.became(v, &hit.To)
}

// became says what a packet was rewritten to, if it was.
func (s *script) became(v *packet.View, to *packet.Tuple) string {
	if v.Tuple == *to {
		return ""
	}
	return ": " + shown(to)
}

func (s *script) told(verdict string) []string {
	out := append([]string{verdict}, s.logged...)
	s.logged = nil
	return out
}

// self plays a packet of the node's own.
func (s *script) self(w *words) []string {
	s.t.Helper()
	s.commit()
	out := uint16(w.numbers(ifaceNumbers)[0])
	v := s.packet(w)
	s.filter.Self(s.now, out, v, &s.d)
	if s.d.Verdict != Pass {
		return s.told([...]string{"dropped", "", "rejected"}[s.d.Verdict])
	}
	return s.told("passed" + s.became(v, &s.d.To))
}

func (s *script) counters() (out []string) {
	s.commit()
	p := s.filter.Policy()
	for i, c := range s.filter.RuleCounters(p.Rules, p.RuleKeys) {
		out = append(out, fmt.Sprintf("%s: %d evaluations, %d packets, %d bytes, %d states", p.Rules.Rule(i).ID, c.Evaluations, c.Packets, c.Bytes, c.States))
	}
	return out
}

func (s *script) states() (out []string) {
	s.commit()
	s.filter.States().Sweep(s.now, 1000)
	s.filter.States().List(func(f *state.Flow) bool {
		var b bytes.Buffer
		fmt.Fprintf(&b, "%s", shown(&f.In))
		if f.In != f.Out {
			fmt.Fprintf(&b, " as %s", shown(&f.Out))
		}
		fmt.Fprintf(&b, " %s", f.State())
		if !f.Allowed {
			b.WriteString(" refused")
		}
		out = append(out, b.String())
		return true
	})
	return out
}
