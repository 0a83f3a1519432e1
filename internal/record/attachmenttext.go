package record

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/netstate"
)

// The file of the attachments is JSON, written and read key by key: a CNI program has no
// time for reflection.
//
//	{"version":1,"netns":{"path":"/run/netns/x","dev":4,"inode":4026531840},
//	 "attachments":[{"plugin":"viarule-sbr","network":"n","container":"c","interface":"net1",
//	  "tables":[5000],"vrf":"red","steps":[{"do":"+ rule ...","undo":"- rule ..."}]}]}

func (a *Attachments) encode() []byte {
	b := make([]byte, 0, 2048)
	b = strconv.AppendInt(append(b, `{"version":`...), attachments, 10)
	b = jsontext.AppendString(append(b, `,"netns":{"path":`...), a.Netns.Path)
	b = strconv.AppendUint(append(b, `,"dev":`...), a.Netns.Dev, 10)
	b = strconv.AppendUint(append(b, `,"inode":`...), a.Netns.Inode, 10)
	b = append(b, `},"attachments":[`...)
	for i := range a.List {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.List[i].append(b)
	}
	return append(b, "]}"...)
}

func (x *Attachment) append(b []byte) []byte {
	if x.text != nil {
		return append(b, x.text...)
	}
	b = jsontext.AppendString(append(b, `{"plugin":`...), x.Plugin)
	b = jsontext.AppendString(append(b, `,"network":`...), x.Network)
	b = jsontext.AppendString(append(b, `,"container":`...), x.Container)
	b = jsontext.AppendString(append(b, `,"interface":`...), x.Interface)
	for i, t := range x.Tables {
		if i == 0 {
			b = append(b, `,"tables":[`...)
		} else {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(t), 10)
	}
	if len(x.Tables) > 0 {
		b = append(b, ']')
	}
	if x.VRF != "" {
		b = jsontext.AppendString(append(b, `,"vrf":`...), x.VRF)
	}
	b = append(b, `,"steps":[`...)
	for i := range x.Steps {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsontext.AppendString(append(b, `{"do":`...), x.Steps[i].Do.String())
		b = jsontext.AppendString(append(b, `,"undo":`...), x.Steps[i].Undo.String())
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// textReader keeps the first thing that is wrong. Unknown keys are a later version's, and
// passed over.
type textReader struct{ err error }

func (r *textReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *textReader) is(v jsontext.Value, what string, want jsontext.Kind) bool {
	if k := v.Kind(); k != want {
		r.fail("%s is %s, not %s", what, k, want)
	}
	return r.err == nil
}

// each shows the values of a list or an object until something is wrong.
func (r *textReader) each(v jsontext.Value, what string, want jsontext.Kind, f func(key string, v jsontext.Value)) {
	if r.is(v, what, want) {
		v.Each(func(key string, v jsontext.Value) bool {
			f(key, v)
			return r.err == nil
		})
	}
}

func (r *textReader) text(v jsontext.Value, what string) string {
	if !r.is(v, what, jsontext.String) {
		return ""
	}
	return v.Text()
}

func (r *textReader) uint(v jsontext.Value, what string, bits int) uint64 {
	n, err := strconv.ParseUint(string(v), 10, bits)
	if err != nil {
		r.fail("%s is %.40q, not a number", what, string(v))
	}
	return n
}

func decodeAttachments(data []byte) (*Attachments, error) {
	v, err := jsontext.Parse(data)
	if err != nil {
		return nil, err
	}
	var (
		r       textReader
		a       Attachments
		version uint64
		list    bool
	)
	r.each(v, "the file", jsontext.Object, func(key string, v jsontext.Value) {
		switch key {
		case "version":
			version = r.uint(v, key, 64)
		case "netns":
			a.Netns = r.netns(v)
		case "attachments":
			list, a.List = true, nil
			r.each(v, key, jsontext.List, func(_ string, v jsontext.Value) { a.List = append(a.List, r.head(v)) })
		}
	})
	switch {
	case r.err == nil && version != attachments:
		return nil, fmt.Errorf("%w: it is %d, and this viarule knows %d", errVersion, version, attachments)
	case r.err == nil && !list:
		r.err = errors.New("the list of attachments is missing")
	}
	return &a, r.err
}

func (r *textReader) netns(v jsontext.Value) (n Netns) {
	r.each(v, "netns", jsontext.Object, func(key string, v jsontext.Value) {
		switch key {
		case "path":
			n.Path = r.text(v, key)
		case "dev":
			n.Dev = r.uint(v, key, 64)
		case "inode":
			n.Inode = r.uint(v, key, 64)
		}
	})
	return n
}

// head reads an attachment without its steps.
func (r *textReader) head(v jsontext.Value) (x Attachment) {
	x.text = v
	r.each(v, "an attachment", jsontext.Object, func(key string, v jsontext.Value) {
		switch key {
		case "plugin":
			x.Plugin = r.text(v, key)
		case "network":
			x.Network = r.text(v, key)
		case "container":
			x.Container = r.text(v, key)
		case "interface":
			x.Interface = r.text(v, key)
		case "vrf":
			x.VRF = r.text(v, key)
		case "tables":
			x.Tables = nil
			r.each(v, key, jsontext.List, func(_ string, v jsontext.Value) {
				x.Tables = append(x.Tables, uint32(r.uint(v, "a table", 32)))
			})
		case "steps":
			r.is(v, key, jsontext.List)
		}
	})
	return x
}

// readSteps reads the steps of an attachment of which there is only the head.
func (x *Attachment) readSteps() error {
	var r textReader
	x.Steps = nil
	r.each(x.text, "an attachment", jsontext.Object, func(key string, v jsontext.Value) {
		if key == "steps" {
			x.Steps = []Step{}
			r.each(v, key, jsontext.List, func(_ string, v jsontext.Value) { x.Steps = append(x.Steps, r.step(v)) })
		}
	})
	x.text = nil
	return r.err
}

func (r *textReader) step(v jsontext.Value) (s Step) {
	var do, undo string
	r.each(v, "a step", jsontext.Object, func(key string, v jsontext.Value) {
		switch key {
		case "do":
			do = r.text(v, key)
		case "undo":
			undo = r.text(v, key)
		}
	})
	if r.err != nil {
		return s
	}
	if s.Do, r.err = netstate.ParseChange(do); r.err != nil {
		return s
	}
	if s.Undo, r.err = netstate.ParseChange(undo); r.err != nil {
		return s
	}
	if kind := kindOf(&s.Do); kind == 0 || kind != kindOf(&s.Undo) {
		r.fail("%q does not undo %q", undo, do)
	}
	return s
}
