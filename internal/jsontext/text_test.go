package jsontext

import (
	"encoding/json"
	"fmt"
	"testing"
)

// TestEach: the ends of things are found whatever strings contain and wherever
// there is space.
func TestEach(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                         ``,
		"{ \t\r\n}":                  ``,
		`[1,"a",null]`:               `(:1)(:"a")(:null)`,
		"[ 1 , 2\n,\r3\t]":           `(:1)(:2)(:3)`,
		`["]", "\"]", "\\", "\\\""]`: `(:"]")(:"\"]")(:"\\")(:"\\\"")`,
		`{"a":[1,{"b":"}"}],"c":{}}`: `(a:[1,{"b":"}"}])(c:{})`,
		`{ "a" : 1 , "a" : -2e5 }`:   `(a:1)(a:-2e5)`,
		`{"":"", "\u0061\"":true}`:   `(:"")(a":true)`,
		`[[[]],[ [ ] ],{"[":[]}]`:    `(:[[]])(:[ [ ] ])(:{"[":[]})`,
	} {
		if !json.Valid([]byte(text)) {
			t.Fatal(text)
		}
		got := ""
		Value(text).Each(func(key string, v Value) bool {
			got += fmt.Sprintf("(%s:%s)", key, v)
			return true
		})
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		`""`: "", `"a/b"`: "a/b", `"a\/b\n\u0041"`: "a/b\nA", `"é"`: "é", `"\ud83d\ude00"`: "😀",
		"\"a\xffb\"": "a\ufffdb", `"\ud800"`: "\ufffd",
	} {
		if got := Value(text).Text(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
