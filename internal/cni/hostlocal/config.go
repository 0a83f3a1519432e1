package hostlocal

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/cni/lease"
)

// most is how many range sets a configuration, ranges a set, and addresses a request may
// have.
const most = 256

// Config is a network's IPAM configuration with what one call asks for.
type Config struct {
	*Store
	sets       []set
	routes     []lease.Route
	resolvConf string
	requested  []netip.Addr
}

// conf are the keys of ipam.
type conf struct {
	old        oneRange
	sets       []set
	routes     []lease.Route
	dataDir    string
	resolvConf string
}

var keys = append([]cni.Key[conf]{
	{Name: "type", Read: func(*conf, string, json.RawMessage) error { return nil }},
	{Name: "dataDir", Read: text(func(c *conf) *string { return &c.dataDir })},
	{Name: "resolvConf", Read: text(func(c *conf) *string { return &c.resolvConf })},
	{Name: "routes", Read: func(c *conf, key string, raw json.RawMessage) (err error) {
		c.routes, err = lease.Routes(key, raw)
		return err
	}},
	{Name: "ranges", Read: func(c *conf, key string, raw json.RawMessage) (err error) {
		c.sets, err = readSets(key, raw)
		return err
	}},
}, rangeKeys(func(c *conf) *oneRange { return &c.old })...)

// rangeKeys are those of a range, which stand in ipam itself too.
func rangeKeys[T any](of func(*T) *oneRange) []cni.Key[T] {
	return []cni.Key[T]{
		{Name: "subnet", Read: func(c *T, key string, raw json.RawMessage) error {
			s, err := cni.Value[string](key, raw)
			if err == nil {
				if of(c).subnet, err = lease.Prefix(s); err != nil {
					err = cni.Wrong(key, err.Error(), "")
				}
			}
			return err
		}},
		{Name: "rangeStart", Read: addr(func(c *T) *netip.Addr { return &of(c).start })},
		{Name: "rangeEnd", Read: addr(func(c *T) *netip.Addr { return &of(c).end })},
		{Name: "gateway", Read: addr(func(c *T) *netip.Addr { return &of(c).gateway })},
	}
}

var keysOfRange = rangeKeys(func(r *oneRange) *oneRange { return r })

func text[T any](of func(*T) *string) func(*T, string, json.RawMessage) error {
	return func(c *T, key string, raw json.RawMessage) (err error) {
		*of(c), err = cni.Value[string](key, raw)
		return err
	}
}

// addr reads an address; an empty string is none.
func addr[T any](of func(*T) *netip.Addr) func(*T, string, json.RawMessage) error {
	return func(c *T, key string, raw json.RawMessage) error {
		s, err := cni.Value[string](key, raw)
		if err != nil || s == "" {
			return err
		}
		if *of(c), err = lease.Addr(s); err != nil {
			return cni.Wrong(key, err.Error(), "")
		}
		return nil
	}
}

// readSets reads a list of lists of ranges.
func readSets(key string, raw json.RawMessage) ([]set, error) {
	var lists [][]cni.Document
	if err := json.Unmarshal(raw, &lists); err != nil {
		return nil, cni.Type(key, err.Error(), "write a list of lists of ranges, such as "+`[[{"subnet": "10.1.0.0/24"}]]`)
	}
	if len(lists) > most {
		return nil, tooMany(key)
	}
	sets := make([]set, len(lists))
	for i, list := range lists {
		sets[i].key = fmt.Sprintf("%s[%d]", key, i)
		if len(list) > most {
			return nil, tooMany(sets[i].key)
		}
		for j, d := range list {
			var r oneRange
			path := fmt.Sprintf("%s[%d].", sets[i].key, j)
			if err := cni.Read(&r, path, d, keysOfRange); err != nil {
				return nil, err
			}
			if err := cni.Slip(path, d, keysOfRange); err != nil {
				return nil, err
			}
			sets[i].ranges = append(sets[i].ranges, r)
		}
	}
	return sets, nil
}

func tooMany(key string) error {
	return cni.Wrong(key, fmt.Sprintf("there are more than %d", most), "")
}

// Read reads what ADD, CHECK and STATUS need from a network's configuration: its ipam, what
// runtimeConfig and args ask for, and CNI_ARGS. The order of what is asked for, and of
// the range sets, is the reference's.
func Read(network string, d cni.Document, cniArgs string) (*Config, error) {
	ipam, err := d.Sub("", "ipam")
	if err != nil {
		return nil, err
	}
	var c conf
	if err := cni.Read(&c, "ipam.", ipam, keys); err != nil {
		return nil, err
	}
	if err := cni.Slip("ipam.", ipam, keys); err != nil {
		return nil, err
	}
	out := &Config{routes: c.routes, resolvConf: c.resolvConf, sets: c.sets}
	if out.Store, err = newStore(network, c.dataDir); err != nil {
		return nil, err
	}
	if c.old.subnet.IsValid() {
		out.sets = append([]set{{key: "ipam.subnet", ranges: []oneRange{c.old}}}, out.sets...)
	}
	return out, out.read(d, cniArgs)
}

// read reads what is not in ipam.
func (c *Config) read(d cni.Document, cniArgs string) error {
	if err := c.envArgs(cniArgs); err != nil {
		return err
	}
	args, err := d.Sub("", "args")
	if err != nil {
		return err
	}
	if args, err = args.Sub("args.", "cni"); err != nil {
		return err
	}
	if err := c.request("args.cni.ips", args["ips"]); err != nil {
		return err
	}
	rt, err := d.Sub("", "runtimeConfig")
	if err != nil {
		return err
	}
	if err := c.request("runtimeConfig.ips", rt["ips"]); err != nil {
		return err
	}
	if rt.Has("ipRanges") {
		sets, err := readSets("runtimeConfig.ipRanges", rt["ipRanges"])
		if err != nil {
			return err
		}
		c.sets = append(sets, c.sets...)
	}
	return canonical(c.sets)
}

// request adds addresses, which may have the length of a network behind them, as the
// reference lets it be.
func (c *Config) request(key string, raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	list, err := cni.Value[[]string](key, raw)
	if err != nil {
		return err
	}
	if len(list) > most {
		return tooMany(key)
	}
	for i, s := range list {
		a, err := requested(s)
		if err != nil {
			return cni.Wrong(fmt.Sprintf("%s[%d]", key, i), err.Error(), "")
		}
		c.requested = append(c.requested, a)
	}
	return nil
}

func requested(s string) (netip.Addr, error) {
	if strings.Contains(s, "/") {
		p, err := lease.Prefix(s)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("invalid IP address %.80s", s)
		}
		return p.Addr(), nil
	}
	a, err := lease.Addr(s)
	if err != nil {
		return a, fmt.Errorf("invalid IP address %.80s", s)
	}
	return a, nil
}

// envArgs reads CNI_ARGS: pairs K=V with ; between them. Other keys than IP are an error
// unless IgnoreUnknown says that they are not.
func (c *Config) envArgs(s string) error {
	if s == "" {
		return nil
	}
	var ignore bool
	var unknown []string
	ip := ""
	for pair := range strings.SplitSeq(s, ";") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || strings.Contains(v, "=") {
			return wrongArgs(fmt.Sprintf("invalid pair %.80q", pair))
		}
		switch k {
		case "IP":
			ip = v
		case "IgnoreUnknown":
			switch strings.ToLower(v) {
			case "1", "true":
				ignore = true
			case "0", "false":
				ignore = false
			default:
				return wrongArgs(fmt.Sprintf("error parsing value of pair %.80q", pair))
			}
		default:
			unknown = append(unknown, pair)
		}
	}
	if len(unknown) > 0 && !ignore {
		return wrongArgs(fmt.Sprintf("unknown args %.200q", unknown))
	}
	if ip == "" {
		return nil
	}
	a, err := requested(ip)
	if err != nil {
		return wrongArgs(err.Error())
	}
	c.requested = append(c.requested, a)
	return nil
}

func wrongArgs(what string) error {
	return cni.Coded(cni.CodeEnvironment, "CNI_ARGS: "+what, "")
}

// ReadStore reads where a network's allocations are, and nothing else: enough for DEL and
// GC, which must work where the rest of the configuration has become wrong.
func ReadStore(network string, d cni.Document) (*Store, error) {
	ipam, err := d.Sub("", "ipam")
	if err != nil {
		return nil, err
	}
	dir := ""
	if ipam.Has("dataDir") {
		if dir, err = cni.Value[string]("ipam.dataDir", ipam["dataDir"]); err != nil {
			return nil, err
		}
	}
	return newStore(network, dir)
}

// newStore checks the two that become a path. Both may be a tenant's.
func newStore(network, dataDir string) (*Store, error) {
	const base = "/var/lib/cni"
	if network == "" || network == "." || network == ".." || len(network) > 255 || strings.ContainsAny(network, "/\x00") {
		return nil, cni.Wrong("name", fmt.Sprintf("%.80q cannot be the name of a folder, which host-local makes of a network's name", network), "")
	}
	if dataDir == "" {
		dataDir = base + "/networks"
	}
	clean := path.Clean(dataDir)
	below, ok := strings.CutPrefix(clean, base+"/")
	if !ok || clean != strings.TrimSuffix(dataDir, "/") || strings.Contains(dataDir, "\x00") {
		return nil, cni.Wrong("ipam.dataDir", fmt.Sprintf("%.80q is no folder below %s", dataDir, base), "leave it out, or name one there, without . and ..")
	}
	return &Store{base: base, below: append(strings.Split(below, "/"), network), index: indexDir}, nil
}
