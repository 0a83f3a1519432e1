package netstate_test

import (
	"net/netip"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
)

func TestLastOf(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.1.0.0/16":     "10.1.255.255",
		"10.1.2.3/31":     "10.1.2.3",
		"10.1.2.3/32":     "10.1.2.3",
		"0.0.0.0/0":       "255.255.255.255",
		"10.1.2.3/20":     "10.1.15.255",
		"2001:db8::/63":   "2001:db8::1:ffff:ffff:ffff:ffff",
		"2001:db8::1/128": "2001:db8::1",
		"::/0":            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	} {
		if got := netstate.LastOf(netip.MustParsePrefix(prefix)); got != netip.MustParseAddr(want) {
			t.Errorf("%s ends with %s, not %s", prefix, got, want)
		}
	}
	if got := netstate.LastOf(netip.Prefix{}); got.IsValid() {
		t.Errorf("no prefix ends with %s", got)
	}
}

func TestNftTracks(t *testing.T) {
	for rule, want := range map[string]bool{
		"masquerade": true, "ct direction reply accept": true, "ct mark set ct mark and 0xfffffeff or 0x100": true,
		"accept": false, `iifname "eth0" meta mark set meta mark and 0xfffffffe or 0x1`: false,
	} {
		s, err := netstate.ParseState("nft table t\nnft chain c\nnft rule " + rule + "\n")
		if err != nil {
			t.Errorf("%s: %v", rule, err)
		} else if got := s.Nft[0].Tracks(); got != want {
			t.Errorf("%s tracks connections: %t", rule, got)
		}
	}
}
