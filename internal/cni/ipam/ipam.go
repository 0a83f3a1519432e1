// Package ipam gets an attachment's addresses from the IPAM plugin that a network's
// configuration names by ipam.type. host-local is built in (package hostlocal): nothing
// more is started, and the files are the reference's. Any other is executed, as libcni's
// invoke.Delegate* would.
//
//	p, err := ipam.Open(call)
//	result, err := p.Add(ctx)
//	...
//	err = p.Del(ctx) // where what comes after it fails
package ipam

import (
	"context"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/cni/hostlocal"
)

// Plugin is the IPAM plugin of a call's configuration. An error of its methods has the
// code that the plugin gave, or the one that the specification has for the cause.
type Plugin struct {
	call  *cni.Call
	other *program // nil: host-local, which is built in
}

// Open looks for the plugin that the configuration names. It reads no more of the
// configuration than that, so that a DEL works where an ADD would not.
func Open(c *cni.Call) (*Plugin, error) {
	conf, err := c.Config.Sub("", "ipam")
	if err != nil {
		return nil, err
	}
	if !conf.Has("type") {
		return nil, cni.Wrong("ipam.type", "it is missing", `name an IPAM plugin, such as "host-local"`)
	}
	name, err := cni.Value[string]("ipam.type", conf["type"])
	if err != nil {
		return nil, err
	}
	p := &Plugin{call: c}
	if name != "host-local" {
		p.other, err = find(name, c.Path)
	}
	return p, err
}

// Add takes addresses for the attachment. Where it fails, none are taken: an executed
// plugin that failed, or whose answer is no good, gets a DEL.
func (p *Plugin) Add(ctx context.Context) (*cni.Result, error) {
	if p.other != nil {
		return p.other.add(ctx, p.call)
	}
	c, err := hostlocal.Read(p.call.Network, p.call.Config, p.call.Args)
	if err != nil {
		return nil, err
	}
	return c.Add(ctx, p.attachment())
}

func (p *Plugin) attachment() hostlocal.Attachment {
	return hostlocal.Attachment{ContainerID: p.call.ContainerID, IfName: p.call.IfName}
}

// Del gives back what the attachment has. It is no error that it has nothing.
func (p *Plugin) Del(ctx context.Context) error {
	if p.other != nil {
		return p.other.run(ctx, "DEL", p.call.Stdin)
	}
	s, err := hostlocal.ReadStore(p.call.Network, p.call.Config)
	if err != nil {
		return err
	}
	return s.Del(ctx, p.attachment())
}

// Check fails where the attachment has no address.
func (p *Plugin) Check(ctx context.Context) error {
	if p.other != nil {
		return p.other.run(ctx, "CHECK", p.call.Stdin)
	}
	c, err := hostlocal.Read(p.call.Network, p.call.Config, p.call.Args)
	if err != nil {
		return err
	}
	return c.Check(ctx, p.attachment())
}

// GC gives back what the network's attachments have that are not among the valid ones.
func (p *Plugin) GC(ctx context.Context) error {
	valid, err := cni.ValidAttachments(p.call.Config)
	if err != nil {
		return err // also where it is executed: the reference takes no list for an empty one
	}
	if p.other != nil {
		return p.other.run(ctx, "GC", p.call.Stdin)
	}
	s, err := hostlocal.ReadStore(p.call.Network, p.call.Config)
	if err != nil {
		return err
	}
	return s.GC(ctx, valid)
}

// Status fails where an ADD could not succeed now.
func (p *Plugin) Status(ctx context.Context) error {
	if p.other != nil {
		return p.other.run(ctx, "STATUS", p.call.Stdin)
	}
	c, err := hostlocal.Read(p.call.Network, p.call.Config, p.call.Args)
	if err != nil {
		return err
	}
	return c.Status()
}
