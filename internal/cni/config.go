package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// Document is a JSON object of which each value is read by its key.
type Document map[string]json.RawMessage

// ReadDocument reads a JSON object; key names it in messages.
func ReadDocument(key string, data []byte) (Document, error) {
	var d Document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, Type(key, err.Error(), "write a JSON object")
	}
	return d, nil
}

// Has says that a key is there; one that is null is not.
func (d Document) Has(key string) bool {
	v := d[key]
	return len(v) > 0 && !bytes.Equal(v, []byte("null"))
}

// Sub is the object under a key, empty where there is none.
func (d Document) Sub(path, key string) (Document, error) {
	if !d.Has(key) {
		return nil, nil
	}
	return ReadDocument(path+key, d[key])
}

// Value reads a value of the type T, which is bool, string, or a list of strings.
func Value[T bool | string | []string](key string, raw json.RawMessage) (T, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, Type(key, fmt.Sprintf("it is %s, not %s", short(raw), map[string]string{"bool": "true or false", "string": "a string", "[]string": "a list of strings"}[fmt.Sprintf("%T", v)]), "")
	}
	return v, nil
}

// Number reads a whole number from least to most.
func Number(key string, raw json.RawMessage, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil {
		var whole json.Number
		if json.Unmarshal(raw, &whole) != nil || raw[0] == '"' {
			return 0, Type(key, fmt.Sprintf("it is %s, not a number", short(raw)), "")
		}
	}
	if err != nil || n < least || n > most {
		return 0, Wrong(key, fmt.Sprintf("%s is no whole number from %d to %d", short(raw), least, most), "")
	}
	return n, nil
}

func short(raw json.RawMessage) string {
	const most = 60
	if len(raw) > most {
		return string(bytes.ToValidUTF8(raw[:most], nil)) + "..."
	}
	return string(raw)
}

// Key is a key of a configuration, and what reads its value into a T.
type Key[T any] struct {
	Name string
	Read func(into *T, key string, raw json.RawMessage) error
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

// ValidAttachments reads what GC gets: the attachments that still exist. libcni
// writes an empty list as null.
func ValidAttachments(d Document) ([]types.GCAttachment, error) {
	const key = "cni.dev/valid-attachments"
	raw, ok := d[key]
	if !ok {
		return nil, Wrong(key, "the list is missing", "without it nothing says what may be removed; an empty list says that all of this network is")
	}
	var list []types.GCAttachment
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, Type(key, err.Error(), "")
	}
	return list, nil
}
