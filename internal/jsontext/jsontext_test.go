package jsontext

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// texts are seeds, right ones and wrong ones.
var texts = []string{
	``, ` `, `null`, ` true `, "\tfalse\r\n", `0`, `-0`, `01`, `-`, `-1`, `1.`, `1.5`, `.5`, `1e`, `1e5`, `1E+5`, `1e-05`, `1e+`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775808`, `0x1`, `+1`, `Infinity`, `NaN`,
	`""`, `"a"`, `"`, `"\`, `"\"`, `"\""`, `"\u"`, `"\u12"`, `"\u00e9"`, `"\uD83D\uDE00"`, `"\uD83D"`, `"\uD83Dx"`, `"\uD83D\u0041"`, `"\uDE00\uD83D"`, `"\uD83D\uD83D\uDE00"`, `"\ud83d\n"`, `"\x"`, `"\/\b\f\n\r\t\\"`, `"é"`, "\"\xff\"", "\"\xe2\x82\"", "\"\xed\xa0\x80\"", "\"\x00\"", "\"\n\"", "\"\x7f\"", `"<>&"`, "\"\u2028\u2029\"",
	`[]`, `[ ]`, `[1]`, `[1,2]`, `[1 2]`, `[1,]`, `[,1]`, `[`, `]`, `[[]`, `[]]`, `[}`, `{]`, `{}`, `{ }`, `{"a":1}`, `{"a":1,"a":2}`, `{"a" : [ {"b":null} ] , "c":"d"}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{1:1}`, `{"a":1 "b":2}`, `{"\u0061":1}`, `{"":0}`, `{} {}`, `{}x`, `nul`, `nulll`, `tru`, `True`, `[true,false,null]`, "\xef\xbb\xbf{}", `//`, `{"a":"}"}`, `["]"]`, `["\\"]`, `["\\\""]`,
}

// same compares with encoding/json what is JSON at all, and what it stands for.
func same(t *testing.T, data []byte) {
	t.Helper()
	v, err := Parse(data)
	if ok := json.Valid(data); ok != (err == nil) {
		t.Fatalf("%q: encoding/json says %t, Parse %v", data, ok, err)
	}
	if err != nil {
		// At the end encoding/json sometimes speaks of a space that is not there.
		if want := json.Unmarshal(data, new(any)).Error(); want != err.Error() && !(err == errEnd && strings.HasPrefix(want, "invalid character ' '")) {
			t.Fatalf("%q: %v, and encoding/json says %s", data, err, want)
		}
		return
	}
	if !bytes.Equal(v, bytes.Trim(data, " \t\r\n")) {
		t.Fatalf("%q: the value is %q", data, v)
	}
	compare(t, v)
}

func compare(t *testing.T, v Value) {
	t.Helper()
	must := func(into any) {
		t.Helper()
		if err := json.Unmarshal(v, into); err != nil {
			t.Fatalf("%q: %v", v, err)
		}
	}
	switch v.Kind() {
	case Null:
		if string(v) != "null" {
			t.Fatalf("%q is null", v)
		}
	case Boolean:
		var b bool
		must(&b)
	case Number:
		var n int
		err := json.Unmarshal(v, &n)
		if got, ok := v.Int(); ok != (err == nil) || ok && got != n {
			t.Fatalf("%q: %d, %t, want %d, %v", v, got, ok, n, err)
		}
	case String:
		var s string
		if must(&s); v.Text() != s {
			t.Fatalf("%q: %q, want %q", v, v.Text(), s)
		}
	case List:
		var want []json.RawMessage
		must(&want)
		i := 0
		v.Each(func(_ string, e Value) bool {
			if i >= len(want) || !bytes.Equal(e, want[i]) {
				t.Fatalf("%q: element %d is %q", v, i, e)
			}
			compare(t, e)
			i++
			return true
		})
		if i != len(want) {
			t.Fatalf("%q: %d elements, want %d", v, i, len(want))
		}
	case Object:
		var want map[string]json.RawMessage
		must(&want)
		got := map[string]json.RawMessage{}
		v.Each(func(key string, e Value) bool {
			got[key] = json.RawMessage(e)
			compare(t, e)
			return true
		})
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("%q: %q, want %q", v, got, want)
		}
	}
}

func TestAsEncodingJSON(t *testing.T) {
	for _, s := range texts {
		same(t, []byte(s))
		for i := range len(s) {
			same(t, []byte(s[:i]))
		}
	}
}

// TestDepth: the same limit, and no stack is used up.
func TestDepth(t *testing.T) {
	for _, n := range []int{1, maxDepth, maxDepth + 1, 2_000_000} {
		for _, b := range []string{"[]", "{}"} {
			open := b[:1]
			if b == "{}" {
				open = `{"a":`
			}
			middle := "1"
			text := strings.Repeat(open, n) + middle + strings.Repeat(b[1:], n)
			if _, err := Parse([]byte(text)); (err == nil) != (n <= maxDepth) {
				t.Errorf("%d times %s: %v", n, b, err)
			}
			if n <= maxDepth+1 {
				if ok := json.Valid([]byte(text)); ok != (n <= maxDepth) {
					t.Errorf("encoding/json has another limit: %d is %t", n, ok)
				}
			}
		}
	}
}

// TestEachStops: f may say that it has seen enough.
func TestEachStops(t *testing.T) {
	for _, s := range []string{`[1,2]`, `{"a":1,"b":2}`} {
		v, err := Parse([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		v.Each(func(string, Value) bool { n++; return false })
		if n != 1 {
			t.Errorf("%s: shown %d", s, n)
		}
	}
}

func TestAppendString(t *testing.T) {
	all := []string{"", "a", "é", "\u2028\u2029\u202a", "\xff", "a\xe2\x82", "\xed\xa0\x80", "<>&'\"\\/", "\U0001F600", "\ufffd"}
	for c := range 256 {
		all = append(all, string([]byte{byte(c)}), string(rune(c)))
	}
	for _, s := range all {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendString(nil, s); !bytes.Equal(got, want) {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range texts {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		same(t, data)
		want, err := json.Marshal(string(data))
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendString(nil, string(data)); !bytes.Equal(got, want) {
			t.Errorf("%q: %s, want %s", data, got, want)
		}
	})
}
