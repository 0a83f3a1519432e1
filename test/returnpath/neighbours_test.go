package returnpath

import "testing"

// Foreign rules that stand in the way of marks. Of two chains at one priority the
// one that was loaded last runs first, so each is tried before and after ours.
var foreign = []struct{ name, node string }{
	{"restore", `table inet foreign {
		chain prerouting { type filter hook prerouting priority mangle; meta mark set ct mark; }
		chain output { type route hook output priority mangle; meta mark set ct mark; }
	}`},
	{"check", `table inet foreign {
		chain prerouting { type filter hook prerouting priority mangle + 10; fib saddr . mark . iif oif missing drop; }
	}`},
	{"iptables", ""},
}

// TestForeignRules loads a CONNMARK restore, and a check of the way back like
// firewalld's: Auto works beside them.
func TestForeignRules(t *testing.T) {
	t.Parallel()
	for _, c := range foreign {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.serveAll()
			load := func() {
				if c.node != "" {
					w.nft("node", c.node)
					return
				}
				for _, program := range []string{"iptables", "ip6tables"} {
					for _, chain := range []string{"PREROUTING", "OUTPUT"} {
						w.in("node", "", program, "-t", "mangle", "-A", chain, "-j", "CONNMARK", "--restore-mark")
					}
				}
			}
			load()
			w.silent("without the object", "client", "10")
			w.apply(external(""))
			w.works("loaded before", "client", "10", "11", "12", "13")
			w.works("loaded before", "admin", "10", "11", "12", "13")
			if c.node == "" {
				for _, program := range []string{"iptables", "ip6tables"} {
					w.in("node", "", program, "-t", "mangle", "-F")
				}
			} else {
				w.nft("node", "delete table inet foreign")
			}
			load()
			w.works("loaded after", "client", "10", "11", "12", "13")
			w.works("loaded after", "admin", "10", "13")
		})
	}
}

// TestMarksOfOthers looks at the bits that viarule does not own: kube-proxy's for
// masquerade, and one that a rule before ours sets on each packet.
func TestMarksOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.serveAll()
	w.nft("node", `table inet foreign {
		chain prerouting { type filter hook prerouting priority raw; meta mark set 0x10080; }
		chain track { type filter hook prerouting priority mangle; ct mark set ct mark | 0x20000; }
	}`)
	w.apply(external(""))
	// Behind `clear` there are just the foreign bits; kube-proxy's goes to the pod
	// with masquerade.
	w.watch("node", "forward priority filter", map[string]string{
		"plain":   `iifname eth1 oifname pod meta mark 0x10080 ct original ip daddr 1.2.3.10`,
		"plain6":  `iifname eth1 oifname pod meta mark 0x10080 ct original ip6 daddr 2001:db8:1::10`,
		"masked":  `iifname eth1 oifname pod meta mark 0x14080`,
		"answers": `iifname pod oifname eth1 meta mark 0x10080`,
		"others":  `meta mark != { 0x10080, 0x14080 }`,
		"tracked": `iifname pod oifname eth1 ct mark & 0x20000 == 0x20000`,
		"back":    `iifname pod oifname eth1`,
	})
	w.works("with marks of others", "client", "10", "11", "12", "13")
	for _, c := range []string{"plain", "plain6", "masked", "answers"} {
		if w.counted("node", c) == 0 {
			t.Errorf("no packet has its marks: %s\n%s", c, w.in("node", "", "nft", "list", "table", "inet", "watch"))
		}
	}
	if n := w.counted("node", "others"); n != 0 {
		t.Errorf("%d packets have other marks than the foreign ones", n)
	}
	if all, kept := w.counted("node", "back"), w.counted("node", "tracked"); all != kept {
		t.Errorf("%d of %d answers lost the connection's foreign mark", all-kept, all)
	}
}
