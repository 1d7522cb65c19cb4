package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tandem/appliance/config"
	"tandem/examples"
)

func TestEveryExampleTopologyLoads(t *testing.T) {
	files, err := filepath.Glob("../../examples/lab/*.toml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v: %v", files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		topology, problems := Load(filepath.ToSlash(name), text, os.ReadFile)
		for _, p := range problems {
			t.Error(p)
		}
		if topology == nil || topology.Title == "" || len(topology.Expect) == 0 {
			t.Errorf("%s says too little", name)
		}
	}
	if _, err := LoadExample("lab/nowhere.toml"); err == nil {
		t.Error("an example that is not there was read")
	}
}

// small is a topology to be spoiled.
const small = `
[switches.wan]
[switches.lan]
[switches.sync]
loss = 0.5
[appliances.fw]
config = "../primary.toml"
[hosts.client]
switch = "lan"
addresses = ["192.168.1.50/24"]
[[traffic]]
name = "ping"
kind = "ping"
from = "client"
to = "192.168.1.1"
every = "10ms"
[[events]]
at = "5s"
crash = "fw"
[[expect]]
name = "up"
to = "5s"
`

func load(text string) (*Topology, []string) {
	t, problems := Load("lab/small.toml", []byte(text), examples.Files.ReadFile)
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return t, lines
}

func TestFaultsOfATopologyAreNamedWithTheirLines(t *testing.T) {
	if topology, problems := load(small); topology == nil || len(problems) > 0 {
		t.Fatalf("the topology itself has faults: %v", problems)
	}
	tests := []struct{ old, new, want string }{
		{"loss = 0.5", "los = 0.5", `lab/small.toml:5: switches.sync.los: unknown key (did you mean "loss"?)`},
		{"loss = 0.5", "loss = 5", "lab/small.toml:5: switches.sync.loss: 5 is not between 0 and 1"},
		{"loss = 0.5", `loss = "a half"`, "lab/small.toml:5: switches.sync.loss: a half is no number; write one from 0 to 1 without quotes"},
		{"loss = 0.5", `rate = "fast"`, `lab/small.toml:5: switches.sync.rate: "fast" is no rate; write it like 10Mbit/s`},
		{"[switches.sync]", "[switches.sink]", `lab/small.toml:6: appliances.fw: there is no switch for interface sync, called "sync"; there are wan, lan, sink`},
		{"../primary.toml", "../nowhere.toml", "lab/small.toml:7: appliances.fw.config: read nowhere.toml: open nowhere.toml: file does not exist"},
		{`config = "../primary.toml"`, "", `lab/small.toml:6: appliances.fw: give either config = "FILE" or inline = """TEXT"""`},
		{`config = "../primary.toml"`, `inline = "x = 1"`, `lab/appliances.fw.inline:1: x: unknown key`},
		{`config = "../primary.toml"`, "config = \"../primary.toml\"\ncables = [{ interface = \"dmz\", switch = \"van\" }]",
			`lab/small.toml:8: appliances.fw.cables[0].interface: primary.toml has no interface "dmz"`},
		{`switch = "lan"`, `switch = "lam"`, `lab/small.toml:9: hosts.client.switch: there is no switch "lam"; there are wan, lan, sync`},
		{`switch = "lan"`, "switch = \"lan\"\nserves = [\"ftp:21\"]",
			`lab/small.toml:10: hosts.client.serves[0]: "ftp:21" is no service of a host; there are http:PORT, echo:PORT and echo-udp:PORT`},
		{"[hosts.client]", "[hosts.fw]", "lab/small.toml:8: hosts.fw: an appliance has that name too; give one of them another"},
		{`kind = "ping"`, `kind = "pong"`, `there is no kind of traffic "pong"; there are ping, udp, connections`},
		{`kind = "ping"`, `kind = "udp"`, "lab/small.toml:15: traffic[0].to: udp needs a port; write it as 192.168.1.1:80"},
		{`to = "192.168.1.1"`, `to = "192.168.1.1:80"`, "lab/small.toml:15: traffic[0].to: a ping has no port; write 192.168.1.1"},
		{`to = "192.168.1.1"`, `to = "gateway"`, `"gateway" is neither an address nor an address with a port`},
		{`from = "client"`, `from = "clint"`, `lab/small.toml:14: traffic[0].from: there is no host "clint"; there are client`},
		{`every = "10ms"`, `every = "0s"`, "lab/small.toml:16: traffic[0].every: must be above zero"},
		{`every = "10ms"`, "every = \"10ms\"\nseen_as = \"192.0.2.1\"", "lab/small.toml:17: traffic[0].seen_as: only connections tell what their server saw"},
		{`crash = "fw"`, `crash = "fv"`, `lab/small.toml:19: events[0].crash: there is no appliance "fv"; there are fw`},
		{`crash = "fw"`, `unplug = "fw.dmz"`, `lab/small.toml:19: events[0].unplug: there is no cable "fw.dmz"; there are client, fw.wan, fw.lan, fw.sync`},
		{`crash = "fw"`, ``, "lab/small.toml:17: events[0]: does nothing, or several things; give exactly one of power_on, power_off, crash"},
		{`crash = "fw"`, "crash = \"fw\"\nplug = \"client\"", "lab/small.toml:17: events[0]: does nothing, or several things"},
		{`crash = "fw"`, `one_way = { switch = "wan", from = "fw", to = "fv" }`, `events[0].one_way.to: there is no appliance or host "fv"`},
		{`crash = "fw"`, `partition = { switch = "wan", groups = [["fw"], ["fv"]] }`, `events[0].partition.groups: there is no appliance or host "fv"`},
		{`crash = "fw"`, `clock_skew = { appliance = "fw", ppm = -2000000 }`, "events[0].clock_skew.ppm: a clock that does not run is none"},
		{`to = "5s"`, `to = "300ms"`, "lab/small.toml:22: expect[0].to: must be more than 400ms after from"},
		{`to = "5s"`, "to = \"5s\"\nmaster = \"fv\"", `lab/small.toml:23: expect[0].master: there is no appliance "fv"; there are fw`},
		{`to = "5s"`, "to = \"5s\"\nalarms = [{ appliance = \"fv\", text = \"x\" }]", `lab/small.toml:23: expect[0].alarms[0].appliance: there is no appliance "fv"; there are fw`},
		{"[switches.wan]", "[switches.wan", "this is no TOML"},
	}
	for _, tt := range tests {
		t.Run(tt.new, func(t *testing.T) {
			topology, problems := load(strings.Replace(small, tt.old, tt.new, 1))
			if topology != nil || !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, tt.want) }) {
				t.Errorf("faults are %q, want %q", problems, tt.want)
			}
		})
	}
}

func TestAFaultyConfigurationInATopologyIsNamedAsItself(t *testing.T) {
	read := func(name string) ([]byte, error) {
		if name == "primary.toml" {
			return []byte("[system]\nhostname = \"fw\"\nhost = 1\n"), nil
		}
		return examples.Files.ReadFile(name)
	}
	topology, problems := Load("lab/small.toml", []byte(small), read)
	if topology != nil || !slices.ContainsFunc(problems, func(p config.Problem) bool { return p.File == "primary.toml" && p.Line == 3 }) {
		t.Errorf("%v", problems)
	}
}

func TestRatesAreBitsPerSecond(t *testing.T) {
	for text, want := range map[string]rate{"10Mbit/s": 1e7, "1Gbit/s": 1e9, "64kbit/s": 64000, "9600bit/s": 9600} {
		var r rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%s is %d, %v", text, r, err)
		}
	}
}
