// Package lease is what an IPAM plugin gives for an attachment: addresses, routes and
// DNS, read from the JSON of a CNI result, or from the parts of it that an IPAM
// configuration repeats.
//
// A result has one shape from CNI 0.3.0 to 1.1.0, but for keys that nothing here needs
// (ips[].version, interfaces). Everything read is another program's or a tenant's word:
// it is checked, bounded, and never changes its meaning silently.
package lease

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/cni"
)

// Most is how many addresses, routes, or strings of DNS a list may have.
const Most = 1024

// Result is what an IPAM plugin gives. Its lists keep their order.
type Result struct {
	IPs    []IP
	Routes []Route
	DNS    DNS
}

// IP is an address with the length of its network, and that network's gateway.
type IP struct {
	Address netip.Prefix // the host's own bits are set; never IPv4 mapped into IPv6
	Gateway netip.Addr   // zero: none
}

// Route is a route that the container is to have. Zero, or nil, is what was not said.
type Route struct {
	Dst      netip.Prefix
	GW       netip.Addr // zero: the gateway of the first address of its family
	MTU      int
	AdvMSS   int
	Priority int // the metric
	Table    *int
	Scope    *int
}

// DNS is what the container's resolver is to use, as it was written.
type DNS struct {
	Nameservers []string
	Domain      string
	Search      []string
	Options     []string
}

// Empty says that there is nothing in it.
func (d *DNS) Empty() bool {
	return len(d.Nameservers) == 0 && d.Domain == "" && len(d.Search) == 0 && len(d.Options) == 0
}

// Read reads a result; key names it in messages.
func Read(key string, raw []byte) (*Result, error) {
	d, err := cni.ReadDocument(key, raw)
	if err != nil {
		return nil, err
	}
	path := key + "."
	for _, old := range []string{"ip4", "ip6"} {
		if d.Has(old) {
			return nil, cni.Wrong(path+old, "this is how results looked before CNI 0.3.0", "use an IPAM plugin that answers in the version of its configuration")
		}
	}
	r := &Result{}
	ips, err := list(path+"ips", d["ips"])
	if err != nil {
		return nil, err
	}
	for i, e := range ips {
		ip, err := readIP(fmt.Sprintf("%sips[%d]", path, i), e)
		if err != nil {
			return nil, err
		}
		r.IPs = append(r.IPs, ip)
	}
	if r.Routes, err = Routes(path+"routes", d["routes"]); err != nil {
		return nil, err
	}
	dns, err := d.Sub(path, "dns")
	if err != nil {
		return nil, err
	}
	r.DNS, err = readDNS(path+"dns.", dns)
	return r, err
}

func readIP(key string, d cni.Document) (ip IP, err error) {
	text, err := text(key+".address", d, "address")
	if err != nil {
		return ip, err
	}
	p, err := Prefix(text)
	if err != nil {
		return ip, cni.Wrong(key+".address", err.Error(), "")
	}
	if a := p.Addr(); a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return ip, cni.Wrong(key+".address", fmt.Sprintf("%s cannot be an interface's address", a), "")
	}
	ip.Address = p
	ip.Gateway, err = gateway(key+".gateway", d, "gateway", p)
	return ip, err
}

// gateway reads an address that must have the family of a prefix; zero: there is none.
func gateway(key string, d cni.Document, name string, of netip.Prefix) (netip.Addr, error) {
	s, err := text(key, d, name)
	if err != nil || s == "" {
		return netip.Addr{}, err
	}
	a, err := Addr(s)
	if err != nil {
		return a, cni.Wrong(key, err.Error(), "")
	}
	if a.Is4() != of.Addr().Is4() || a.IsUnspecified() || a.IsMulticast() {
		return a, cni.Wrong(key, fmt.Sprintf("%s cannot be the gateway of %s", a, of), "")
	}
	return a, nil
}

// Routes reads a list of routes, as a result and an IPAM configuration have it; key names
// it in messages.
func Routes(key string, raw json.RawMessage) ([]Route, error) {
	elements, err := list(key, raw)
	if err != nil || len(elements) == 0 {
		return nil, err
	}
	routes := make([]Route, len(elements))
	for i, d := range elements {
		if err := routes[i].read(fmt.Sprintf("%s[%d].", key, i), d); err != nil {
			return nil, err
		}
	}
	return routes, nil
}

func (r *Route) read(path string, d cni.Document) error {
	s, err := text(path+"dst", d, "dst")
	if err != nil {
		return err
	}
	if r.Dst, err = Prefix(s); err != nil {
		return cni.Wrong(path+"dst", err.Error(), "")
	}
	if r.GW, err = gateway(path+"gw", d, "gw", r.Dst); err != nil {
		return err
	}
	for _, n := range []struct {
		name string
		most uint64
		set  func(int)
	}{
		{"mtu", 1<<32 - 1, func(v int) { r.MTU = v }},
		{"advmss", 1<<32 - 1, func(v int) { r.AdvMSS = v }},
		{"priority", 1<<32 - 1, func(v int) { r.Priority = v }},
		{"table", 1<<32 - 1, func(v int) { r.Table = &v }},
		{"scope", 255, func(v int) { r.Scope = &v }},
	} {
		if !d.Has(n.name) {
			continue
		}
		v, err := cni.Number(path+n.name, d[n.name], 0, n.most)
		if err != nil {
			return err
		}
		n.set(int(v))
	}
	return nil
}

func readDNS(path string, d cni.Document) (dns DNS, err error) {
	if dns.Domain, err = text(path+"domain", d, "domain"); err != nil {
		return dns, err
	}
	for name, into := range map[string]*[]string{"nameservers": &dns.Nameservers, "search": &dns.Search, "options": &dns.Options} {
		if !d.Has(name) {
			continue
		}
		if *into, err = cni.Value[[]string](path+name, d[name]); err != nil {
			return dns, err
		}
		if len(*into) > Most {
			return dns, tooMany(path + name)
		}
	}
	return dns, nil
}

// list reads a list of objects, none where there is no list.
func list(key string, raw json.RawMessage) ([]cni.Document, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var elements []cni.Document
	if err := json.Unmarshal(raw, &elements); err != nil {
		return nil, cni.Type(key, err.Error(), "write a list of objects")
	}
	if len(elements) > Most {
		return nil, tooMany(key)
	}
	for i, e := range elements {
		if e == nil {
			return nil, cni.Type(fmt.Sprintf("%s[%d]", key, i), "it is null", "")
		}
	}
	return elements, nil
}

func tooMany(key string) error {
	return cni.Wrong(key, fmt.Sprintf("there are more than %d", Most), "")
}

// text reads a string, "" where there is none.
func text(key string, d cni.Document, name string) (string, error) {
	if !d.Has(name) {
		return "", nil
	}
	return cni.Value[string](key, d[name])
}

// Addr reads an address as the CNI's own library does: without a zone, and IPv4 mapped
// into IPv6 is IPv4.
func Addr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("invalid IP address: %.80q", s)
	}
	return a.Unmap(), nil
}

// Prefix reads an address with a length as the CNI's own library does: bits behind the
// length stay. IPv4 mapped into IPv6 is refused, since its length means two things.
func Prefix(s string) (netip.Prefix, error) {
	addr, bits, _ := strings.Cut(s, "/")
	a, err := netip.ParseAddr(addr)
	n, bad := strconv.ParseUint(bits, 10, 8)
	if err != nil || bad != nil || a.Zone() != "" || a.Is4In6() || int(n) > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("invalid CIDR address: %.80q", s)
	}
	return netip.PrefixFrom(a, int(n)), nil
}
