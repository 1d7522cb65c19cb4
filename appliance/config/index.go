package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// index knows at which line each key of the text stands. The TOML library
// keeps the lines of good values to itself, so a second, lenient scan of the
// same text collects them: tables, arrays of tables, dotted and quoted keys,
// inline tables and the elements of arrays.
//
// A path is written as the operator would: rules[2].source[0]. Scanning never
// fails; in text that is not TOML the lines are simply worth nothing.
type index struct {
	lines map[string]int
}

// nestingMax bounds how deep arrays and inline tables may lie in each other.
const nestingMax = 64

// line is the line of key, or else of the nearest table that holds it.
func (x *index) line(key string) int {
	for key != "" {
		if n, found := x.lines[key]; found {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 1
}

// has says whether the file gives key itself.
func (x *index) has(key string) bool {
	_, found := x.lines[key]
	return found
}

// child is the path of a key inside a table.
func child(path, key string) string {
	if !isName(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// element is the path of an element of an array.
func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// scanner walks the text once, from front to back.
type scanner struct {
	text  string
	pos   int
	line  int
	lines map[string]int
	count map[string]int // arrays of tables: how many there are by now
}

func newIndex(text string) *index {
	s := &scanner{text: text, line: 1, lines: map[string]int{}, count: map[string]int{}}
	s.document()
	return &index{s.lines}
}

func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

func (s *scanner) next() {
	if s.peek() == '\n' {
		s.line++
	}
	s.pos++
}

func (s *scanner) done() bool { return s.pos >= len(s.text) }

// blank skips spaces; with newlines also line ends, comments and commas.
func (s *scanner) blank(newlines bool) {
	for !s.done() {
		switch c := s.peek(); {
		case c == ' ' || c == '\t' || c == '\r':
		case newlines && (c == '\n' || c == ','):
		case newlines && c == '#':
			s.restOfLine()
			continue
		default:
			return
		}
		s.next()
	}
}

func (s *scanner) restOfLine() {
	for !s.done() && s.peek() != '\n' {
		s.next()
	}
}

func (s *scanner) note(path string) {
	if _, found := s.lines[path]; !found {
		s.lines[path] = s.line
	}
}

func (s *scanner) document() {
	table := ""
	for s.blank(true); !s.done(); s.blank(true) {
		before := s.pos
		if s.peek() == '[' {
			table = s.header()
		} else {
			s.pair(table, 0)
		}
		if s.pos == before {
			s.next() // Not TOML; go on anyhow.
		}
	}
}

// header reads [table] or [[table]] and returns the path it opens.
func (s *scanner) header() string {
	s.next()
	isArray := s.peek() == '['
	if isArray {
		s.next()
	}
	keys := s.keys()
	path := ""
	for i, key := range keys {
		path = child(path, key)
		if isArray && i == len(keys)-1 {
			s.note(path)
			s.count[path]++
		}
		path = s.latest(path)
		s.note(path)
	}
	s.restOfLine()
	return path
}

// latest is the table that path means now: of an array of tables its last.
func (s *scanner) latest(path string) string {
	if n := s.count[path]; n > 0 {
		return element(path, n-1)
	}
	return path
}

// pair reads key = value below table.
func (s *scanner) pair(table string, depth int) {
	path := table
	for _, key := range s.keys() {
		path = s.latest(child(path, key))
		s.note(path)
	}
	s.blank(false)
	if s.peek() == '=' {
		s.next()
		s.value(path, depth)
	}
}

// keys reads a dotted key.
func (s *scanner) keys() []string {
	var keys []string
	for {
		s.blank(false)
		key, ok := s.key()
		if !ok {
			return keys
		}
		keys = append(keys, key)
		s.blank(false)
		if s.peek() != '.' {
			return keys
		}
		s.next()
	}
}

func (s *scanner) key() (string, bool) {
	start := s.pos
	switch s.peek() {
	case '"', '\'':
		s.quoted()
		return unquote(s.text[start:s.pos]), true
	}
	for !s.done() && !strings.ContainsRune(" \t\r\n.=[]{}#,\"'", rune(s.peek())) {
		s.next()
	}
	return s.text[start:s.pos], s.pos > start
}

// unquote leaves escapes to the library, so that both read the same.
func unquote(quoted string) string {
	if !strings.Contains(quoted, `\`) || quoted[0] == '\'' {
		return strings.Trim(quoted, quoted[:1])
	}
	var v struct{ K string }
	if _, err := toml.Decode("K = "+quoted, &v); err != nil {
		return quoted
	}
	return v.K
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() {
	quote := s.text[s.pos : s.pos+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(s.text[s.pos:], long) {
		quote = long
	}
	for range quote {
		s.next()
	}
	for !s.done() && !strings.HasPrefix(s.text[s.pos:], quote) {
		if s.peek() == '\\' && quote[0] == '"' {
			s.next()
		}
		if len(quote) == 1 && s.peek() == '\n' {
			return // Not closed.
		}
		s.next()
	}
	for range quote {
		s.next()
	}
	for len(quote) == 3 && s.peek() == quote[0] {
		s.next() // A long string may end in up to two quotes of its own.
	}
	s.pos = min(s.pos, len(s.text))
}

// value reads what stands behind "=" or in an array.
func (s *scanner) value(path string, depth int) {
	s.blank(false)
	switch {
	case depth > nestingMax:
	case s.peek() == '[':
		s.array(path, depth+1)
		return
	case s.peek() == '{':
		s.inline(path, depth+1)
		return
	case s.peek() == '"' || s.peek() == '\'':
		s.quoted()
		return
	}
	for !s.done() && !strings.ContainsRune(",]}#\n", rune(s.peek())) {
		s.next()
	}
}

func (s *scanner) array(path string, depth int) {
	s.next()
	s.blank(true)
	for i := 0; !s.done() && s.peek() != ']'; i++ {
		before := s.pos
		s.note(element(path, i))
		s.value(element(path, i), depth)
		s.blank(true)
		if s.pos == before {
			return
		}
	}
	s.next()
	s.pos = min(s.pos, len(s.text))
}

func (s *scanner) inline(path string, depth int) {
	s.next()
	s.blank(true)
	for !s.done() && s.peek() != '}' {
		before := s.pos
		s.pair(path, depth)
		s.blank(true)
		if s.pos == before {
			return
		}
	}
	s.next()
	s.pos = min(s.pos, len(s.text))
}
