package cni

import (
	"fmt"
	"net/netip"
)

// Address is an address of an interface, with the gateway that the result names.
type Address struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // zero: none
}

// Addresses are those of the interface ifName in a result. Where the result does not
// say whose an address is, or names an interface that it does not list, it is ifName's.
func Addresses(r *Result, ifName string) ([]Address, error) {
	var list []Address
	for i := range r.IPs {
		ip := &r.IPs[i]
		key := fmt.Sprintf("prevResult.ips[%d]", i)
		// The reference plugin takes an address whose interface is not in the list, and its
		// own tests have one.
		if n := ip.Interface; n != nil && *n >= 0 && *n < len(r.Interfaces) {
			if of := &r.Interfaces[*n]; of.Name != ifName || of.Sandbox == "" && inSandbox(r, ifName) {
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
func inSandbox(r *Result, ifName string) bool {
	for i := range r.Interfaces {
		if r.Interfaces[i].Name == ifName && r.Interfaces[i].Sandbox != "" {
			return true
		}
	}
	return false
}

type addressError struct{ key, what string }

func address(ip *IP) (a Address, bad *addressError) {
	addr := ip.Address.Addr()
	if !ip.Address.IsValid() || addr.Is4In6() {
		return a, &addressError{".address", fmt.Sprintf("%q is no address with the length of its network", ip.Address)}
	}
	if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return a, &addressError{".address", fmt.Sprintf("%s cannot be an interface's address", addr)}
	}
	a = Address{ip.Address, ip.Gateway}
	if g := a.Gateway; g.IsValid() && (g.Is4() != addr.Is4() || g.IsUnspecified() || g.IsMulticast()) {
		return a, &addressError{".gateway", fmt.Sprintf("%q cannot be the gateway of %s", g, addr)}
	}
	return a, nil
}
