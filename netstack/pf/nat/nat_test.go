package nat

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tandem/netstack/packet"
	"tandem/netstack/pf/rule"
)

// Interfaces of the tests; 0 is the node itself.
const (
	self uint16 = iota
	lan
	wan
	sync
)

func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

func nets(texts ...string) rule.AddrMatch {
	var m rule.AddrMatch
	for _, t := range texts {
		m.Prefixes = append(m.Prefixes, netip.MustParsePrefix(t))
	}
	return m
}

func anywhere() Match {
	return Match{Source: rule.AnyAddr(), Destination: rule.AnyAddr()}
}

// query is a packet from src to dst that came in by iface.
func query(iface uint16, proto uint8, src, dst string) rule.Query {
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	q := rule.Query{Iface: iface}
	q.Src, q.Dst = packet.AddrFrom(from.Addr()), packet.AddrFrom(to.Addr())
	q.SrcPort, q.DstPort, q.Proto, q.Family = from.Port(), to.Port(), proto, 4
	if from.Addr().Is6() {
		q.Family = 6
	}
	if proto == packet.ProtoICMP {
		q.ICMPType = packet.ICMP4Echo
	}
	return q
}

func compile(t testing.TB, c Config) *Set {
	t.Helper()
	s, err := Compile(c)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return s
}

// office is a node with one WAN address for all, and some of each kind.
func office() Config {
	tcp := []uint8{packet.ProtoTCP}
	forward := func(id string, low, high uint16, target string, port uint16) Forward {
		f := Forward{ID: id, Interfaces: []uint16{wan}, Match: anywhere(), TargetPort: port}
		f.Protos, f.Destination = tcp, nets("198.51.100.200/32", "198.51.100.210/32")
		f.DestinationPorts = []rule.PortRange{{First: low, Last: high}}
		if target == "" {
			f.None = true
		} else {
			f.Target = netip.MustParseAddr(target)
		}
		return f
	}
	outbound := func(id, source, to string) Outbound {
		o := Outbound{ID: id, Interfaces: []uint16{wan}, Match: anywhere()}
		o.Source = nets(source)
		if to == "" {
			o.None = true
		} else {
			o.Translation = netip.MustParseAddr(to)
		}
		return o
	}
	automatic := outbound("automatic", "192.168.0.0/16", "198.51.100.201")
	automatic.Automatic = true
	ike := outbound("ike", "192.168.1.0/24", "198.51.100.200")
	ike.Protos, ike.StaticPort = []uint8{packet.ProtoUDP}, true
	ike.DestinationPorts = []rule.PortRange{{First: 500, Last: 500}}
	own := outbound("own", "198.51.100.201/32", "198.51.100.202")
	own.Self = true
	few := outbound("few", "192.168.3.0/24", "198.51.100.200")
	few.PortLow, few.PortHigh = 2000, 2009
	return Config{
		Forwards: []Forward{
			forward("not-ssh", 22, 22, "", 0),
			forward("web", 443, 443, "192.168.1.25", 8443),
			forward("games", 27000, 27099, "192.168.1.26", 7000),
			forward("games-again", 27050, 27150, "192.168.1.27", 0),
		},
		OneToOne: []OneToOne{
			{ID: "mail", Interfaces: []uint16{wan}, Peers: rule.AnyAddr(),
				External: netip.MustParsePrefix("198.51.100.210/32"), Internal: netip.MustParsePrefix("192.168.1.30/32")},
			{ID: "lab", Interfaces: []uint16{wan}, Peers: nets("203.0.113.0/24"),
				External: netip.MustParsePrefix("198.51.100.64/27"), Internal: netip.MustParsePrefix("192.168.2.96/27")},
		},
		Outbound: []Outbound{
			automatic, // stands first, is judged last
			outbound("not-this-host", "192.168.1.66/32", ""),
			ike,
			own,
			few,
			outbound("clients", "192.168.1.0/24", "198.51.100.200"),
		},
	}
}

func TestEntriesAreInOrderOfJudgement(t *testing.T) {
	s := compile(t, office())
	var got []string
	for _, e := range s.Entries() {
		got = append(got, e.Kind.String()+" "+e.ID)
	}
	want := []string{"port_forward not-ssh", "port_forward web", "port_forward games", "port_forward games-again",
		"one_to_one mail", "one_to_one lab", "outbound not-this-host", "outbound ike", "outbound own", "outbound few",
		"outbound clients", "outbound automatic"}
	if !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
}

func TestDestination(t *testing.T) {
	s := compile(t, office())
	tests := []struct {
		name     string
		q        rule.Query
		entry    string
		ok       bool
		wantAddr string
		wantPort uint16
	}{
		{"port and address", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.200:443"), "web", true, "192.168.1.25", 8443},
		{"first of a range", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.200:27000"), "games", true, "192.168.1.26", 7000},
		{"last of a range", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.200:27099"), "games", true, "192.168.1.26", 7099},
		{"the port stays", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.200:27100"), "games-again", true, "192.168.1.27", 27100},
		{"other protocol", query(wan, packet.ProtoUDP, "203.0.113.1:5000", "198.51.100.200:443"), "", false, "198.51.100.200", 443},
		{"other port", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.200:80"), "", false, "198.51.100.200", 80},
		{"other address", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.201:443"), "", false, "198.51.100.201", 443},
		{"none stops", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.200:22"), "not-ssh", false, "198.51.100.200", 22},
		{"none keeps 1:1 out too", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.210:22"), "not-ssh", false, "198.51.100.210", 22},
		{"a forward goes before 1:1", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.210:443"), "web", true, "192.168.1.25", 8443},
		{"1:1", query(wan, packet.ProtoTCP, "203.0.113.1:5000", "198.51.100.210:25"), "mail", true, "192.168.1.30", 25},
		{"1:1 of a ping", query(wan, packet.ProtoICMP, "203.0.113.1:77", "198.51.100.210:77"), "mail", true, "192.168.1.30", 77},
		{"1:1 by prefix", query(wan, packet.ProtoGRE, "203.0.113.1:0", "198.51.100.94:0"), "lab", true, "192.168.2.126", 0},
		{"1:1 for other peers", query(wan, packet.ProtoGRE, "203.0.114.1:0", "198.51.100.94:0"), "", false, "198.51.100.94", 0},
		{"no hairpin", query(lan, packet.ProtoTCP, "192.168.1.5:5000", "198.51.100.200:443"), "", false, "198.51.100.200", 443},
		{"no hairpin by 1:1", query(lan, packet.ProtoTCP, "192.168.1.5:5000", "198.51.100.210:25"), "", false, "198.51.100.210", 25},
		{"not from the node", query(self, packet.ProtoTCP, "198.51.100.201:5000", "198.51.100.200:443"), "", false, "198.51.100.200", 443},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := tt.q
			a, port, i, ok := s.Destination(&q)
			if ok != tt.ok || a != addr(tt.wantAddr) || port != tt.wantPort || name(s, i) != tt.entry {
				t.Errorf("= %v:%d by %q, %v", a.Netip(), port, name(s, i), ok)
			}
			if q != tt.q {
				t.Error("the query is changed")
			}
			explained := ""
			s.ExplainDestination(&q, func(st Step) {
				if st.Differs == rule.Same {
					explained = st.Entry.ID
				}
			})
			if explained != tt.entry {
				t.Errorf("explained by %q", explained)
			}
		})
	}
}

func name(s *Set, i int) string {
	if i < 0 {
		return ""
	}
	return s.Entries()[i].ID
}

func TestForwardWithoutInterfacesIsNotForTheNode(t *testing.T) {
	f := Forward{Match: anywhere(), Target: netip.MustParseAddr("192.168.1.25")}
	s := compile(t, Config{Forwards: []Forward{f}})
	q := query(self, packet.ProtoTCP, "198.51.100.201:5000", "203.0.113.1:443")
	if _, _, _, ok := s.Destination(&q); ok {
		t.Error("the node's own packet is forwarded")
	}
	s.ExplainDestination(&q, func(Step) { t.Error("an entry is asked") })
	q.Iface = sync
	if _, port, _, ok := s.Destination(&q); !ok || port != 443 {
		t.Errorf("port %d, %v", port, ok)
	}
	// Rules of NAT are for one family: the target's.
	q6 := query(wan, packet.ProtoTCP, "[2001:db8::1]:1", "[2001:db8::2]:443")
	if _, _, _, ok := s.Destination(&q6); ok {
		t.Error("an IPv6 packet goes to an IPv4 target")
	}
}

func TestSource(t *testing.T) {
	s := compile(t, office())
	tests := []struct {
		name    string
		q       rule.Query
		iface   uint16
		entry   string
		outcome Outcome
		addr    string
		port    int // -1: a new one of 1024 to 65535
	}{
		{"clients", query(lan, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443"), wan, "clients", Translated, "198.51.100.200", -1},
		{"towards another interface", query(lan, packet.ProtoTCP, "192.168.1.5:5000", "172.16.1.3:443"), sync, "", Unchanged, "192.168.1.5", 5000},
		{"none stops", query(lan, packet.ProtoTCP, "192.168.1.66:5000", "203.0.113.1:443"), wan, "not-this-host", Unchanged, "192.168.1.66", 5000},
		{"static port", query(lan, packet.ProtoUDP, "192.168.1.5:500", "203.0.113.1:500"), wan, "ike", Translated, "198.51.100.200", 500},
		{"automatic", query(lan, packet.ProtoTCP, "192.168.9.5:5000", "203.0.113.1:443"), wan, "automatic", Translated, "198.51.100.201", -1},
		{"1:1 goes first", query(lan, packet.ProtoTCP, "192.168.1.30:5000", "203.0.113.1:443"), wan, "mail", Translated, "198.51.100.210", 5000},
		{"1:1 by prefix", query(lan, packet.ProtoTCP, "192.168.2.97:5000", "203.0.113.1:443"), wan, "lab", Translated, "198.51.100.65", 5000},
		{"1:1 for other peers", query(lan, packet.ProtoTCP, "192.168.2.97:5000", "203.0.114.1:443"), wan, "automatic", Translated, "198.51.100.201", -1},
		{"no ports", query(lan, packet.ProtoGRE, "192.168.1.5:0", "203.0.113.1:0"), wan, "clients", Translated, "198.51.100.200", 0},
		{"unknown source", query(lan, packet.ProtoTCP, "10.0.0.5:5000", "203.0.113.1:443"), wan, "", Unchanged, "10.0.0.5", 5000},
		{"the node itself", query(self, packet.ProtoTCP, "192.168.1.5:5000", "203.0.113.1:443"), wan, "", Unchanged, "192.168.1.5", 5000},
		{"the node, by its rule", query(self, packet.ProtoTCP, "198.51.100.201:5000", "203.0.113.1:443"), wan, "own", Translated, "198.51.100.202", -1},
		{"IPv6", query(lan, packet.ProtoTCP, "[2001:db8::1]:5000", "[2001:db8:1::1]:443"), wan, "", Unchanged, "2001:db8::1", 5000},
	}
	rng := rand.New(rand.NewPCG(1, 1))
	env := &Ports{InUse: func(*packet.Tuple) bool { return false }, Rand: rng.Uint64, HostID: 1}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := tt.q
			a, port, i, outcome := s.Source(&q, tt.iface, env)
			if outcome != tt.outcome || a != addr(tt.addr) || name(s, i) != tt.entry {
				t.Errorf("= %v by %q: %v", a.Netip(), name(s, i), outcome)
			}
			if tt.port >= 0 && int(port) != tt.port || tt.port < 0 && (port < 1024 || port == tt.q.SrcPort) {
				t.Errorf("port = %d, want %d", port, tt.port)
			}
			if q != tt.q {
				t.Error("the query is changed")
			}
			explained := ""
			s.ExplainSource(&q, tt.iface, func(st Step) {
				if st.Differs == rule.Same {
					explained = st.Entry.ID
				}
			})
			if explained != tt.entry {
				t.Errorf("explained by %q", explained)
			}
		})
	}
	if n := s.Used(slices.IndexFunc(s.Entries(), func(e Entry) bool { return e.ID == "automatic" })); n != 2 {
		t.Errorf("automatic is used %d times, want 2", n)
	}
}

func TestVirtualAddressThatIsNotHeldIsNotUsed(t *testing.T) {
	s := compile(t, office())
	env := &Ports{
		InUse: func(*packet.Tuple) bool { t.Error("asked for a port"); return false },
		Rand:  rand.New(rand.NewPCG(1, 1)).Uint64,
		Held:  func(a packet.Addr) bool { return a != addr("198.51.100.200") && a != addr("198.51.100.210") },
	}
	for _, src := range []string{"192.168.1.5:5000", "192.168.1.30:5000"} {
		q := query(lan, packet.ProtoTCP, src, "203.0.113.1:443")
		if _, _, i, outcome := s.Source(&q, wan, env); outcome != NotHeld || i < 0 {
			t.Errorf("%s by %q: %v, want %v", src, name(s, i), outcome, NotHeld)
		}
	}
	q := query(lan, packet.ProtoTCP, "192.168.1.66:5000", "203.0.113.1:443")
	if _, _, _, outcome := s.Source(&q, wan, env); outcome != Unchanged {
		t.Errorf("without translation: %v", outcome)
	}
}

func TestOneToOneGoesThereAndBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		var a, b, host packet.Addr
		for i := range a {
			a[i], b[i], host[i] = byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())
		}
		bits := rng.IntN(129)
		x, y := netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked(), netip.PrefixFrom(netip.AddrFrom16(b), bits).Masked()
		if rng.IntN(2) == 0 {
			bits %= 33
			x = netip.PrefixFrom(netip.AddrFrom4([4]byte(a[:4])), bits).Masked()
			y = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), bits).Masked()
			host = packet.AddrFrom(netip.AddrFrom4([4]byte(host[:4])))
		}
		inX := move(host, x)
		inY := move(inX, y)
		if !x.Contains(inX.Netip()) || !y.Contains(inY.Netip()) || move(inY, x) != inX {
			t.Fatalf("%v in %v is %v, in %v %v", host.Netip(), x, inX.Netip(), y, inY.Netip())
		}
	}
}

func TestCompileNamesTheFault(t *testing.T) {
	target := netip.MustParseAddr("192.168.1.25")
	tests := []struct {
		c    Config
		want string
	}{
		{Config{Forwards: []Forward{{ID: "f"}}}, "port forward 1 (f)"},
		{Config{Forwards: []Forward{{Target: target, None: true}}}, "or none"},
		{Config{Forwards: []Forward{{Target: target, TargetPort: 80}}}, "needs destination ports"},
		{Config{Forwards: []Forward{{Target: target, TargetPort: 65500,
			Match: Match{DestinationPorts: []rule.PortRange{{First: 1, Last: 40}}}}}}, "do not fit"},
		{Config{Forwards: []Forward{{Target: target, Match: Match{Family: 6}}}}, "family 6"},
		{Config{OneToOne: []OneToOne{{ID: "o"}}}, "1:1 translation 1 (o)"},
		{Config{OneToOne: []OneToOne{{External: netip.MustParsePrefix("198.51.100.0/24"),
			Internal: netip.MustParsePrefix("10.0.0.0/25")}}}, "one family and length"},
		{Config{OneToOne: []OneToOne{{External: netip.MustParsePrefix("198.51.100.0/24"),
			Internal: netip.MustParsePrefix("2001:db8::/24")}}}, "one family and length"},
		{Config{Outbound: []Outbound{{None: true}, {ID: "x"}}}, "outbound translation 2 (x)"},
		{Config{Outbound: []Outbound{{Translation: target, PortLow: 9, PortHigh: 8}}}, "9-8 are no range"},
		{Config{Outbound: []Outbound{{Translation: target, PortHigh: 8}}}, "0-8 are no range"},
		{Config{Outbound: []Outbound{{Translation: target, Match: Match{Family: 6}}}}, "family 6"},
		{Config{Outbound: []Outbound{{None: true, Match: Match{Source: rule.AddrMatch{Prefixes: []netip.Prefix{{}}}}}}}, "source"},
	}
	for _, tt := range tests {
		if _, err := Compile(tt.c); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error = %v, want %q", err, tt.want)
		}
	}
}

func TestOutcomesHaveTheNamesOfReasons(t *testing.T) {
	if NotHeld.String() != "vip-not-held" || Outcome(9).String() != "unknown" {
		t.Error("names of outcomes changed")
	}
}
