package netstate

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// String gives the table as `nft list table` would, but for spelling: it can be
// fed to `nft -f`.
func (t *NftTable) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.family(), t.Name)
	for i := range t.Maps {
		m := &t.Maps[i]
		fmt.Fprintf(&b, "\tmap %s {\n\t\t%s\n", m.Name, m.TypeText())
		if m.Family != 0 {
			b.WriteString("\t\tflags interval\n")
		}
		if len(m.Elems) > 0 {
			elems := make([]string, len(m.Elems))
			for j := range m.Elems {
				elems[j] = m.Elems[j].String()
			}
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(elems, ",\n\t\t             "))
		}
		b.WriteString("\t}\n")
	}
	for i := range t.Chains {
		c := &t.Chains[i]
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if h := c.Hook.String(); h != "" {
			fmt.Fprintf(&b, "\t\t%s\n", h)
		}
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// family is the table's, as nft says it.
func (t *NftTable) family() string {
	if t.Netdev {
		return nftNetdev
	}
	return "inet"
}

const nftNetdev = "netdev"

// TypeText is the type of the map in nft's notation; nothing for the zero map.
func (m *NftMap) TypeText() string {
	switch m.Family {
	case 0:
		if m.Name == "" {
			return ""
		}
	case IPv4:
		return "type ipv4_addr : verdict"
	case IPv6:
		return "type ipv6_addr : verdict"
	}
	return "type ifname : verdict"
}

// String gives the element in nft's notation.
func (e *NftElem) String() string {
	if e.Link != "" {
		return strconv.Quote(e.Link) + " : goto " + e.Chain
	}
	if e.First == e.Last {
		return e.First.String() + " : goto " + e.Chain
	}
	return e.First.String() + "-" + e.Last.String() + " : goto " + e.Chain
}

// String gives type, hook, priority and policy in nft's notation; nothing for a
// chain without a hook.
func (h NftHook) String() string {
	if h == (NftHook{}) {
		return ""
	}
	at := h.Hook
	if h.Device != "" {
		at += " device " + quoteLink(h.Device)
	}
	return fmt.Sprintf("type %s hook %s priority %s; policy accept;", h.Type, at, h.priorityText())
}

// priorityText gives a priority near a well-known one by its name, as nft does.
func (h NftHook) priorityText() string {
	for _, known := range [...]struct {
		at   int32
		name string
		hook string // the only one in which nft knows the name
	}{{NftMangle, "mangle", h.Hook}, {NftDstNAT, "dstnat", "prerouting"}, {NftFilter, "filter", h.Hook}, {NftSrcNAT, "srcnat", "postrouting"}} {
		switch by := h.Priority - known.at; {
		case h.Hook != known.hook:
		case by == 0:
			return known.name
		case 0 < by && by <= 10:
			return fmt.Sprintf("%s + %d", known.name, by)
		case -10 <= by && by < 0:
			return fmt.Sprintf("%s - %d", known.name, -by)
		}
	}
	return strconv.Itoa(int(h.Priority))
}

// String gives the rule in nft's notation.
func (r NftRule) String() string {
	words := make([]string, len(r))
	for i := range r {
		words[i] = r[i].String()
	}
	return strings.Join(words, " ")
}

// String gives the statement in nft's notation; of one that viarule does not know
// the kernel's name and its attributes.
func (s NftStmt) String() string {
	ip := "ip"
	if s.Family == IPv6 {
		ip = "ip6"
	}
	switch s.Op {
	case NftIIFName:
		return "iifname " + quoteLink(s.Link)
	case NftNotIIF:
		return "iifname != " + quoteLink(s.Link)
	case NftOIFName:
		return "oifname " + quoteLink(s.Link)
	case NftNotOIF:
		return "oifname != " + quoteLink(s.Link)
	case NftIIFPrefix:
		return "iifname " + strconv.Quote(s.Link+"*")
	case NftOIFPrefix:
		return "oifname " + strconv.Quote(s.Link+"*")
	case NftDAddrMap:
		return ip + " daddr vmap " + word("@"+s.Name)
	case NftSAddrMap:
		return ip + " saddr vmap " + word("@"+s.Name)
	case NftOrigMap:
		return "ct original " + ip + " daddr vmap " + word("@"+s.Name)
	case NftOriginal:
		return "ct direction original"
	case NftReply:
		return "ct direction reply"
	case NftIfCtMark:
		return s.compare("ct", "==")
	case NftIfNotCtMark:
		return s.compare("ct", "!=")
	case NftIfMark:
		return s.compare("meta", "==")
	case NftIfNotMark:
		return s.compare("meta", "!=")
	case NftSetCtMark:
		return s.set("ct")
	case NftSetMark:
		return s.set("meta")
	case NftFibMissing:
		fib := "fib saddr . mark . iif oif missing"
		switch s.Family {
		case IPv4:
			return "meta nfproto ipv4 " + fib
		case IPv6:
			return "meta nfproto ipv6 " + fib
		}
		return fib
	case NftMasquerade:
		return "masquerade"
	case NftJump:
		return "jump " + word(s.Name)
	case NftReturn:
		return "return"
	case NftDrop:
		return "drop"
	case NftIIFMap:
		return "iifname vmap " + word("@"+s.Name)
	case NftDAddr:
		if s.Prefix.Addr().Is6() {
			ip = "ip6"
		}
		return ip + " daddr " + s.Prefix.String()
	case NftSAddr:
		if s.Prefix.Addr().Is6() {
			ip = "ip6"
		}
		return ip + " saddr " + s.Prefix.Addr().String()
	case NftARPSAddr:
		return "arp saddr ip " + s.Prefix.Addr().String()
	case NftAccept:
		return "accept"
	case NftReject:
		return "reject"
	case NftGoto:
		return "goto " + word(s.Name)
	case NftCtState:
		return "ct state " + ctStateText(s.Mark.Mask)
	}
	name, attrs, _ := strings.Cut(s.Unknown, "\x00")
	return "unknown " + word(name) + " " + hex.EncodeToString([]byte(attrs)) + "."
}

// quoteLink quotes the whole name of a link. A * at its end would stand for any end,
// so nft wants it escaped.
func quoteLink(name string) string {
	if rest, ok := strings.CutSuffix(name, "*"); ok {
		name = rest + "\\*"
	}
	return strconv.Quote(name)
}

// word quotes a name that would not read back as one word: the kernel takes any.
func word(name string) string { return string(appendWord(nil, name)) }

func (s *NftStmt) compare(what, op string) string {
	return fmt.Sprintf("%s mark and %#x %s %#x", what, s.Mark.Mask, op, s.Mark.Value)
}

func (s *NftStmt) set(what string) string {
	return fmt.Sprintf("%s mark set %s mark and %#x or %#x", what, what, ^s.Mark.Mask, s.Mark.Value)
}

// nftLinks is what stands in the place of the family for a map of links.
const nftLinks = "ifname"

// appendLines writes the table as lines of a State's text: each begins with nft,
// and belongs to the table, map or chain that was named last.
func (t *NftTable) appendLines(b []byte) []byte {
	b = appendKeyWord(b, "nft table ", t.Name)
	if t.Netdev {
		b = append(b, " "+nftNetdev...)
	}
	b = append(b, '\n')
	if t.Unknown != "" {
		b = append(strconv.AppendQuote(append(b, "nft unknown "...), t.Unknown), '\n')
	}
	for i := range t.Maps {
		m := &t.Maps[i]
		b = append(appendKeyWord(b, "nft map ", m.Name), ' ')
		if m.Family == 0 {
			b = append(b, nftLinks...)
		} else {
			b = append(b, m.Family.String()...)
		}
		b = append(b, '\n')
		for j := range m.Elems {
			e := &m.Elems[j]
			if m.Family == 0 {
				b = append(appendKeyWord(appendKeyWord(b, "nft elem ", e.Link), " goto ", e.Chain), '\n')
				continue
			}
			b = e.Last.AppendTo(append(e.First.AppendTo(append(b, "nft elem "...)), '-'))
			b = append(appendKeyWord(b, " goto ", e.Chain), '\n')
		}
	}
	for i := range t.Chains {
		c := &t.Chains[i]
		b = appendKeyWord(b, "nft chain ", c.Name)
		if c.Hook != (NftHook{}) {
			b = appendKeyWord(appendKeyWord(b, " type ", c.Hook.Type), " hook ", c.Hook.Hook)
			if c.Hook.Device != "" {
				b = appendKeyWord(b, " device ", c.Hook.Device)
			}
			b = strconv.AppendInt(append(b, " priority "...), int64(c.Hook.Priority), 10)
		}
		b = append(b, '\n')
		for _, r := range c.Rules {
			b = append(append(append(b, "nft rule "...), r.String()...), '\n')
		}
	}
	return b
}

// nft reads one of the lines that appendLines writes.
func (p *parser) nft(s *State) {
	what := p.arg("nft")
	if what == "table" {
		s.Nft = append(s.Nft, NftTable{Name: p.arg(what), Netdev: p.accept(nftNetdev)})
		return
	}
	if len(s.Nft) == 0 {
		p.failf("no `nft table` stands before")
		return
	}
	t := &s.Nft[len(s.Nft)-1]
	switch what {
	case "unknown":
		t.Unknown = p.arg(what)
	case "map":
		m := NftMap{Name: p.arg(what), Family: IPv4}
		switch f := p.arg("family"); f {
		case IPv4.String():
		case IPv6.String():
			m.Family = IPv6
		case nftLinks:
			m.Family = 0
		default:
			p.failf("%q is no family", f)
		}
		t.Maps = append(t.Maps, m)
	case "elem":
		if len(t.Maps) == 0 {
			p.failf("no `nft map` stands before")
			return
		}
		m := &t.Maps[len(t.Maps)-1]
		if m.Family == 0 {
			e := NftElem{Link: p.arg(what)}
			p.expect("goto")
			e.Chain = p.arg("goto")
			m.Elems = append(m.Elems, e)
			return
		}
		first, last, _ := strings.Cut(p.arg(what), "-")
		e := NftElem{First: p.toAddr(what, first, m.Family), Last: p.toAddr(what, last, m.Family)}
		p.expect("goto")
		e.Chain = p.arg("goto")
		m.Elems = append(m.Elems, e)
	case "chain":
		t.Chains = append(t.Chains, p.nftChain())
	case "rule":
		if len(t.Chains) == 0 {
			p.failf("no `nft chain` stands before")
			return
		}
		c := &t.Chains[len(t.Chains)-1]
		c.Rules = append(c.Rules, p.nftRule())
	default:
		p.failf("%q is not table, map, elem, chain, rule or unknown", what)
	}
}

func (p *parser) nftChain() NftChain {
	c := NftChain{Name: p.arg("chain")}
	if p.accept("type") {
		c.Hook.Type = p.arg("type")
		p.expect("hook")
		c.Hook.Hook = p.arg("hook")
		if p.accept("device") {
			c.Hook.Device = p.arg("device")
		}
		p.expect("priority")
		n, err := strconv.ParseInt(p.arg("priority"), 10, 32)
		if err != nil && p.err == nil {
			p.failf("priority: %w", err)
		}
		c.Hook.Priority = int32(n)
	}
	return c
}

// nftRule reads statements to the end of the line.
func (p *parser) nftRule() NftRule {
	var r NftRule
	for p.err == nil {
		w, ok := p.next()
		if !ok {
			return r
		}
		r = append(r, p.nftStmt(w))
	}
	return r
}

func (p *parser) nftStmt(w string) NftStmt {
	switch w {
	case "iifname":
		if p.accept("vmap") {
			return NftStmt{Op: NftIIFMap, Name: p.nftMapName()}
		}
		return p.nftLink(w, NftIIFName, NftNotIIF, NftIIFPrefix)
	case "oifname":
		return p.nftLink(w, NftOIFName, NftNotOIF, NftOIFPrefix)
	case "ip", "ip6":
		return p.nftAddr(w)
	case "arp":
		p.expect("saddr")
		p.expect("ip")
		return NftStmt{Op: NftARPSAddr, Prefix: p.nftOne("arp saddr ip", IPv4)}
	case "ct":
		switch {
		case p.accept("state"):
			return NftStmt{Op: NftCtState, Mark: Mark{Mask: p.ctState()}}
		case p.accept("original"):
			ip := p.arg("original")
			p.expect("daddr")
			return p.nftMap(NftOrigMap, ip)
		case p.accept("direction"):
			if p.accept("original") {
				return NftStmt{Op: NftOriginal}
			}
			p.expect("reply")
			return NftStmt{Op: NftReply}
		}
		return p.nftMark(w, NftIfCtMark, NftIfNotCtMark, NftSetCtMark)
	case "meta":
		if p.accept("nfproto") {
			f := IPv4
			if !p.accept("ipv4") {
				p.expect("ipv6")
				f = IPv6
			}
			p.expect("fib")
			return p.nftFib(f)
		}
		return p.nftMark(w, NftIfMark, NftIfNotMark, NftSetMark)
	case "fib":
		return p.nftFib(0)
	case "masquerade":
		return NftStmt{Op: NftMasquerade}
	case "jump":
		return NftStmt{Op: NftJump, Name: p.arg(w)}
	case "return":
		return NftStmt{Op: NftReturn}
	case "drop":
		return NftStmt{Op: NftDrop}
	case "accept":
		return NftStmt{Op: NftAccept}
	case "reject":
		return NftStmt{Op: NftReject}
	case "goto":
		return NftStmt{Op: NftGoto, Name: p.arg(w)}
	case "unknown":
		name := p.arg(w)
		attrs, err := hex.DecodeString(strings.TrimSuffix(p.arg(w), "."))
		if err != nil && p.err == nil {
			p.failf("unknown: %w", err)
		}
		return NftStmt{Op: NftUnknown, Unknown: name + "\x00" + string(attrs)}
	}
	p.failf("%q begins no statement", w)
	return NftStmt{}
}

// nftLink reads a comparison with a link's name, behind which name it is of.
func (p *parser) nftLink(of string, equal, differs, begins NftOp) NftStmt {
	op := equal
	if p.accept("!=") {
		op = differs
	}
	name := p.arg(of)
	rest, star := strings.CutSuffix(name, "*")
	whole, escaped := strings.CutSuffix(rest, "\\")
	switch {
	case star && escaped:
		name = whole + "*"
	case star && op == differs:
		p.failf("%s != %q: not a whole name", of, name)
	case star:
		op, name = begins, rest
	}
	return NftStmt{Op: op, Link: name}
}

// nftMap reads `vmap @NAME`, behind the address that is looked up.
func (p *parser) nftMap(op NftOp, ip string) NftStmt {
	s := NftStmt{Op: op, Family: IPv4}
	if ip == "ip6" {
		s.Family = IPv6
	} else if ip != "ip" && p.err == nil {
		p.failf("%q is not ip or ip6", ip)
	}
	p.expect("vmap")
	s.Name = p.nftMapName()
	return s
}

func (p *parser) nftMapName() string {
	name, ok := strings.CutPrefix(p.arg("vmap"), "@")
	if !ok && p.err == nil {
		p.failf("a map begins with @")
	}
	return name
}

// nftAddr reads what stands behind `ip` or `ip6`.
func (p *parser) nftAddr(ip string) NftStmt {
	f := IPv4
	if ip == "ip6" {
		f = IPv6
	}
	if p.accept("saddr") {
		if p.accept("vmap") {
			return NftStmt{Op: NftSAddrMap, Family: f, Name: p.nftMapName()}
		}
		return NftStmt{Op: NftSAddr, Prefix: p.nftOne("saddr", f)}
	}
	p.expect("daddr")
	if p.accept("vmap") {
		return NftStmt{Op: NftDAddrMap, Family: f, Name: p.nftMapName()}
	}
	return NftStmt{Op: NftDAddr, Prefix: p.toPrefix("daddr", p.arg("daddr"), f)}
}

// nftOne reads one address.
func (p *parser) nftOne(what string, f Family) netip.Prefix {
	a := p.toAddr(what, p.arg(what), f)
	return netip.PrefixFrom(a, a.BitLen())
}

// nftMark reads `mark and MASK == VALUE` and the like, behind what it is a mark of.
func (p *parser) nftMark(of string, equal, differs, set NftOp) NftStmt {
	p.expect("mark")
	if p.accept("set") {
		p.expect(of)
		p.expect("mark")
		p.expect("and")
		keep := p.u32("and")
		p.expect("or")
		return NftStmt{Op: set, Mark: Mark{Value: p.u32("or"), Mask: ^keep}}
	}
	p.expect("and")
	s := NftStmt{Op: equal}
	s.Mark.Mask = p.u32("and")
	if p.accept("!=") {
		s.Op = differs
	} else {
		p.expect("==")
	}
	s.Mark.Value = p.u32("mark")
	return s
}

func (p *parser) nftFib(f Family) NftStmt {
	p.expect("saddr")
	for _, w := range [...]string{".", "mark", ".", "iif", "oif", "missing"} {
		p.expect(w)
	}
	return NftStmt{Op: NftFibMissing, Family: f}
}

// CanonicalNft sorts the parts of a table.
func CanonicalNft(t NftTable) NftTable {
	t.Maps, t.Chains = slices.Clone(t.Maps), slices.Clone(t.Chains)
	slices.SortFunc(t.Maps, func(a, b NftMap) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Chains, func(a, b NftChain) int { return strings.Compare(a.Name, b.Name) })
	for i := range t.Maps {
		m := &t.Maps[i]
		m.Elems = slices.Clone(m.Elems)
		slices.SortFunc(m.Elems, func(a, b NftElem) int { return cmp.Or(a.First.Compare(b.First), strings.Compare(a.Link, b.Link)) })
	}
	return t
}
