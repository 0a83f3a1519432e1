package explain_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/explain"
)

// An answer's own JSON is that of encoding/json, for every field and any text.
func TestAppendJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a explain.Answer
		fill(t, reflect.ValueOf(&a).Elem(), 0)
		want, err := json.Marshal(&a)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.AppendJSON([]byte("x")); string(got) != "x"+string(want)+"\n" {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// fill draws v, a third of it empty. A kind that it does not know fails the test.
func fill(t *rapid.T, v reflect.Value, depth int) {
	if v.Kind() != reflect.Struct && rapid.IntRange(0, 2).Draw(t, "empty") == 0 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"→ 10.0.0.1", "a\"b\\\n\x01<&>\u2028\xff", "{}"})).Draw(t, "text"))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, "number")))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		if depth == 2 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "len"), 3))
		for i := range v.Len() {
			fill(t, v.Index(i), depth)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i), depth)
			}
		}
	default:
		t.Fatalf("an answer has a %s", v.Type())
	}
}
