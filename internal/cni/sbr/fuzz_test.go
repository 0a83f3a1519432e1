package sbr

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/srcroute"
)

// codes are those of docs/design/sbr.md.
var codes = []uint{1, 3, 4, 5, 6, 7, 8, 11, 50, 101}

// FuzzCall answers any standard input and environment, for a namespace that there is
// not: it never panics, and says what is wrong with a code that is documented.
func FuzzCall(f *testing.F) {
	for _, s := range []string{
		`{"cniVersion":"1.1.0","name":"n","type":"sbr","prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"net1","sandbox":"/x"}],"ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1","interface":0},{"address":"2001:db8:1::5/64","gateway":"2001:db8:1::1","interface":0}],"routes":[{"dst":"0.0.0.0/0"}]}}`,
		`{"cniVersion":"0.4.0","name":"n","prevResult":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.0.5/24","interface":-1}]},"gateways":["10.1.0.1","fe80::1"],"table":7,"rules":[{"from":["10.0.0.0/8"],"fwmark":"1/3"}],"routes":[{"to":"default","via":"10.1.0.1"}]}`,
		`{"cniVersion":"0.2.0","name":"n","prevResult":{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/24","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"2001:db8::5/64"}}}`,
		`{"cniVersion":"1.0.0","name":"n","inferGateway":true,"strictReversePath":true,"addSourceHints":true,"priority":100,"vrf":"red","allowPodOverrides":["table","rules"],"args":{"cni":{"viarule":{"table":1e3}}}}`,
		`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{"containerID":"c","ifname":"net1"}]}`,
		`{"name":"n","prevResult":{"ips":[null]}}`, `{"cniVersion":"0.3.1","name":"n","prevResult":{"ips":[null],"interfaces":[null],"routes":[null]}}`,
	} {
		for _, command := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
			f.Add([]byte(s), command, "c1", "net1", len(s)%2 == 0)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, stdin []byte, command, container, ifname string, own bool) {
		p := &plugin{own: own, name: Own, store: record.Store{Dir: filepath.Join(dir, "run")}, ctx: context.Background(), started: time.Now()}
		parse(t, p, stdin, ifname)
		if strings.Contains(strings.ToLower(string(stdin)), "log") || strings.Contains(string(stdin), `\u`) || strings.ContainsRune(command+container+ifname, 0) {
			return // it may write a log
		}
		env := map[string]string{"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": ifname, "CNI_NETNS": filepath.Join(dir, "nowhere"), "CNI_PATH": dir}
		front := p.front("test")
		front.Versions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}
		var out, about bytes.Buffer
		if status := front.Answer(func(k string) string { return env[k] }, bytes.NewReader(stdin), &out, &about); status == 0 {
			return
		}
		var e types.Error
		if err := json.Unmarshal(out.Bytes(), &e); err != nil {
			t.Fatalf("%v: %q", err, out.Bytes())
		}
		documented(t, &cni.Error{Code: e.Code, Msg: e.Msg, Details: e.Details})
	})
}

// parse reads all of a configuration, whatever its version, and works out what it makes.
func parse(t *testing.T, p *plugin, stdin []byte, ifname string) {
	t.Helper()
	d, err := cni.ReadDocument("stdin", stdin)
	if err != nil {
		documented(t, err)
		return
	}
	call := &cni.Call{Config: d, Version: "0.1.0"}
	if v := d["cniVersion"]; v.Kind() == jsontext.String {
		call.Version = v.Text()
	}
	c := &config{}
	if err = p.readHead(c, call); err == nil {
		err = p.readAll(c, ifname)
	}
	if err != nil {
		documented(t, err)
		return
	}
	f := &srcroute.Facts{Sources: map[netip.Addr]bool{}, Priority: [2]uint32{srcroute.LastPriority, srcroute.LastPriority}}
	a := &srcroute.Attachment{Dev: ifname, Addrs: c.addrs}
	for range c.Fills(a, nil) {
		f.Free = append(f.Free, 100)
	}
	if c.VRF != "" {
		return // needs a link
	}
	if _, err := srcroute.Build(&c.Config, a, f); err != nil {
		documented(t, c.wrong(err))
	}
}

func documented(t *testing.T, err error) {
	t.Helper()
	var e *cni.Error
	if !errors.As(err, &e) || e == nil || !slices.Contains(codes, e.Code) || e.Msg == "" {
		t.Errorf("no CNI error with a code that is documented: %#v", err)
	}
}
