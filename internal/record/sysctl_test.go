package record

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

// TestSysctlLedger walks a namespace through changes. Each step stages
// something, compares what is to be put back and what the ledger says, and ends
// as `end` says.
func TestSysctlLedger(t *testing.T) {
	const rp4, rp6 = "net/ipv4/conf/eth0.100/rp_filter", "net/ipv6/conf/eth0/forwarding"
	type step struct {
		put     string // NAME KEY=VALUE...; empty: none
		remove  string
		present string // KEY=VALUE...
		restore string // KEY=VALUE... that a plan must put back
		staged  string // ledger lines while staged
		end     string // commit, rollback, leftovers, killed
		after   string // ledger lines at the end
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"found once, put back when the last user goes", []step{
			{put: "a 4=2", present: "4=1", staged: "4 found 1 ours 2 users a", end: "commit", after: "4 found 1 ours 2 users a"},
			{put: "b 4=2 6=1", present: "4=2 6=0", staged: "4 found 1 ours 2 users a b|6 found 0 ours 1 users b", end: "commit",
				after: "4 found 1 ours 2 users a b|6 found 0 ours 1 users b"},
			{remove: "a", present: "4=2 6=1", staged: "4 found 1 ours 2 users b|6 found 0 ours 1 users b", end: "commit",
				after: "4 found 1 ours 2 users b|6 found 0 ours 1 users b"},
			{remove: "b", present: "4=2 6=1", restore: "4=1 6=0", staged: "4 found 1 ours 2 users|6 found 0 ours 1 users", end: "commit"},
		}},
		{"left alone when somebody else changed it since", []step{
			{put: "a 4=2", present: "4=1", staged: "4 found 1 ours 2 users a", end: "commit", after: "4 found 1 ours 2 users a"},
			{remove: "a", present: "4=0", staged: "4 found 1 ours 2 users", end: "commit"},
		}},
		{"nothing to put back when it was right already", []step{
			{put: "a 4=2", present: "4=2", staged: "4 found 2 ours 2 users a", end: "commit", after: "4 found 2 ours 2 users a"},
			{remove: "a", present: "4=2", staged: "4 found 2 ours 2 users", end: "commit"},
		}},
		{"an earlier value is ours until the change is committed", []step{
			{put: "a 4=2", present: "4=1", staged: "4 found 1 ours 2 users a", end: "commit", after: "4 found 1 ours 2 users a"},
			{put: "a 4=0", present: "4=2", staged: "4 found 1 ours 2,0 users a", end: "killed", after: "4 found 1 ours 2,0 users a"},
			{remove: "a", present: "4=2", restore: "4=1", staged: "4 found 1 ours 2,0 users", end: "commit"},
		}},
		{"a rollback forgets", []step{
			{put: "a 4=2", present: "4=1", staged: "4 found 1 ours 2 users a", end: "rollback"},
			{put: "a 4=2", present: "4=0", staged: "4 found 0 ours 2 users a", end: "commit", after: "4 found 0 ours 2 users a"},
		}},
		{"a failed undo does not", []step{
			{put: "a 4=2", present: "4=1", staged: "4 found 1 ours 2 users a", end: "leftovers", after: "4 found 1 ours 2 users"},
			{put: "b 6=1", present: "4=2 6=0", restore: "4=1", staged: "4 found 1 ours 2 users|6 found 0 ours 1 users b", end: "commit",
				after: "6 found 0 ours 1 users b"},
		}},
		{"a failed undo of a second value keeps the wanted one last", []step{
			{put: "a 4=2", present: "4=1", staged: "4 found 1 ours 2 users a", end: "commit", after: "4 found 1 ours 2 users a"},
			{put: "a 4=0", present: "4=2", staged: "4 found 1 ours 2,0 users a", end: "leftovers", after: "4 found 1 ours 0,2 users a"},
			{present: "4=2", staged: "4 found 1 ours 0,2 users a", end: "commit", after: "4 found 1 ours 2 users a"},
		}},
		{"a delete killed half way is finished by the next change", []step{
			{put: "a 4=2", present: "4=1", staged: "4 found 1 ours 2 users a", end: "commit", after: "4 found 1 ours 2 users a"},
			{remove: "a", present: "4=2", restore: "4=1", staged: "4 found 1 ours 2 users", end: "killed", after: "4 found 1 ours 2 users"},
			{present: "4=2", restore: "4=1", staged: "4 found 1 ours 2 users", end: "commit"},
		}},
	}
	short := strings.NewReplacer(rp4, "4", rp6, "6")
	key := map[string]string{"4": rp4, "6": rp6}
	ledgerText := func(t *testing.T, n Namespace) string {
		list, err := n.Sysctls()
		must(t, err)
		var out []string
		for _, s := range list {
			line := fmt.Sprintf("%s found %s ours %s users", s.Key, s.Found, strings.Join(s.Ours, ","))
			for _, u := range s.Users {
				line += " " + u.Name
			}
			out = append(out, short.Replace(line))
		}
		return strings.Join(out, "|")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := store(t).Namespace(3)
			l := lock(t, n)
			for i, s := range tt.steps {
				c := Change{Present: map[string]string{}}
				for _, f := range strings.Fields(s.present) {
					k, v, _ := strings.Cut(f, "=")
					c.Present[key[k]] = v
				}
				if f := strings.Fields(s.put); len(f) > 0 {
					text := ""
					for _, w := range f[1:] {
						k, v, _ := strings.Cut(w, "=")
						text += "sysctl " + key[k] + " = " + v + "\n"
					}
					c.Put = []Object{object(t, f[0], text)}
				}
				if s.remove != "" {
					c.Remove = []spec.Ref{{Kind: spec.KindRoutingPolicy, Name: s.remove}}
				}
				restore, err := n.Restore(c)
				must(t, err)
				var got []string
				for _, r := range restore {
					got = append(got, short.Replace(r.Key)+"="+r.Value)
				}
				equal(t, fmt.Sprintf("step %d: restore", i), strings.Join(got, " "), s.restore)
				must(t, l.Stage(c))
				equal(t, fmt.Sprintf("step %d: staged", i), ledgerText(t, n), s.staged)
				switch s.end {
				case "commit":
					must(t, l.Commit())
				case "rollback":
					must(t, l.Rollback(false))
				case "leftovers":
					must(t, l.Rollback(true))
				}
				equal(t, fmt.Sprintf("step %d: after", i), ledgerText(t, n), s.after)
			}
		})
	}
}

func TestStageRefusesAnUnreadSysctl(t *testing.T) {
	n := store(t).Namespace(3)
	l := lock(t, n)
	err := l.Stage(Change{Put: []Object{object(t, "a", "sysctl net/ipv4/ip_forward = 1")}})
	if err == nil || !strings.Contains(err.Error(), "net/ipv4/ip_forward") {
		t.Errorf("error %v", err)
	}
	equal(t, "records", text(t, n), "")
}
