package explain

import (
	"strconv"

	"github.com/viarule/viarule/internal/jsontext"
)

// AppendJSON appends what encoding/json makes of the answer, and a new line. --batch
// writes a hundred thousand of them: by reflection that would take longer than to work
// them out.
func (a *Answer) AppendJSON(b []byte) []byte { return append(a.append(b), '\n') }

func (a *Answer) append(b []byte) []byte {
	b = jsontext.AppendString(append(b, `{"verdict":`...), a.Verdict)
	b = appendText(b, `,"reason":`, a.Reason)
	b = appendText(b, `,"cause":`, a.Cause)
	b = appendText(b, `,"table":`, a.Table)
	if a.Rule != nil {
		b = appendNumber(b, `,"rule":`, *a.Rule)
	}
	b = appendText(b, `,"route":`, a.Route)
	b = appendText(b, `,"oif":`, a.OIF)
	b = appendText(b, `,"via":`, a.Via)
	b = appendText(b, `,"source":`, a.Source)
	b = appendNumber(b, `,"fwmark":`, a.FwMark)
	if a.MTU != 0 {
		b = appendNumber(b, `,"mtu":`, a.MTU)
	}
	b = appendList(b, `,"ways":`, a.Ways, (*Way).append)
	b = appendText(b, `,"wantedBy":`, a.WantedBy)
	b = appendText(b, `,"sourceCheck":`, a.Check)
	b = appendText(b, `,"otherwise":`, a.Otherwise)
	b = appendText(b, `,"cure":`, a.Cure)
	b = appendList(b, `,"filters":`, a.Filters, appendWord)
	b = appendList(b, `,"notes":`, a.Notes, appendWord)
	b = jsontext.AppendString(append(b, `,"summary":`...), a.Summary)
	b = appendList(b, `,"steps":`, a.Steps, (*Step).append)
	if a.Reply != nil {
		b = a.Reply.append(append(b, `,"reply":`...))
	}
	b = appendText(b, `,"packet":`, a.Packet)
	return append(b, '}')
}

func (w *Way) append(b []byte) []byte {
	b = jsontext.AppendString(append(b, `{"oif":`...), w.OIF)
	b = appendText(b, `,"via":`, w.Via)
	b = appendText(b, `,"source":`, w.Source)
	return append(b, '}')
}

func (s *Step) append(b []byte) []byte {
	b = jsontext.AppendString(append(b, `{"hook":`...), s.Hook)
	b = jsontext.AppendString(append(b, `,"kind":`...), s.Kind)
	b = jsontext.AppendString(append(b, `,"object":`...), s.Object)
	b = jsontext.AppendString(append(b, `,"result":`...), s.Result)
	b = appendText(b, `,"outcome":`, s.Outcome)
	if s.Decides {
		b = append(b, `,"decides":true`...)
	}
	return append(b, '}')
}

// appendText appends a key with its colon, and a text; nothing where that is empty.
func appendText(b []byte, key, text string) []byte {
	if text == "" {
		return b
	}
	return jsontext.AppendString(append(b, key...), text)
}

func appendNumber(b []byte, key string, n uint32) []byte {
	return strconv.AppendUint(append(b, key...), uint64(n), 10)
}

func appendWord(s *string, b []byte) []byte { return jsontext.AppendString(b, *s) }

func appendList[T any](b []byte, key string, list []T, element func(*T, []byte) []byte) []byte {
	for i := range list {
		if i == 0 {
			b = append(append(b, key...), '[')
		} else {
			b = append(b, ',')
		}
		b = element(&list[i], b)
	}
	if len(list) > 0 {
		b = append(b, ']')
	}
	return b
}
