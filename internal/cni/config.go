package cni

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/jsontext"
)

// Document is a JSON object of which each value is read by its key. Of a key that is
// written twice the last value counts.
type Document map[string]jsontext.Value

// ReadDocument reads a JSON object; key names it in messages.
func ReadDocument(key string, data []byte) (Document, error) {
	v, err := jsontext.Parse(data)
	if err != nil {
		return nil, Type(key, err.Error(), "write a JSON object")
	}
	return document(key, v)
}

func document(key string, v jsontext.Value) (Document, error) {
	switch k := v.Kind(); k {
	case jsontext.Null:
		return nil, nil
	case jsontext.Object:
		d := Document{}
		v.Each(func(key string, value jsontext.Value) bool {
			d[key] = value
			return true
		})
		return d, nil
	default:
		return nil, Type(key, "it is "+k.String()+", not an object", "write a JSON object")
	}
}

// Has says that a key is there; one that is null is not.
func (d Document) Has(key string) bool { return d[key].Kind() != jsontext.Null }

// Sub is the object under a key, empty where there is none.
func (d Document) Sub(path, key string) (Document, error) { return document(path+key, d[key]) }

// Value reads a value of the type T, which is bool, string, or a list of strings. A null
// in a list counts as an empty string.
func Value[T bool | string | []string](key string, v jsontext.Value) (T, error) {
	var t T
	var ok bool
	var want string
	switch into := any(&t).(type) {
	case *bool:
		want, ok = "true or false", v.Kind() == jsontext.Boolean
		*into = ok && v[0] == 't'
	case *string:
		want = "a string"
		if ok = v.Kind() == jsontext.String; ok {
			*into = v.Text()
		}
	case *[]string:
		want = "a list of strings"
		*into, ok = stringList(v)
	}
	if !ok {
		return t, Type(key, "it is "+short(v)+", not "+want, "")
	}
	return t, nil
}

func stringList(v jsontext.Value) (list []string, ok bool) {
	if v.Kind() != jsontext.List {
		return nil, false
	}
	ok = true
	v.Each(func(_ string, e jsontext.Value) bool {
		switch e.Kind() {
		case jsontext.Null:
			list = append(list, "")
		case jsontext.String:
			list = append(list, e.Text())
		default:
			ok = false
		}
		return ok
	})
	return list, ok
}

// Number reads a whole number from least to most.
func Number(key string, v jsontext.Value, least, most uint64) (uint64, error) {
	if v.Kind() != jsontext.Number {
		return 0, Type(key, "it is "+short(v)+", not a number", "")
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n < least || n > most {
		return 0, Wrong(key, short(v)+" is no whole number from "+strconv.FormatUint(least, 10)+" to "+strconv.FormatUint(most, 10), "")
	}
	return n, nil
}

// Key is a key of a configuration, and what reads its value into a T.
type Key[T any] struct {
	Name string
	Read func(into *T, key string, v jsontext.Value) error
}

// Read reads every key that d has; path goes before their names in messages.
func Read[T any](into *T, path string, d Document, keys []Key[T]) error {
	for _, k := range keys {
		if d.Has(k.Name) {
			if err := k.Read(into, path+k.Name, d[k.Name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Slip looks for a key of d that is none of the known ones but looks like one of them.
// Other unknown keys are left alone: runtimes add theirs.
func Slip[T any](path string, d Document, keys []Key[T]) error {
	for _, has := range slices.Sorted(maps.Keys(d)) {
		if slices.ContainsFunc(keys, func(k Key[T]) bool { return k.Name == has }) {
			continue
		}
		for _, k := range keys {
			if strings.EqualFold(k.Name, has) || oneEdit(k.Name, has) {
				return Wrong(path+has, "there is no such key", "did you mean "+k.Name+"?")
			}
		}
	}
	return nil
}

// oneEdit says that one letter more, less or other makes a of b.
func oneEdit(a, b string) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	if len(a)-len(b) > 1 || len(b) < 4 {
		return false // short words are near to too many
	}
	i := 0
	for i < len(b) && a[i] == b[i] {
		i++
	}
	if len(a) == len(b) {
		return i == len(b) || a[i+1:] == b[i+1:]
	}
	return a[i+1:] == b[i:]
}

// Overrides puts what a pod asks for by args.cni.viarule into a configuration's keys,
// where allowed names them. It says which keys those are, by their whole path.
func Overrides[T any](into *T, d Document, keys []Key[T], allowed []string) (paths map[string]string, err error) {
	const path = "args.cni.viarule."
	args, err := d.Sub("", "args")
	if err != nil {
		return nil, err
	}
	perPlugin, err := args.Sub("args.", "cni")
	if err != nil {
		return nil, err
	}
	mine, err := perPlugin.Sub("args.cni.", "viarule")
	if err != nil {
		return nil, err
	}
	paths = map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(mine)) {
		if !slices.Contains(allowed, k) {
			may := "the network's configuration has no allowPodOverrides"
			if len(allowed) > 0 {
				may = "allowPodOverrides has " + strings.Join(allowed, ", ")
			}
			return nil, Wrong(path+k, "a pod may not set this here", may)
		}
		paths[k] = path + k
	}
	return paths, Read(into, path, mine, keys)
}

// GCAttachment is an attachment in the list that GC gets.
type GCAttachment struct{ ContainerID, IfName string }

// ValidAttachments reads what GC gets: the attachments that still exist. libcni
// writes an empty list as null.
func ValidAttachments(d Document) ([]GCAttachment, error) {
	const key = "cni.dev/valid-attachments"
	v, ok := d[key]
	if !ok {
		return nil, Wrong(key, "the list is missing", "without it nothing says what may be removed; an empty list says that all of this network is")
	}
	var list []GCAttachment
	r := reader{}
	r.list(v, func(e jsontext.Value) {
		var a GCAttachment
		r.object(e, []string{"containerID", "ifname"}, func(i int, v jsontext.Value) {
			*[]*string{&a.ContainerID, &a.IfName}[i] = r.text(v)
		})
		list = append(list, a)
	})
	if r.err != nil {
		return nil, Type(key, r.err.Error(), "")
	}
	return list, nil
}
