package explain

import (
	"fmt"
	"strings"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/spec"
)

// Expect says whether an expectation holds; why is empty where it does, and else what
// was expected and what would become of the packet instead.
func (e *Explainer) Expect(x *spec.Expectation) (why string) {
	p := sim.Packet{Flow: fib.Flow{
		From: x.From, To: x.To, IIF: x.IIF, Mark: x.Mark, TOS: x.TOS, Proto: x.Proto, SPort: x.SPort, DPort: x.DPort, UID: x.UID,
	}}
	a, err := e.Explain(p, Options{})
	if err != nil {
		return err.Error()
	}
	if meets(x, a) {
		return ""
	}
	return "expected " + expected(x) + ", but it is " + a.Summary
}

func meets(x *spec.Expectation, a *Answer) bool {
	if x.Verdict != "" && strings.ToLower(string(x.Verdict)) != a.Verdict {
		return false
	}
	if x.Leaves == (spec.Leaves{}) && !x.Source.IsValid() {
		return true
	}
	if a.Verdict != "forwarded" && a.Verdict != "sent" && (a.Verdict != "delivered" || x.Leaves != spec.Leaves{}) {
		return false
	}
	ways := a.Ways
	if len(ways) == 0 {
		ways = []Way{{OIF: a.OIF, Via: a.Via, Source: a.Source}}
	}
	for _, w := range ways {
		if x.Leaves.Dev != "" && x.Leaves.Dev != w.OIF || x.Leaves.Via.IsValid() && x.Leaves.Via.String() != w.Via || x.Source.IsValid() && x.Source.String() != w.Source {
			return false
		}
	}
	return true
}

// expected says in words what is expected.
func expected(x *spec.Expectation) string {
	s := strings.ToLower(string(x.Verdict))
	if s == "" {
		s = "to leave"
	}
	if x.Leaves.Dev != "" {
		s += " by " + x.Leaves.Dev
	}
	if x.Leaves.Via.IsValid() {
		s += " via " + x.Leaves.Via.String()
	}
	if x.Source.IsValid() {
		s += " from " + x.Source.String()
	}
	return fmt.Sprintf("%s → %s %s", sourceText(x), x.To, s)
}

func sourceText(x *spec.Expectation) string {
	if x.From.IsValid() {
		return x.From.String()
	}
	return "what is made here"
}
