package sbr

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specjson"
	"github.com/viarule/viarule/internal/srcroute"
)

// config is a network configuration as this plugin reads it.
type config struct {
	srcroute.Config
	network, version string
	prev             *cni.Result
	addrs            []srcroute.Address
	log              cni.Log
	allowed          []string          // allowPodOverrides
	fromPod          map[string]string // the keys that the pod set, by their path in args
	document         cni.Document
}

type key = cni.Key[config]

// podKeys are those that a pod may set for itself where it is allowed to.
var podKeys = []key{
	{Name: "table", Read: func(c *config, key string, v jsontext.Value) error {
		n, err := cni.Number(key, v, 1, 1<<32-1)
		if err == nil && c.Own && n >= uint64(netstate.TableDefault) && n <= uint64(netstate.TableLocal) {
			return cni.Wrong(key, fmt.Sprintf("table %d is the kernel's", n), "use another one, or leave it out: one will be chosen")
		}
		c.Table = uint32(n)
		return err
	}},
	{Name: "gateways", Read: func(c *config, key string, v jsontext.Value) (err error) {
		c.Gateways, err = gateways(key, v)
		return err
	}},
	{Name: "inferGateway", Read: func(c *config, key string, v jsontext.Value) (err error) {
		c.InferGateway, err = cni.Value[bool](key, v)
		return err
	}},
	{Name: "rules", Read: func(c *config, key string, v jsontext.Value) error {
		rules, problems := specjson.Rules(key, v)
		c.Rules = rules
		return first(problems)
	}},
	{Name: "routes", Read: func(c *config, key string, v jsontext.Value) error {
		routes, problems := specjson.Routes(key, v)
		c.Routes = routes
		return first(problems)
	}},
	{Name: "priority", Read: func(c *config, key string, v jsontext.Value) error {
		n, err := cni.Number(key, v, 1, 32765)
		c.Priority = uint32(n)
		return err
	}},
	{Name: "vrf", Read: func(c *config, key string, v jsontext.Value) (err error) {
		if c.VRF, err = cni.Value[string](key, v); err != nil {
			return err
		}
		if err := spec.CheckLinkName(c.VRF); err != nil {
			return cni.Wrong(key, err.Error(), "")
		}
		return nil
	}},
	{Name: "strictReversePath", Read: func(c *config, key string, v jsontext.Value) (err error) {
		c.StrictRP, err = cni.Value[bool](key, v)
		return err
	}},
}

// netKeys are those of the network's configuration alone.
var netKeys = []key{
	{Name: "addSourceHints", Read: func(c *config, key string, v jsontext.Value) (err error) {
		c.SourceHints, err = cni.Value[bool](key, v)
		return err
	}},
	{Name: "allowPodOverrides", Read: func(c *config, key string, v jsontext.Value) (err error) {
		if c.allowed, err = cni.Value[[]string](key, v); err != nil {
			return err
		}
		for i, name := range c.allowed {
			if !slices.ContainsFunc(podKeys, func(k cni.Key[config]) bool { return k.Name == name }) {
				return cni.Wrong(fmt.Sprintf("%s[%d]", key, i), fmt.Sprintf("%q is nothing that a pod could set", name), "use some of "+names(podKeys))
			}
		}
		return nil
	}},
}

// logKeys come first: what is wrong with the others is logged.
var logKeys = cni.LogKeys(func(c *config) *cni.Log { return &c.log })

func names(keys []key) string {
	var all []string
	for _, k := range keys {
		all = append(all, k.Name)
	}
	return strings.Join(all, ", ")
}

func first(problems []specjson.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	p := &problems[0]
	if p.Type {
		return cni.Type(p.Path, p.What, p.Do)
	}
	return cni.Wrong(p.Path, p.What, p.Do)
}

func gateways(key string, v jsontext.Value) ([]netip.Addr, error) {
	list, err := cni.Value[[]string](key, v)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", key, i)
		a, err := netip.ParseAddr(s)
		switch a = a.Unmap(); {
		case err != nil, a.Zone() != "":
			return nil, cni.Wrong(at, fmt.Sprintf("%.60q is no address", s), "write the gateway's address, such as 192.0.2.1 or 2001:db8::1")
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			return nil, cni.Wrong(at, a.String()+" cannot be a gateway", "")
		}
		for _, o := range all {
			if o.Is4() == a.Is4() {
				// These words are the reference plugin's.
				return nil, cni.Wrong(key, fmt.Sprintf("gateways list contains multiple %s addresses: %s and %s", netstate.FamilyOf(a), o, a), "name at most one of each family")
			}
		}
		all = append(all, a)
	}
	return all, nil
}

// readHead reads what DEL needs, and what says where to log. Where only the latter is
// wrong there is a configuration all the same: a delete can do without it, and without
// all the rest, however wrong it is.
func (p *plugin) readHead(c *config, call *cni.Call) error {
	c.document, c.network, c.version, c.Own, c.log.Level = call.Config, call.Network, call.Version, p.own, cni.LogInfo
	return cni.Read(c, "", c.document, logKeys)
}

// readAll reads a whole configuration for the interface ifName.
func (p *plugin) readAll(c *config, ifName string) error {
	d := c.document
	if p.own {
		if err := cni.Slip("", d, slices.Concat(podKeys, netKeys, logKeys, otherKeys)); err != nil {
			return err
		}
	}
	err := cni.Read(c, "", d, podKeys)
	if err == nil {
		err = cni.Read(c, "", d, netKeys)
	}
	if err != nil {
		return err
	}
	if c.fromPod, err = cni.Overrides(c, d, podKeys, c.allowed); err != nil {
		return err
	}
	if err := c.readPrev(ifName); err != nil {
		return err
	}
	switch {
	case c.prev == nil:
		return cni.NotChained()
	case len(c.addrs) == 0:
		return cni.Wrong("prevResult.ips", fmt.Sprintf("there is no address of the interface %s", ifName), "put the plugin behind one that gives it an address")
	}
	return nil
}

// otherKeys are the specification's, so that none of them looks like a slip.
var otherKeys = []key{
	{Name: "name"}, {Name: "type"}, {Name: "cniVersion"}, {Name: "args"}, {Name: "ipam"}, {Name: "dns"}, {Name: "ipMasq"},
	{Name: "prevResult"}, {Name: "capabilities"}, {Name: "runtimeConfig"}, {Name: "disableCheck"}, {Name: "disableGC"},
}

func (c *config) readPrev(ifName string) (err error) {
	if c.prev, err = cni.PrevResult(c.document, c.version); err != nil || c.prev == nil {
		return err
	}
	list, err := cni.Addresses(c.prev, ifName)
	if err != nil {
		return err
	}
	for _, a := range list {
		if !slices.ContainsFunc(c.addrs, func(o srcroute.Address) bool { return o.Prefix.Addr() == a.Prefix.Addr() }) {
			c.addrs = append(c.addrs, srcroute.Address(a))
		}
	}
	return nil
}

// wrong turns what srcroute says of the configuration into CNI's error.
func (c *config) wrong(err error) error {
	var e *srcroute.Error
	if !errors.As(err, &e) {
		return err
	}
	key := e.Key
	if end := strings.IndexAny(key+".", ".["); c.fromPod[key[:end]] != "" {
		key = c.fromPod[key[:end]] + key[end:]
	}
	return cni.Wrong(key, e.What, e.Do)
}
