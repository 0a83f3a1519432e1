package hostlocal

import (
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/jsontext"
)

// most is how many range sets a configuration, ranges a set, and addresses a request may
// have.
const most = 256

// mostRanges is how many ranges all sets may have together: each is compared with each other.
const mostRanges = 1024

// Config is a network's IPAM configuration with what one call asks for.
type Config struct {
	*Store
	sets       []set
	routes     []cni.Route
	resolvConf string
	requested  []netip.Addr
}

// conf are the keys of ipam.
type conf struct {
	old        oneRange
	sets       []set
	routes     []cni.Route
	dataDir    string
	resolvConf string
}

// keys are a function, as all lists of this package: a variable would be made each time
// that the program starts.
func keys() []cni.Key[conf] {
	return append([]cni.Key[conf]{
		{Name: "type", Read: func(*conf, string, jsontext.Value) error { return nil }},
		{Name: "dataDir", Read: text(func(c *conf) *string { return &c.dataDir })},
		{Name: "resolvConf", Read: text(func(c *conf) *string { return &c.resolvConf })},
		{Name: "routes", Read: func(c *conf, _ string, v jsontext.Value) (err error) {
			c.routes, err = cni.ReadRoutes("ipam", "routes", v)
			return err
		}},
		{Name: "ranges", Read: func(c *conf, key string, v jsontext.Value) (err error) {
			c.sets, err = readSets(key, v)
			return err
		}},
	}, rangeKeys(func(c *conf) *oneRange { return &c.old })...)
}

// rangeKeys are those of a range, which stand in ipam itself too.
func rangeKeys[T any](of func(*T) *oneRange) []cni.Key[T] {
	return []cni.Key[T]{
		{Name: "subnet", Read: func(c *T, key string, v jsontext.Value) error {
			s, err := cni.Value[string](key, v)
			if err == nil {
				if of(c).subnet, err = parsePrefix(s); err != nil {
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

func text[T any](of func(*T) *string) func(*T, string, jsontext.Value) error {
	return func(c *T, key string, v jsontext.Value) (err error) {
		*of(c), err = cni.Value[string](key, v)
		return err
	}
}

// addr reads an address; an empty string is none.
func addr[T any](of func(*T) *netip.Addr) func(*T, string, jsontext.Value) error {
	return func(c *T, key string, v jsontext.Value) error {
		s, err := cni.Value[string](key, v)
		if err != nil || s == "" {
			return err
		}
		if *of(c), err = parseAddr(s); err != nil {
			return cni.Wrong(key, err.Error(), "")
		}
		return nil
	}
}

// readSets reads a list of lists of ranges.
func readSets(key string, v jsontext.Value) (sets []set, err error) {
	keys := rangeKeys(func(r *oneRange) *oneRange { return r })
	err = each(key, v, jsontext.List, func(key string, list jsontext.Value) error {
		one := set{key: key}
		err := each(key, list, jsontext.Object, func(key string, v jsontext.Value) error {
			var r oneRange
			d, err := cni.ReadDocument(key, v)
			if err == nil {
				err = cni.Read(&r, key+".", d, keys)
			}
			if err == nil {
				err = cni.Slip(key+".", d, keys)
			}
			one.ranges = append(one.ranges, r)
			return err
		})
		sets = append(sets, one)
		return err
	})
	return sets, err
}

// each shows the elements of a list, which must be of one kind, with their keys.
func each(key string, v jsontext.Value, kind jsontext.Kind, f func(key string, v jsontext.Value) error) (err error) {
	if v.Kind() != jsontext.List {
		return cni.Type(key, "it is "+v.Kind().String()+", not a list", rangesExample)
	}
	n := 0
	v.Each(func(_ string, e jsontext.Value) bool {
		at := key + "[" + strconv.Itoa(n) + "]"
		switch n++; {
		case n > most:
			err = tooMany(key)
		case e.Kind() != kind:
			err = cni.Type(at, "it is "+e.Kind().String()+", not "+kind.String(), rangesExample)
		default:
			err = f(at, e)
		}
		return err == nil
	})
	return err
}

const rangesExample = `write a list of sets, each a list of ranges, such as [[{"subnet": "10.1.0.0/24"}]]`

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
	if err := cni.Read(&c, "ipam.", ipam, keys()); err != nil {
		return nil, err
	}
	if err := cni.Slip("ipam.", ipam, keys()); err != nil {
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
func (c *Config) request(key string, v jsontext.Value) error {
	if v.Kind() == jsontext.Null {
		return nil
	}
	list, err := cni.Value[[]string](key, v)
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
		p, err := parsePrefix(s)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("invalid IP address %.80s", s)
		}
		return p.Addr(), nil
	}
	a, err := parseAddr(s)
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
	return &cni.Error{Code: cni.CodeEnvironment, Msg: "CNI_ARGS: " + what}
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

// parseAddr reads an address as the CNI's own library does: without a zone, and IPv4
// mapped into IPv6 is IPv4.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("invalid IP address: %.80s", s)
	}
	return a.Unmap(), nil
}

// parsePrefix reads an address with a length as the CNI's own library does: bits behind
// the length stay. IPv4 mapped into IPv6 is refused, since its length means two things.
func parsePrefix(s string) (netip.Prefix, error) {
	addr, length, _ := strings.Cut(s, "/")
	a, err := netip.ParseAddr(addr)
	n, bad := strconv.ParseUint(length, 10, 8)
	if err != nil || bad != nil || a.Zone() != "" || a.Is4In6() || int(n) > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("invalid CIDR address: %.80s", s)
	}
	return netip.PrefixFrom(a, int(n)), nil
}
