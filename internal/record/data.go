package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

const (
	maxText   = 1 << 30 // bytes of one object's YAML
	maxStands = 1 << 26 // rules, and routes, of one object
	maxData   = 1 << 40 // bytes of a data file
	maxLine   = 64 << 10
)

// writeData writes the objects of one change into one data file: of each the
// text, then what stands for it, then a line with the counts. It fills in where
// in the file they are.
func writeData(path string, objects []Object, entries []entry) error {
	for i := range objects {
		if o := &objects[i]; len(o.Text) > maxText || len(o.Rules) > maxStands || len(o.Routes) > maxStands {
			return &Error{path, fmt.Errorf("%s is too large to be recorded", o.Ref), "divide it"}
		}
	}
	return writeNew(path, func(f *os.File) error {
		w := dataWriter{f: f, b: make([]byte, 0, dataChunk+maxLine)}
		for i := range objects {
			if err := w.object(&objects[i], &entries[i]); err != nil {
				return err
			}
		}
		return w.flush()
	})
}

// dataWriter collects lines, and writes them a chunk at a time.
type dataWriter struct {
	f       *os.File
	b       []byte
	written int64
}

const dataChunk = 256 << 10

func (w *dataWriter) flush() error {
	n, err := w.f.Write(w.b)
	w.written += int64(n)
	w.b = w.b[:0]
	return err
}

// line ends a line.
func (w *dataWriter) line() error {
	w.b = append(w.b, '\n')
	if len(w.b) < dataChunk {
		return nil
	}
	return w.flush()
}

func (w *dataWriter) at() int64 { return w.written + int64(len(w.b)) }

func (w *dataWriter) object(o *Object, e *entry) error {
	e.At = w.at()
	if w.b = append(w.b, o.Text...); len(w.b) >= dataChunk {
		if err := w.flush(); err != nil {
			return err
		}
	}
	start := w.at()
	for i := range o.Rules {
		var err error
		if w.b, err = o.Rules[i].AppendText(w.b); err != nil {
			return err
		}
		if err := w.line(); err != nil {
			return err
		}
	}
	for i := range o.Routes {
		w.b = appendRouteKey(w.b, &o.Routes[i])
		if err := w.line(); err != nil {
			return err
		}
	}
	w.b = fmt.Appendf(w.b, "end %d %d", len(o.Rules), len(o.Routes))
	err := w.line()
	e.Size = w.at() - start
	return err
}

// dataReader reads entries. It keeps the last file open, since the objects of one
// change share one. The zero value is ready; Close it.
type dataReader struct {
	ns   Namespace
	name string // of the open file
	path string
	file *os.File
	size int64
	in   *bufio.Reader
}

func (d *dataReader) Close() {
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
}

// open makes the file of e the current one.
func (d *dataReader) open(e *entry) (err error) {
	if d.file == nil || d.name != e.Data {
		d.Close()
		d.name, d.path = e.Data, filepath.Join(d.ns.Dir(), e.Data)
		if d.file, d.size, err = openRegular(d.path); err != nil {
			return err
		}
	}
	if need := e.At + e.Text + e.Size; d.size < need {
		return damaged(d.path, "it is cut off: it has %d bytes, and the index speaks of %d", d.size, need)
	}
	return nil
}

// text gives the object of an entry without what stands for it.
func (d *dataReader) text(e *entry) (Object, error) {
	if err := d.open(e); err != nil {
		return Object{}, err
	}
	o := Object{Ref: e.ref(), File: e.File, Line: e.Line, DeletionPolicy: e.Policy,
		Tables: e.Tables, Links: e.Links, LinkSysctls: e.LinkSysctls, Nft: e.Nft, Sysctls: sortedSysctls(e.Sysctls), Text: make([]byte, e.Text)}
	if _, err := d.file.ReadAt(o.Text, e.At); err != nil {
		return Object{}, damaged(d.path, "%w", err)
	}
	return o, nil
}

// whole gives the object of an entry with what stands for it.
func (d *dataReader) whole(e *entry) (Object, error) {
	o, err := d.text(e)
	if err != nil {
		return Object{}, err
	}
	// A damaged index must not make a large list.
	o.Rules = make([]netstate.Rule, 0, min(e.Rules, 1<<16))
	o.Routes = make([]netstate.RouteKey, 0, min(e.Routes, 1<<20))
	err = d.stands(e,
		func(r netstate.Rule) { o.Rules = append(o.Rules, r) },
		func(k netstate.RouteKey) { o.Routes = append(o.Routes, k) })
	return o, err
}

// stands reads what stands for an entry's object.
func (d *dataReader) stands(e *entry, rule func(netstate.Rule), route func(netstate.RouteKey)) error {
	if err := d.open(e); err != nil {
		return err
	}
	if d.in == nil {
		d.in = bufio.NewReaderSize(nil, maxLine)
	}
	d.in.Reset(io.NewSectionReader(d.file, e.At+e.Text, e.Size))
	if err := decodeStands(d.in, e.Rules, e.Routes, rule, route); err != nil {
		return damaged(d.path, "%w", err)
	}
	return nil
}

// decodeStands reads the lines behind the text of an object. It gives on no
// more rules and routes than the counts of the index say.
func decodeStands(in *bufio.Reader, rules, routes int, rule func(netstate.Rule), route func(netstate.RouteKey)) error {
	for done := 0; ; done++ {
		line, err := in.ReadSlice('\n')
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				return fmt.Errorf("line %d behind the text is too long", done+1)
			}
			if errors.Is(err, io.EOF) {
				return errors.New("it is cut off: its last line is missing")
			}
			return err
		}
		line = line[:len(line)-1]
		switch {
		case done < rules:
			r, err := netstate.ParseRule(string(line))
			if err != nil {
				return err
			}
			rule(r)
		case done < rules+routes:
			k, ok := parseRouteKey(line)
			if !ok {
				return fmt.Errorf("%.200q is no route", line)
			}
			route(k)
		case string(line) != fmt.Sprintf("end %d %d", rules, routes):
			return fmt.Errorf("its last line is %.200q, and the index says %d rules and %d routes", line, rules, routes)
		default:
			return nil
		}
	}
}

// appendRouteKey writes a key as netstate's text form writes the key of a route:
//
//	route -6 default from 2001:db8::/48 table 5000 metric 1024
func appendRouteKey(b []byte, k *netstate.RouteKey) []byte {
	b = append(b, "route "...)
	if k.Family == netstate.IPv6 {
		b = append(b, "-6 "...)
	}
	if k.To == k.Family.Default() {
		b = append(b, "default"...)
	} else {
		b = k.To.AppendTo(b)
	}
	if k.From.IsValid() {
		b = k.From.AppendTo(append(b, " from "...))
	}
	if k.TOS != 0 {
		b = strconv.AppendUint(append(b, " tos 0x"...), uint64(k.TOS), 16)
	}
	b = strconv.AppendUint(append(b, " table "...), uint64(k.Table), 10)
	if k.Metric != 0 {
		b = strconv.AppendUint(append(b, " metric "...), uint64(k.Metric), 10)
	}
	return b
}

// parseRouteKey reads what appendRouteKey writes. It has its own parser since a
// full one for routes takes several times as long, and there may be a million.
func parseRouteKey(line []byte) (k netstate.RouteKey, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("route "))
	if !ok {
		return k, false
	}
	k.Family = netstate.IPv4
	if after, six := bytes.CutPrefix(rest, []byte("-6 ")); six {
		k.Family, rest = netstate.IPv6, after
	}
	to, rest, _ := bytes.Cut(rest, []byte(" "))
	if string(to) == "default" {
		k.To = k.Family.Default()
	} else if k.To, ok = parsePrefix(to, k.Family); !ok {
		return k, false
	}
	table := false
	for len(rest) > 0 {
		var word, value []byte
		word, rest, _ = bytes.Cut(rest, []byte(" "))
		value, rest, _ = bytes.Cut(rest, []byte(" "))
		switch string(word) {
		case "from":
			k.From, ok = parsePrefix(value, k.Family)
		case "tos":
			var v uint64
			hex, _ := strings.CutPrefix(string(value), "0x")
			v, ok = parseNumber(hex, 16, math.MaxUint8)
			k.TOS = uint8(v)
		case "table":
			var v uint64
			v, ok = parseNumber(string(value), 10, math.MaxUint32)
			k.Table, table = uint32(v), true
		case "metric":
			var v uint64
			v, ok = parseNumber(string(value), 10, math.MaxUint32)
			k.Metric = uint32(v)
		default:
			ok = false
		}
		if !ok {
			return k, false
		}
	}
	return k, table
}

func parseNumber(s string, base int, limit uint64) (uint64, bool) {
	v, err := strconv.ParseUint(s, base, 64)
	return v, err == nil && v <= limit
}

func parsePrefix(b []byte, f netstate.Family) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(string(b))
	return p, err == nil && netstate.FamilyOf(p.Addr()) == f && p == p.Masked()
}
