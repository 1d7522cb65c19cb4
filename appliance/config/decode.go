package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// decoder turns the library's raw values into the typed document. It goes on
// after a fault, so that the operator sees all of them at once.
//
// Field tags name the key; behind a comma: "required" (a fault if it is not
// given), "one" (a single value may stand for a list of one).
type decoder struct {
	*faults
	secret func(key, path string) (Secret, bool) // reads the file of a secret; reports what is wrong with it itself
}

// What types may do to be read in their own way.
type (
	tomlReader  interface{ UnmarshalTOML(raw any) error } // several raw types
	selfDecoder interface {
		decode(d *decoder, key string, raw any)
	} // several shapes
	defaulter interface{ setDefaults() }
	named     interface{ setName(name string) } // entries of a table, in the file's order
	keyed     interface{ setKey(key string) }
)

// field is a key that a table may have.
type field struct {
	name          string
	required, one bool
	file          bool // the key names a file that holds the value
	dst           reflect.Value
}

// fieldsOf lists the keys of a struct, those of embedded structs included.
func fieldsOf(v reflect.Value) []field {
	var fields []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			fields = append(fields, fieldsOf(v.Field(i))...)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("toml"), ",")
		if name == "" || name == "-" {
			continue
		}
		entry := field{
			name: name, dst: v.Field(i),
			required: strings.Contains(options, "required"), one: strings.Contains(options, "one"),
		}
		fields = append(fields, entry)
		if f.Type == reflect.TypeFor[Secret]() {
			entry.name, entry.file = name+"_file", true
			fields = append(fields, entry)
		}
	}
	return fields
}

// table reads raw into the struct dst.
func (d *decoder) table(key string, raw any, dst reflect.Value) {
	if k, ok := dst.Addr().Interface().(keyed); ok {
		k.setKey(key)
	}
	if x, ok := dst.Addr().Interface().(defaulter); ok {
		x.setDefaults()
	}
	values, ok := raw.(map[string]any)
	if !ok {
		d.errorf(key, "%s stands where a table belongs; write [%s] and its keys below", show(raw), key)
		return
	}
	fields := fieldsOf(dst)
	for _, name := range sortedKeys(values) {
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if at < 0 {
			d.unknown(key, name, values[name], fields)
			continue
		}
		d.field(child(key, name), values[name], fields[at])
	}
	for _, f := range fields {
		if _, given := values[f.name]; f.required && !given {
			d.errorf(child(key, f.name), "is required and not given; add %s = %s", f.name, exampleOf(f.name))
		}
	}
}

// exampleOf shows what a required key may look like.
func exampleOf(name string) string {
	examples := map[string]string{
		"hostname": `"fw-primary"`, "link": `{ driver = "tap", device = "fw1-wan" }`, "driver": `"tap"`,
		"type": `"carp"`, "interface": `"wan"`, "address": `"198.51.100.200/24"`, "action": `"pass"`,
		"source": `"lan:net"`, "translation": `"198.51.100.200"`, "destination": `"198.51.100.200"`,
		"target": `"192.168.1.25"`, "external": `"198.51.100.210"`, "internal": `"192.168.1.25"`,
		"name": `"wan_gw"`, "gateway": `"wan_gw"`, "from": `"lan:192.168.1.50"`,
		"to": `"tcp 198.51.100.1:443"`, "expect": `"pass"`,
	}
	if e, known := examples[name]; known {
		return e
	}
	return "..."
}

// unknown reports a key that no field takes: not built, or mistyped.
func (d *decoder) unknown(table, name string, raw any, fields []field) {
	key := child(table, name)
	if g, found := findGap(key, raw); found {
		if g.refuses(raw) {
			d.errorf(key, "this build does not have %s yet; leave it out", g.what)
		}
		return
	}
	var known []string
	for _, f := range fields {
		known = append(known, f.name)
	}
	slices.Sort(known)
	hint := didYouMean(name, append(gapKeys(table), known...))
	if hint == "" && len(known) > 0 {
		hint = "; known here: " + strings.Join(known, ", ")
	}
	d.errorf(key, "unknown key%s", hint)
}

// field reads one key.
func (d *decoder) field(key string, raw any, f field) {
	if g, found := findGap(key, raw); found && g.value == "" {
		if g.refuses(raw) {
			d.errorf(key, "this build does not have %s yet; leave it out", g.what)
		}
		return
	}
	if !f.file {
		d.value(key, raw, f.dst, f.one)
		return
	}
	path, ok := raw.(string)
	if !ok || path == "" {
		d.errorf(key, "%s is no file name; give one in quotes", show(raw))
		return
	}
	if plain := strings.TrimSuffix(key, "_file"); d.index.has(plain) {
		d.errorf(key, "%s is given too; leave one of the two out", plain)
		return
	}
	if s, ok := d.secret(key, path); ok {
		f.dst.Set(reflect.ValueOf(s))
	}
}

// value reads raw into dst by dst's type.
func (d *decoder) value(key string, raw any, dst reflect.Value, one bool) {
	if g, found := findGap(key, raw); found && g.value != "" {
		d.errorf(key, "this build does not have %s yet%s", g.what, instead(dst))
		return
	}
	switch x := dst.Addr().Interface().(type) {
	case selfDecoder:
		x.decode(d, key, raw)
	case tomlReader:
		d.report(key, x.UnmarshalTOML(raw))
	case encoding.TextUnmarshaler:
		s, ok := raw.(string)
		if !ok {
			s = show(raw) // The type's own complaint says best what belongs here.
		}
		d.report(key, x.UnmarshalText([]byte(s)))
	case choice:
		d.choice(key, raw, x, dst)
	default:
		d.plain(key, raw, dst, one)
	}
}

// instead says what the operator may write in place of an unbuilt value.
func instead(dst reflect.Value) string {
	if c, ok := dst.Interface().(choice); ok {
		return "; it has " + strings.Join(c.choices(), ", ")
	}
	return ""
}

func (d *decoder) choice(key string, raw any, c choice, dst reflect.Value) {
	s, ok := raw.(string)
	if !ok || !isChoice(c, s) {
		hint := ""
		if ok {
			hint = didYouMean(s, c.choices())
		}
		d.errorf(key, "%s is not among %s%s", show(raw), strings.Join(c.choices(), ", "), hint)
		return
	}
	dst.SetString(s)
}

// plain reads Go's own kinds.
func (d *decoder) plain(key string, raw any, dst reflect.Value, one bool) {
	switch dst.Kind() {
	case reflect.Struct:
		d.table(key, raw, dst)
	case reflect.Slice:
		d.list(key, raw, dst, one)
	case reflect.Bool:
		b, ok := raw.(bool)
		if !ok {
			d.errorf(key, "%s is neither true nor false; write one of these, without quotes", show(raw))
			return
		}
		dst.SetBool(b)
	case reflect.String:
		s, ok := raw.(string)
		if !ok {
			d.errorf(key, "%s is no text; put it in quotes", show(raw))
			return
		}
		dst.SetString(s)
	case reflect.Int:
		n, ok := raw.(int64)
		if !ok {
			d.errorf(key, "%s is no whole number; write one without quotes", show(raw))
			return
		}
		dst.SetInt(n)
	case reflect.Uint32:
		n, ok := raw.(int64)
		if !ok || n < 1 || n > 1<<32-1 {
			d.errorf(key, "%s is no number from 1 to %d", show(raw), uint32(1<<32-1))
			return
		}
		dst.SetUint(uint64(n))
	default:
		panic("config: no way to read a " + dst.Type().String())
	}
}

// list reads an array, an array of tables, a table of named entries, or a
// single value where one may stand for a list.
func (d *decoder) list(key string, raw any, dst reflect.Value, one bool) {
	switch x := raw.(type) {
	case []any:
		if one && len(x) == 0 {
			d.errorf(key, "is an empty list; leave it out for any, or fill it in")
		}
		for i, e := range x {
			d.append(element(key, i), e, dst)
		}
	case []map[string]any:
		for i, e := range x {
			d.append(element(key, i), e, dst)
		}
	case map[string]any:
		if _, ok := reflect.New(dst.Type().Elem()).Interface().(named); !ok {
			d.errorf(key, "a table stands where a list belongs; write [[%s]] for each entry", key)
			return
		}
		for _, name := range d.inOrder(key, x) {
			d.append(child(key, name), x[name], dst)
			last := dst.Index(dst.Len() - 1)
			last.Addr().Interface().(named).setName(name)
		}
	default:
		switch {
		case one && raw == "": // Written out, but nothing.
		case one:
			d.append(key, raw, dst)
		default:
			d.errorf(key, "%s is no list; put it in brackets", show(raw))
		}
	}
}

// append reads one more element of the slice dst. One that is at fault stays
// as the zero value, so that the others keep their place; checks skip it.
func (d *decoder) append(key string, raw any, dst reflect.Value) {
	dst.Set(reflect.Append(dst, reflect.Zero(dst.Type().Elem())))
	d.value(key, raw, dst.Index(dst.Len()-1), false)
}

// inOrder lists the names of a table as they come in the file.
func (d *decoder) inOrder(key string, table map[string]any) []string {
	names := sortedKeys(table)
	slices.SortStableFunc(names, func(a, b string) int {
		return d.index.line(child(key, a)) - d.index.line(child(key, b))
	})
	return names
}

func sortedKeys(table map[string]any) []string {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (d *decoder) report(key string, err error) {
	if err != nil {
		d.errorf(key, "%v", err)
	}
}

// faults collects problems with the line of their key.
type faults struct {
	file     string
	index    *index
	problems []Problem
	unread   map[string]bool // keys whose value could not be read: what checks make of the zero value is no news
}

// endReading closes the decoder's part.
func (f *faults) endReading() {
	f.unread = map[string]bool{}
	for _, p := range f.problems {
		f.unread[p.Key] = true
	}
}

func (f *faults) errorf(key, format string, args ...any) { f.add(Error, key, format, args...) }
func (f *faults) warnf(key, format string, args ...any)  { f.add(Warning, key, format, args...) }

func (f *faults) add(severity Severity, key, format string, args ...any) {
	if f.unread[key] {
		return
	}
	f.problems = append(f.problems, Problem{
		Severity: severity, File: f.file, Line: f.index.line(key), Key: key, Text: fmt.Sprintf(format, args...),
	})
}
