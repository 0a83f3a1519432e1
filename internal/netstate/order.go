package netstate

import (
	"cmp"
	"net/netip"
	"slices"
)

// CompareRouteKey orders keys by family, table, prefix (address, then length),
// source prefix, TOS and metric.
func CompareRouteKey(a, b RouteKey) int { return compareRouteKey(&a, &b) }

func compareRouteKey(a, b *RouteKey) int {
	if c := cmp.Compare(a.Family, b.Family); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Table, b.Table); c != 0 {
		return c
	}
	if c := comparePrefix(a.To, b.To); c != 0 {
		return c
	}
	if c := comparePrefix(a.From, b.From); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.TOS, b.TOS), cmp.Compare(a.Metric, b.Metric))
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return cmp.Compare(a.Bits(), b.Bits())
}

// SortRoutes sorts routes by key, and leaves those of equal keys in the order
// in which they stand, which is the kernel's order of preference.
func SortRoutes(routes []Route) {
	if slices.IsSortedFunc(routes, func(a, b Route) int { return compareRoutes(&a, &b) }) {
		return
	}
	// Routes are large: pointers are sorted, and each route is moved once.
	order := make([]*Route, len(routes))
	for i := range routes {
		order[i] = &routes[i]
	}
	slices.SortStableFunc(order, compareRoutes)
	sorted := make([]Route, len(routes))
	for i, r := range order {
		sorted[i] = *r
	}
	copy(routes, sorted)
}

func compareRoutes(a, b *Route) int {
	ka, kb := a.Key(), b.Key()
	return compareRouteKey(&ka, &kb)
}
