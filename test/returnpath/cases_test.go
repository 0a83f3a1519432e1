package returnpath

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// kind is a kind of server, and who asks it.
type kind struct {
	name string
	from string
	to   string // the end of the address: 10 is 1.2.3.10 and 2001:db8:1::10
	// server is host and address where it is not the node's own.
	server  [3]string // host, IPv4, IPv6
	another bool      // the address is not of the network but of the node
}

// kinds are the ten of docs/design/return-path.md.
var kinds = []kind{
	{name: "a socket of the node", from: "client", to: "13"},
	{name: "a pod behind DNAT", from: "client", to: "10", server: [3]string{"pod", "10.244.1.2", "fd00:244:1::2"}},
	{name: "the same with masquerade", from: "client", to: "11", server: [3]string{"pod", "10.244.1.2", "fd00:244:1::2"}},
	{name: "a socket of the node behind DNAT", from: "client", to: "12", server: [3]string{"node", "192.168.1.10", "2001:db8:a::10"}},
	{name: "a pod that main's default route reaches", from: "client", to: "14", server: [3]string{"farpod", "10.244.9.2", "fd00:244:9::2"}},
	{name: "a pod, and main knows a route to the client", from: "known", to: "10", server: [3]string{"pod", "10.244.1.2", "fd00:244:1::2"}},
	{name: "a pod calls the address", from: "pod2", to: "10", server: [3]string{"pod", "10.244.1.2", "fd00:244:1::2"}},
	{name: "a pod, by the cluster's network", from: "admin", to: "10", server: [3]string{"pod", "10.244.1.2", "fd00:244:1::2"}},
	{name: "a socket of the node, by the cluster's network", from: "admin", to: "13"},
	{name: "management", from: "admin", another: true},
}

// The kinds that work with nothing, by their place in kinds.
var always = []int{6, 7, 8, 9}

// configurations, with the kinds that work besides.
var configurations = []struct {
	name   string
	object string // further keys of spec; empty: no object at all
	works  []int
}{
	{"nothing", "", nil},
	{"SourceRule", "returnPath: SourceRule, clusterCIDRs: [10.244.0.0/16, 192.168.0.0/16, \"fd00:244::/32\", \"2001:db8:a::/64\", \"2001:db8:b::/64\"]", []int{0}},
	{"ConnectionMark", "returnPath: ConnectionMark, clusterCIDRs: [10.244.0.0/16, 192.168.0.0/16, \"fd00:244::/32\", \"2001:db8:a::/64\", \"2001:db8:b::/64\"]", []int{0}},
	{"Auto", "returnPath: Auto", []int{0, 1, 2, 3, 4, 5}},
}

// TestSixtyCases counts, for each configuration, the cases that work: a case does
// where both TCP and UDP get their answer.
func TestSixtyCases(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: needs root, to make network namespaces")
	}
	program := build(t)
	for _, c := range configurations {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// The names of tables and the records of a lab are the host's: other
			// packages' tests look at them.
			netnstest.New(t, netnstest.Mounts())
			works := map[int]bool{}
			for _, k := range append(append([]int{}, always...), c.works...) {
				works[k] = true
			}
			total := 0
			for filter := range 3 {
				name := fmt.Sprintf("path-%s-%d", strings.ToLower(c.name), filter)
				total += runLab(t, program, name, labFile(name, filter, c.object, works))
			}
			t.Logf("%s: %d of 60 cases work", c.name, total)
			if want := 6 * len(works); total != want {
				t.Errorf("%s: %d of 60 cases work, want %d", c.name, total, want)
			}
		})
	}
}

// runLab runs a lab and gives the number of cases that work.
func runLab(t *testing.T, program, name, text string) int {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(program, "lab", "test", "-o", "json", file)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 3) {
		t.Fatalf("lab %s: %v\n%s\n%s", name, err, errs.Bytes(), text)
	}
	var report struct {
		Checks []struct {
			Name, Outcome, Request, Seen string
			Passed                       bool
			Wrong                        []string
		}
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || len(report.Checks) == 0 {
		t.Fatalf("lab %s: its report: %v\n%s", name, err, out.Bytes())
	}
	good := map[string]int{}
	for _, c := range report.Checks {
		one, _, _ := strings.Cut(c.Name, "; ")
		if c.Passed && c.Outcome == "answer" {
			good[one]++
		}
		if !c.Passed {
			t.Errorf("%s: %s: %s: %s %q", name, c.Name, c.Request, c.Seen, c.Wrong)
		}
	}
	n := 0
	for _, g := range good {
		if g == 2 {
			n++
		}
	}
	return n
}

// clients are the addresses that servers see.
var clients = map[string][2]string{
	"client": {"192.0.2.10", "2001:db8:c::10"},
	"known":  {"198.18.0.10", "2001:db8:d::10"},
	"admin":  {"192.168.2.5", "2001:db8:b::5"},
	"pod2":   {"10.244.2.2", "fd00:244:2::2"},
}

// checks writes a check of each kind, family and protocol.
func checks(works map[int]bool) string {
	var b strings.Builder
	for i, k := range kinds {
		for f, family := range []string{"IPv4", "IPv6"} {
			to := []string{"1.2.3." + k.to, "2001:db8:1::" + k.to}[f]
			if k.another {
				to = []string{"192.168.1.10", "2001:db8:a::10"}[f]
			}
			for _, proto := range []string{"tcp", "udp"} {
				fmt.Fprintf(&b, "  - {name: \"%s %s; %s\", when: Always, from: %s, to: \"%s\", proto: %s, port: 80", k.name, family, proto, k.from, to, proto)
				if k.server[0] != "" {
					fmt.Fprintf(&b, ", server: {host: %s, address: \"%s\", port: 8080}", k.server[0], k.server[1+f])
				}
				switch {
				case !works[i]:
					b.WriteString(", expect: silence, timeout: 250ms}\n")
				case k.to == "11" || k.to == "14": // the address of the node is seen
					b.WriteString(", expect: answer}\n")
				default:
					fmt.Fprintf(&b, ", expect: answer, seenAs: \"%s\"}\n", clients[k.from][f])
				}
			}
		}
	}
	return b.String()
}
