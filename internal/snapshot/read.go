package snapshot

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// Read reads what Write wrote; a file may as well be written by hand. It is safe to
// read a stranger's: what is not well formed, or larger than a snapshot may be (256
// MiB, 4 million lines and next hops, 1 MiB a line, 16 MiB of nftables), is an
// *Error with the line; so is a file that was cut off. The worst that can be made
// within these limits takes less than 4 GiB of memory.
//
// No name in what Read returns holds a control character, so that all of them may be
// printed; the bytes of Unknown fields may be any. Nothing else is promised of a
// stranger's snapshot: links may come twice or be missing, rules stand in any order.
func Read(r io.Reader) (*Snapshot, error) { return read(r, fileLimits) }

func read(from io.Reader, max limits) (*Snapshot, error) {
	text, err := load(from, max)
	if err != nil {
		return nil, err
	}
	r := reader{used: usage{max: max}, owned: map[spec.Ref]bool{}, keys: map[string]bool{}}
	// A list that grows takes three times as much memory, and these may be long.
	room := func(kind string) int { return min(strings.Count(text, "\n"+kind+" "), max.lines) }
	st := &r.s.State
	st.Links, st.Addrs = make([]netstate.Link, 0, room("link")), make([]netstate.Addr, 0, room("addr"))
	st.Rules, st.Routes = make([]netstate.Rule, 0, room("rule")), make([]netstate.Route, 0, room("route"))
	for n := 1; text != ""; n++ {
		line, rest, _ := strings.Cut(text, "\n")
		line = strings.TrimSpace(line)
		err := r.used.add(line)
		if err == nil {
			err = r.line(n, line)
		}
		if err != nil {
			return nil, &Error{Line: n, Err: err}
		}
		text, r.last = rest, n
	}
	if !r.ended {
		return nil, &Error{Line: r.last + 1, Err: errors.New("the snapshot is cut off: its last line, end, is missing")}
	}
	return &r.s, nil
}

// load reads the file. What is no snapshot is told from its first bytes.
func load(from io.Reader, max limits) (string, error) {
	head := make([]byte, len(magic))
	switch _, err := io.ReadFull(from, head); {
	case err == nil && string(head) == magic:
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "", &Error{Line: 1, Err: fmt.Errorf("this is no snapshot, which begins with %q", magic+version)}
	default:
		return "", fmt.Errorf("read the snapshot: %w", err)
	}
	var b strings.Builder
	b.Write(head)
	if _, err := io.Copy(&b, io.LimitReader(from, int64(max.size-len(head)+1))); err != nil {
		return "", fmt.Errorf("read the snapshot: %w", err)
	}
	if b.Len() > max.size {
		return "", &Error{Line: strings.Count(b.String(), "\n") + 1, Err: errSize(max)}
	}
	return b.String(), nil
}

// reader takes in lines.
type reader struct {
	s     Snapshot
	used  usage
	owned map[spec.Ref]bool
	keys  map[string]bool // of sysctls
	last  int
	ended bool
}

func (r *reader) line(n int, line string) error {
	if n == 1 {
		if v := strings.TrimPrefix(line, strings.TrimSpace(magic)); strings.TrimSpace(v) != version {
			return fmt.Errorf("its version is%.40s, and this viarule reads version %s: use the viarule that wrote it, or a newer one", v, version)
		}
		return nil
	}
	if line == "" || line[0] == '#' {
		return nil
	}
	if r.ended {
		return errors.New("there is something behind the line that says end")
	}
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "link", "addr", "rule", "route", "nexthop", "nft", "forward":
		return r.s.State.ParseLine(line)
	case "sysctl":
		s, err := netstate.ParseSysctl(line)
		if err == nil && r.keys[s.Key] {
			err = fmt.Errorf("%s comes twice", s.Key)
		}
		r.keys[s.Key] = true
		r.s.Sysctls = append(r.s.Sysctls, s)
		return err
	case "opaque":
		o, err := netstate.ParseOpaque(line)
		r.s.Opaque = append(r.s.Opaque, o)
		return err
	case holdsLine:
		return r.holds(rest)
	}
	words, err := netstate.SplitWords(line)
	if err != nil {
		return err
	}
	switch {
	case kind == kernelLine && len(words) == 2 && r.s.Kernel == "":
		r.s.Kernel = words[1]
		return nil
	case kind == foreignLine && len(words) > 1:
		return r.foreign(words[1], words[2:])
	case kind == tableLine && len(words) == 3:
		return r.table(words[1], words[2])
	case kind == objectLine && len(words) > 1:
		return r.object(words[1], words[2:])
	case kind == attachLine && len(words) == 6 && words[2] == "interface" && words[4] == "plugin":
		r.s.Owners = append(r.s.Owners, Owner{CNI: &Attachment{Network: words[1], Interface: words[3], Plugin: words[5]}})
		return nil
	case kind == endLine && len(words) == 1:
		r.ended = true
		return nil
	case kind == kernelLine, kind == foreignLine, kind == tableLine, kind == objectLine, kind == attachLine, kind == endLine:
		return fmt.Errorf("a line that begins with %s has not the words of this one, or comes once only", kind)
	}
	return fmt.Errorf("%q begins no line that this viarule knows: use the viarule that wrote it, or a newer one", kind)
}

func (r *reader) foreign(kind string, names []string) error {
	around := &r.s.Surroundings
	switch {
	case kind == "nft" && len(names) == 2:
		around.Chains = append(around.Chains, netstate.NftName{Family: names[0], Table: names[1]})
	case kind == "nft" && len(names) == 3:
		around.Chains = append(around.Chains, netstate.NftName{Family: names[0], Table: names[1], Chain: names[2]})
	case kind == "iptables" && len(names) == 1:
		around.Legacy = append(around.Legacy, names[0])
	case kind == "iptables-forward" && len(names) >= 2:
		l, err := legacyForward(names)
		around.LegacyForward = append(around.LegacyForward, l)
		return err
	case kind == "ipvs" && len(names) == 0:
		around.IPVS = true
	default:
		return errors.New("what follows foreign is nft FAMILY TABLE [CHAIN], iptables TABLE, iptables-forward FAMILY POLICY, or ipvs")
	}
	return nil
}

func legacyForward(words []string) (l netstate.LegacyForward, err error) {
	bad := fmt.Errorf("%q is not FAMILY accept|drop|unread, and in or out with a PATTERN as often as need be", words)
	switch words[0] {
	case netstate.IPv4.String():
		l.Family = netstate.IPv4
	case netstate.IPv6.String():
		l.Family = netstate.IPv6
	default:
		return l, bad
	}
	switch words[1] {
	case "accept", "drop":
		l.Known, l.Drop = true, words[1] == "drop"
	case "unread":
	default:
		return l, bad
	}
	for rest := words[2:]; len(rest) > 0; rest = rest[2:] {
		switch {
		case len(rest) < 2:
			return l, bad
		case rest[0] == "in":
			l.In = append(l.In, rest[1])
		case rest[0] == "out":
			l.Out = append(l.Out, rest[1])
		default:
			return l, bad
		}
	}
	return l, nil
}

func (r *reader) table(number, name string) error {
	id, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return fmt.Errorf("%q is no number of a table", number)
	}
	if _, twice := r.s.Tables[uint32(id)]; twice {
		return fmt.Errorf("table %d comes twice", id)
	}
	if r.s.Tables == nil {
		r.s.Tables = map[uint32]string{}
	}
	r.s.Tables[uint32(id)] = name
	return nil
}

func (r *reader) object(name string, pairs []string) error {
	var o Owner
	var ok bool
	if o.Ref.Kind, o.Ref.Name, ok = strings.Cut(name, "/"); !ok || o.Ref.Kind == "" || o.Ref.Name == "" {
		return fmt.Errorf("%q is not KIND/NAME", name)
	}
	if r.owned[o.Ref] {
		return fmt.Errorf("%s comes twice", o.Ref)
	}
	r.owned[o.Ref] = true
	for len(pairs) > 0 {
		switch {
		case pairs[0] == "nft" && !o.Nft:
			o.Nft, pairs = true, pairs[1:]
		case pairs[0] == "file" && len(pairs) > 1 && o.File == "" && pairs[1] != "":
			o.File, pairs = pairs[1], pairs[2:]
		case pairs[0] == "line" && len(pairs) > 1 && o.Line == 0:
			n, err := strconv.ParseUint(pairs[1], 10, 31)
			if err != nil || n == 0 {
				return fmt.Errorf("%q is no number of a line", pairs[1])
			}
			o.Line, pairs = int(n), pairs[2:]
		default:
			return errors.New("what follows an object is file NAME, line NUMBER and nft, each once")
		}
	}
	r.s.Owners = append(r.s.Owners, o)
	return nil
}

// holds reads what stands for the object or attachment that was named last.
func (r *reader) holds(text string) error {
	if len(r.s.Owners) == 0 {
		return errors.New("no object or attachment stands before")
	}
	o := &r.s.Owners[len(r.s.Owners)-1]
	kind, rest, _ := strings.Cut(text, " ")
	switch kind {
	case "rule":
		rule, err := netstate.ParseRule(text)
		o.Rules = append(o.Rules, rule)
		return err
	case "route":
		key, err := netstate.ParseRouteKey(rest)
		o.Routes = append(o.Routes, key)
		return err
	case "link", "sysctl":
		words, err := netstate.SplitWords(rest)
		if err != nil {
			return err
		}
		if len(words) != 1 {
			return fmt.Errorf("what follows holds %s is one name", kind)
		}
		if kind == "link" {
			o.Links = append(o.Links, words[0])
		} else {
			o.Sysctls = append(o.Sysctls, words[0])
		}
		return nil
	}
	return errors.New("what follows holds is rule, route, link or sysctl")
}
