package returnpath

import "testing"

// TestNodeCallsItsOwn has the node, a pod and the cluster's network call the
// addresses, which works with and without the object.
func TestNodeCallsItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.serveAll()
	calls := func(what string) {
		for _, from := range []string{"node", "admin"} {
			w.works(what, from, "10", "11", "12", "13")
		}
		// Without masquerade a pod that is given to itself would see its own address.
		w.works(what, "pod", "11", "12", "13")
	}
	calls("before")
	w.silent("before", "client", "10")
	w.apply(external(""))
	w.works("after", "client", "10", "11", "12", "13")
	calls("after")
	w.viarule("delete", "", "--all")
	calls("deleted")
	w.silent("deleted", "client", "10")
}
