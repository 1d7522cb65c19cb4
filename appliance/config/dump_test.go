package config

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// dump writes what a document came to mean, one key a line; values that are
// zero are left out.
func dump(w io.Writer, doc *Document) { dumpValue(w, "", reflect.ValueOf(*doc)) }

func dumpValue(w io.Writer, key string, v reflect.Value) {
	if v.IsZero() || key == "Name" {
		return
	}
	switch x := v.Interface().(type) {
	case Protocol, Target, AddressTerm, PortTerm, PortRange, TCPFlags, AssertTo, AssertFrom, AssertTarget:
		fmt.Fprintf(w, "%s = %v\n", key, x)
		return
	case ICMPType:
		fmt.Fprintf(w, "%s = %s %d %d\n", key, x.Name, x.V4, x.V6)
		return
	case VHID:
		fmt.Fprintf(w, "%s = %d\n", key, x.N)
		return
	case Duration:
		fmt.Fprintf(w, "%s = %v\n", key, x.Duration)
		return
	case encoding.TextMarshaler:
		text, _ := x.MarshalText()
		fmt.Fprintf(w, "%s = %s\n", key, text)
		return
	case fmt.Stringer:
		fmt.Fprintf(w, "%s = %v\n", key, x)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case f.Anonymous:
				dumpValue(w, key, v.Field(i))
			case f.IsExported() && f.Name != "Key":
				dumpValue(w, strings.TrimPrefix(key+"."+f.Name, "."), v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			dumpValue(w, element(key, i), v.Index(i))
		}
	default:
		fmt.Fprintf(w, "%s = %v\n", key, v.Interface())
	}
}
