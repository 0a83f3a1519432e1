package cni

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// askHere asks once from the current namespace; nothing is sent twice.
func askHere(protocol, to string) (string, error) {
	return askOnce(protocol, "", to, time.Now().Add(patience))
}

// ruleset loads rules into nftables.
func ruleset(t *testing.T, text string) {
	t.Helper()
	c := exec.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// runtimeCheck asks all plugins of the chain.
func (a attachment) runtimeCheck() error {
	return a.runtime.CheckNetworkList(context.Background(), a.list, a.rt)
}

// forwardIPv6 has the host forward what comes in by a link. Kernels before 6.17 forward by
// all links or by none: there it is the plugin's ADD that makes the host forward.
func forwardIPv6(t *testing.T, link string) {
	t.Helper()
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/force_forwarding", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}
