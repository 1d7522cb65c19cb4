package config

import (
	"reflect"

	"github.com/BurntSushi/toml"
)

// File is a TOML file of another kind than the node's configuration, such as a
// topology of the lab, read by the same rules: every fault at once, with its
// line; unknown keys with the nearest known one.
type File struct {
	name  string
	index *index
}

// Entry is embedded in the elements of a slice that a table of named entries
// is read into: [switches.wan] becomes the element with the Name "wan".
type Entry struct{ Name string }

func (e *Entry) setName(name string) { e.Name = name }

// Decode reads a text into the struct that dst points to, by its fields' toml
// tags: the key's name, then "required" where it has to be given. Fields are
// structs, slices, text, booleans, whole numbers and types that read
// themselves from text. The file is nil only if the text is no TOML.
func Decode(name string, text []byte, dst any) (*File, []Problem) {
	f := &faults{file: name, index: &index{}}
	switch {
	case len(text) > textBytesMax:
		f.errorf("", "the file has %d bytes, and at most %d are read", len(text), textBytesMax)
		return nil, f.problems
	case tooDeep(string(text)):
		f.errorf("", "brackets lie more than %d deep in each other", nestingMax)
		return nil, f.problems
	}
	raw := map[string]any{}
	if _, err := toml.Decode(string(text), &raw); err != nil {
		return nil, []Problem{syntaxProblem(name, string(text), err)}
	}
	f.index = newIndex(string(text))
	d := &decoder{faults: f}
	d.secret = func(key, _ string) (Secret, bool) {
		f.errorf(key, "files of secrets belong into a node's configuration")
		return Secret{}, false
	}
	d.table("", raw, reflect.ValueOf(dst).Elem())
	return &File{name, f.index}, sortProblems(f.problems)
}

// Problem makes one about a key of this file.
func (f *File) Problem(severity Severity, key, text string) Problem {
	return Problem{Severity: severity, File: f.name, Line: f.index.line(key), Key: key, Text: text}
}
