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
	maxLine   = 64 << 10
)

// writeData writes a data file: the text, then what stands for the object, then
// a line with the counts, by which a cut file is known.
func writeData(path string, o *Object) error {
	if len(o.Text) > maxText || len(o.Rules) > maxStands || len(o.Routes) > maxStands {
		return &Error{path, fmt.Errorf("%s is too large to be recorded", o.Ref), "divide it"}
	}
	return writeNew(path, func(f *os.File) error {
		if _, err := f.Write(o.Text); err != nil {
			return err
		}
		const chunk = 256 << 10
		b := make([]byte, 0, chunk+maxLine)
		flush := func(least int) error {
			if len(b) < least {
				return nil
			}
			_, err := f.Write(b)
			b = b[:0]
			return err
		}
		for i := range o.Rules {
			var err error
			if b, err = o.Rules[i].AppendText(b); err != nil {
				return err
			}
			b = append(b, '\n')
			if err := flush(chunk); err != nil {
				return err
			}
		}
		for i := range o.Routes {
			b = append(appendRouteKey(b, &o.Routes[i]), '\n')
			if err := flush(chunk); err != nil {
				return err
			}
		}
		b = fmt.Appendf(b, "end %d %d\n", len(o.Rules), len(o.Routes))
		return flush(0)
	})
}

// readText gives the object of an entry without what stands for it.
func (n Namespace) readText(e *entry) (Object, error) {
	path := filepath.Join(n.Dir(), e.Data)
	f, size, err := openRegular(path)
	if err != nil {
		return Object{}, err
	}
	defer f.Close()
	if size < e.Text {
		return Object{}, damaged(path, "it is cut off: %d bytes, and the text alone has %d", size, e.Text)
	}
	o := Object{Ref: e.ref(), File: e.File, Line: e.Line, DeletionPolicy: e.Policy,
		Tables: e.Tables, Sysctls: sortedSysctls(e.Sysctls), Text: make([]byte, e.Text)}
	if _, err := io.ReadFull(f, o.Text); err != nil {
		return Object{}, damaged(path, "%w", err)
	}
	return o, nil
}

// readStands reads what stands for an entry's object.
func (n Namespace) readStands(e *entry, rule func(netstate.Rule), route func(netstate.RouteKey)) error {
	path := filepath.Join(n.Dir(), e.Data)
	f, size, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if size < e.Text {
		return damaged(path, "it is cut off: %d bytes, and the text alone has %d", size, e.Text)
	}
	if _, err := f.Seek(e.Text, io.SeekStart); err != nil {
		return &Error{path, err, ""}
	}
	if err := decodeStands(f, e.Rules, e.Routes, rule, route); err != nil {
		return damaged(path, "%w", err)
	}
	return nil
}

// decodeStands reads the lines behind the text of a data file. It gives on no
// more rules and routes than the counts of the index say.
func decodeStands(r io.Reader, rules, routes int, rule func(netstate.Rule), route func(netstate.RouteKey)) error {
	in := bufio.NewReaderSize(r, maxLine)
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
