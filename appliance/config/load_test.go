package config

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the .want files")

// loadFile loads a file, with secrets from its folder.
func loadFile(t *testing.T, name string) (*Document, []Problem) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return Load(Config{
		Name: filepath.Base(name), Text: text,
		Read:    func(p string) ([]byte, error) { return os.ReadFile(filepath.Join(filepath.Dir(name), p)) },
		Exposed: func(p string) bool { return path.Base(p) == "exposed.password" },
	})
}

// TestFiles holds each testdata/x.toml against x.want: its problems, and below
// them, where there is a document without errors, what it came to mean.
func TestFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			doc, problems := loadFile(t, file)
			var b strings.Builder
			for _, p := range problems {
				fmt.Fprintln(&b, p)
			}
			if !HasErrors(problems) {
				dump(&b, doc)
			}
			want := strings.TrimSuffix(file, ".toml") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			golden, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := firstDifference(string(golden), b.String()); diff != "" {
				t.Errorf("%s differs: %s", want, diff)
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, a, b)
		}
	}
	return ""
}

func TestEveryExampleLoadsWithoutProblems(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.toml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d examples: %v", len(files), err)
	}
	for _, file := range files {
		if _, problems := loadFile(t, file); len(problems) > 0 {
			t.Errorf("%s: %v", file, problems)
		}
	}
}

// TestEveryGapIsRefusedByName gives each unbuilt key once.
func TestEveryGapIsRefusedByName(t *testing.T) {
	for _, g := range gaps {
		t.Run(g.key+g.value, func(t *testing.T) {
			text := gapText(g)
			_, problems := Load(Config{Name: "x.toml", Text: []byte(text)})
			want := "this build does not have " + g.what
			for _, p := range problems {
				if strings.Contains(p.Text, want) && pattern(p.Key) == g.key {
					return
				}
			}
			t.Errorf("%s\ngives %v\nwant one at %s with %q", text, problems, g.key, want)
		})
	}
}

// gapText is a document that uses g and little else.
func gapText(g gap) string {
	value := `"something"`
	if g.value != "" {
		value = fmt.Sprintf("%q", g.value)
	}
	keys := strings.Split(strings.ReplaceAll(g.key, "*", "lan"), ".")
	var b strings.Builder
	at := ""
	for i, k := range keys {
		name, isList := strings.CutSuffix(k, "[]")
		at = strings.TrimPrefix(at+"."+name, ".")
		switch {
		case i == len(keys)-1 && isList:
			fmt.Fprintf(&b, "%s = [%s]\n", name, value)
		case i == len(keys)-1:
			fmt.Fprintf(&b, "%s = %s\n", name, value)
		case isList:
			fmt.Fprintf(&b, "[[%s]]\n", at)
		case i == len(keys)-2 || strings.HasSuffix(keys[i+1], "[]") && i+1 < len(keys)-1:
			if !strings.HasSuffix(keys[i+1], "[]") || i+1 == len(keys)-1 {
				fmt.Fprintf(&b, "[%s]\n", at)
			}
		}
	}
	return b.String()
}

func TestNeutralValuesOfUnbuiltKeysAreAccepted(t *testing.T) {
	text := minimal + `
[[rules]]
interface = "lan"
action = "pass"
gateway = ""
floating = false
quick = true
reply_to = true
tag = ""
source_port = ""
destination_port = ""
direction = "in"
`
	_, problems := Load(Config{Name: "x.toml", Text: []byte(text)})
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
}

// minimal is a document without faults.
const minimal = `
[system]
hostname = "fw"
[interfaces.lan]
link = { driver = "tap", device = "lan" }
addresses = ["192.168.1.1/24"]
`

func TestSyntaxFaultsCarryTheirLine(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
	}{
		{"open string", "[system]\nhostname = \"fw\n", 2},
		{"key twice", "[system]\nhostname = \"fw\"\nhostname = \"fx\"\n", 3},
		{"no value", "[system]\n\nhostname =\n", 3},
		{"too deep", strings.Repeat("[", 100), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, problems := Load(Config{Name: "x.toml", Text: []byte(tt.text)})
			if doc != nil || len(problems) != 1 || problems[0].Line != tt.line {
				t.Errorf("document %v, problems %v, want one at line %d", doc, problems, tt.line)
			}
		})
	}
}

func TestSecretsNeverShow(t *testing.T) {
	text := minimal + `
[high_availability]
host_id = 1
[[virtual_ips]]
type = "carp"
interface = "lan"
address = "192.168.1.3/24"
vhid = 3
password = "open-sesame"
`
	doc, problems := Load(Config{Name: "x.toml", Text: []byte(text)})
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	if got := doc.VirtualIPs[0].Password.Reveal(); got != "open-sesame" {
		t.Errorf("password %q", got)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if out := fmt.Sprintf(verb, doc.VirtualIPs[0]); strings.Contains(out, "sesame") {
			t.Errorf("%s prints the password: %s", verb, out)
		}
		if out := fmt.Sprintf(verb, doc.VirtualIPs[0].Password); !strings.Contains(out, hidden) {
			t.Errorf("%s prints %s, want %s", verb, out, hidden)
		}
	}
}

func TestSecretFileLosesOneNewline(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"word\n", "word"}, {"word", "word"}, {"word\n\n", "word\n"}, {"word\r\n", "word"}, {" word \n", " word "},
	} {
		c := Config{Name: "dir/x.toml", Read: func(p string) ([]byte, error) {
			if p != "dir/a.password" {
				t.Errorf("read %s", p)
			}
			return []byte(tt.file), nil
		}}
		got, ok := readSecret(&faults{index: newIndex("")}, c, "password_file", "a.password")
		if !ok || got.Reveal() != tt.want {
			t.Errorf("file %q gives %q, want %q", tt.file, got.Reveal(), tt.want)
		}
	}
}

func TestSyntaxFaultIsToldWithItsLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[system]\nhostname = \"a\"\n[nat.outbound\nmode = \"manual\"\n", "f:3: this is no TOML"},
		{"[system]\nhostname = \n", "f:2: system.hostname: this is no TOML"},
		{"[system]\nhostname = \"a\n", "f:2: system.hostname: this is no TOML"},
		{"[system]\nhostname = \"a\"\nhostname = \"b\"\n", "f:3: system.hostname: this is no TOML"},
		{"[system", "f:1: this is no TOML"},
		{"a = [1,\n2\n", "f:2: this is no TOML"},
	} {
		_, problems := Load(Config{Name: "f", Text: []byte(c.text)})
		if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, problems, c.want)
		}
	}
}
