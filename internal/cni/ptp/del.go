package ptp

import (
	"errors"

	"github.com/viarule/viarule/internal/cni/ipam"
	"github.com/viarule/viarule/internal/kernel"
)

// del removes the host's end, with which everything goes: the pod's end, addresses, routes
// and neighbours. The pod's namespace may be gone, or be unknown.
//
// The addresses are given back meanwhile, since the kernel sleeps for nearly all of the time
// that it takes. An ADD that gets one of them before the old veth is gone finds a route to
// it, and replaces that: see settle.
func (p *plugin) del() error {
	released := make(chan error, 1)
	go func() { released <- p.release() }()
	p.did = "removed " + p.attachment().HostName()
	return errors.Join(p.unlink(), <-released)
}

// lost takes back an ADD whose result nobody got.
func (p *plugin) lost() error {
	return errors.Join(errors.New("the result could not be written, so that all is taken back"), p.del())
}

func (p *plugin) unlink() error {
	host, err := kernel.Open("")
	if err != nil {
		return err
	}
	defer host.Close()
	return p.remove(p.ctx, host, p.attachment(), masquerades(p.call.Config))
}

// release gives the addresses back. Without any configuration of an IPAM plugin none were
// given.
func (p *plugin) release() error {
	if !p.call.Config.Has("ipam") {
		return nil
	}
	addresses, err := ipam.Open(p.call)
	if err == nil {
		err = addresses.Del(p.ctx)
	}
	return err
}
