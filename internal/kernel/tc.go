package kernel

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h
const (
	tcHeader = 20 // struct tcmsg

	tcaKind    = 1
	tcaOptions = 2
	tcaChain   = 11
	tcaBPFName = 7
	tcaBPFID   = 11

	tcRoot     = 0xffffffff // TC_H_ROOT
	tcClsact   = 0xfffffff1 // TC_H_CLSACT, TC_H_INGRESS
	tcWayIn    = 0xfffffff2 // of clsact: TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	tcWayOut   = 0xfffffff3
	tcIsIn     = "ingress"
	tcIsOut    = "egress"
	tcPrefBits = 16 // tcm_info is the preference and the protocol
)

// plainQdiscs cannot have filters. They are what a link has by default, and asking
// each of a thousand would take long.
var plainQdiscs = []string{"noop", "noqueue", "pfifo_fast", "mq"}

// innerQdiscs are those whose classes can have filters of their own: all others
// have them at the qdisc only, or one list for both (tcf_block of their
// Qdisc_class_ops).
var innerQdiscs = []string{"htb", "hfsc", "cbq", "atm"}

// tcMessage is the common part of qdiscs, classes and filters.
type tcMessage struct {
	link                 int32
	handle, parent, info uint32
	attrs                attrList
}

func (m *tcMessage) kind() string { return m.attrs.text(tcaKind) }

// tcList asks for a list; of link 0 that is the list of all links.
func (l *opaqueList) tcList(what string, get, answer uint16, link int32, parent uint32) ([]tcMessage, error) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	body := make([]byte, tcHeader)
	native.PutUint32(body[4:], uint32(link))
	native.PutUint32(body[12:], parent)
	list, _, err := l.c.dump(l.ctx, what, get, answer, body)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []tcMessage
	err = each(list, func(b []byte) error {
		if len(b) < tcHeader {
			return errShort
		}
		attrs, err := parseAttrs(slices.Clone(b[tcHeader:])) // the list is one buffer for all
		out = append(out, tcMessage{
			link: int32(native.Uint32(b[4:])), handle: native.Uint32(b[8:]), parent: native.Uint32(b[12:]), info: native.Uint32(b[16:]),
			attrs: attrList(attrs),
		})
		return err
	})
	return out, err
}

// trafficControl lists the filters of every qdisc that can have some.
func (l *opaqueList) trafficControl() error {
	names := make(map[int32]string, len(l.links))
	for _, link := range l.links {
		names[link.index] = link.name
	}
	qdiscs, err := l.tcList("qdiscs", unix.RTM_GETQDISC, unix.RTM_NEWQDISC, 0, 0)
	if err != nil {
		return err
	}
	for i := range qdiscs {
		q := &qdiscs[i]
		dev, known := names[q.link]
		if !known || slices.Contains(plainQdiscs, q.kind()) {
			continue // its link came or went meanwhile
		}
		var places []uint32
		switch {
		case q.parent == tcClsact: // clsact and ingress; the latter has no way out
			places = []uint32{tcWayIn, tcWayOut}
			if q.kind() == "ingress" {
				places = places[:1]
			}
		case q.handle != 0:
			places = []uint32{q.handle}
		case q.parent == tcRoot:
			places = []uint32{0} // without a handle it can be asked for only so
		}
		if slices.Contains(innerQdiscs, q.kind()) {
			classes, err := l.tcList("classes", unix.RTM_GETTCLASS, unix.RTM_NEWTCLASS, q.link, q.handle)
			if err != nil {
				return err
			}
			for j := range classes {
				places = append(places, classes[j].handle)
			}
		}
		for _, place := range places {
			if err := l.filters(q.link, dev, place); err != nil {
				return err
			}
		}
	}
	return nil
}

// filters adds those of one place, by preference: filters of one preference are of
// one kind, and there may be thousands.
func (l *opaqueList) filters(link int32, dev string, place uint32) error {
	list, err := l.tcList("filters", unix.RTM_GETTFILTER, unix.RTM_NEWTFILTER, link, place)
	if err != nil {
		return err
	}
	end := tcIsOut
	if place == tcWayIn {
		end = tcIsIn
	}
	var names []string
	programs := map[string][]string{}
	for i := range list {
		f := &list[i]
		name := fmt.Sprintf("%s filter pref %d %s", end, f.info>>tcPrefBits, f.kind())
		if chain := native32(f.attrs.get(tcaChain)); chain != 0 {
			name = fmt.Sprintf("%s filter chain %d pref %d %s", end, chain, f.info>>tcPrefBits, f.kind())
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		if p := l.filterProgram(f); p != "" && !slices.Contains(programs[name], p) {
			programs[name] = append(programs[name], p)
		}
	}
	for _, name := range names {
		l.add(netstate.OpaqueTC, dev, "%s", strings.Join(append([]string{name}, programs[name]...), " "))
	}
	return nil
}

// filterProgram names the program of a BPF filter: as its loader did, else by its
// number. The kernel lists each preference once without what the filters hold.
func (l *opaqueList) filterProgram(f *tcMessage) string {
	if f.kind() != "bpf" {
		return ""
	}
	options := readAttrs(f.attrs.get(tcaOptions))
	if name := options.text(tcaBPFName); name != "" {
		return name
	}
	if id := native32(options.get(tcaBPFID)); id != 0 {
		return l.program(id)
	}
	return ""
}
