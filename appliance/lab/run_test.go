package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tandem/appliance/config"
	"tandem/appliance/node"
	"tandem/examples"
)

// edited loads the beginning of the reference pair, up to the first event, with
// more behind it, and with edited configurations.
func edited(t *testing.T, more string, edit map[string]func(string) string) *Topology {
	t.Helper()
	text, err := examples.Files.ReadFile(Reference)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := bytes.Cut(text, []byte("[[events]]"))
	if !found {
		t.Fatal("the reference topology has no event")
	}
	read := func(name string) ([]byte, error) {
		b, err := examples.Files.ReadFile(name)
		if f := edit[name]; f != nil {
			b = []byte(f(string(b)))
		}
		return b, err
	}
	topology, problems := Load(Reference, append(head, more...), read)
	if config.HasErrors(problems) {
		t.Fatal(problems)
	}
	return topology
}

// wrongPassword gives a configuration another password than its peer has.
func wrongPassword(text string) string {
	return strings.ReplaceAll(text, `password_file = "carp.password"`, `password = "not the same"`)
}

func TestAnExpectationThatDoesNotHoldFails(t *testing.T) {
	res := runTopology(t, edited(t, `
[[expect]]
name = "silent"
from = "4.5s"
to = "8s"
master = "fw-secondary"
alarms = [{ appliance = "fw-primary", text = "the disk is full" }]
`, map[string]func(string) string{"secondary.toml": wrongPassword}), 1)
	if res.Held {
		t.Fatal("two masters held")
	}
	if len(res.Verdicts) != 2 || res.Verdicts[0].Held || res.Verdicts[0].Master != "several nodes" {
		t.Fatalf("verdicts: %+v", res.Verdicts)
	}
	for _, want := range []string{"several nodes holds the addresses, should be fw-secondary", `fw-primary shows no alarm with "the disk is full"`} {
		if !slices.Contains(res.Verdicts[1].Faults, want) {
			t.Errorf("faults are %q, want among them %q", res.Verdicts[1].Faults, want)
		}
	}
	var b bytes.Buffer
	res.Summary(&b)
	if !strings.Contains(b.String(), "FAILED") || !strings.Contains(b.String(), "NOT all held") {
		t.Errorf("the summary says\n%s", b.String())
	}
}

func TestAWrongPasswordRaisesItsAlarmOnBothNodes(t *testing.T) {
	topology := edited(t, `
[[expect]]
name = "named"
from = "4.5s"
to = "10s"
alarms = [
  { appliance = "fw-primary", text = "adverts of vhid 200@wan from 198.51.100.202 do not verify: the password differs" },
  { appliance = "fw-secondary", text = "adverts of vhid 1@lan from 192.168.1.2 do not verify: the password differs" },
]
`, map[string]func(string) string{"secondary.toml": wrongPassword})
	res := runTopology(t, topology, 1)
	if f := res.Verdicts[1].Faults; slices.ContainsFunc(f, func(s string) bool { return strings.Contains(s, "alarm") }) {
		t.Errorf("faults: %q", f)
	}
}

func TestALostPathIsAFailure(t *testing.T) {
	res := runTopology(t, edited(t, `
[[events]]
at = "5.5s"
unplug = "server"
[[expect]]
name = "server unplugged"
from = "5.5s"
to = "7s"
gap_max = "500ms"
[[events]]
at = "7s"
plug = "server"
[[expect]]
name = "server back"
from = "7s"
to = "9s"
gap_max = "300ms"
`, nil), 1)
	if len(res.Verdicts) != 3 || !res.Verdicts[0].Held || res.Verdicts[1].Held || res.Held {
		t.Fatalf("verdicts: %+v", res.Verdicts)
	}
	v := res.Verdicts[1]
	if v.GapMS < 1000 || v.PingsLost < 100 || !slices.Contains(v.Faults, "ping does not come back") {
		t.Errorf("%+v", v)
	}
}

// everyKind has one event of each kind that the reference pair does not have.
const everyKind = `
[[events]]
at = "6s"
one_way = { switch = "wan", from = "fw-primary", to = "fw-secondary" }
[[events]]
at = "6s"
one_way = { switch = "lan", from = "fw-primary", to = "fw-secondary" }
[[expect]]
name = "the secondary does not hear the primary"
from = "5.5s"
to = "14s"
gap_max = "10s"
alarms = [{ appliance = "fw-primary", text = "is MASTER of vhid 1@lan beside us" }]

[[events]]
at = "14s"
heal = "wan"
[[events]]
at = "14s"
heal = "lan"
[[expect]]
name = "whole again"
from = "16s"
to = "18s"
master = "fw-primary"

[[events]]
at = "18s"
name = "the LAN falls apart"
partition = { switch = "lan", groups = [["fw-primary"], ["fw-secondary", "client"]] }
[[expect]]
name = "in two parts"
from = "18s"
to = "24s"
gap_max = "10s"
[[events]]
at = "24s"
heal = "lan"

[[events]]
at = "25s"
power_off = "sync"
[[events]]
at = "26s"
clock_skew = { appliance = "fw-secondary", ahead = "2h", ppm = 200 }
[[expect]]
name = "no sync link, a clock that is wrong"
from = "28s"
to = "32s"
master = "fw-primary"
[[events]]
at = "32s"
power_on = "sync"

[[events]]
at = "33s"
power_off = "client"
[[events]]
at = "34s"
power_on = "client"
`

func TestEveryKindOfEventTakesPlace(t *testing.T) {
	res := runTopology(t, edited(t, everyKind, nil), 3)
	for i, v := range res.Verdicts {
		if i != 1 && i != 3 && !v.Held || i == 1 && slices.ContainsFunc(v.Faults, func(s string) bool { return strings.Contains(s, "alarm") }) {
			t.Errorf("%s: %q", v.Name, v.Faults)
		}
	}
	var said []string
	for _, l := range res.Timeline {
		if l.Who == "lab" {
			said = append(said, l.Text)
		}
	}
	want := []string{"fw-primary is switched on", "fw-secondary is switched on", "wan carries nothing from fw-primary to fw-secondary",
		"lan carries nothing from fw-primary to fw-secondary", "wan is whole again", "lan is whole again", "the LAN falls apart",
		"lan is whole again", "sync is shut down", "fw-secondary has its clock 2h0m0s ahead and 200 ppm fast", "sync is switched on",
		"client is shut down", "client is switched on"}
	if !slices.Equal(said, want) {
		t.Errorf("the lab said %q", said)
	}
	if !slices.IsSortedFunc(res.Timeline, func(a, b Line) int { return int(a.Seconds*1e6) - int(b.Seconds*1e6) }) {
		t.Error("the time line is not in order")
	}
}

func TestAnEventThatCannotBeIsAnError(t *testing.T) {
	for _, event := range []string{`power_on = "fw-primary"`, "crash = \"fw-primary\"\n[[events]]\nat = \"5.6s\"\nmaintenance = \"fw-primary\"",
		"power_off = \"fw-primary\"\n[[events]]\nat = \"8s\"\npower_off = \"fw-primary\""} {
		topology := edited(t, "[[events]]\nat = \"5.5s\"\n"+event, nil)
		if _, err := Run(context.Background(), Options{Topology: topology, Virtual: true}); err == nil {
			t.Errorf("%s went through", event)
		}
	}
}

func TestARunThatIsInterruptedDidNotHold(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	res, err := Run(ctx, Options{Virtual: true})
	if err != nil || res.Held {
		t.Errorf("held: %v, error %v", res.Held, err)
	}
	text, err := json.Marshal(res)
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("as a document: %s, %v", text, err)
	}
}

func TestAKeptWorldCanBeAskedUntilItIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out bytes.Buffer
	var roles []string
	res, err := Run(ctx, Options{Topology: edited(t, "", nil), Virtual: true, Keep: true, Report: &out,
		Stay: func(nodes map[string]*node.Node) {
			for _, name := range []string{"fw-primary", "fw-secondary"} {
				roles = append(roles, nodes[name].Status().Role)
			}
			cancel()
		}})
	if err != nil || !res.Held || !slices.Equal(roles, []string{"MASTER", "BACKUP"}) {
		t.Errorf("held %v, roles %v, error %v", res.Held, roles, err)
	}
	if !strings.Contains(out.String(), "everything stays up; interrupt (Ctrl-C) to end it") ||
		!strings.Contains(out.String(), "=> held   both nodes up: 0 of 60 pings lost, gap 0 ms") {
		t.Errorf("it said\n%s", out.String())
	}
}

func TestEverySwitchCanBeCaptured(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Run(context.Background(), Options{Topology: edited(t, "", nil), Virtual: true, PCAP: dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wan", "lan", "sync"} {
		b, err := os.ReadFile(filepath.Join(dir, name+".pcapng"))
		if err != nil || len(b) < 1000 || !bytes.Equal(b[:4], []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), Options{Topology: edited(t, "", nil), Virtual: true, PCAP: file}); err == nil {
		t.Error("a file was taken for a folder")
	}
}

func TestAnApplianceMayBeWrittenOutInTheTopology(t *testing.T) {
	topology, problems := Load("lab/inline.toml", []byte(`
[switches.here]
loss = 0.01
jitter = "100us"
[appliances.fw]
cables = [{ interface = "one", switch = "here" }]
inline = '''
[system]
hostname = "fw"
[interfaces.one]
link = { driver = "tap", device = "x" }
addresses = ["192.0.2.1/24"]
[interfaces.two]
link = { driver = "lab", switch = "here" }
addresses = ["198.51.100.1/24"]
'''
[hosts.client]
switch = "here"
addresses = ["192.0.2.50/24"]
serves = ["echo:7", "echo-udp:7"]
[hosts.asker]
switch = "here"
addresses = ["192.0.2.51/24"]
[[traffic]]
name = "udp"
kind = "udp"
from = "asker"
to = "192.0.2.50:7"
every = "50ms"
start = "1s"
[[expect]]
name = "alone"
from = "1s"
to = "4s"
master = "fw"
gap_max = "200ms"
`), examples.Files.ReadFile)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	wantHeld(t, runTopology(t, topology, 1))
}
