package ptp

import "github.com/viarule/viarule/internal/kernel"

// del removes the host's end, with which everything goes: the pod's end, addresses, routes
// and neighbours. The pod's namespace may be gone, or be unknown. The address is given back
// last, when nothing leads to the pod any more.
func (p *plugin) del() error {
	host, err := kernel.Open("")
	if err != nil {
		return err
	}
	defer host.Close()
	if err := p.remove(p.ctx, host, p.attachment(), masquerades(p.call.Config)); err != nil {
		return err
	}
	p.did = "removed " + p.attachment().HostName()
	return p.release()
}

// release gives the addresses back. Without any configuration of an IPAM plugin none were
// given.
func (p *plugin) release() error {
	if !p.call.Config.Has("ipam") {
		return nil
	}
	addresses, err := p.ipam()
	if err == nil {
		err = addresses.Del(p.ctx)
	}
	return err
}
