package explain

import (
	"fmt"
	"io"
	"strings"
)

// WriteText prints an answer for a person: the packet, what was looked at, and the
// closing sentence. With color, what decides is bold and what drops is red. Names
// play no tricks on a terminal.
func WriteText(w io.Writer, a *Answer, color bool) error {
	b := &strings.Builder{}
	writeAnswer(b, a, color)
	if a.Reply != nil {
		b.WriteString("\nthe answer: ")
		writeAnswer(b, a.Reply, color)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeAnswer(b *strings.Builder, a *Answer, color bool) {
	paint := func(code, s string) string {
		if !color {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	if a.Packet != "" {
		fmt.Fprintln(b, Printable(a.Packet))
	}
	hook := ""
	for i := range a.Steps {
		s := &a.Steps[i]
		if s.Hook != hook {
			hook = s.Hook
			fmt.Fprintf(b, "  %s\n", hook)
		}
		line := "    " + Printable(s.Object+": "+s.Result)
		if s.Decides {
			line = paint("1", "  > "+line[4:])
		}
		fmt.Fprintln(b, line)
	}
	if len(a.Filters) > 0 {
		fmt.Fprintln(b, "  may still filter, translate or mark it (not looked at):", Printable(strings.Join(a.Filters, ", ")))
	}
	if a.Packet == "" {
		fmt.Fprintln(b, Printable(a.Summary))
		return
	}
	code := "32"
	switch a.Verdict {
	case "dropped":
		code = "31"
	case "unknown":
		code = "33"
	}
	fmt.Fprintln(b, paint(code, a.Verdict)+Printable(strings.TrimPrefix(a.Summary, a.Verdict)))
	for _, n := range a.Notes {
		fmt.Fprintln(b, "note:", Printable(n))
	}
	if a.Cure != "" {
		fmt.Fprintln(b, "cure:", Printable(a.Cure))
	}
}
