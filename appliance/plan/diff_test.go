package plan

import (
	"slices"
	"strings"
	"testing"

	"tandem/appliance/config"
)

func textConfig(text string) config.Config {
	return config.Config{Name: "x.toml", Text: []byte(text)}
}

const diffBase = `
[system]
hostname = "fw"
[interfaces.wan]
link = { driver = "tap", device = "a" }
addresses = ["198.51.100.201/24"]
gateway = "198.51.100.1"
[interfaces.lan]
link = { driver = "tap", device = "b" }
addresses = ["192.168.1.2/24"]
[high_availability]
host_id = 1
[firewall]
max_states = 1000
[[virtual_ips]]
type = "carp"
interface = "wan"
address = "198.51.100.200/24"
vhid = 200
password = "lab-only"
[[virtual_ips]]
type = "carp"
interface = "lan"
address = "192.168.1.1/24"
vhid = 1
password = "lab-only"
[[rules]]
interface = "lan"
action = "pass"
source = "lan:net"
description = "one"
[[rules]]
interface = "lan"
action = "block"
source = "10.0.0.0/8"
[nat.outbound]
mode = "hybrid"
[[nat.outbound.rules]]
interface = "wan"
source = "lan:net"
translation = "198.51.100.200"
`

func TestDiffNamesWhatChanged(t *testing.T) {
	tests := []struct {
		name, old, new string
		want           []string
	}{
		{"nothing", "", "", nil},
		{"a comment", "[system]", "# a comment\n[system]", nil},
		{"host name", `hostname = "fw"`, `hostname = "fx"`, []string{"system"}},
		{"host id", "host_id = 1", "host_id = 2", []string{"system"}},
		{"mtu", `gateway = "198.51.100.1"`, "gateway = \"198.51.100.1\"\nmtu = 1400", []string{"interfaces"}},
		{"password", `"lab-only"`, `"lab-twice"`, []string{"virtual_ips"}},
		{"states", "max_states = 1000", "max_states = 2000", []string{"firewall"}},
		{"log of the default", "max_states = 1000", "max_states = 1000\nlog_default_block = false", []string{"firewall", "rules: 4 changed"}},
		{"a rule's text", `description = "one"`, `description = "two"`, []string{"rules: 1 changed"}},
		{"a rule's log", `description = "one"`, "description = \"one\"\nlog = true", []string{"rules: 1 changed"}},
		{"what a rule does", `source = "10.0.0.0/8"`, `source = "10.0.0.0/9"`, []string{"rules: 1 added, 1 removed"}},
		{"order", "[[rules]]\ninterface = \"lan\"\naction = \"pass\"\nsource = \"lan:net\"\ndescription = \"one\"\n[[rules]]\ninterface = \"lan\"\naction = \"block\"\nsource = \"10.0.0.0/8\"\n",
			"[[rules]]\ninterface = \"lan\"\naction = \"block\"\nsource = \"10.0.0.0/8\"\n[[rules]]\ninterface = \"lan\"\naction = \"pass\"\nsource = \"lan:net\"\ndescription = \"one\"\n",
			[]string{"rules: order changed"}},
		{"translations", `mode = "hybrid"`, `mode = "manual"`, []string{"nat: 2 removed"}},
		{"gateway", `gateway = "198.51.100.1"`, `gateway = "198.51.100.2"`, []string{"routes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, after := build(t, diffBase), build(t, strings.Replace(diffBase, tt.old, tt.new, 1))
			if got := Diff(before, after); !slices.Equal(got, tt.want) {
				t.Errorf("differs in %q, want %q", got, tt.want)
			}
		})
	}
}

// TestNATTextIsTheSameByHand: pasted into the file, the text makes the same
// translations as the automatic mode did.
func TestNATTextIsTheSameByHand(t *testing.T) {
	head, _, _ := strings.Cut(diffBase, "[nat.outbound]")
	automatic := build(t, head)
	text := automatic.NATText()
	manual := build(t, head+text)
	a, m := automatic.NAT.Entries(), manual.NAT.Entries()
	if len(a) != 2 || len(m) != len(a) {
		t.Fatalf("%d automatic translations, %d by hand:\n%s", len(a), len(m), text)
	}
	for i := range a {
		x, y := a[i].Outbound, m[i].Outbound
		if x.Translation != y.Translation || x.StaticPort != y.StaticPort || len(x.DestinationPorts) != len(y.DestinationPorts) || !slices.Equal(x.Protos, y.Protos) {
			t.Errorf("translation %d is %+v by hand, was %+v", i, y, x)
		}
	}
	for _, source := range []string{"192.168.1.9", "10.1.1.1"} {
		was := automatic.Judge(at(t, automatic, "lan", source, "192.0.2.1", 17, 500))
		is := manual.Judge(at(t, manual, "lan", source, "192.0.2.1", 17, 500))
		if was.Action != is.Action || was.Source != is.Source {
			t.Errorf("from %s: %v as %v by hand, was %v as %v", source, is.Action, is.Source, was.Action, was.Source)
		}
	}
}

// TestBothNodesPlanTheSame: rules and translations of a pair have the same
// identifiers, so that states and counters mean the same on both.
func TestBothNodesPlanTheSame(t *testing.T) {
	for _, pair := range []string{"", "routed-"} {
		primary, _ := Build(load(t, "../../examples/"+pair+"primary.toml"))
		secondary, _ := Build(load(t, "../../examples/"+pair+"secondary.toml"))
		if !slices.Equal(primary.RuleKeys, secondary.RuleKeys) {
			t.Errorf("%spair: the keys of the rules differ", pair)
		}
		for i, v := range primary.CARP.VHIDs {
			w := secondary.CARP.VHIDs[i]
			if v.ID != w.ID || v.Password != w.Password || !slices.Equal(v.Addresses, w.Addresses) || w.Skew != v.Skew+100 {
				t.Errorf("%spair: vhid %d is %+v on the primary, %+v on the secondary", pair, v.ID, v, w)
			}
		}
	}
}
