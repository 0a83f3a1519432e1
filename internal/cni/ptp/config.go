package ptp

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/jsontext"
)

// config is a network configuration as this plugin reads it. That of the IPAM plugin is
// read by package ipam.
type config struct {
	mtu    uint32 // 0: the kernel's default
	ipMasq bool
	dns    *cni.DNS // nil: the IPAM plugin's
	log    cni.Log
}

type key = cni.Key[config]

// The kernel's bounds of a veth's MTU (ETH_MIN_MTU, ETH_MAX_MTU), and the least with which
// there is IPv6 (IPV6_MIN_MTU).
const (
	leastMTU  = 68
	leastMTU6 = 1280
	mostMTU   = 65535
)

var keys = []key{
	{Name: "mtu", Read: func(c *config, key string, v jsontext.Value) error {
		if string(v) == "0" {
			return nil // the reference takes this for nothing, and configurations have it
		}
		n, err := cni.Number(key, v, leastMTU, mostMTU)
		c.mtu = uint32(n)
		return err
	}},
	masqKey,
	{Name: "ipMasqBackend", Read: func(_ *config, key string, v jsontext.Value) error {
		s, err := cni.Value[string](key, v)
		if err == nil && s != "" && s != "nftables" {
			err = cni.Wrong(key, fmt.Sprintf("%.40q is not to be had", s), "leave it out: viarule-ptp uses nftables")
		}
		return err
	}},
	{Name: "dns", Read: func(c *config, key string, v jsontext.Value) error {
		d, err := readDNS(key, v)
		if err == nil && (d.Domain != "" || len(d.Nameservers)+len(d.Search)+len(d.Options) > 0) {
			c.dns = d
		}
		return err
	}},
}

var masqKey = key{Name: "ipMasq", Read: func(c *config, key string, v jsontext.Value) (err error) {
	c.ipMasq, err = cni.Value[bool](key, v)
	return err
}}

// logKeys come first: what is wrong with the others is logged.
var logKeys = cni.LogKeys(func(c *config) *cni.Log { return &c.log })

// otherKeys are the specification's, so that none of them looks like a slip.
var otherKeys = []key{
	{Name: "name"}, {Name: "type"}, {Name: "cniVersion"}, {Name: "args"}, {Name: "ipam"}, {Name: "prevResult"}, {Name: "capabilities"},
	{Name: "runtimeConfig"}, {Name: "disableCheck"}, {Name: "disableGC"}, {Name: "loadOnlyInlinedPlugins"},
}

func (c *config) readLog(d cni.Document) error {
	c.log.Level = cni.LogInfo
	return cni.Read(c, "", d, logKeys)
}

// read reads a whole configuration.
func (c *config) read(d cni.Document) error {
	if err := cni.Slip("", d, slices.Concat(keys, logKeys, otherKeys)); err != nil {
		return err
	}
	return cni.Read(c, "", d, keys)
}

// masquerades says whether a configuration asks for it; one that cannot be read does not.
func masquerades(d cni.Document) bool {
	var c config
	return cni.Read(&c, "", d, []key{masqKey}) == nil && c.ipMasq
}

func readDNS(key string, v jsontext.Value) (*cni.DNS, error) {
	d, err := cni.Document{key: v}.Sub("", key)
	if err != nil {
		return nil, err
	}
	dns := &cni.DNS{}
	if d.Has("domain") {
		if dns.Domain, err = cni.Value[string](key+".domain", d["domain"]); err != nil {
			return nil, err
		}
	}
	for _, l := range []struct {
		name string
		into *[]string
	}{{"nameservers", &dns.Nameservers}, {"search", &dns.Search}, {"options", &dns.Options}} {
		if !d.Has(l.name) {
			continue
		}
		if *l.into, err = cni.Value[[]string](key+"."+l.name, d[l.name]); err != nil {
			return nil, err
		}
	}
	for i, s := range dns.Nameservers {
		if _, err := netip.ParseAddr(s); err != nil {
			return nil, cni.Wrong(fmt.Sprintf("%s.nameservers[%d]", key, i), fmt.Sprintf("%.60q is no address", s), "write the name server's address")
		}
	}
	return dns, nil
}
