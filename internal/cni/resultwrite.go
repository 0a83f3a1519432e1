package cni

import (
	"errors"
	"net/netip"
	"strconv"

	"github.com/viarule/viarule/internal/jsontext"
)

// writer writes JSON as the library does: each value on a line of its own.
type writer struct {
	b     []byte
	depth int
	some  bool // the list or object that is open has something
}

func (w *writer) line() {
	w.b = append(w.b, '\n')
	for range w.depth {
		w.b = append(w.b, "    "...)
	}
}

func (w *writer) open(c byte) {
	w.b = append(w.b, c)
	w.depth, w.some = w.depth+1, false
}

func (w *writer) close(c byte) {
	if w.depth--; w.some {
		w.line()
	}
	w.b = append(w.b, c)
	w.some = true
}

// element begins an element of a list.
func (w *writer) element() {
	if w.some {
		w.b = append(w.b, ',')
	}
	w.line()
	w.some = true
}

func (w *writer) key(name string) {
	w.element()
	w.string(name)
	w.b = append(w.b, ": "...)
}

func (w *writer) string(s string) { w.b = jsontext.AppendString(w.b, s) }
func (w *writer) uint(n uint64)   { w.b = strconv.AppendUint(w.b, n, 10) }

// text writes a key that is left out where it is empty. So are those below.
func (w *writer) text(name, s string) {
	if s != "" {
		w.key(name)
		w.string(s)
	}
}

func (w *writer) int(name string, n int) {
	if n != 0 {
		w.maybe(name, &n)
	}
}

func (w *writer) maybe(name string, n *int) {
	if n != nil {
		w.key(name)
		w.b = strconv.AppendInt(w.b, int64(*n), 10)
	}
}

func (w *writer) addr(name string, a netip.Addr) {
	if a.IsValid() {
		w.text(name, a.Unmap().String())
	}
}

func (w *writer) texts(name string, list []string) {
	listOf(w, name, list, func(s *string) { w.string(*s) })
}

// listOf writes a list under a key.
func listOf[T any](w *writer, name string, list []T, each func(*T)) {
	if len(list) == 0 {
		return
	}
	w.key(name)
	w.open('[')
	for i := range list {
		w.element()
		each(&list[i])
	}
	w.close(']')
}

// prefix writes an address with the length of its network; one of IPv4 in IPv6's form is
// one of IPv4.
func (w *writer) prefix(name string, p netip.Prefix) {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	w.key(name)
	w.string(p.String())
}

// Text is the result as a runtime of a version gets it. What the version has no place
// for is left out. The error is that of a version that there is not, and of those
// before 0.3.0, which want an address, where there is none.
func (r *Result) Text(version string) ([]byte, error) {
	s, ok := shapeOf(version)
	if !ok {
		return nil, errors.New("there are no results of version " + strconv.Quote(version))
	}
	w := &writer{b: make([]byte, 0, 1024)}
	w.open('{')
	w.text("cniVersion", version)
	switch s {
	case shape020:
		if !r.old(w) {
			return nil, errors.New("a result of version " + version + " has an address, and there is none")
		}
	case shape040:
		r.lists(w, s)
	default:
		if !r.DNS.empty() {
			r.dns(w, s)
		}
		r.lists(w, s)
	}
	if s != shape100 {
		r.dns(w, s)
	}
	w.close('}')
	return w.b, nil
}

func (r *Result) dns(w *writer, s shape) {
	d := &r.DNS
	w.key("dns")
	w.open('{')
	if s == shape100 {
		w.text("domain", d.Domain) // the library sorts these, and not those
	}
	w.texts("nameservers", d.Nameservers)
	if s != shape100 {
		w.text("domain", d.Domain)
		w.texts("search", d.Search)
	}
	w.texts("options", d.Options)
	if s == shape100 {
		w.texts("search", d.Search)
	}
	w.close('}')
}

func (r *Result) lists(w *writer, s shape) {
	listOf(w, "interfaces", r.Interfaces, func(f *Interface) {
		w.open('{')
		if s == shape040 {
			w.key("name")
			w.string(f.Name)
			w.text("mac", f.Mac)
			w.text("sandbox", f.Sandbox)
		} else {
			w.text("mac", f.Mac)
			w.int("mtu", f.MTU)
			w.key("name")
			w.string(f.Name)
			w.text("pciID", f.PciID)
			w.text("sandbox", f.Sandbox)
			w.text("socketPath", f.SocketPath)
		}
		w.close('}')
	})
	listOf(w, "ips", r.IPs, func(ip *IP) {
		w.open('{')
		if s == shape040 {
			w.text("version", family(ip.Address))
			w.maybe("interface", ip.Interface)
		}
		w.prefix("address", ip.Address)
		w.addr("gateway", ip.Gateway)
		if s == shape100 {
			w.maybe("interface", ip.Interface)
		}
		w.close('}')
	})
	listOf(w, "routes", r.Routes, func(x *Route) {
		w.open('{')
		if s == shape100 {
			w.int("advmss", x.AdvMSS)
		}
		w.prefix("dst", x.Dst)
		w.addr("gw", x.GW)
		w.int("mtu", x.MTU)
		if s == shape040 {
			w.int("advmss", x.AdvMSS)
		}
		w.int("priority", x.Priority)
		if s == shape100 {
			w.maybe("scope", x.Scope)
			w.maybe("table", x.Table)
		} else {
			w.maybe("table", x.Table)
			w.maybe("scope", x.Scope)
		}
		w.close('}')
	})
}

func family(p netip.Prefix) string {
	if p.Addr().Unmap().Is4() {
		return "4"
	}
	return "6"
}

// old writes the first address of each family, with the routes of that family.
func (r *Result) old(w *writer) (some bool) {
	for _, f := range []string{"4", "6"} {
		for i := range r.IPs {
			ip := &r.IPs[i]
			if family(ip.Address) != f {
				continue
			}
			some = true
			w.key("ip" + f)
			w.open('{')
			w.prefix("ip", ip.Address)
			w.addr("gateway", ip.Gateway)
			var routes []Route
			for _, x := range r.Routes {
				if family(x.Dst) == f {
					routes = append(routes, x)
				}
			}
			listOf(w, "routes", routes, func(x *Route) {
				w.open('{')
				w.prefix("dst", x.Dst)
				w.addr("gw", x.GW)
				w.close('}')
			})
			w.close('}')
			break
		}
	}
	return some
}
