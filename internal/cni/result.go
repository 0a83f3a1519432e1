package cni

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// PrevResult reads the result of the plugin before, which may have the shape of any
// version; nil: there is none.
func PrevResult(d Document, cniVersion string) (*current.Result, error) {
	const key = "prevResult"
	if !d.Has(key) {
		return nil, nil
	}
	if err := noNulls(key, d[key]); err != nil {
		return nil, err
	}
	r, err := version.NewResult(cniVersion, d[key])
	if err == nil {
		var now *current.Result
		if now, err = current.NewResultFromResult(r); err == nil {
			return now, nil
		}
	}
	return nil, Type(key, err.Error(), "")
}

// noNulls refuses a result with a null in a list: the library would follow it.
func noNulls(key string, raw json.RawMessage) error {
	var lists struct{ Interfaces, IPs, Routes []json.RawMessage }
	if json.Unmarshal(raw, &lists) != nil {
		return nil // what is wrong is said by who reads it
	}
	for name, list := range map[string][]json.RawMessage{"interfaces": lists.Interfaces, "ips": lists.IPs, "routes": lists.Routes} {
		for i, x := range list {
			if string(x) == "null" {
				return Type(fmt.Sprintf("%s.%s[%d]", key, name, i), "it is null", "")
			}
		}
	}
	return nil
}

// Address is an address of an interface, with the gateway that the result names.
type Address struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // zero: none
}

// Addresses are those of the interface ifName in a result. Where the result does not
// say whose an address is, or names an interface that it does not list, it is ifName's.
func Addresses(r *current.Result, ifName string) ([]Address, error) {
	var list []Address
	for i, ip := range r.IPs {
		key := fmt.Sprintf("prevResult.ips[%d]", i)
		// The reference plugin takes an address whose interface is not in the list, and its
		// own tests have one.
		if n := ip.Interface; n != nil && *n >= 0 && *n < len(r.Interfaces) {
			if of := r.Interfaces[*n]; of.Name != ifName || of.Sandbox == "" && inSandbox(r, ifName) {
				continue
			}
		}
		a, err := address(ip)
		if err != nil {
			return nil, Wrong(key+err.key, err.what, "")
		}
		list = append(list, a)
	}
	return list, nil
}

// inSandbox says that a result has the interface in the pod: one of the same name on
// the host is another.
func inSandbox(r *current.Result, ifName string) bool {
	for _, i := range r.Interfaces {
		if i.Name == ifName && i.Sandbox != "" {
			return true
		}
	}
	return false
}

type addressError struct{ key, what string }

func address(ip *current.IPConfig) (a Address, bad *addressError) {
	addr, ok := addrOf(ip.Address.IP)
	ones, bits := ip.Address.Mask.Size()
	if !ok || bits != addr.BitLen() {
		return a, &addressError{".address", fmt.Sprintf("%q is no address with the length of its network", ip.Address.String())}
	}
	if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return a, &addressError{".address", fmt.Sprintf("%s cannot be an interface's address", addr)}
	}
	a.Prefix = netip.PrefixFrom(addr, ones)
	if len(ip.Gateway) == 0 {
		return a, nil
	}
	a.Gateway, ok = addrOf(ip.Gateway)
	if !ok || a.Gateway.Is4() != addr.Is4() || a.Gateway.IsUnspecified() || a.Gateway.IsMulticast() {
		return a, &addressError{".gateway", fmt.Sprintf("%q cannot be the gateway of %s", ip.Gateway.String(), addr)}
	}
	return a, nil
}

func addrOf(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// NotChained is what a plugin says that was not called behind another one.
func NotChained() *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, "This plugin must be called as chained plugin", "")
}
