package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// Bounds of a lab. They are far above what a person writes and far below what
// would hurt the machine.
const (
	maxFile    = 1 << 20 // bytes, of the lab file and of each file of objects
	maxHosts   = 64
	maxLinks   = 256
	maxAddrs   = 64 // of one link
	maxRoutes  = 4096
	maxRules   = 1024
	maxSysctls = 64
	maxObjects = 16
	maxFilter  = 64 // entries of one firewall list
	maxChecks  = 256

	minTimeout = 50 * time.Millisecond
	maxTimeout = 30 * time.Second
)

// apiVersion and kind of a lab file.
const (
	apiVersion = "viarule.io/v1alpha1"
	kindLab    = "Lab"
)

// Load reads a lab from a file ("-": standard input). What is wrong with the
// text is an InputError; a file that cannot be read is not.
func Load(name string) (*Lab, error) {
	text, dir, err := readLab(name)
	if err != nil {
		return nil, fmt.Errorf("read lab %s: %w", name, err)
	}
	if dir != nil {
		defer dir.Close()
	}
	return Parse(name, text, dir)
}

func readLab(name string) ([]byte, *os.Root, error) {
	if name == "-" {
		text, err := readBounded(os.Stdin)
		return text, nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	text, err := readBounded(f)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.OpenRoot(filepath.Dir(name))
	return text, dir, err
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return text, err
}

// Parse reads a lab from text and checks it. Files of objects are read from dir,
// and from nowhere else; nil: there are none. The error is an InputError.
func Parse(file string, text []byte, dir *os.Root) (*Lab, error) {
	r := &reader{file: file}
	l := &Lab{File: file}
	if doc := r.document(text); doc != nil {
		l.read(value{r: r, n: doc}, text, dir)
	}
	if len(r.problems) == 0 {
		l.validate(r)
	}
	if len(r.problems) > 0 {
		return nil, &InputError{r.problems}
	}
	return l, nil
}

// document gives the root of the only YAML document in text, or nil.
func (r *reader) document(text []byte) (root *yaml.Node) {
	at := value{r: r}
	if len(text) > maxFile {
		at.bad("", "it is larger than %d bytes", maxFile)
		return nil
	}
	// The YAML library has been known to panic on texts that are no YAML at all.
	defer func() {
		if p := recover(); p != nil {
			root = nil
			at.bad("", "this is not YAML")
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		at.bad("it begins with apiVersion: "+apiVersion, "the file is empty")
		return nil
	case err != nil:
		at.bad("", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	}
	if err := dec.Decode(&next); !errors.Is(err, io.EOF) {
		value{r: r, n: &next}.bad("write each lab into a file of its own", "a lab file holds one document")
		return nil
	}
	if n := findAlias(&doc); n != nil {
		value{r: r, n: n}.bad("write it out", "anchors and aliases are not taken in a lab file")
		return nil
	}
	return doc.Content[0]
}

func findAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return n
	}
	for _, c := range n.Content {
		if a := findAlias(c); a != nil {
			return a
		}
	}
	return nil
}

func (l *Lab) read(v value, text []byte, dir *os.Root) {
	top := v.fields("apiVersion", "kind", "metadata", "spec")
	v.need(top, "apiVersion", "kind", "metadata", "spec")
	if top["kind"].there() && top["kind"].text() != kindLab {
		top["kind"].bad("viarule lab reads kind: "+kindLab, "%s is no lab", quoted(top["kind"].text()))
		return
	}
	top["apiVersion"].oneOf("", apiVersion)
	meta := top["metadata"].fields("name")
	top["metadata"].need(meta, "name")
	l.Name = meta["name"].name(ValidName, "a lab's name has up to 32 lower case letters, digits and inner dashes")
	v.r.ref = spec.Ref{Kind: kindLab, Name: l.Name}

	s := top["spec"].fields("hosts", "links", "checks")
	top["spec"].need(s, "hosts")
	for _, h := range s["hosts"].list(maxHosts) {
		l.Hosts = append(l.Hosts, readHost(h, text, dir))
	}
	for _, k := range s["links"].list(maxLinks) {
		l.Links = append(l.Links, readLink(k))
	}
	for _, c := range s["checks"].list(maxChecks) {
		l.Checks = append(l.Checks, readCheck(c))
	}
}

const (
	hostRule = "a host's name has up to 20 lower case letters and digits and begins with a letter"
	linkRule = "a link's name has up to 15 letters, digits, dots, dashes and underscores, and is not lo, all or default"
)

func (v value) hostName() string { return v.name(hostName.MatchString, hostRule) }
func (v value) linkName() string { return v.name(validLink, linkRule) }

// anyLink reads the name of a link that is used, not made: lo is one.
func (v value) anyLink() string {
	return v.name(func(s string) bool { return s == loopback || validLink(s) }, linkRule)
}

func (v value) ifaceAddrs() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range v.list(maxAddrs) {
		out = append(out, a.ifaceAddr())
	}
	return out
}

func readHost(v value, text []byte, dir *os.Root) Host {
	f := v.fields("name", "forwarding", "sysctls", "addresses", "routes", "rules", "firewall", "objects")
	v.need(f, "name")
	h := Host{
		Name:       f["name"].hostName(),
		Forwarding: f["forwarding"].boolean(),
		Sysctls:    readSysctls(f["sysctls"]),
		Addresses:  f["addresses"].ifaceAddrs(),
		Firewall:   readFirewall(f["firewall"]),
		Pos:        pos(v.n),
	}
	for _, r := range f["routes"].list(maxRoutes) {
		h.Routes = append(h.Routes, readRoute(r))
	}
	for _, r := range f["rules"].list(maxRules) {
		if h.Rules = append(h.Rules, readRule(r)...); len(h.Rules) > maxRules {
			r.bad("", "the host has more than %d rules here, each from with each to", maxRules)
			break
		}
	}
	for _, o := range f["objects"].list(maxObjects) {
		if got, made, ok := readObjects(o, h.Name, text, dir); ok {
			h.Objects, h.Made = append(h.Objects, got), append(h.Made, made...)
		}
	}
	return h
}

func readSysctls(v value) []netstate.Sysctl {
	if !v.there() {
		return nil
	}
	if v.n.Kind != yaml.MappingNode {
		v.bad("write net/ipv4/conf/all/rp_filter: 1", "a mapping is wanted here, not %s", kindOf(v.n))
		return nil
	}
	if len(v.n.Content)/2 > maxSysctls {
		v.bad("", "%d sysctls are too many; the limit is %d", len(v.n.Content)/2, maxSysctls)
		return nil
	}
	var out []netstate.Sysctl
	seen := map[string]bool{}
	for i := 0; i+1 < len(v.n.Content); i += 2 {
		key := value{v.r, v.n.Content[i], v.path}
		val := value{v.r, v.n.Content[i+1], join(v.path, quoted(v.n.Content[i].Value))}
		k, s := key.text(), val.text()
		switch {
		case !sysctlKey.MatchString(k):
			key.bad("write it with slashes, as net/ipv4/conf/all/rp_filter", "%s is not a sysctl of net/", quoted(k))
		case seen[k]:
			key.bad("", "%s is here twice", k)
		case !sysctlValue.MatchString(s):
			val.bad("", "%s cannot be the value of a sysctl", quoted(s))
		default:
			out = append(out, netstate.Sysctl{Key: k, Value: s})
		}
		seen[k] = true
	}
	return out
}

func readFirewall(v value) Firewall {
	f := v.fields("forward", "masquerade", "dnat")
	var out Firewall
	if fw := f["forward"]; fw.there() {
		g := fw.fields("newFrom")
		fw.need(g, "newFrom")
		out.Forward = &Forward{}
		for _, n := range g["newFrom"].list(maxFilter) {
			out.Forward.NewFrom = append(out.Forward.NewFrom, n.anyLink())
		}
	}
	for _, n := range f["masquerade"].list(maxFilter) {
		out.Masquerade = append(out.Masquerade, n.anyLink())
	}
	for _, d := range f["dnat"].list(maxFilter) {
		g := d.fields("in", "to", "proto", "port", "toAddress", "toPort", "output", "masquerade")
		d.need(g, "to", "toAddress")
		n := DNAT{
			In: g["in"].anyLink(), To: g["to"].addr(), Proto: Proto(g["proto"].oneOf("", string(TCP), string(UDP))),
			Port: uint16(g["port"].number(1, 65535)), ToAddr: g["toAddress"].addr(), ToPort: uint16(g["toPort"].number(1, 65535)),
			Output: g["output"].boolean(), Masquerade: g["masquerade"].boolean(), Pos: pos(d.n),
		}
		switch {
		case n.Proto == "" && (n.Port != 0 || n.ToPort != 0):
			d.bad("add proto: tcp or proto: udp", "a port needs its protocol")
		case n.ToPort != 0 && n.Port == 0:
			d.bad("", "toPort needs port")
		case n.Output && n.In != "":
			d.bad("leave one of them out", "what the host itself sends comes in by no link")
		case n.To.IsValid() && n.ToAddr.IsValid() && n.To.Is4() != n.ToAddr.Is4():
			d.bad("", "%s and %s are of two families", n.To, n.ToAddr)
		}
		out.DNAT = append(out.DNAT, n)
	}
	return out
}
