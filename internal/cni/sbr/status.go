package sbr

import (
	"fmt"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
)

// status says whether the plugin can work here.
func (p *plugin) status(_ *config, _ *cni.Call) (did string, err error) {
	if err := p.usable(); err != nil {
		return "", &cni.Error{Code: cni.CodeNotAvailable, Msg: "the plugin cannot work here: " + err.Error()}
	}
	return "", nil
}

// usable says why the plugin cannot work here.
func (p *plugin) usable() error {
	if err := cni.Privileged(); err != nil {
		return err
	}
	conn, err := kernel.Open("")
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Cookie(); err != nil {
		return err
	}
	v, err := conn.View(p.ctx)
	if err != nil {
		return err
	}
	n := 0
	if _, err := v.Those(p.ctx, func(*kernel.RuleHead) bool { n++; return false }); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("this kernel has no policy routing: there is not one rule")
	}
	return p.store.Usable()
}
