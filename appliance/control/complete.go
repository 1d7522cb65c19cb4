package control

import "reflect"

// complete makes every list and map within the document at v an empty one
// where it is nil, so that no reader meets null for "none". v is a pointer.
func complete(v any) { completeValue(reflect.ValueOf(v).Elem()) }

func completeValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				completeValue(f)
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Slice || k == reflect.Map {
			for i := range v.Len() {
				completeValue(v.Index(i))
			}
		}
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
	}
}
