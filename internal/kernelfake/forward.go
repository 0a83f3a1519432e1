package kernelfake

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// SetForward puts forward chains of others in the place of those that there are, as a
// firewall does that is loaded anew.
func (k *Kernel) SetForward(chains []netstate.ForwardChain) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forward = cloneForward(chains)
}

func cloneForward(chains []netstate.ForwardChain) []netstate.ForwardChain {
	out := slices.Clone(chains)
	for i := range out {
		out[i].Rules = slices.Clone(out[i].Rules)
	}
	return out
}

func sayableAccept(a *netstate.Accept, verb netstate.Verb) error {
	if err := a.Check(); err != nil {
		return fmt.Errorf("%w: %w", err, unix.EINVAL)
	}
	if verb == netstate.Replace {
		return fmt.Errorf("an accept is added or deleted: %w", unix.EINVAL)
	}
	return nil
}

// changeAccept does what a kernel does with base chains at the hook forward. Of all
// other chains it knows only those that Subs name.
func (k *Kernel) changeAccept(verb netstate.Verb, a *netstate.Accept) error {
	c := netstate.ForwardChainOf(k.forward, a.NftName)
	switch {
	case c == nil && verb == netstate.Add && slices.Contains(k.elsewhere(), a.NftName):
		return fmt.Errorf("the chain %s is not at the hook forward: %w", a.NftName, unix.EINVAL)
	case c == nil:
		return fmt.Errorf("the chain %s: %w", a.NftName, unix.ENOENT)
	case verb == netstate.Add:
		c.Rules = append(c.Rules, a.Rule())
		return nil
	}
	i := c.Find(a)
	if i < 0 {
		return fmt.Errorf("no such rule in the chain %s: %w", a.NftName, unix.ENOENT)
	}
	c.Rules = slices.Delete(c.Rules, i, i+1)
	return nil
}

// SetOtherChains names chains that are at no hook forward.
func (k *Kernel) SetOtherChains(names ...netstate.NftName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.others = names
}

func (k *Kernel) elsewhere() []netstate.NftName {
	out := slices.Clone(k.others)
	for i := range k.forward {
		for _, sub := range k.forward[i].Subs {
			name := k.forward[i].NftName
			name.Chain = sub.Name
			out = append(out, name)
		}
	}
	return out
}
