// Package sbr is the CNI plugin viarule-sbr: it routes what a pod sends from an
// interface's address by that interface. What ADD makes is worked out by package
// srcroute; this package reads the configuration and the namespace, writes to the
// kernel, and keeps a record of each attachment, by which DEL, CHECK and GC work.
//
// docs/design/sbr.md has the contract.
package sbr

import (
	"context"
	"strings"
	"time"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
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

	entered uint64 // cookie of the namespace that was entered last
	ctx     context.Context
	started time.Time
	command string
	enter   kernel.How
	// ownNetns: the namespace may be the one that the program is in.
	ownNetns bool
	debug    bool     // keep writes
	writes   []string // to the kernel so far, for the log
}

// Main answers one call of the runtime, which says by environment and standard input
// what it wants. name is by which name the program was called; every name but DropIn
// counts as Own. It returns the exit status. It must be called from a function init: see
// kernel.Pinned.
func Main(name, release string) int {
	p := &plugin{own: name != DropIn, name: Own, store: record.Store{Dir: record.DefaultDir}, enter: kernel.Pinned, ctx: cni.Within(patience), started: time.Now()}
	if !p.own {
		p.name = DropIn
	}
	return p.front(release).Main()
}

// front is what the runtime sees.
func (p *plugin) front(release string) *cni.Plugin {
	f := &cni.Plugin{
		Versions: []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"},
		About:    "CNI " + p.name + " plugin " + release + " (viarule)\n\n" + about,
		Add:      p.addAndAnswer,
		Del:      func(call *cni.Call) error { return p.do(&config{}, call, (*plugin).del) },
		Check:    func(call *cni.Call) error { return p.do(&config{}, call, (*plugin).check) },
		GC:       func(call *cni.Call) error { return p.do(&config{}, call, (*plugin).gc) },
		Status:   func(call *cni.Call) error { return p.do(&config{}, call, (*plugin).status) },
	}
	if p.own {
		// The reference plugin takes versions that know no chains, and says what is
		// wrong with them later.
		f.Versions = f.Versions[2:]
	}
	return f
}

func (p *plugin) addAndAnswer(call *cni.Call) (*cni.Result, error) {
	c := &config{}
	if err := p.do(c, call, (*plugin).add); err != nil {
		return nil, err
	}
	return c.prev, nil
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

// verb is what is done for a command; did says it in a few words, for the log.
type verb func(*plugin, *config, *cni.Call) (did string, err error)

// do reads the configuration of a call into c, does what it asks, and logs what becomes
// of it.
func (p *plugin) do(c *config, call *cni.Call, do verb) error {
	p.command, p.ownNetns = call.Command, call.OwnNetns
	err := p.readHead(c, call)
	p.debug = c.log.Level == cni.LogDebug
	var did string
	if err == nil || call.Command == "DEL" {
		did, err = do(p, c, call)
	}
	e := cni.Entry{Command: call.Command, Network: c.network, Container: call.ContainerID, Interface: call.IfName, Netns: call.Netns, Did: did, Writes: p.writes}
	level := cni.LogInfo
	if err != nil {
		e.Error, level = err.Error(), cni.LogError
		err = cni.Failed(strings.ToLower(call.Command), err)
	}
	c.log.Write(level, p.started, e)
	return err
}

// key is that of the attachment that a call is about.
func (p *plugin) key(c *config, call *cni.Call) record.AttachmentKey {
	return record.AttachmentKey{Plugin: p.name, Network: c.network, Container: call.ContainerID, Interface: call.IfName}
}
