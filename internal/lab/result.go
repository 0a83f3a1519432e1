package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Report is what the checks of a lab found.
type Report struct {
	Lab    string   `json:"lab"`
	Passed int      `json:"passed"`
	Failed int      `json:"failed"`
	Checks []Result `json:"checks"`
}

// Err is a ChecksError where a check did not pass.
func (r *Report) Err() error {
	if r.Failed == 0 {
		return nil
	}
	return &ChecksError{Failed: r.Failed, Of: len(r.Checks)}
}

func (r *Report) add(res Result) {
	r.Checks = append(r.Checks, res)
	if res.Passed {
		r.Passed++
	} else {
		r.Failed++
	}
}

// Result is what one check found.
type Result struct {
	Name    string `json:"name"`
	Objects bool   `json:"objects"` // whether the lab's objects were applied
	Passed  bool   `json:"passed"`
	// Request says who asked whom, in words.
	Request  string `json:"request"`
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	// Wrong lists where the two differ; empty when the check passed.
	Wrong []string `json:"wrong,omitempty"`

	Outcome Outcome  `json:"outcome"`
	SeenAs  string   `json:"seenAs,omitempty"`
	Enters  []string `json:"enters,omitempty"`       // host/link by which the request came in
	Leaves  []string `json:"answerLeaves,omitempty"` // host/link by which the answer went out
	Micros  int64    `json:"microseconds"`           // until the answer or refusal
}

// Text is the result as a person reads it: a line with the verdict, and below it
// what was asked and seen; what was expected only where it differs.
func (r *Result) Text() string {
	var b strings.Builder
	verdict := "pass"
	if !r.Passed {
		verdict = "FAIL"
	}
	fmt.Fprintf(&b, "%s  %s\n      %s: %s", verdict, r.Name, r.Request, r.Seen)
	if !r.Passed {
		fmt.Fprintf(&b, "\n      expected: %s", r.Expected)
		for _, w := range r.Wrong {
			fmt.Fprintf(&b, "\n      wrong: %s", w)
		}
	}
	return b.String()
}

// asked says in words what a check sends.
func (c *Check) asked() string {
	s := c.From
	if c.Source.IsValid() {
		s += " (" + c.Source.String() + ")"
	}
	s += " asks " + c.To.String()
	if c.Proto == ICMP {
		return s + " by icmp echo"
	}
	return fmt.Sprintf("%s, %s port %d", s, c.Proto, c.Port)
}

// expected says in words what a check wants.
func (c *Check) expected() string {
	parts := []string{map[Outcome]string{Answer: "an answer", Silence: "no answer", Refused: "a refusal"}[c.Expect]}
	if c.SeenAs.IsValid() {
		parts = append(parts, "the client seen as "+c.SeenAs.String())
	}
	if c.Enters.Link != "" {
		parts = append(parts, "the request in by "+c.Enters.String())
	}
	if c.Leaves.Link != "" {
		parts = append(parts, "the answer out by "+c.Leaves.String())
	}
	return strings.Join(parts, ", ")
}

// judge compares what a check wants with what was seen.
func (c *Check) judge(res *Result, re reply, enters, leaves []string, seenAs netip.Addr, related func(Place) []string) {
	res.Request, res.Expected = c.asked(), c.expected()
	res.Outcome, res.Enters, res.Leaves = re.outcome, enters, leaves
	var seen []string
	switch re.outcome {
	case Answer:
		res.Micros = re.took.Microseconds()
		seen = append(seen, fmt.Sprintf("answered after %.1f ms", float64(re.took.Microseconds())/1000))
	case Refused:
		res.Micros = re.took.Microseconds()
		seen = append(seen, "refused ("+re.detail+")")
	case Silence:
		seen = append(seen, "no answer in "+re.took.Round(100*time.Millisecond).String())
	}
	if c.Expect != re.outcome {
		res.Wrong = append(res.Wrong, seen[0])
	}
	if seenAs.IsValid() {
		res.SeenAs = seenAs.String()
		seen = append(seen, "seen as "+res.SeenAs)
	}
	switch {
	case !c.SeenAs.IsValid():
	case !seenAs.IsValid():
		res.Wrong = append(res.Wrong, "the request did not reach "+c.Server.Host)
	case seenAs != c.SeenAs:
		res.Wrong = append(res.Wrong, "the server saw "+seenAs.String())
	}
	if at := strings.Join(c.watched(), " and "); at != "" {
		seen = append(seen, wayText("request in by ", "no request came to "+at, enters), wayText("answer out by ", "no answer left "+at, leaves))
	}
	if c.Enters.Link != "" {
		res.Wrong = append(res.Wrong, compareWay("the request", "came in by", c.Enters, enters, related(c.Enters))...)
	}
	if c.Leaves.Link != "" {
		res.Wrong = append(res.Wrong, compareWay("the answer", "left by", c.Leaves, leaves, related(c.Leaves))...)
	}
	res.Seen = strings.Join(seen, ", ")
	res.Passed = len(res.Wrong) == 0
}

func wayText(some, none string, places []string) string {
	if len(places) == 0 {
		return none
	}
	return some + strings.Join(places, " and ")
}

// compareWay wants the packets at one link, and on the same host at no other one
// but those that the link is made of or a part of (a bridge's ports, a VLAN's
// parent).
func compareWay(what, verb string, want Place, saw, related []string) []string {
	found := false
	var wrong []string
	for _, p := range saw {
		host, _, _ := strings.Cut(p, "/")
		switch {
		case p == want.String():
			found = true
		case host == want.Host && !slices.Contains(related, p):
			wrong = append(wrong, fmt.Sprintf("%s %s %s", what, verb, p))
		}
	}
	if !found && len(wrong) == 0 {
		wrong = append(wrong, fmt.Sprintf("%s was not seen at %s", what, want))
	}
	return wrong
}
