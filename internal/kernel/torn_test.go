package kernel

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// scripted is a kernel that answers what a test says.
type scripted struct {
	t       *testing.T
	answer  func(n int, typ uint16, seq uint32) [][]byte // n counts the requests
	sent    int
	dials   int
	waiting [][]byte
}

func (s *scripted) send(b []byte) error {
	s.t.Helper()
	for len(b) > 0 {
		m, rest, err := nextMessage(b)
		if err != nil {
			s.t.Fatalf("request % x: %v", b, err)
		}
		s.waiting = append(s.waiting, s.answer(s.sent, m.typ, m.seq)...)
		s.sent++
		b = rest
	}
	return nil
}

func (s *scripted) receive(b []byte) (int, error) {
	if len(s.waiting) == 0 || s.waiting[0] == nil {
		s.waiting = nil
		return 0, ErrLostAnswers
	}
	if n := len(s.waiting[0]); n > len(b) {
		s.waiting = s.waiting[1:]
		return 0, &largeAnswer{n}
	}
	n := copy(b, s.waiting[0])
	s.waiting = s.waiting[1:]
	return n, nil
}

func (s *scripted) close() error {
	s.waiting = nil
	return nil
}

func (s *scripted) conn() *Conn {
	return &Conn{
		dial:  func() (transport, error) { s.dials++; return s, nil },
		batch: maxBatch, buf: make([]byte, 64<<10), probed: map[uint16]bool{},
	}
}

// answerTo makes one message of an answer.
func answerTo(seq uint32, typ, flags uint16, body []byte) []byte {
	b := startMessage(nil, typ, flags, seq)
	native.PutUint16(b[6:], flags)
	b = append(b, body...)
	endMessage(b, 0)
	return pad(b)
}

func ruleBody(t *testing.T, text string) []byte {
	r := netstatetest.ParseRule(t, text)
	b, err := appendRule(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func status(errno unix.Errno) []byte { return native.AppendUint32(nil, uint32(-int32(errno))) }

func (c *Conn) testRules(t *testing.T) (string, error) {
	t.Helper()
	list, _, err := c.dump(context.Background(), "rules", unix.RTM_GETRULE, unix.RTM_NEWRULE, make([]byte, ruleHeader))
	if err != nil {
		return "", err
	}
	var texts []string
	err = each(list, func(b []byte) error {
		var r netstate.Rule
		err := newDecoder().decodeRule(&r, b)
		texts = append(texts, r.String())
		return err
	})
	return strings.Join(texts, "; "), err
}

func TestDump(t *testing.T) {
	const one, two = "rule 1 from all table 1", "rule 2 from all table 2"
	r1, r2 := ruleBody(t, one), ruleBody(t, two)
	done := func(seq uint32, flags uint16) []byte { return answerTo(seq, unix.NLMSG_DONE, flags, status(0)) }
	good := func(seq uint32) [][]byte {
		return [][]byte{answerTo(seq, unix.RTM_NEWRULE, 0, r1), answerTo(seq, unix.RTM_NEWRULE, 0, r2), done(seq, 0)}
	}
	torn := func(seq uint32) [][]byte {
		return [][]byte{answerTo(seq, unix.RTM_NEWRULE, 0, r1), answerTo(seq, unix.RTM_NEWRULE, unix.NLM_F_DUMP_INTR, r2), done(seq, 0)}
	}
	for _, tt := range []struct {
		name   string
		answer func(n int, typ uint16, seq uint32) [][]byte
		want   string
		err    error
		sent   int
		dials  int
	}{
		{"a whole list", func(_ int, _ uint16, seq uint32) [][]byte { return good(seq) }, one + "; " + two, nil, 1, 1},
		{"a torn list is read again", func(n int, _ uint16, seq uint32) [][]byte {
			if n < 2 {
				return torn(seq)
			}
			return good(seq)
		}, one + "; " + two, nil, 3, 1},
		{"the mark may be on the end alone", func(n int, _ uint16, seq uint32) [][]byte {
			if n == 0 {
				return [][]byte{answerTo(seq, unix.RTM_NEWRULE, 0, r1), done(seq, unix.NLM_F_DUMP_INTR)}
			}
			return good(seq)
		}, one + "; " + two, nil, 2, 1},
		{"always torn is an error", func(_ int, _ uint16, seq uint32) [][]byte { return torn(seq) }, "", ErrTornDump, tornRetries, 1},
		{"an overrun is torn", func(n int, _ uint16, seq uint32) [][]byte {
			if n == 0 {
				return [][]byte{answerTo(seq, unix.NLMSG_OVERRUN, 0, nil), done(seq, 0)}
			}
			return good(seq)
		}, one + "; " + two, nil, 2, 1},
		{"a lost answer means a new socket", func(n int, _ uint16, seq uint32) [][]byte {
			if n == 0 {
				return [][]byte{answerTo(seq, unix.RTM_NEWRULE, 0, r1), nil}
			}
			return good(seq)
		}, one + "; " + two, nil, 2, 2},
		{"answers to something else are not ours", func(_ int, _ uint16, seq uint32) [][]byte {
			return append([][]byte{answerTo(seq+77, unix.RTM_NEWRULE, 0, r2), done(seq+77, 0)}, good(seq)...)
		}, one + "; " + two, nil, 1, 1},
		{"the kernel refuses at the end", func(_ int, _ uint16, seq uint32) [][]byte {
			return [][]byte{answerTo(seq, unix.NLMSG_DONE, 0, status(unix.EBUSY))}
		}, "", unix.EBUSY, 1, 1},
		{"the kernel refuses at once", func(_ int, _ uint16, seq uint32) [][]byte {
			return [][]byte{answerTo(seq, unix.NLMSG_ERROR, 0, append(status(unix.EOPNOTSUPP), make([]byte, messageHeader)...))}
		}, "", unix.EOPNOTSUPP, 1, 1},
		{"an answer that is cut short", func(_ int, _ uint16, seq uint32) [][]byte {
			return [][]byte{answerTo(seq, unix.RTM_NEWRULE, 0, r1)[:20]}
		}, "", errShort, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &scripted{t: t, answer: tt.answer}
			got, err := s.conn().testRules(t)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
			if s.sent != tt.sent || s.dials != tt.dials {
				t.Errorf("%d requests on %d sockets, want %d on %d", s.sent, s.dials, tt.sent, tt.dials)
			}
		})
	}
}

func TestApplyLostAnswers(t *testing.T) {
	r := netstatetest.ParseRule(t, "rule 1 from all table 1")
	changes := make([]netstate.Change, 4)
	for i := range changes {
		changes[i] = netstate.Change{Verb: netstate.Delete, Rule: &r}
	}
	s := &scripted{t: t, answer: func(n int, typ uint16, seq uint32) [][]byte {
		switch n {
		case 1:
			return [][]byte{answerTo(seq, unix.NLMSG_ERROR, 0, append(status(unix.ENOENT), make([]byte, messageHeader)...))}
		case 3:
			return [][]byte{nil} // the acknowledgement that does not come
		}
		return nil
	}}
	n, failed := s.conn().Apply(context.Background(), changes)
	if n != len(changes) || len(failed) != len(changes) {
		t.Fatalf("attempted %d, failed %v; want all of both", n, failed)
	}
	slices.SortFunc(failed, func(a, b *netstate.ChangeError) int { return a.Index - b.Index })
	for i, e := range failed {
		want := error(ErrLostAnswers)
		if i == 1 {
			want = unix.ENOENT
		}
		if e.Index != i || !errors.Is(e, want) {
			t.Errorf("failure %d: index %d, %v; want %v", i, e.Index, e, want)
		}
	}
}

func TestKernelsWords(t *testing.T) {
	request := make([]byte, messageHeader+20)
	native.PutUint32(request, uint32(len(request)))
	words := putString(nil, unix.NLMSGERR_ATTR_MSG, "Nexthop has invalid gateway")
	for _, tt := range []struct {
		name  string
		flags uint16
		body  []byte
		want  string
	}{
		{"with the request's header", unix.NLM_F_CAPPED | unix.NLM_F_ACK_TLVS, append(request[:messageHeader:messageHeader], words...), "Nexthop has invalid gateway"},
		{"with the whole request", unix.NLM_F_ACK_TLVS, append(request[:len(request):len(request)], words...), "Nexthop has invalid gateway"},
		{"none", unix.NLM_F_CAPPED, request[:messageHeader], ""},
		{"cut short", unix.NLM_F_CAPPED | unix.NLM_F_ACK_TLVS, append(request[:messageHeader:messageHeader], words[:9]...), ""},
		{"nothing but the errno", unix.NLM_F_ACK_TLVS, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := message{typ: unix.NLMSG_ERROR, flags: tt.flags, body: append(status(unix.EINVAL), tt.body...)}
			a, err := parseAnswer(m)
			if err != nil || a == nil || a.errno != unix.EINVAL || a.msg != tt.want {
				t.Errorf("got %v, %v; want EINVAL with %q", a, err, tt.want)
			}
		})
	}
}

// restless hears of a change the first n times that it is asked.
type restless struct{ n int }

func (r *restless) changed() (bool, error) { r.n--; return r.n >= 0, nil }

func (r *restless) close() error { return nil }

func TestSteady(t *testing.T) {
	for _, tt := range []struct {
		name    string
		parts   int
		changes int
		reads   int
		err     error
	}{
		{"nothing changes", 5, 0, 1, nil},
		{"two changes", 5, 2, 3, nil},
		{"one datagram is whole whatever happens", 1, 1000, 1, nil},
		{"it never holds still", 5, 1000, tornRetries, ErrTornDump},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &scripted{t: t, answer: func(_ int, typ uint16, seq uint32) [][]byte {
				return [][]byte{answerTo(seq, unix.NLMSG_ERROR, 0, append(status(0), make([]byte, messageHeader)...))}
			}}
			c := s.conn()
			c.watch = func(uint32) (watcher, error) { return &restless{n: tt.changes}, nil }
			reads := 0
			err := c.steady(context.Background(), "rules", ruleGroups, func() error {
				reads++
				c.parts = tt.parts
				return nil
			})
			if reads != tt.reads || !errors.Is(err, tt.err) {
				t.Errorf("%d reads, %v; want %d, %v", reads, err, tt.reads, tt.err)
			}
		})
	}
}

// TestLargeAnswers: what does not fit the buffer is asked for again with a larger one, and
// what is larger than any answer is an error.
func TestLargeAnswers(t *testing.T) {
	body := func(size int) []byte {
		return append(make([]byte, linkHeader), make([]byte, size-messageHeader-linkHeader)...)
	}
	for _, tt := range []struct {
		size  int
		dials int
		err   error
	}{
		{datagram, 1, nil}, {datagram + 4, 2, nil}, {maxDatagram, 2, nil}, {maxDatagram + 4, 1, unix.EMSGSIZE},
	} {
		for _, what := range []string{"a dump", "a question"} {
			s := &scripted{t: t, answer: func(_ int, _ uint16, seq uint32) [][]byte {
				end := uint16(unix.NLMSG_DONE)
				if what == "a question" {
					end = unix.NLMSG_ERROR
				}
				return [][]byte{answerTo(seq, unix.RTM_NEWLINK, 0, body(tt.size)), answerTo(seq, end, 0, status(0))}
			}}
			c := s.conn()
			var got int
			var err error
			if what == "a dump" {
				var list []byte
				list, _, err = c.dump(context.Background(), "links", unix.RTM_GETLINK, unix.RTM_NEWLINK, make([]byte, linkHeader))
				got = len(list)
			} else {
				var found []byte
				found, err = c.ask(context.Background(), unix.RTM_GETLINK, 0, make([]byte, linkHeader))
				got = len(found) + messageHeader
			}
			if !errors.Is(err, tt.err) || err == nil && got != tt.size || s.dials != tt.dials {
				t.Errorf("%s of %d bytes: %d bytes, %d sockets, %v; want %d sockets, %v", what, tt.size, got, s.dials, err, tt.dials, tt.err)
			}
		}
	}
}
