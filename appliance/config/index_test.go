package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestIndexFindsEveryLine(t *testing.T) {
	const text = `# comment with [brackets] and = signs
title = "a # no comment"           # 2
[a.b]                              # 3
c.d = 1                            # 4
"quoted key" = 'x'                 # 5
list = [                           # 6
  "one", # and a comment, with ]
  [2, 3],                          # 8

  { x = 1, y = { z = "}" } },      # 10
]
text = """
[not.a.table]
k = "v"
"""
after = true                       # 16
[[t]]                              # 17
n = 1
[t.sub]                            # 19
k = 1
[[t.inner]]                        # 21
[[t]]                              # 22
n = 2
[[t.inner]]                        # 24
n = ''' [[t]] '''
m = {a.b = 1, "c d" = [1,2]}       # 26
`
	x := newIndex(text)
	for key, line := range map[string]int{
		"title": 2, "a": 3, "a.b": 3, "a.b.c": 4, "a.b.c.d": 4, `a.b."quoted key"`: 5,
		"a.b.list": 6, "a.b.list[0]": 7, "a.b.list[1]": 8, "a.b.list[1][1]": 8, "a.b.list[2].x": 10,
		"a.b.list[2].y.z": 10, "a.b.text": 12, "a.b.after": 16,
		"t": 17, "t[0]": 17, "t[0].n": 18, "t[0].sub.k": 20, "t[0].inner[0]": 21,
		"t[1]": 22, "t[1].n": 23, "t[1].inner[0]": 24, "t[1].inner[0].n": 25,
		"t[1].inner[0].m.a.b": 26, `t[1].inner[0].m."c d"[1]`: 26,
	} {
		if !x.has(key) || x.line(key) != line {
			t.Errorf("%s: line %d (known: %v), want %d", key, x.line(key), x.has(key), line)
		}
	}
	for _, key := range []string{"not.a.table", "k", "a.b.x"} {
		if x.has(key) {
			t.Errorf("%s is in the index at line %d", key, x.line(key))
		}
	}
	if got := x.line("t[1].inner[0].missing"); got != 24 {
		t.Errorf("a missing key is at line %d, want that of its table, 24", got)
	}
}

// missing lists paths of raw that the index does not have.
func missing(x *index, path string, raw any) []string {
	var out []string
	if path != "" && !x.has(path) {
		out = append(out, path)
	}
	switch v := raw.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			out = append(out, missing(x, child(path, k), v[k])...)
		}
	case []any:
		for i, e := range v {
			out = append(out, missing(x, element(path, i), e)...)
		}
	case []map[string]any:
		for i, e := range v {
			out = append(out, missing(x, element(path, i), e)...)
		}
	}
	return out
}

// FuzzIndex: whatever the library takes for TOML, the index has a line for
// every path of it.
func FuzzIndex(f *testing.F) {
	for _, s := range []string{
		"a=1", "[a]\nb=[1,\n2]", "[[a]]\n[a.b]\n[[a]]\nc={d=1,e=[{f=1}]}", "a.b.\"c.d\"=1", `"\u0041"=1`, "'a'=1\n",
		"a=\"\"\"x\n\"\"\"\"\nb=2", "a='''x''''\n", "a=[\n#c\n1,\n]", "a = {b = 1,\n c = 2}\n", "\"\"=1",
		"a=1979-05-27T07:32:00Z", "a = [ 'x', \"y\\\"]\" ]", "\r\na=1\r\n", "\"a\\\"b\"=1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		x := newIndex(text)
		if tooDeep(text) {
			return
		}
		var raw map[string]any
		if _, err := toml.Decode(text, &raw); err != nil {
			return
		}
		if lost := missing(x, "", raw); len(lost) > 0 {
			t.Errorf("no line for %q", lost)
		}
	})
}

// FuzzLoad: no text makes Load panic, its problems lie inside the text, and a
// second run says the same.
func FuzzLoad(f *testing.F) {
	f.Add(minimal)
	f.Add(minimal + "[[rules]]\ninterface=\"lan\"\naction=\"pass\"\nsource=[\"!a\",\"lan:net\"]\n[aliases]\na=[\"b\"]\nb=[\"a\"]\n")
	f.Add(minimal + "[[virtual_ips]]\ntype=\"carp\"\ninterface=\"lan\"\naddress=\"192.168.1.1/32\"\nvhid=\"auto\"\npeer=\"::1\"\n")
	f.Add("[[nat.outbound.rules]]\n[[nat.port_forwards]]\n[[nat.one_to_one]]\nexternal=\"::/0\"\n[[gateways]]\n[[routes]]\n[[assert]]\n")
	f.Add("interfaces=1\nrules=[1]\naliases=[]\n[interface_groups]\na=1\n[firewall]\ntimeouts=3\n")
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := Config{Name: "x.toml", Text: []byte(text)}
		_, problems := Load(c)
		_, again := Load(c)
		if len(problems) != len(again) {
			t.Fatalf("%d problems, then %d", len(problems), len(again))
		}
		for i, p := range problems {
			if p != again[i] {
				t.Errorf("problem %d is %v, then %v", i, p, again[i])
			}
			if p.Line < 1 || p.Text == "" {
				t.Errorf("problem without line or text: %+v", p)
			}
		}
	})
}
