package cni

import (
	"context"
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
