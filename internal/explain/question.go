package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// Question is the packet that is asked about, in the words of flags or of a line of
// --batch. An empty word is not given.
type Question struct {
	From, To, IIF, OIF, IPProto, SPort, DPort, ICMPType, FwMark, UID, TOS, TTL string
}

// keys are those of a line of --batch, in the order of Question's fields.
var keys = [...]string{"from", "to", "iif", "oif", "ipproto", "sport", "dport", "icmptype", "fwmark", "uid", "tos", "ttl"}

func (q *Question) words() [len(keys)]*string {
	return [...]*string{&q.From, &q.To, &q.IIF, &q.OIF, &q.IPProto, &q.SPort, &q.DPort, &q.ICMPType, &q.FwMark, &q.UID, &q.TOS, &q.TTL}
}

// ParseQuestion reads a line of --batch: one object, whose values are strings or numbers;
// null is as good as no key. A key that is not known is an error.
func ParseQuestion(line []byte) (*Question, error) {
	v, err := jsontext.Parse(line)
	if err == nil && v.Kind() != jsontext.Object {
		err = fmt.Errorf("it is %s", v.Kind())
	}
	if err != nil {
		return nil, notAPacket(err)
	}
	var q Question
	words := q.words()
	v.Each(func(key string, value jsontext.Value) bool {
		i := slices.Index(keys[:], key)
		switch kind := value.Kind(); {
		case i < 0:
			err = fmt.Errorf("unknown field %q", key)
		case kind == jsontext.String:
			*words[i] = value.Text()
		case kind == jsontext.Number:
			*words[i] = string(value)
		case kind != jsontext.Null:
			err = fmt.Errorf("%s: %s is neither a string nor a number", key, value)
		}
		return err == nil
	})
	if err != nil {
		return nil, notAPacket(err)
	}
	return &q, nil
}

func notAPacket(err error) error {
	return fmt.Errorf("not a packet in JSON, one a line: %w; the keys are %s", err, strings.Join(keys[:], ", "))
}

// Packet reads the words.
func (q *Question) Packet() (sim.Packet, error) {
	p := sim.Packet{Flow: fib.Flow{IIF: q.IIF, OIF: q.OIF}}
	var err error
	address := func(name string, w string) (a netip.Addr) {
		if w == "" || err != nil {
			return a
		}
		if a, err = netip.ParseAddr(w); err != nil {
			err = fmt.Errorf("%s: %q is not an address", name, w)
		}
		return a
	}
	num := func(name string, w string, bits int) uint64 {
		if w == "" || err != nil {
			return 0
		}
		n, bad := strconv.ParseUint(w, 0, bits)
		if bad != nil {
			err = fmt.Errorf("%s: %q is not a number from 0 to %d", name, w, uint64(1)<<bits-1)
		}
		return n
	}
	p.From, p.To = address("from", q.From), address("to", q.To)
	p.SPort, p.DPort = uint16(num("sport", q.SPort, 16)), uint16(num("dport", q.DPort, 16))
	p.Mark, p.UID, p.TOS = uint32(num("fwmark", q.FwMark, 32)), uint32(num("uid", q.UID, 32)), uint8(num("tos", q.TOS, 8))
	p.TTL = uint8(num("ttl", q.TTL, 8))
	num("icmp-type", q.ICMPType, 8) // checked; no rule and no route looks at it
	if q.IPProto != "" && err == nil {
		if p.Proto, err = netstate.ParseIPProto(q.IPProto); err != nil {
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
