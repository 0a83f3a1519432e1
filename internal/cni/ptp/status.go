package ptp

import (
	"fmt"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/cni/ipam"
	"github.com/viarule/viarule/internal/kernel"
)

// status says whether an ADD could work now.
func (p *plugin) status() error {
	if err := p.usable(); err != nil {
		return &cni.Error{Code: cni.CodeNotAvailable, Msg: "the plugin cannot work here: " + err.Error()}
	}
	if err := p.config.read(p.call.Config); err != nil {
		return err
	}
	addresses, err := ipam.Open(p.call)
	if err != nil {
		return err
	}
	return addresses.Status(p.ctx)
}

func (p *plugin) usable() error {
	if err := cni.Privileged(); err != nil {
		return err
	}
	host, err := kernel.Open("")
	if err != nil {
		return err
	}
	defer host.Close()
	if _, err := host.View(p.ctx); err != nil {
		return err
	}
	if _, err := p.stands(host, &masquerade); err != nil {
		return fmt.Errorf("ask nftables: %w", err)
	}
	return nil
}
