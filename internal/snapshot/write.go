package snapshot

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// Write writes a snapshot in the form that the package comment describes, without
// what that says is not in. It fails where the snapshot is larger than Read takes,
// and where a name holds a character that cannot be printed; what was written then
// has no last line, and Read refuses it.
func Write(w io.Writer, s *Snapshot) error { return write(w, s, fileLimits) }

func write(to io.Writer, s *Snapshot, max limits) error {
	w := writer{to: to, used: usage{max: max}}
	w.line(append(w.start(), magic+version...))
	if s.Kernel != "" {
		w.line(netstate.AppendWord(append(w.start(), kernelLine+" "...), s.Kernel))
	}
	w.state(&s.State)
	heading(&w, len(s.Sysctls), "sysctls")
	objects(&w, s.Sysctls)
	heading(&w, len(s.Opaque), "what may decide about packets, and cannot be read")
	objects(&w, s.Opaque)
	w.surroundings(&s.Surroundings)
	heading(&w, len(s.Tables), "names of tables")
	for _, id := range slices.Sorted(maps.Keys(s.Tables)) {
		b := append(strconv.AppendUint(append(w.start(), tableLine+" "...), uint64(id), 10), ' ')
		w.line(netstate.AppendWord(b, s.Tables[id]))
	}
	heading(&w, len(s.Owners), "objects, each with what stands for it")
	for i := range s.Owners {
		w.owner(&s.Owners[i])
	}
	w.line(append(w.start(), endLine...))
	w.flush()
	return w.err
}

// writer writes lines, a chunk at a time. It keeps the first error and is harmless
// afterwards.
type writer struct {
	to    io.Writer
	used  usage
	b     []byte // lines that are still to be written, then the current one
	begin int    // of the current one
	err   error
}

const chunk = 256 << 10

// start begins a line: it is appended to what start returns, and given to line.
func (w *writer) start() []byte {
	w.begin = len(w.b)
	return w.b
}

// line ends the line that stands behind what start returned.
func (w *writer) line(b []byte) {
	w.b = append(b, '\n')
	if w.err != nil {
		w.b = w.b[:0]
		return
	}
	text := string(b[w.begin:])
	if err := w.used.add(text); err != nil {
		w.err = fmt.Errorf("write the snapshot: %s: %w", cut(strconv.QuoteToASCII(text)), err)
		return
	}
	if len(w.b) >= chunk {
		w.flush()
	}
}

func (w *writer) flush() {
	if w.err == nil {
		_, w.err = w.to.Write(w.b)
	}
	w.b = w.b[:0]
}

func heading(w *writer, count int, text string) {
	if count > 0 {
		w.line(append(w.start(), "# "+text...))
	}
}

// objects writes a list in the text form of its kind.
func objects[T interface {
	AppendText(b []byte) ([]byte, error)
}](w *writer, list []T) {
	for i := range list {
		b, err := list[i].AppendText(w.start())
		if err != nil && w.err == nil {
			w.err = err
		}
		w.line(b)
	}
}

func (w *writer) state(s *netstate.State) {
	heading(w, 1, "links, addresses, rules, routes, next hop objects, viarule's nftables")
	for _, l := range s.Links {
		l.Alias = alias(l.Alias)
		objects(w, []netstate.Link{l})
	}
	objects(w, s.Addrs)
	objects(w, s.Rules)
	objects(w, s.Routes)
	objects(w, s.Nexthops)
	nft, _ := netstate.State{Nft: s.Nft}.AppendText(nil) // never fails
	for line := range bytes.Lines(nft) {
		w.line(append(w.start(), bytes.TrimSuffix(line, []byte("\n"))...))
	}
	w.forward(s.Forward)
}

// forward writes the forward chains of others, without their comments.
func (w *writer) forward(chains []netstate.ForwardChain) {
	heading(w, len(chains), "forward chains of others, as far as they look at links")
	quiet := func(rules []netstate.ForwardRule) []netstate.ForwardRule {
		out := slices.Clone(rules)
		for i := range out {
			if out[i].Object() == "" {
				out[i].Comment = ""
			}
		}
		return out
	}
	for _, c := range chains {
		c.Rules, c.Subs = quiet(c.Rules), slices.Clone(c.Subs)
		for i := range c.Subs {
			c.Subs[i].Rules = quiet(c.Subs[i].Rules)
		}
		text, _ := netstate.State{Forward: []netstate.ForwardChain{c}}.AppendText(nil) // never fails
		for line := range bytes.Lines(text) {
			w.line(append(w.start(), bytes.TrimSuffix(line, []byte("\n"))...))
		}
	}
}

const (
	ownAlias = "viarule:"     // begins the aliases of links that viarule made
	podAlias = "viarule:ptp/" // of a pod's: the network, the container and its interface follow
)

// alias is what a snapshot says of an alias: nothing that people wrote, and no container.
func alias(s string) string {
	if pod, ok := strings.CutPrefix(s, podAlias); ok {
		network, _, _ := strings.Cut(pod, "/")
		return podAlias + network
	}
	if !strings.HasPrefix(s, ownAlias) {
		return ""
	}
	return s
}

func (w *writer) surroundings(s *netstate.Surroundings) {
	if len(s.Chains)+len(s.Legacy)+len(s.LegacyForward) > 0 || s.IPVS {
		heading(w, 1, "what others hold, by name")
	}
	foreign := func(kind string, names ...string) {
		b := append(append(w.start(), foreignLine+" "...), kind...)
		for _, n := range names {
			b = netstate.AppendWord(append(b, ' '), n)
		}
		w.line(b)
	}
	for _, c := range s.Chains {
		if c.Chain == "" {
			foreign("nft", c.Family, c.Table)
		} else {
			foreign("nft", c.Family, c.Table, c.Chain)
		}
	}
	for _, name := range s.Legacy {
		foreign("iptables", name)
	}
	for _, l := range s.LegacyForward {
		policy := "accept"
		switch {
		case !l.Known:
			policy = "unread"
		case l.Drop:
			policy = "drop"
		}
		words := []string{l.Family.String(), policy}
		for _, p := range l.In {
			words = append(words, "in", p)
		}
		for _, p := range l.Out {
			words = append(words, "out", p)
		}
		foreign("iptables-forward", words...)
	}
	if s.IPVS {
		foreign("ipvs")
	}
}

func (w *writer) owner(o *Owner) {
	if o.CNI != nil {
		w.attachment(o.CNI)
	} else {
		w.object(o)
	}
	holds := func() []byte { return append(w.start(), holdsLine+" "...) }
	for i := range o.Rules {
		b, _ := o.Rules[i].AppendText(holds()) // never fails
		w.line(b)
	}
	for i := range o.Routes {
		b, _ := o.Routes[i].AppendText(append(holds(), "route "...))
		w.line(b)
	}
	for _, name := range o.Links {
		w.line(netstate.AppendWord(append(holds(), "link "...), name))
	}
	for _, key := range o.Sysctls {
		w.line(netstate.AppendWord(append(holds(), "sysctl "...), key))
	}
}

func (w *writer) attachment(a *Attachment) {
	b := netstate.AppendWord(append(w.start(), attachLine+" "...), a.Network)
	b = netstate.AppendWord(append(b, " interface "...), a.Interface)
	w.line(netstate.AppendWord(append(b, " plugin "...), a.Plugin))
}

func (w *writer) object(o *Owner) {
	b := netstate.AppendWord(append(w.start(), objectLine+" "...), o.Ref.String())
	if o.File != "" {
		b = netstate.AppendWord(append(b, " file "...), path.Base(o.File))
	}
	if o.Line != 0 {
		b = strconv.AppendInt(append(b, " line "...), int64(o.Line), 10)
	}
	if o.Nft {
		b = append(b, " nft"...)
	}
	w.line(b)
}
