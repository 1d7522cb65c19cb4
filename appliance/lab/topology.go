package lab

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"tandem/appliance/config"
	"tandem/examples"
	"tandem/netstack/vnet"
)

// Topology is a world to be run: who is cabled to what, what traffic there is,
// what happens when, and what must hold. Make one with [Load].
type Topology struct {
	Title      string             `toml:"title"`
	Switches   []topologySwitch   `toml:"switches,required"`
	Appliances []topologyMachine  `toml:"appliances,required"`
	Hosts      []topologyHost     `toml:"hosts"`
	Traffic    []topologyTraffic  `toml:"traffic"`
	Events     []topologyEvent    `toml:"events"`
	Expect     []topologyExpected `toml:"expect"`

	read func(path string) ([]byte, error)
}

// topologySwitch is a switch, and what each of its cables is like.
type topologySwitch struct {
	config.Entry
	Delay     config.Duration `toml:"delay"`
	Jitter    config.Duration `toml:"jitter"`
	Loss      probability     `toml:"loss"`
	Duplicate probability     `toml:"duplicate"`
	Reorder   probability     `toml:"reorder"`
	Corrupt   probability     `toml:"corrupt"`
	Rate      rate            `toml:"rate"`
	MTU       int             `toml:"mtu"`
}

func (s *topologySwitch) cable() vnet.Cable {
	return vnet.Cable{Delay: s.Delay.Duration, Jitter: s.Jitter.Duration, Loss: float64(s.Loss), Duplicate: float64(s.Duplicate),
		Reorder: float64(s.Reorder), Corrupt: float64(s.Corrupt), Rate: int64(s.Rate), MTU: s.MTU}
}

// topologyMachine is a node: a configuration file, or one written out here.
type topologyMachine struct {
	config.Entry
	Config string    `toml:"config"` // a file, from the topology's folder on
	Inline string    `toml:"inline"` // the text itself
	Off    bool      `toml:"off"`    // not switched on at the start
	Cables []cableTo `toml:"cables"` // of interfaces that are not called like their switch
	file   string    // what messages call the configuration
	text   []byte    // of it
	plugs  []cableTo // of every interface that has a cable
}

// cableTo is where the cable of an interface goes.
type cableTo struct {
	Interface string `toml:"interface,required"`
	Switch    string `toml:"switch,required"`
}

// topologyHost is a small computer on one of the switches.
type topologyHost struct {
	config.Entry
	Switch    string          `toml:"switch,required"`
	Addresses []config.Prefix `toml:"addresses,required"`
	Gateway   config.Addr     `toml:"gateway"`
	Gateway6  config.Addr     `toml:"gateway6"`
	MTU       int             `toml:"mtu"`
	Serves    []service       `toml:"serves"`
}

// Kinds of traffic.
const (
	kindPing        = "ping"
	kindUDP         = "udp"
	kindConnections = "connections"
)

// topologyTraffic runs from its start to the end.
type topologyTraffic struct {
	Name   string          `toml:"name,required"`
	Kind   string          `toml:"kind,required"`
	From   string          `toml:"from,required"`
	To     endpoint        `toml:"to,required"`
	Start  config.Duration `toml:"start"`
	Every  config.Duration `toml:"every,required"`
	SeenAs config.Addr     `toml:"seen_as"` // what the server must see as client
}

// topologyExpected is what must hold in a time.
type topologyExpected struct {
	Name   string          `toml:"name,required"`
	From   config.Duration `toml:"from"`
	To     config.Duration `toml:"to,required"`
	Master string          `toml:"master"`  // who holds every address in the end
	GapMax config.Duration `toml:"gap_max"` // of every ping
	Alarms []alarmExpected `toml:"alarms"`
}

// alarmExpected is an alarm that a node must show in the end.
type alarmExpected struct {
	Appliance string `toml:"appliance,required"`
	Text      string `toml:"text,required"` // part of it
}

// probability is a number from 0 to 1.
type probability float64

// UnmarshalTOML reads a probability.
func (p *probability) UnmarshalTOML(raw any) error {
	switch x := raw.(type) {
	case float64:
		*p = probability(x)
	case int64:
		*p = probability(x)
	default:
		return fmt.Errorf("%v is no number; write one from 0 to 1 without quotes", raw)
	}
	if *p < 0 || *p > 1 {
		return fmt.Errorf("%v is not between 0 and 1", raw)
	}
	return nil
}

// rate is bits per second.
type rate int64

// UnmarshalText reads "10Mbit/s".
func (r *rate) UnmarshalText(b []byte) error {
	number, found := strings.CutSuffix(string(b), "bit/s")
	factor := int64(1)
	for unit, f := range map[string]int64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if head, ok := strings.CutSuffix(number, unit); ok {
			number, factor = head, f
		}
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if !found || err != nil || n <= 0 {
		return fmt.Errorf("%q is no rate; write it like 10Mbit/s", b)
	}
	*r = rate(n * factor)
	return nil
}

// service is what a host offers: http:80, echo:7, echo-udp:7.
type service struct {
	kind string
	port uint16
}

// UnmarshalText reads KIND:PORT.
func (s *service) UnmarshalText(b []byte) error {
	kind, port, _ := strings.Cut(string(b), ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || !slices.Contains([]string{"http", "echo", "echo-udp"}, kind) {
		return fmt.Errorf("%q is no service of a host; there are http:PORT, echo:PORT and echo-udp:PORT", b)
	}
	*s = service{kind, uint16(n)}
	return nil
}

// endpoint is an address, with a port where the traffic has ports.
type endpoint struct{ netip.AddrPort }

// UnmarshalText reads ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT.
func (e *endpoint) UnmarshalText(b []byte) error {
	if a, err := netip.ParseAddr(string(b)); err == nil {
		e.AddrPort = netip.AddrPortFrom(a, 0)
		return nil
	}
	at, err := netip.ParseAddrPort(string(b))
	if err != nil || at.Port() == 0 {
		return fmt.Errorf("%q is neither an address nor an address with a port, such as 198.51.100.1:80", b)
	}
	e.AddrPort = at
	return nil
}

// Reference is the topology that the lab runs when nobody names another.
const Reference = "lab/reference-pair.toml"

// LoadExample reads one of the topologies inside the binary.
func LoadExample(name string) (*Topology, error) {
	text, err := examples.Files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("example %s: %w", name, err)
	}
	t, problems := Load(name, text, examples.Files.ReadFile)
	if config.HasErrors(problems) {
		var b strings.Builder
		for _, p := range problems {
			fmt.Fprintf(&b, "\n%v", p)
		}
		return nil, fmt.Errorf("example %s:%s", name, b.String())
	}
	return t, nil
}

// Load reads a topology and every configuration in it. Files that it names are
// read by read and lie where the topology's own folder says. The topology is
// nil if a problem is an error.
func Load(name string, text []byte, read func(path string) ([]byte, error)) (*Topology, []config.Problem) {
	t := &Topology{read: read}
	file, problems := config.Decode(name, text, t)
	if file == nil || config.HasErrors(problems) {
		return nil, problems
	}
	c := &topologyCheck{t: t, file: file, dir: path.Dir(name)}
	c.all()
	if problems = config.SortProblems(append(problems, c.problems...)); config.HasErrors(problems) {
		return nil, problems
	}
	return t, problems
}
