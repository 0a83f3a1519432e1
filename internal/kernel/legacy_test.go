package kernel_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

func TestLegacyForward(t *testing.T) {
	for _, family := range []string{"", "6"} {
		name, prefix := "ip"+family+"tables-legacy", "IPv4"
		addr := "10.0.0.0/8"
		if family == "6" {
			prefix, addr = "IPv6", "fd00::/8"
		}
		for _, tt := range []struct{ name, script, want string }{
			{"not in use", "true", "[]"},
			{"looked at", "IPT -S", "known true drop false in [] out []"},
			{"a policy that drops", "IPT -P FORWARD DROP", "known true drop true in [] out []"},
			{"another chain's", "IPT -P INPUT DROP; IPT -P OUTPUT DROP; IPT -A INPUT -i via+ -j ACCEPT", "known true drop false in [] out []"},
			{"what was typed", `IPT -P FORWARD DROP; IPT -A FORWARD -i via+ -m comment --comment "viarule PodNetwork/pods" -j ACCEPT; IPT -A FORWARD -o via+ -j ACCEPT`,
				"known true drop true in [via*] out [via*]"},
			{"what accepts less", "IPT -P FORWARD DROP; IPT -N X; IPT -A FORWARD -i via0 -j ACCEPT; IPT -A FORWARD ! -i via+ -j ACCEPT; IPT -A FORWARD -i via+ -o via+ -j ACCEPT; IPT -A FORWARD -i via+ -p udp -j ACCEPT;" +
				"IPT -A FORWARD -i via+ -s $ADDR -j ACCEPT; IPT -A FORWARD -i via+ -m conntrack --ctstate NEW -j ACCEPT; IPT -A FORWARD -i via+ -j DROP; IPT -A FORWARD -i via+ -j X; IPT -A FORWARD -i via+ -j REJECT; IPT -A FORWARD -o v+ -j ACCEPT; IPT -A FORWARD -j ACCEPT",
				"known true drop true in [] out [v*]"},
		} {
			netnstest.Run(t, prefix+" "+tt.name, func(t *testing.T) {
				c := openHere(t)
				netnstest.Exec(t, "sh", "-ec", `IPT() { `+name+` "$@"; }; ADDR=`+addr+"; "+tt.script)
				s, err := c.Surroundings(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				got := fmt.Sprint(s.LegacyForward)
				if len(s.LegacyForward) == 1 {
					l := s.LegacyForward[0]
					got = fmt.Sprintf("known %t drop %t in %v out %v", l.Known, l.Drop, l.In, l.Out)
					if l.Family.String() != prefix {
						t.Errorf("it is of %s", l.Family)
					}
				}
				if got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			})
		}
	}
}
