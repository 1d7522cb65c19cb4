package plan

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tandem/appliance/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// load reads a file of the project and its secrets.
func load(t *testing.T, file string) *config.Document {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, config.Config{
		Name: filepath.Base(file), Text: text,
		Read: func(p string) ([]byte, error) { return os.ReadFile(filepath.Join(filepath.Dir(file), p)) },
	})
}

func parse(t *testing.T, c config.Config) *config.Document {
	t.Helper()
	doc, problems := config.Load(c)
	if config.HasErrors(problems) {
		t.Fatalf("load %s: %v", c.Name, problems)
	}
	return doc
}

// build plans a text that has no errors.
func build(t *testing.T, text string) *Plan {
	t.Helper()
	p, problems := Build(parse(t, config.Config{Name: "x.toml", Text: []byte(text)}))
	if p == nil {
		t.Fatalf("build: %v", problems)
	}
	return p
}

// TestGolden holds the rules, translations and routes of whole documents, the
// examples among them, against tables that a person can read.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("../../examples/*.toml")
	if err != nil || len(examples) < 4 {
		t.Fatalf("found %d examples: %v", len(examples), err)
	}
	for _, file := range append(files, examples...) {
		name := strings.TrimSuffix(filepath.Base(file), ".toml")
		t.Run(name, func(t *testing.T) {
			p, problems := Build(load(t, file))
			var b strings.Builder
			for _, problem := range problems {
				fmt.Fprintln(&b, problem)
			}
			if p != nil {
				tables(&b, p)
			}
			golden(t, filepath.Join("testdata", name+".want"), b.String())
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			t.Fatalf("%s:%d\nwant %s\ngot  %s", file, i+1, w[i], g[i])
		}
	}
	if len(w) != len(g) {
		t.Fatalf("%s: %d lines, want %d", file, len(g), len(w))
	}
}

// tables writes a plan as tables.
func tables(w *strings.Builder, p *Plan) {
	for _, i := range p.Interfaces {
		fmt.Fprintf(w, "interface %d %s %v uplink=%v parent=%d vlan=%d mtu=%d norm=%+v\n", i.Index, i.Name, i.Addresses, i.Uplink, i.Parent, i.VLAN, i.MTU, i.Norm)
	}
	for _, v := range p.CARP.VHIDs {
		fmt.Fprintf(w, "vhid %d of %d base %d skew %d %v\n", v.ID, v.Iface, v.Base, v.Skew, v.Addresses)
	}
	for _, r := range p.RuleRows {
		fmt.Fprintln(w, join("rule", r.Number, mark(r.Automatic), r.ID, r.Interface, r.Action, r.Direction, r.Family, r.Protocol, r.Source, r.SourcePort,
			r.Destination, r.DestinationPort, r.State, r.Extra, r.Description))
	}
	for _, r := range p.NATRows {
		fmt.Fprintln(w, join("nat", r.Number, mark(r.Automatic), r.Kind, r.Interface, r.Protocol, r.Source, r.SourcePort, r.Destination, r.DestinationPort,
			r.Translation, r.StaticPort, r.Description))
	}
	for _, r := range p.table.List() {
		fmt.Fprintln(w, join("route", r.Prefix, r.Kind, r.Iface, r.Gateway))
	}
}

func mark(automatic bool) string {
	if automatic {
		return "a"
	}
	return ""
}

func join(cells ...any) string {
	words := make([]string, len(cells))
	for i, c := range cells {
		words[i] = fmt.Sprint(c)
	}
	return strings.Join(words, " | ")
}
