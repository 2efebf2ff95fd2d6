package agent

import (
	"fmt"
	"reflect"
)

var secretType = reflect.TypeFor[Secret]()

// injector answers a function that returns its input with the secret in the
// named field, and leaves the input it was given as it is. It panics where In has no such field.
func injector[In any](wrapper, field string) func(In, Secret) In {
	t := reflect.TypeFor[In]()
	switch {
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && takes(t.Elem(), true):
		key := reflect.ValueOf(field).Convert(t.Key())
		return func(in In, s Secret) In {
			old, copied := reflect.ValueOf(in), reflect.MakeMap(t)
			for each := old.MapRange(); each.Next(); {
				copied.SetMapIndex(each.Key(), each.Value())
			}
			copied.SetMapIndex(key, as(t.Elem(), s))
			return copied.Interface().(In)
		}
	case t.Kind() == reflect.Struct:
		index := fieldOf(wrapper, t, field)
		return func(in In, s Secret) In {
			at := reflect.ValueOf(&in).Elem().FieldByIndex(index)
			at.Set(as(at.Type(), s))
			return in
		}
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		index := fieldOf(wrapper, t.Elem(), field)
		return func(in In, s Secret) In {
			copied := reflect.New(t.Elem())
			if old := reflect.ValueOf(in); !old.IsNil() {
				copied.Elem().Set(old.Elem())
			}
			at := copied.Elem().FieldByIndex(index)
			at.Set(as(at.Type(), s))
			return copied.Convert(t).Interface().(In)
		}
	}
	panic(fmt.Sprintf("agent.%s: the input is a %v: a struct, a pointer to one, or a map of strings to any, string or agent.Secret can hold the field %q", wrapper, t, field))
}

// fieldOf finds a field that a copy of the struct has to itself: one behind an embedded pointer would be shared.
func fieldOf(wrapper string, t reflect.Type, name string) []int {
	f, found := t.FieldByName(name)
	if !found || !f.IsExported() || !takes(f.Type, false) {
		panic(fmt.Sprintf("agent.%s: %v has no exported field %q of type agent.Secret or string", wrapper, t, name))
	}
	for i := range f.Index[:len(f.Index)-1] {
		if t.FieldByIndex(f.Index[:i+1]).Type.Kind() == reflect.Pointer {
			panic(fmt.Sprintf("agent.%s: the field %q of %v lies behind an embedded pointer", wrapper, name, t))
		}
	}
	return f.Index
}

func takes(t reflect.Type, anything bool) bool {
	return t == secretType || t.Kind() == reflect.String || anything && t == reflect.TypeFor[any]()
}

func as(t reflect.Type, s Secret) reflect.Value {
	if t.Kind() == reflect.String {
		return reflect.ValueOf(s.Reveal()).Convert(t)
	}
	return reflect.ValueOf(s)
}
