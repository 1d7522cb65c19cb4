package config

import (
	"errors"
	"path"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// schemaVersion is the version of the document that this build reads.
const schemaVersion = 1

// textBytesMax bounds a configuration; a thousand rules take a tenth of it.
const textBytesMax = 4 << 20

// Config is what Load reads.
type Config struct {
	Name string // of the file, for messages; relative paths in it start at its folder
	Text []byte

	// Read returns the content of a file that a key names. Nil: there are no
	// files, and a key that names one is a fault.
	Read func(path string) ([]byte, error)

	// Exposed says whether others than the owner may read a file that holds a
	// secret. Nil: nobody can tell.
	Exposed func(path string) bool
}

// Load reads a configuration. The document is nil only if the text is no TOML;
// it may be used if no problem is an error.
func Load(c Config) (*Document, []Problem) {
	text := string(c.Text)
	f := &faults{file: c.Name, index: &index{}}
	switch {
	case len(text) > textBytesMax:
		f.errorf("", "the file has %d bytes, and at most %d are read", len(text), textBytesMax)
		return nil, f.problems
	case tooDeep(text):
		f.errorf("", "brackets lie more than %d deep in each other; the file needs three at most", nestingMax)
		return nil, f.problems
	}
	var raw map[string]any
	if _, err := toml.Decode(text, &raw); err != nil {
		return nil, []Problem{syntaxProblem(c.Name, text, err)}
	}
	f.index = newIndex(text)
	doc := &Document{Name: c.Name, index: f.index}
	d := &decoder{faults: f}
	d.secret = func(key, file string) (Secret, bool) { return readSecret(f, c, key, file) }
	if raw == nil {
		raw = map[string]any{}
	}
	d.table("", raw, reflect.ValueOf(doc).Elem())
	f.endReading()
	check(f, doc)
	return doc, sortProblems(f.problems)
}

// Problem makes one about a key of this document, for those who find faults
// that only show once rules are compiled.
func (d *Document) Problem(severity Severity, key, text string) Problem {
	return Problem{Severity: severity, File: d.Name, Line: d.index.line(key), Key: key, Text: text}
}

// Has says whether the file gives key, rather than its default.
func (d *Document) Has(key string) bool { return d.index.has(key) }

// SortProblems puts problems of several sources in the file's order.
func SortProblems(problems []Problem) []Problem { return sortProblems(problems) }

// syntaxProblem tells where a text is no TOML. The library counts a newline
// that it stumbles over to the next line, and names the last key that it
// could read, which may be far above; both are put right.
func syntaxProblem(name, text string, err error) Problem {
	p := Problem{File: name, Line: 1, Text: strings.TrimPrefix(err.Error(), "toml: ")}
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		last := min(max(e.Position.Start+e.Position.Len-1, 0), len(text))
		p.Line = 1 + strings.Count(text[:last], "\n")
		line, _, _ := strings.Cut(text[strings.LastIndexByte(text[:last], '\n')+1:], "\n")
		if strings.Contains(line, e.LastKey[strings.LastIndexByte(e.LastKey, '.')+1:]) {
			p.Key = e.LastKey
		}
		p.Text = e.Message
	}
	p.Text = "this is no TOML: " + p.Text
	return p
}

// tooDeep bounds the recursion of the library's parser. It counts brackets in
// strings too, of which no configuration has that many more opening ones.
func tooDeep(text string) bool {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		}
		if depth > nestingMax {
			return true
		}
	}
	return false
}

// readSecret reads the file of a secret. One trailing newline is the editor's,
// not the secret's.
func readSecret(f *faults, c Config, key, file string) (Secret, bool) {
	if !path.IsAbs(file) {
		file = path.Join(path.Dir(c.Name), file)
	}
	if c.Read == nil {
		f.errorf(key, "%s cannot be read here; write the secret into the file that names it", file)
		return Secret{}, false
	}
	b, err := c.Read(file)
	if err != nil {
		f.errorf(key, "read %s: %v; create it, readable by its owner alone", file, err)
		return Secret{}, false
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		f.errorf(key, "%s is empty; put the secret into it", file)
		return Secret{}, false
	}
	if c.Exposed != nil && c.Exposed(file) {
		f.warnf(key, "%s can be read by others than its owner; give it mode 0600", file)
	}
	return NewSecret(text), true
}
