package explain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// Question is the packet that is asked about, in the words of flags or of a line of
// --batch. An empty word is not given.
type Question struct {
	From     word `json:"from"`
	To       word `json:"to"`
	IIF      word `json:"iif"`
	OIF      word `json:"oif"`
	IPProto  word `json:"ipproto"`
	SPort    word `json:"sport"`
	DPort    word `json:"dport"`
	ICMPType word `json:"icmptype"`
	FwMark   word `json:"fwmark"`
	UID      word `json:"uid"`
	TOS      word `json:"tos"`
	TTL      word `json:"ttl"`
}

// word is a string or a number of JSON, as text.
type word string

// UnmarshalJSON takes a string, a number or null.
func (w *word) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) >= 2 && b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*w = word(s)
	case string(b) == "null":
	case b[0] == '-' || '0' <= b[0] && b[0] <= '9':
		*w = word(b)
	default:
		return fmt.Errorf("%s is neither a string nor a number", b)
	}
	return nil
}

// ParseQuestion reads a line of --batch. A key that is not known is an error.
func ParseQuestion(line []byte) (*Question, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var q Question
	if err := d.Decode(&q); err != nil {
		return nil, fmt.Errorf("not a packet in JSON: %w; the keys are from, to, iif, oif, ipproto, sport, dport, icmptype, fwmark, uid, tos, ttl", err)
	}
	if d.More() {
		return nil, fmt.Errorf("more than one packet in a line")
	}
	return &q, nil
}

// Packet reads the words.
func (q *Question) Packet() (sim.Packet, error) {
	p := sim.Packet{Flow: fib.Flow{IIF: string(q.IIF), OIF: string(q.OIF)}}
	var err error
	address := func(name string, w word) (a netip.Addr) {
		if w == "" || err != nil {
			return a
		}
		if a, err = netip.ParseAddr(string(w)); err != nil {
			err = fmt.Errorf("%s: %q is not an address", name, string(w))
		}
		return a
	}
	num := func(name string, w word, bits int) uint64 {
		if w == "" || err != nil {
			return 0
		}
		n, bad := strconv.ParseUint(string(w), 0, bits)
		if bad != nil {
			err = fmt.Errorf("%s: %q is not a number from 0 to %d", name, string(w), uint64(1)<<bits-1)
		}
		return n
	}
	p.From, p.To = address("from", q.From), address("to", q.To)
	p.SPort, p.DPort = uint16(num("sport", q.SPort, 16)), uint16(num("dport", q.DPort, 16))
	p.Mark, p.UID, p.TOS = uint32(num("fwmark", q.FwMark, 32)), uint32(num("uid", q.UID, 32)), uint8(num("tos", q.TOS, 8))
	p.TTL = uint8(num("ttl", q.TTL, 8))
	num("icmp-type", q.ICMPType, 8) // checked; no rule and no route looks at it
	if q.IPProto != "" && err == nil {
		if p.Proto, err = netstate.ParseIPProto(string(q.IPProto)); err != nil {
			err = fmt.Errorf("ipproto: %w", err)
		}
	}
	switch {
	case err != nil:
	case q.To == "":
		err = fmt.Errorf("to: no destination")
	case (p.SPort != 0 || p.DPort != 0) && !HasPorts(p.Proto):
		err = fmt.Errorf("a port without a protocol that has ports: say which ipproto (tcp, udp, sctp, dccp, udplite)")
	case q.ICMPType != "" && p.Proto != 1 && p.Proto != 58:
		err = fmt.Errorf("icmp-type: only icmp and ipv6-icmp have types: say which ipproto")
	}
	return p, err
}

// Ported are the protocols that have ports: tcp, udp, dccp, sctp, udplite.
var Ported = [...]uint8{6, 17, 33, 132, 136}

// HasPorts says whether a protocol has ports.
func HasPorts(proto uint8) bool { return slices.Contains(Ported[:], proto) }
