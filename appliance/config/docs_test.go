package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tandem/netstack/packet"
	"tandem/netstack/pf"
	"tandem/netstack/pf/norm"
	"tandem/netstack/pf/state"
	"tandem/netstack/router"
)

// The reference in docs/configuration.md is held against the code: its keys
// against the fields of the document, its defaults against setDefaults, its
// list of what is not built against the gaps, and every TOML block of every
// page against Load.

const reference = "../../docs/configuration.md"

// docKey is a row of the reference.
type docKey struct {
	path         string // in the form of pattern
	defaultValue string // the cell of the table
}

var (
	headingCode = regexp.MustCompile("^#+ `(\\[+[^]]+\\]+)`")
	firstCode   = regexp.MustCompile("^`([^`]+)`")
	everyCode   = regexp.MustCompile("`([^`]+)`")
)

// tablePath is the pattern of a heading: [[nat.outbound.rules]] is
// nat.outbound.rules[], [interfaces.NAME] interfaces.*.
func tablePath(heading string) string {
	name := strings.Trim(heading, "[]")
	if strings.HasPrefix(heading, "[[") {
		name += "[]"
	}
	return strings.ReplaceAll(name, "NAME", "*")
}

// docKeys reads the tables whose first column is called Key. Those that stand
// under "In every entry" are common to all entries.
func docKeys(t *testing.T) (keys []docKey, common []docKey) {
	t.Helper()
	table, isTable, inCommon := "", false, false
	for _, line := range docLines(t, reference) {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		m := headingCode.FindStringSubmatch(line)
		switch {
		case m != nil:
			table, inCommon = tablePath(m[1]), false
		case strings.HasPrefix(line, "#"):
			table, inCommon = "", line == "## In every entry"
		case !strings.HasPrefix(line, "|"):
			isTable = false
		case cells[0] == "Key":
			isTable = true
		case isTable && strings.HasPrefix(line, "| `"):
			name := strings.ReplaceAll(firstCode.FindStringSubmatch(cells[0])[1], "NAME", "*")
			k := docKey{strings.TrimPrefix(table+"."+name, "."), cells[2]}
			if inCommon {
				common = append(common, k)
			} else {
				keys = append(keys, k)
			}
		}
	}
	if len(keys) == 0 || len(common) == 0 {
		t.Fatal("the reference has no tables of keys")
	}
	return keys, common
}

func docLines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// codeKey is a key as the decoder knows it.
type codeKey struct {
	required     bool
	defaultValue string // as the reference would write it; "": the zero value
}

// codeKeys walks the types of the document. Every table gets its defaults
// first, as the decoder does.
func codeKeys() map[string]codeKey {
	keys := map[string]codeKey{}
	walkKeys("", reflect.New(reflect.TypeFor[Document]()).Elem(), keys)
	return keys
}

func walkKeys(path string, v reflect.Value, keys map[string]codeKey) {
	if d, ok := v.Addr().Interface().(defaulter); ok {
		d.setDefaults()
	}
	for _, f := range fieldsOf(v) {
		at := strings.TrimPrefix(path+"."+f.name, ".")
		elem := f.dst.Type()
		switch {
		case elem == reflect.TypeFor[Timeouts]():
			keys[at] = codeKey{defaultValue: strconv.Quote(string(f.dst.Interface().(Timeouts).Preset))}
			walkKeys(at, reflect.New(reflect.TypeFor[TimeoutSet]()).Elem(), keys)
		case elem == reflect.TypeFor[[]Group](), elem == reflect.TypeFor[[]Alias]():
			keys[at+".*"], keys[at+".*.members"] = codeKey{}, codeKey{required: elem == reflect.TypeFor[[]Group]()}
			for _, o := range fieldsOf(reflect.New(objectOf(elem)).Elem()) {
				keys[at+".*."+o.name] = codeKey{}
			}
		case elem.Kind() == reflect.Slice && isTable(elem.Elem()):
			if _, ok := reflect.New(elem.Elem()).Interface().(named); ok {
				at += ".*"
			} else {
				at += "[]"
			}
			walkKeys(at, reflect.New(elem.Elem()).Elem(), keys)
		case isTable(elem):
			if f.required {
				keys[at] = codeKey{required: true}
			}
			walkKeys(at, f.dst, keys)
		default:
			keys[at] = codeKey{f.required, writeDefault(f.dst)}
		}
	}
}

// isTable says whether a type is read as a table: a struct with tagged fields,
// its own or those of what it embeds.
func isTable(typ reflect.Type) bool {
	if typ.Kind() != reflect.Struct {
		return false
	}
	for i := range typ.NumField() {
		if f := typ.Field(i); f.Tag.Get("toml") != "" || f.Anonymous && isTable(f.Type) {
			return true
		}
	}
	return false
}

// objectOf is what the entries of a table that is read by hand have in common.
func objectOf(list reflect.Type) reflect.Type {
	if list == reflect.TypeFor[[]Alias]() {
		return reflect.TypeFor[Shared]()
	}
	return reflect.TypeFor[Object]()
}

// writeDefault writes a value as the reference does.
func writeDefault(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Protocol:
		return strconv.Quote(x.String())
	case TCPFlags:
		return strconv.Quote(x.String())
	case bool:
		return strconv.FormatBool(x)
	case int:
		return strconv.Itoa(x)
	}
	if v.Kind() == reflect.String && v.Len() > 0 {
		return strconv.Quote(v.String())
	}
	return ""
}

func TestReferenceHasEveryKeyAndNoOther(t *testing.T) {
	code := codeKeys()
	keys, common := docKeys(t)
	inDoc := map[string]bool{}
	for _, k := range keys {
		if inDoc[k.path] {
			t.Errorf("%s stands in the reference twice", k.path)
		}
		inDoc[k.path] = true
		c, ok := code[k.path]
		if !ok {
			t.Errorf("the reference has %s, and the code has not", k.path)
			continue
		}
		checkDefault(t, k, c)
	}
	for _, path := range slices.Sorted(maps.Keys(code)) {
		last := path[strings.LastIndexByte(path, '.')+1:]
		isCommon := slices.ContainsFunc(common, func(k docKey) bool { return k.path == last })
		secret, isFile := strings.CutSuffix(path, "_file")
		switch {
		case isCommon && !inDoc[path], isFile && inDoc[secret]:
		case !inDoc[path]:
			t.Errorf("the reference lacks %s", path)
		}
	}
}

// checkDefault compares a default in the reference with the code's. Words
// without backticks stand for a zero value, which is nobody's default.
func checkDefault(t *testing.T, k docKey, c codeKey) {
	written := firstCode.FindStringSubmatch(k.defaultValue)
	switch {
	case c.required != (k.defaultValue == "required"):
		t.Errorf("%s: the reference says default %q, and required is %v", k.path, k.defaultValue, c.required)
	case written != nil && written[1] != c.defaultValue:
		t.Errorf("%s: the reference says default %s, and the code %s", k.path, written[1], c.defaultValue)
	case written == nil && !c.required && c.defaultValue != "" && c.defaultValue != "0" && c.defaultValue != "false":
		t.Errorf("%s: the default is %s, and the reference says %q", k.path, c.defaultValue, k.defaultValue)
	}
}

func TestReferenceListsWhatIsNotBuilt(t *testing.T) {
	want := map[string]bool{}
	for _, g := range gaps {
		key := g.key
		if g.value != "" {
			key = fmt.Sprintf("%s = %q", g.key, g.value)
		}
		want[key] = true
	}
	got, isTable := map[string]bool{}, false
	for _, line := range docLines(t, reference) {
		first := strings.Split(strings.Trim(line, "| "), " | ")[0]
		switch {
		case !strings.HasPrefix(line, "|"):
			isTable = false
		case first == "Keys":
			isTable = true
		case isTable:
			for _, m := range everyCode.FindAllStringSubmatch(first, -1) {
				got[m[1]] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !got[key] {
			t.Errorf("the list of what is not built lacks %s", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if !want[key] {
			t.Errorf("%s is listed as not built, and the code does not refuse it", key)
		}
	}
}

func TestReferenceNamesEveryWord(t *testing.T) {
	text := strings.Join(docLines(t, reference), "\n")
	var words []string
	for name, port := range services {
		words = append(words, fmt.Sprintf("`%s` %d", name, port))
	}
	for _, p := range protocols {
		words = append(words, "`"+p.name+"`")
	}
	for _, i := range icmpTypes {
		words = append(words, "`"+i.Name+"`")
	}
	for _, d := range Driver("").choices() {
		words = append(words, "| `"+d+"` |")
	}
	for _, name := range []string{"normal", "conservative", "aggressive", "high_latency"} {
		p, ok := state.Preset(name)
		if !ok {
			t.Fatalf("there is no preset %s", name)
		}
		words = append(words, fmt.Sprintf("| `%s` | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |", name, p.TCPFirst.Seconds(),
			p.TCPOpening.Seconds(), p.TCPEstablished.Seconds(), p.TCPClosing.Seconds(), p.TCPFinWait.Seconds(), p.TCPClosed.Seconds()))
	}
	slices.Sort(words)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the reference lacks %s", w)
		}
	}
}

// preamble completes a fragment: each piece is added unless the fragment has
// the table itself.
var preamble = []struct{ unless, text string }{
	{"[system]", "[system]\nhostname = \"fw-primary\"\n"},
	{"[interfaces.wan]", "[interfaces.wan]\nlink = { driver = \"tap\", device = \"doc-wan\" }\n" +
		"addresses = [\"198.51.100.201/24\"]\ngateway = \"198.51.100.1\"\n"},
	{"[interfaces.lan]", "[interfaces.lan]\nlink = { driver = \"tap\", device = \"doc-lan\" }\naddresses = [\"192.168.1.2/24\"]\n"},
	{"[interfaces.sync]", "[interfaces.sync]\nlink = { driver = \"tap\", device = \"doc-sync\" }\naddresses = [\"172.16.1.2/24\"]\n"},
	{"[high_availability]", "[high_availability]\nhost_id = 1\n"},
	{`type = "carp"`, "[[virtual_ips]]\ntype = \"carp\"\ninterface = \"wan\"\naddress = \"198.51.100.200/24\"\nvhid = 200\npassword = \"p\"\n" +
		"[[virtual_ips]]\ntype = \"carp\"\ninterface = \"lan\"\naddress = \"192.168.1.1/24\"\nvhid = 1\npassword = \"p\"\n"},
}

// tomlBlocks are the blocks of a page that are marked as TOML, by line.
func tomlBlocks(t *testing.T, file string) map[int]string {
	blocks, start := map[int]string{}, 0
	for n, line := range docLines(t, file) {
		switch {
		case line == "```toml":
			start = n + 1
		case line == "```":
			start = 0
		case start > 0:
			blocks[start] += line + "\n"
		}
	}
	return blocks
}

// TestEveryTOMLBlockOfTheDocsLoads: a whole file (one with [system]) as it
// stands, a fragment behind a preamble.
func TestEveryTOMLBlockOfTheDocsLoads(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	readme, errReadme := filepath.Glob("../../README.md")
	if err != nil || errReadme != nil {
		t.Fatal(err, errReadme)
	}
	blocks := 0
	for _, page := range append(pages, readme...) {
		for line, text := range tomlBlocks(t, page) {
			blocks++
			for _, p := range preamble {
				if !strings.Contains(text, p.unless) {
					text += "\n" + p.text
				}
			}
			doc, problems := Load(Config{
				Name: fmt.Sprintf("%s:%d", filepath.Base(page), line), Text: []byte(text),
				Read: func(string) ([]byte, error) { return []byte("secret"), nil },
			})
			for _, p := range problems {
				if p.Severity == Error || !strings.Contains(p.Text, "has no VIP") {
					t.Errorf("%v\nin %s", p, text)
				}
			}
			if doc == nil {
				t.Errorf("%s:%d gives no document", page, line)
			}
		}
	}
	if blocks < 10 {
		t.Errorf("found %d blocks", blocks)
	}
}

// dropReasons are the words that `status` uses for dropped packets.
func dropReasons() []string {
	var words []string
	for i := range 256 {
		words = append(words, packet.Reason(i).String(), norm.Reason(i).String(), pf.Reason(i).String(),
			router.Reason(i).String(), "state-"+state.Reason(i).String())
	}
	slices.Sort(words)
	return slices.DeleteFunc(slices.Compact(words), func(w string) bool {
		return strings.HasSuffix(w, "unknown") || strings.HasSuffix(w, "ok") && len(w) <= len("state-ok")
	})
}

func TestTroubleshootingExplainsEveryDropReason(t *testing.T) {
	text := strings.Join(docLines(t, "../../docs/troubleshooting.md"), "\n")
	for _, w := range dropReasons() {
		if !strings.Contains(text, "`"+w+"`") {
			t.Errorf("no word about %s", w)
		}
	}
}
