// Package ptp is the CNI plugin viarule-ptp: it joins a pod to its host by a veth pair
// and plain routes. The pod has its addresses alone (/32, /128) and sends everything to
// gateways that exist only as permanent neighbours, 169.254.1.1 and fe80::1; the host has
// a route and a permanent neighbour for each address of the pod, and no address on the veth.
//
// Nothing is recorded: the veth's name follows from the container and the interface, its
// alias says whose it is, and everything else goes with it. What is in the tables of
// nftables names the veth.
//
// docs/design/ptp.md has the contract.
package ptp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
)

const (
	// patience is how long a call waits for others that have the kernel's or a file's lock.
	patience = 100 * time.Second
	// cleaning is how long it takes at most to undo an ADD that failed.
	cleaning = 20 * time.Second
)

// plugin is one call of the program.
type plugin struct {
	ctx     context.Context
	started time.Time
	call    *cni.Call
	config  config
	debug   bool     // keep writes
	writes  []string // to the kernel so far, for the log
	did     string   // in a few words, for the log
}

// Main answers one call of the runtime, which says by environment and standard input
// what it wants. It returns the exit status.
func Main(release string) int { return front(release, time.Now()).Main() }

func front(release string, started time.Time) *cni.Plugin {
	run := func(do func(*plugin) error) func(*cni.Call) error {
		return func(call *cni.Call) error {
			return (&plugin{ctx: cni.Within(patience), started: started, call: call}).run(do)
		}
	}
	return &cni.Plugin{
		Versions: []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"},
		About:    fmt.Sprintf("CNI viarule-ptp plugin %s (viarule)\n\n%s", release, about),
		Add: func(call *cni.Call) (r *cni.Result, err error) {
			err = run(func(p *plugin) (err error) { r, err = p.add(); return err })(call)
			return r, err
		},
		Lost:   func(call *cni.Call) { _ = run((*plugin).lost)(call) }, // which says it in the log
		Del:    run((*plugin).del),
		Check:  run((*plugin).check),
		GC:     run((*plugin).gc),
		Status: run((*plugin).status),
	}
}

const about = `A CNI main plugin, which a container runtime calls. Put it into /opt/cni/bin, and first into
a network's configuration. The pod gets a veth whose other end is on the host, addresses from an
IPAM plugin (host-local is built in), and plain routes: no bridge, no address on the host's end.

  {"cniVersion": "1.0.0", "name": "pods", "plugins": [
    {"type": "viarule-ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "2001:db8:1::/64"}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]}

Keys: ipam, mtu, ipMasq (what leaves the pod's own network has the node's address), dns, logFile, logLevel.
A packet of a pod with a source that is not the pod's is dropped.

Whose a veth is:            ip link show type veth (the alias is viarule:ptp/NETWORK/CONTAINER/INTERFACE)
Which way a packet goes:    viarule explain --from 10.1.0.5 --iif VETH --to ADDRESS
The contract:               docs/design/ptp.md in https://github.com/viarule/viarule
By hand:                    CNI_COMMAND=ADD CNI_CONTAINERID=ID CNI_NETNS=/run/netns/NAME CNI_IFNAME=eth0 \
                            CNI_PATH=/opt/cni/bin viarule-ptp < CONFIGURATION
`

// run does what a call asks, and logs what becomes of it.
func (p *plugin) run(do func(*plugin) error) error {
	err := p.config.readLog(p.call.Config)
	p.debug = p.config.log.Level == cni.LogDebug
	if err == nil || p.call.Command == "DEL" { // a pod must not stay for the log
		err = do(p)
	}
	e := cni.Entry{Command: p.call.Command, Network: p.call.Network, Container: p.call.ContainerID, Interface: p.call.IfName, Netns: p.call.Netns, Did: p.did, Writes: p.writes}
	level := cni.LogInfo
	if err != nil {
		e.Error, level = err.Error(), cni.LogError
		err = cni.Failed(strings.ToLower(p.call.Command), err)
	}
	p.config.log.Write(level, p.started, e)
	return err
}

// setup writes to the kernel, and gives what it refused.
func (p *plugin) setup(c *kernel.Conn, s *kernel.Setup) ([]*kernel.SetupError, error) {
	if p.debug {
		p.writes = append(p.writes, s.Writes()...)
	}
	return c.Setup(p.ctx, s)
}

// must is setup of what may not be refused.
func (p *plugin) must(c *kernel.Conn, s *kernel.Setup) error {
	refused, err := p.setup(c, s)
	return errors.Join(err, joined(refused))
}

func joined(refused []*kernel.SetupError) error {
	if len(refused) == 0 {
		return nil
	}
	return refused[0] // what comes behind one is seldom news
}
