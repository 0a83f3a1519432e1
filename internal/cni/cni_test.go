package cni

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/jsontext"
)

func TestOneEdit(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"table", "tabel", false}, {"table", "tables", true}, {"table", "able", true}, {"table", "tible", true}, {"table", "tab", false}, {"table", "table", true},
		{"rules", "xrules", true}, {"rules", "ruxles", true}, {"rules", "roules", true}, {"rules", "rlues", false}, {"vrf", "vrv", false}, {"", "", false}, {"gateways", "gateway", true},
	} {
		for _, x := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			if got := oneEdit(x[0], x[1]); got != tt.want {
				t.Errorf("oneEdit(%q, %q) is %t", x[0], x[1], got)
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for text, code := range map[string]uint{
		"1": 0, "32765": 0, "0": 7, "32766": 7, "-1": 7, "1.5": 7, "1.0": 7, "1e3": 7, "4294967296": 7, "18446744073709551616": 7, `"7"`: 6, "true": 6, "[]": 6, "{}": 6, `""`: 6,
	} {
		n, err := Number("key", jsontext.Value(text), 1, 32765)
		e, _ := err.(*Error)
		switch {
		case code == 0 && (err != nil || fmt.Sprint(n) != text):
			t.Errorf("%s: %d, %v", text, n, err)
		case code != 0 && (e == nil || e.Code != code || !strings.HasPrefix(e.Msg, "key: ")):
			t.Errorf("%s: %v, want code %d", text, err, code)
		}
	}
	_, err := Number("key", jsontext.Value(`"`+strings.Repeat("é", 100)+`"`), 1, 2)
	if s := err.Error(); len(s) > 120 || strings.Contains(s, "\ufffd") {
		t.Errorf("a long value is cut as %q", s)
	}
}

func TestAddresses(t *testing.T) {
	const (
		node   = `{"name":"net1"}`
		inPod  = `{"name":"net1","sandbox":"/run/netns/pod"}`
		eth0   = `{"name":"eth0","sandbox":"/run/netns/pod"}`
		onlyIP = `{"address":"10.1.0.5/24","gateway":"10.1.0.1"`
	)
	for _, tt := range []struct{ name, version, result, want string }{
		{"of the pod's interface", "1.0.0", `"interfaces":[` + eth0 + `,` + inPod + `],"ips":[` + onlyIP + `,"interface":1},{"address":"10.2.0.5/24","interface":0}]`, "10.1.0.5/24 10.1.0.1"},
		{"not of the one on the node that has its name", "1.0.0", `"interfaces":[` + node + `,` + inPod + `],"ips":[{"address":"10.9.0.5/24","interface":0},` + onlyIP + `,"interface":1}]`, "10.1.0.5/24 10.1.0.1"},
		{"of one that says no sandbox", "1.0.0", `"interfaces":[` + node + `],"ips":[` + onlyIP + `,"interface":0}]`, "10.1.0.5/24 10.1.0.1"},
		{"nobody says whose", "1.0.0", `"ips":[` + onlyIP + `},{"address":"2001:db8:1::5/64"}]`, "10.1.0.5/24 10.1.0.1, 2001:db8:1::5/64"},
		{"of one that is not listed", "1.0.0", `"interfaces":[` + eth0 + `],"ips":[` + onlyIP + `,"interface":7},{"address":"10.2.0.5/24","interface":-1}]`, "10.1.0.5/24 10.1.0.1, 10.2.0.5/24"},
		{"of 0.4.0", "0.4.0", `"interfaces":[` + inPod + `],"ips":[{"version":"4","address":"10.1.0.5/24","gateway":"10.1.0.1","interface":0}]`, "10.1.0.5/24 10.1.0.1"},
		{"of 0.2.0", "0.2.0", `"ip4":{"ip":"10.1.0.5/24","gateway":"10.1.0.1"},"ip6":{"ip":"2001:db8:1::5/64"}`, "10.1.0.5/24 10.1.0.1, 2001:db8:1::5/64"},
		{"none", "1.0.0", `"interfaces":[` + inPod + `]`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := fmt.Sprintf(`{"prevResult":{"cniVersion":%q,%s}}`, tt.version, tt.result)
			d, err := ReadDocument("stdin", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			r, err := PrevResult(d, tt.version)
			if err != nil {
				t.Fatal(err)
			}
			list, err := Addresses(r, "net1")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range list {
				s := a.Prefix.String()
				if a.Gateway.IsValid() {
					s += " " + a.Gateway.String()
				}
				got = append(got, s)
			}
			if s := strings.Join(got, ", "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}
