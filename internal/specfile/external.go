package specfile

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// external is a spec.ExternalNetwork and what of it needs the other keys to be
// understood.
type external struct {
	*spec.ExternalNetwork
	deletion spec.DeletionPolicy
	expect   []spec.Expectation
	long     *yaml.Node // a name of the interface that is too long
}

func readExternal(d *decoder, n *yaml.Node, o *spec.Object) {
	e := external{ExternalNetwork: &spec.ExternalNetwork{Keys: map[string]spec.Pos{"": d.key}}}
	mapping(d, n, &e, externalFields)
	o.External, o.DeletionPolicy, o.Expect = e.ExternalNetwork, e.deletion, e.expect
}

func (e *external) keys() map[string]spec.Pos { return e.Keys }

// noted makes the fields remember where their keys stand.
func noted[T any, P interface {
	*T
	keys() map[string]spec.Pos
}](fields []field[T]) []field[T] {
	for i := range fields {
		read := fields[i].read
		fields[i].read = func(d *decoder, n *yaml.Node, into *T) {
			P(into).keys()[strings.TrimPrefix(d.pathString(), "spec.")] = d.key
			read(d, n, into)
		}
	}
	return fields
}

var externalFields = noted([]field[external]{
	{"nodeSelector", nodeSelector[external]},
	{"deletionPolicy", func(d *decoder, n *yaml.Node, e *external) { e.deletion = deletionPolicy(d, n) }},
	{"expect", func(d *decoder, n *yaml.Node, e *external) { expectations(d, n, &e.expect) }},
	{"interface", func(d *decoder, n *yaml.Node, e *external) {
		mapping(d, n, e, interfaceFields)
		if e.long != nil {
			do := "a name has 1 to 15 characters, no space, '/' or ':'"
			if v := e.Interface.VLAN; v != nil && v.ID != 0 {
				do = fmt.Sprintf("write a shorter one, as vlan%d", v.ID)
			}
			d.enter("name")
			d.fail(e.long, fmt.Sprintf("%q is too long for the name of a link", clip(e.long.Value)), do)
			d.leave()
		}
	}},
	{"addresses", func(d *decoder, n *yaml.Node, e *external) {
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			d.fail(n, "the list is empty", "write prefixes, addresses or ranges, as in [192.0.2.0/24]")
			return
		}
		d.strings(n, func(size int) { e.Addresses = slices.Grow(e.Addresses, size) }, func(n *yaml.Node, s string) {
			a, err := spec.ParseAddresses(s)
			if err != nil {
				d.failValue(n, err)
				return
			}
			a.Pos = d.place(n)
			e.Addresses = append(e.Addresses, a)
		})
	}},
	{"gateways", func(d *decoder, n *yaml.Node, e *external) {
		d.strings(n, func(int) {}, func(n *yaml.Node, s string) {
			a, err := spec.ParseAddr(s)
			if err != nil {
				d.failValue(n, err)
				return
			}
			e.Gateways = append(e.Gateways, spec.Gateway{Addr: a, Pos: d.place(n)})
		})
	}},
	{"table", func(d *decoder, n *yaml.Node, e *external) {
		e.Table = value(d, n, spec.ParseTableRef)
		e.Table.Name = d.intern(e.Table.Name)
	}},
	{"priority", func(d *decoder, n *yaml.Node, e *external) {
		e.Priority = netstate.Some(uint32(d.integer(n, 1, spec.MaxOwnPriority)))
	}},
	{"mark", func(d *decoder, n *yaml.Node, e *external) { e.Mark = value(d, n, spec.ParseOwnMark) }},
	{"returnPath", func(d *decoder, n *yaml.Node, e *external) { e.ReturnPath = enum(d, n, spec.ReturnPathWords) }},
	{"clusterCIDRs", func(d *decoder, n *yaml.Node, e *external) {
		d.strings(n, func(int) {}, func(n *yaml.Node, s string) {
			e.Keys[fmt.Sprintf("clusterCIDRs[%d]", len(e.ClusterCIDRs))] = d.place(n)
			e.ClusterCIDRs = append(e.ClusterCIDRs, d.prefix(n, s))
		})
	}},
	{"reversePathFilter", func(d *decoder, n *yaml.Node, e *external) { e.ReversePathFilter = enum(d, n, spec.FilterWords) }},
	{"strictARP", func(d *decoder, n *yaml.Node, e *external) { e.StrictARP = d.boolean(n) }},
	{"spread", func(d *decoder, n *yaml.Node, e *external) { e.Spread = d.boolean(n) }},
})

var interfaceFields = noted([]field[external]{
	{"name", func(d *decoder, n *yaml.Node, e *external) {
		if n.Kind == yaml.ScalarNode && scalarKind(n) == stringScalar && len(n.Value) > spec.MaxLinkName {
			e.long = n // what to do depends on the other keys
			return
		}
		e.Interface.Name = d.link(n)
	}},
	{"vlan", func(d *decoder, n *yaml.Node, e *external) {
		e.Interface.VLAN = &spec.VLAN{}
		mapping(d, n, e, vlanFields)
	}},
	{"match", func(d *decoder, n *yaml.Node, e *external) {
		e.Interface.Match = &spec.LinkMatch{}
		mapping(d, n, e, matchFields)
	}},
})

var vlanFields = noted([]field[external]{
	{"parent", func(d *decoder, n *yaml.Node, e *external) { e.Interface.VLAN.Parent = d.link(n) }},
	{"id", func(d *decoder, n *yaml.Node, e *external) {
		e.Interface.VLAN.ID = uint16(d.integer(n, 1, spec.MaxVLAN))
	}},
})

var matchFields = noted([]field[external]{
	{"mac", func(d *decoder, n *yaml.Node, e *external) {
		if s, ok := d.str(n); ok {
			var err error
			if e.Interface.Match.MAC, err = spec.ParseMAC(s); err != nil {
				d.failValue(n, err)
			}
		}
	}},
	{"subnet", func(d *decoder, n *yaml.Node, e *external) {
		if s, ok := d.str(n); ok {
			e.Interface.Match.Subnet = d.prefix(n, s)
		}
	}},
})

// strings reads a list of strings; one that stands alone is told how to become a
// list.
func (d *decoder) strings(n *yaml.Node, size func(int), each func(*yaml.Node, string)) {
	if n.Kind == yaml.ScalarNode && scalarKind(n) == stringScalar {
		d.fail(n, "this is a string, not a list", fmt.Sprintf("write [%s]", clip(n.Value)))
		return
	}
	d.list(n, size, func(e *yaml.Node) {
		if s, ok := d.str(e); ok {
			each(e, s)
		}
	})
}
