package netstate

import "fmt"

// Opaque is something in a namespace that may decide about packets and that
// viarule cannot read: who tells a packet's way does not know it where the packet
// meets one.
type Opaque struct {
	Kind OpaqueKind
	// Dev is the link whose packets it sees; empty: those of all links.
	Dev string
	// Name tells people which it is: "program 7 cil_from_netdev", "ingress filter
	// pref 49152 bpf cil_from_netdev", "inet filter fast", "3 policies". Where
	// Unread is set it is the reason.
	Name string
	// Unread says that this process may not look, or the kernel would not tell:
	// there may be one of this kind, and there may be none.
	Unread bool
}

// OpaqueKind says what an Opaque is.
type OpaqueKind uint8

// The kinds. Of the last two there is one only where they cannot be read: chains
// that can be read are Surroundings.
const (
	OpaqueXDP       OpaqueKind = iota + 1 // an XDP program
	OpaqueTC                              // a filter of traffic control, or a tcx program
	OpaqueXFRM                            // policies of IPsec
	OpaqueFlowtable                       // a flowtable of nftables: packets of its flows pass by rules, routes and chains
	OpaqueBridgeNF                        // bridge netfilter: what a bridge forwards meets the chains of IP
	OpaqueNft                             // nftables
	OpaqueIptables                        // the old iptables
)

var opaqueNames = names{
	{uint32(OpaqueXDP), "xdp"}, {uint32(OpaqueTC), "tc"}, {uint32(OpaqueXFRM), "xfrm"}, {uint32(OpaqueFlowtable), "flowtable"},
	{uint32(OpaqueBridgeNF), "bridge-nf"}, {uint32(OpaqueNft), "nft"}, {uint32(OpaqueIptables), "iptables"},
}

// String gives the kind's word (xdp, tc, xfrm, flowtable, bridge-nf, nft,
// iptables), or its number.
func (k OpaqueKind) String() string { return string(opaqueNames.append(nil, uint32(k))) }

// String gives the text form, which ParseOpaque reads:
//
//	opaque xdp dev eth0 name "program 7 cil_xdp_entry"
//	opaque xfrm unread "operation not permitted: needs root"
func (o Opaque) String() string { return string(o.append(nil)) }

// AppendText appends what String returns. The error is always nil.
func (o Opaque) AppendText(b []byte) ([]byte, error) { return o.append(b), nil }

func (o *Opaque) append(b []byte) []byte {
	b = append(append(b, "opaque "...), o.Kind.String()...)
	if o.Dev != "" {
		b = appendKeyWord(b, " dev ", o.Dev)
	}
	key := " name "
	if o.Unread {
		key = " unread "
	}
	return appendKeyWord(b, key, o.Name)
}

// ParseOpaque reads what Opaque.String writes. A kind that it does not know is an
// error: nobody could say which packets meet it.
func ParseOpaque(text string) (Opaque, error) {
	p := newParser("opaque", text)
	p.expect("opaque")
	var o Opaque
	word := p.arg("kind")
	kind, ok := opaqueNames.num(word)
	if !ok {
		p.fail(fmt.Errorf("%q is no kind of what may decide about packets", word))
	}
	o.Kind = OpaqueKind(kind)
	named := false
	for {
		k, ok := p.key()
		if !ok {
			break
		}
		switch k {
		case "dev":
			o.Dev = p.arg(k)
		case "name", "unread":
			if named {
				p.failf("both name and unread")
			}
			o.Name, o.Unread, named = p.arg(k), k == "unread", true
		default:
			p.failf("no such key: %q", k)
		}
	}
	if p.err == nil && !named {
		p.failf("no name")
	}
	if err := p.end(); err != nil {
		return Opaque{}, err
	}
	return o, nil
}
