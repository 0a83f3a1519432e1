package specjson

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/spec"
)

// reader keeps where it is and what is wrong.
type reader struct {
	path     string
	problems []Problem
	faults   int // problems, kept or not
}

// at calls f with part added to the path.
func (r *reader) at(part string, f func()) {
	path := r.path
	r.path += part
	f()
	r.path = path
}

// typed notes an error of the text or of a type.
func (r *reader) typed(what, do string) {
	r.add(Problem{Path: r.path, What: what, Do: do, Type: true})
}

// fail notes an error of a value.
func (r *reader) fail(what, do string) { r.add(Problem{Path: r.path, What: what, Do: do}) }

// failValue notes the error of one of spec's Parse functions.
func (r *reader) failValue(err error) {
	if v, ok := err.(*spec.ValueError); ok {
		r.fail(v.What, v.Do)
		return
	}
	r.fail(err.Error(), "")
}

func (r *reader) add(p Problem) {
	if r.faults++; len(r.problems) < spec.MaxProblems {
		r.problems = append(r.problems, p)
	}
}

// done gives the problems, with the count of those that were not kept.
func (r *reader) done() []Problem {
	if more := r.faults - len(r.problems); more > 0 {
		r.problems = append(r.problems, Problem{Path: r.path, What: fmt.Sprintf("%d more problems are not shown", more), Do: "mend these first"})
	}
	return r.problems
}

// field is a key of an object and what reads its value.
type field[T any] struct {
	key  string
	read func(r *reader, v jsontext.Value, into *T)
}

// fieldsOf reads the fields of an object, which may have up to 64. It returns
// which of them were there, bit i for fields[i], and whether v was an object at
// all.
func fieldsOf[T any](r *reader, v jsontext.Value, into *T, fields []field[T]) (seen uint64, ok bool) {
	if k := v.Kind(); k != jsontext.Object {
		r.typed("this is "+k.String()+", not an object", `write {"key": value}`)
		return 0, false
	}
	v.Each(func(key string, value jsontext.Value) bool {
		i := 0
		for i < len(fields) && fields[i].key != key {
			i++
		}
		if i == len(fields) {
			names := make([]string, len(fields))
			for j := range fields {
				names[j] = fields[j].key
			}
			r.failValue(spec.UnknownKey(key, names))
			return true
		}
		r.at("."+key, func() {
			if seen&(1<<i) != 0 {
				r.fail("the key is written twice", "leave one of them out")
				return
			}
			seen |= 1 << i
			fields[i].read(r, value, into)
		})
		return true
	})
	return seen, true
}

// list calls f for the elements of a list, until it says no.
func (r *reader) list(v jsontext.Value, f func(jsontext.Value) bool) {
	if k := v.Kind(); k != jsontext.List {
		do := "write it in brackets"
		if k == jsontext.String && len(v) <= 64 {
			do = "write [" + string(v) + "]"
		}
		r.typed("this is "+k.String()+", not a list", do)
		return
	}
	i := 0
	v.Each(func(_ string, e jsontext.Value) (more bool) {
		r.at("["+strconv.Itoa(i)+"]", func() { more = f(e) })
		i++
		return more
	})
}

// fullList is a list for which an empty one would say something else than its
// absence seems to: `"from": []` is not every source.
func (r *reader) fullList(v jsontext.Value, f func(jsontext.Value)) {
	n := 0
	r.list(v, func(e jsontext.Value) bool {
		n++
		f(e)
		return true
	})
	if n == 0 && v.Kind() == jsontext.List {
		r.fail("the list is empty", "leave the key out")
	}
}

// str reads a string.
func (r *reader) str(v jsontext.Value) (string, bool) {
	switch k := v.Kind(); k {
	case jsontext.String:
		return v.Text(), true
	case jsontext.Null:
		r.typed("the value is null", "write one, or leave the key out")
	case jsontext.Number, jsontext.Boolean:
		r.typed(fmt.Sprintf("%s is %s, not a string", clip(string(v)), k), "write it in quotes")
	default:
		r.typed("this is "+k.String()+", not a string", "")
	}
	return "", false
}

// digits says whether a number is written without sign, fraction and exponent.
// Those are refused even where they come to a whole number, as they are in YAML.
func digits(v jsontext.Value) bool { return !bytes.ContainsAny(v, "-+.eE") }

// integer reads a whole number from least to most.
func (r *reader) integer(v jsontext.Value, least, most uint64) uint64 {
	do := fmt.Sprintf("write a number from %d to %d", least, most)
	switch k := v.Kind(); {
	case k != jsontext.Number:
		r.notNumber(v, do)
	case !digits(v):
		r.fail(clip(string(v))+" is not a whole number in plain decimal digits", do)
	default:
		n, err := strconv.ParseUint(string(v), 10, 64)
		if err == nil && n >= least && n <= most {
			return n
		}
		r.fail(clip(string(v))+" is out of range", do)
	}
	return 0
}

func (r *reader) notNumber(v jsontext.Value, do string) {
	switch k := v.Kind(); k {
	case jsontext.String:
		r.typed(fmt.Sprintf("%q is a string, not a number", clip(v.Text())), do)
	case jsontext.Null:
		r.typed("the value is null", do)
	default:
		r.typed("this is "+k.String()+", not a number", do)
	}
}

// value reads a number or a string in the way of one of spec's Parse functions.
func value[T any](r *reader, v jsontext.Value, parse func(string) (T, error)) T {
	var zero T
	s := string(v)
	switch v.Kind() {
	case jsontext.String:
		s = v.Text()
	case jsontext.Number:
		if !digits(v) {
			r.fail(clip(s)+" is not a whole number in plain decimal digits", "write a whole number or a string")
			return zero
		}
	default:
		r.notNumber(v, "write a number or a string")
		return zero
	}
	got, err := parse(s)
	if err != nil {
		r.failValue(err)
		return zero
	}
	return got
}

// boolean reads true or false.
func (r *reader) boolean(v jsontext.Value) (b, ok bool) {
	if k := v.Kind(); k != jsontext.Boolean {
		r.typed("this is "+k.String()+", not true or false", "write true, or leave the key out")
		return false, false
	}
	return v[0] == 't', true
}

// enum reads one of a few words.
func enum[T any](r *reader, v jsontext.Value, words []spec.Word[T]) T {
	return parsed(r, v, func(s string) (T, error) { return spec.ParseWord(s, words) })
}

// parsed reads a string in the way of one of spec's Parse functions.
func parsed[T any](r *reader, v jsontext.Value, parse func(string) (T, error)) T {
	var zero T
	s, ok := r.str(v)
	if !ok {
		return zero
	}
	got, err := parse(s)
	if err != nil {
		r.failValue(err)
		return zero
	}
	return got
}

// link reads the name of a link.
func (r *reader) link(v jsontext.Value) string {
	return parsed(r, v, func(s string) (string, error) { return s, spec.CheckLinkName(s) })
}

// clip bounds what a message repeats of hostile input.
func clip(s string) string {
	if len(s) > 64 {
		return s[:61] + "..."
	}
	return s
}
