// Package sbr is the CNI plugin viarule-sbr: it routes what a pod sends from an
// interface's address by that interface. What ADD makes is worked out by package
// srcroute; this package reads the configuration and the namespace, writes to the
// kernel, and keeps a record of each attachment, by which DEL, CHECK and GC work.
//
// docs/design/sbr.md has the contract.
package sbr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/record"
)

// The names by which the program may be called.
const (
	DropIn = record.DropIn
	Own    = "viarule-sbr"
)

// patience is how long a call waits for others that change the same namespace.
const patience = 60 * time.Second

// plugin is one call of the program.
type plugin struct {
	own   bool
	name  string // DropIn or Own
	store record.Store

	ctx     context.Context
	started time.Time
	command string
	debug   bool     // keep writes
	writes  []string // to the kernel so far, for the log
}

// Main answers one call of the runtime, which says by environment and standard input
// what it wants. name is by which name the program was called; every name but DropIn
// counts as Own. It returns the exit status.
func Main(name, release string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p := &plugin{own: name != DropIn, name: Own, store: record.Store{Dir: record.DefaultDir}, ctx: ctx, started: time.Now()}
	versions := version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
	if !p.own {
		// The reference plugin takes versions that know no chains, and says what is
		// wrong with them later.
		p.name, versions = DropIn, version.All
	}
	err := boundStdin()
	if err == nil {
		err = p.answer(versions, release)
	}
	if err == nil {
		return 0
	}
	if perr := err.Print(); perr != nil {
		return 2
	}
	return 1
}

func (p *plugin) answer(versions version.PluginInfo, release string) *types.Error {
	return skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add:    p.verb("ADD", (*plugin).add),
		Del:    p.verb("DEL", (*plugin).del),
		Check:  p.verb("CHECK", (*plugin).check),
		GC:     p.verb("GC", (*plugin).gc),
		Status: p.verb("STATUS", (*plugin).status),
	}, versions, fmt.Sprintf("CNI %s plugin %s (viarule)\n\n%s", p.name, release, about))
}

const about = `A CNI meta plugin, which a container runtime calls. Put it into /opt/cni/bin, and into a
network's configuration behind the plugin that makes the interface: what the pod sends from
that interface's addresses then leaves by that interface and its gateway.

  {"cniVersion": "1.0.0", "name": "storage", "plugins": [
    {"type": "macvlan", "master": "eth1", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}},
    {"type": "viarule-sbr"}
  ]}

Called as sbr it is a drop-in for the reference plugin of that name.

What it made in a pod:      viarule status --netns /proc/PID/ns/net
Which way a packet goes:    viarule explain --netns /proc/PID/ns/net --from 10.1.0.5 --to ADDRESS
All keys, with examples:    docs/guide/sbr.md in https://github.com/viarule/viarule
By hand:                    CNI_COMMAND=ADD CNI_CONTAINERID=ID CNI_NETNS=/run/netns/NAME CNI_IFNAME=net1 \
                            CNI_PATH=/opt/cni/bin viarule-sbr < CONFIGURATION-WITH-prevResult
`

// verb makes what skel calls of a method, and logs what becomes of it.
func (p *plugin) verb(command string, do func(*plugin, *config, *skel.CmdArgs) (did string, err error)) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) (err error) {
		p.command = command
		c, err := p.readHead(args.StdinData)
		var did string
		p.debug = c != nil && c.log.Level == cni.LogDebug
		if err == nil || c != nil && command == "DEL" {
			did, err = do(p, c, args)
		}
		if c != nil {
			e := cni.Entry{Command: command, Network: c.network, Container: args.ContainerID, Interface: args.IfName, Netns: args.Netns, Did: did, Writes: p.writes}
			level := cni.LogInfo
			if err != nil {
				e.Error, level = err.Error(), cni.LogError
			}
			c.log.Write(level, p.started, e)
		}
		var own *types.Error
		if err != nil && !errors.As(err, &own) {
			return cni.Failed(strings.ToLower(command), err)
		}
		return err
	}
}

// key is that of the attachment that a call is about.
func (p *plugin) key(c *config, args *skel.CmdArgs) record.AttachmentKey {
	return record.AttachmentKey{Plugin: p.name, Network: c.network, Container: args.ContainerID, Interface: args.IfName}
}
