package kerneltest

import (
	"strings"
	"testing"
)

// links is what a link takes along when it goes: of IPv4 a whole route, of IPv6
// the path, and next hop objects with all that hangs on them.
func (o Options) links(t *testing.T) {
	k := o.Open(t)
	for line := range strings.Lines(linkSteps) {
		if line = strings.TrimSpace(line); line != "" {
			step(t, k, line)
		}
	}
	o.DeleteLink(t, k, "v0")
	if got, want := ours(t, k), canonicalText(t, linkLeft); got != want {
		t.Errorf("after v0 went, of\n%s\ngot:\n%s\nwant:\n%s", linkSteps, got, want)
	}
	if v, err := k.ReadSysctl("net/ipv4/conf/v0/rp_filter"); err == nil {
		t.Errorf("the sysctls of a link outlive it: %q", v)
	}
}

const (
	linkSteps = `
+ nexthop 1 via 10.1.0.9 dev v0
+ nexthop 2 dev v1
+ nexthop 3 group 1/2
+ nexthop 4 group 1
+ route 10.5.0.0/16 nhid 4 table 1000 proto 118
+ route 10.7.0.0/16 nhid 1 table 1000 proto 118
+ route 10.8.0.0/16 nhid 3 table 1000 proto 118
+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118
+ route 10.10.0.0/16 nexthop via 10.1.0.9 dev v0 weight 1 nexthop via 10.2.0.9 dev v1 weight 1 table 1000 proto 118
+ route 10.11.0.0/16 dev v1 table 1000 proto 118 scope link
+ route blackhole 10.12.0.0/16 table 1000 proto 118
+ route -6 2001:db8:9::/48 nexthop via fe80::9 dev v0 weight 1 nexthop via fe80::9 dev v1 weight 1 table 1000 metric 1024 proto 118
+ route -6 2001:db8:10::/48 dev v0 table 1000 metric 1024 proto 118
+ route -6 unreachable 2001:db8:11::/48 table 1000 metric 1024 proto 118
+ rule 1000 from all iif v0 table 1000 proto 118
+ rule -6 1000 from all oif v0 table 1000 proto 118`
	linkLeft = `
rule 1000 from all iif v0 table 1000 proto 118
rule -6 1000 from all oif v0 table 1000 proto 118
route 10.8.0.0/16 dev v1 nhid 3 table 1000 proto 118
route 10.11.0.0/16 dev v1 table 1000 proto 118 scope link
route blackhole 10.12.0.0/16 table 1000 proto 118
route -6 2001:db8:9::/48 via fe80::9 dev v1 table 1000 metric 1024 proto 118
route -6 unreachable 2001:db8:11::/48 table 1000 metric 1024 proto 118
nexthop 2 dev v1 scope host
nexthop 3 group 2`
)
