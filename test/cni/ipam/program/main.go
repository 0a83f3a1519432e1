// Command program is package ipam as a program of its own: what the tests put beside the
// reference's host-local.
package main

import (
	"context"
	"os"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/cni/ipam"
)

func main() {
	ctx := context.Background()
	p := cni.Plugin{
		Versions: []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"},
		Add: func(c *cni.Call) (*cni.Result, error) {
			p, err := ipam.Open(c)
			if err != nil {
				return nil, err
			}
			return p.Add(ctx)
		},
		Del:    with(func(p *ipam.Plugin) error { return p.Del(ctx) }),
		Check:  with(func(p *ipam.Plugin) error { return p.Check(ctx) }),
		GC:     with(func(p *ipam.Plugin) error { return p.GC(ctx) }),
		Status: with(func(p *ipam.Plugin) error { return p.Status(ctx) }),
	}
	os.Exit(p.Main())
}

func with(do func(*ipam.Plugin) error) func(*cni.Call) error {
	return func(c *cni.Call) error {
		p, err := ipam.Open(c)
		if err != nil {
			return err
		}
		return do(p)
	}
}
