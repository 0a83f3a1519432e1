package cni

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/viarule/viarule/internal/jsontext"
)

// Result is what an ADD made, in the shape that it has since version 1.0.0 of the
// specification; those of older versions are read into it, and written from it.
type Result struct {
	Interfaces []Interface
	IPs        []IP
	Routes     []Route
	DNS        DNS
}

// Interface is an interface that was made.
type Interface struct {
	Name       string
	Mac        string
	MTU        int    // 0: not said
	Sandbox    string // path of its namespace; empty: the host's
	SocketPath string
	PciID      string
}

// IP is an address of an interface.
type IP struct {
	Address   netip.Prefix // the address with the length of its network, not masked
	Gateway   netip.Addr   // zero: none
	Interface *int         // index in Result.Interfaces; nil: not said
}

// Route is a route of the container.
type Route struct {
	Dst      netip.Prefix // perhaps not masked
	GW       netip.Addr   // zero: none
	MTU      int          // these three: 0 is not said
	AdvMSS   int
	Priority int
	Table    *int // these two: nil is not said
	Scope    *int
}

// DNS says how the container asks for names.
type DNS struct {
	Nameservers []string
	Domain      string
	Search      []string
	Options     []string
}

func (d *DNS) empty() bool {
	return len(d.Nameservers) == 0 && d.Domain == "" && len(d.Search) == 0 && len(d.Options) == 0
}

// shape is the form of results in some versions.
type shape int

const (
	shape020 shape = iota // 0.1.0, 0.2.0: one address of each family
	shape040              // 0.3.0 to 0.4.0: ips with their version
	shape100              // 1.0.0, 1.1.0
)

// shapes gives the versions that have each shape.
var shapes = [...][]string{shape020: {"0.1.0", "0.2.0"}, shape040: {"0.3.0", "0.3.1", "0.4.0"}, shape100: {"1.0.0", "1.1.0"}}

// shapeOf is the shape of a version's results; false: there is no such version.
func shapeOf(version string) (shape, bool) {
	for s, versions := range shapes {
		if slices.Contains(versions, version) {
			return shape(s), true
		}
	}
	return 0, false
}

// PrevResult reads the result of the plugin before, which has the shape of the
// configuration's version; nil: there is none.
func PrevResult(d Document, cniVersion string) (*Result, error) {
	const key = "prevResult"
	if !d.Has(key) {
		return nil, nil
	}
	return ReadResult(key, d[key], cniVersion)
}

// ReadResult reads a result in the shape of a version, as a plugin of that version
// gives it; key names it in messages.
func ReadResult(key string, v jsontext.Value, cniVersion string) (*Result, error) {
	return readResult(key, v, cniVersion, false)
}

// ReadDelegated reads the result of a plugin that another plugin ran, which has the
// version that it says, or if it says none, cniVersion.
func ReadDelegated(key string, v jsontext.Value, cniVersion string) (*Result, error) {
	d, err := document(key, v)
	if err != nil {
		return nil, err
	}
	if d.Has("cniVersion") {
		said, err := Value[string](key+".cniVersion", d["cniVersion"])
		if err != nil {
			return nil, err
		}
		if said != "" {
			cniVersion = said
		}
	}
	return readResult(key, v, cniVersion, true)
}

func readResult(key string, v jsontext.Value, cniVersion string, unsaid bool) (*Result, error) {
	s, ok := shapeOf(cniVersion)
	if !ok {
		return nil, Type(key, "there are no results of version "+strconv.Quote(clip(cniVersion)), "")
	}
	r := resultReader{key: key}
	if v.Kind() != jsontext.Object {
		return nil, Type(key, "it is "+v.Kind().String()+", not an object", "")
	}
	res, version := r.result(v, s)
	switch {
	case r.err != nil:
		return nil, Type(key, r.err.Error(), "")
	case r.wrong != nil:
		return nil, r.wrong
	case (s == shape020 || unsaid) && version == "":
	case !slices.Contains(shapes[s], version):
		return nil, Type(key, "its cniVersion is "+strconv.Quote(clip(version))+", and that of the configuration "+cniVersion, "")
	}
	return res, nil
}

// ReadRoutes reads a list of routes, as results have it, that is under a key of the object
// of.
func ReadRoutes(of, key string, v jsontext.Value) ([]Route, error) {
	r := resultReader{key: of}
	var list []Route
	r.in(step{key: key}, func() { list = r.routes(v) })
	switch {
	case r.err != nil:
		return nil, Type(of, r.err.Error(), "")
	case r.wrong != nil:
		return nil, r.wrong
	}
	return list, nil
}

// resultReader is a reader that knows what a result must have.
type resultReader struct {
	reader
	key   string
	wrong *Error // what is of the right type, and cannot be
}

// missing notes what must be there.
func (r *resultReader) missing(key string) {
	if r.wrong == nil {
		r.wrong = Wrong(r.key+"."+r.at()+"."+key, "it is missing", "")
	}
}

// elements reads a list in which there is no null.
func (r *resultReader) elements(v jsontext.Value, element func(v jsontext.Value)) {
	r.list(v, func(e jsontext.Value) {
		if e.Kind() == jsontext.Null {
			if r.wrong == nil {
				r.wrong = Type(r.key+"."+r.at(), "it is null", "")
			}
			return
		}
		element(e)
	})
}

func (r *resultReader) result(v jsontext.Value, s shape) (res *Result, version string) {
	res = &Result{}
	var old [2][]IP // of ip4 and ip6
	var routes [2][]Route
	r.object(v, []string{"cniVersion", "dns", "interfaces", "ips", "routes", "ip4", "ip6"}, func(i int, v jsontext.Value) {
		switch {
		case i == 0:
			version = r.text(v)
		case i == 1:
			res.DNS = r.dns(v)
		case s == shape020 && i >= 5:
			old[i-5], routes[i-5] = r.oldIP(v)
		case s == shape020 || i >= 5: // the other shape's
		case i == 2:
			res.Interfaces = nil
			r.elements(v, func(e jsontext.Value) { res.Interfaces = append(res.Interfaces, r.iface(e, s)) })
		case i == 3:
			res.IPs = nil
			r.elements(v, func(e jsontext.Value) { res.IPs = append(res.IPs, r.ip(e, s)) })
		case i == 4:
			res.Routes = r.routes(v)
		}
	})
	res.IPs = append(res.IPs, slices.Concat(old[:]...)...)
	res.Routes = append(res.Routes, slices.Concat(routes[:]...)...)
	return res, version
}

func (r *resultReader) iface(v jsontext.Value, s shape) (f Interface) {
	r.object(v, []string{"name", "mac", "sandbox", "mtu", "socketPath", "pciID"}, func(i int, v jsontext.Value) {
		switch {
		case i == 3 && s == shape100:
			f.MTU = r.int(v)
		case i < 3 || s == shape100:
			*[]*string{&f.Name, &f.Mac, &f.Sandbox, nil, &f.SocketPath, &f.PciID}[i] = r.text(v)
		}
	})
	return f
}

func (r *resultReader) ip(v jsontext.Value, s shape) (ip IP) {
	r.object(v, []string{"address", "gateway", "interface", "version"}, func(i int, v jsontext.Value) {
		switch i {
		case 0:
			ip.Address = r.prefix(v)
		case 1:
			ip.Gateway = r.addr(v)
		case 2:
			ip.Interface = r.maybe(v)
		case 3:
			if s == shape040 {
				r.text(v) // the address says it
			}
		}
	})
	if !ip.Address.IsValid() {
		r.missing("address")
	}
	return ip
}

// oldIP reads an address of the first shape, which has the routes of its family with it.
func (r *resultReader) oldIP(v jsontext.Value) (ips []IP, routes []Route) {
	if v.Kind() == jsontext.Null {
		return nil, nil
	}
	var ip IP
	r.object(v, []string{"ip", "gateway", "routes"}, func(i int, v jsontext.Value) {
		switch i {
		case 0:
			ip.Address = r.prefix(v)
		case 1:
			ip.Gateway = r.addr(v)
		case 2:
			routes = r.routes(v)
		}
	})
	if !ip.Address.IsValid() {
		r.missing("ip")
	}
	return []IP{ip}, routes
}

func (r *resultReader) routes(v jsontext.Value) (list []Route) {
	r.elements(v, func(e jsontext.Value) {
		var x Route
		r.object(e, []string{"dst", "gw", "mtu", "advmss", "priority", "table", "scope"}, func(i int, v jsontext.Value) {
			switch i {
			case 0:
				x.Dst = r.prefix(v)
			case 1:
				x.GW = r.addr(v)
			case 5:
				x.Table = r.maybe(v)
			case 6:
				x.Scope = r.maybe(v)
			default:
				*[]*int{2: &x.MTU, 3: &x.AdvMSS, 4: &x.Priority}[i] = r.int(v)
			}
		})
		if !x.Dst.IsValid() {
			r.missing("dst")
		}
		list = append(list, x)
	})
	return list
}

func (r *resultReader) dns(v jsontext.Value) (d DNS) {
	r.object(v, []string{"domain", "nameservers", "search", "options"}, func(i int, v jsontext.Value) {
		if i == 0 {
			d.Domain = r.text(v)
			return
		}
		*[]*[]string{1: &d.Nameservers, 2: &d.Search, 3: &d.Options}[i] = r.texts(v)
	})
	return d
}
