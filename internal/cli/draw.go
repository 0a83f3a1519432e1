package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/explain/page"
)

// drawings are the files that explain writes beside what it prints. Their names come
// from flags only.
type drawings struct {
	dot, html string // - is standard output; empty: none
	from      string // what the answer is made from, in words
}

func (d *drawings) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.dot, "dot", "", "draw rules, tables and the packet's way to a `file`, for Graphviz; - is standard output, and the answer is not printed")
	f.StringVar(&d.html, "html", "", "write the answer as a page to a `file`; - is standard output, and the answer is not printed")
	for flag, ends := range map[string][]string{"dot": {"dot", "gv"}, "html": {"html", "htm"}} {
		if err := c.MarkFlagFilename(flag, ends...); err != nil {
			panic(err) // no such flag: a mistake in the program
		}
	}
}

// check refuses what would leave one of them out; many says that several packets are
// asked about.
func (d *drawings) check(many bool) error {
	switch {
	case d.dot == "" && d.html == "":
	case many:
		return usageError{errors.New("--dot and --html are for one packet, not for --batch and --expect")}
	case d.dot == "-" && d.html == "-":
		return usageError{errors.New("--dot and --html cannot both go to standard output: name a file for one of them")}
	}
	return nil
}

// madeFrom says what answers are made from: a snapshot, or a namespace of this host.
func (a *app) madeFrom(snapshot string) string {
	switch {
	case snapshot == "-":
		return "a snapshot"
	case snapshot != "":
		return "the snapshot " + snapshot
	}
	from := "this host"
	if name, err := os.Hostname(); err == nil {
		from = name
	}
	if a.netns != "" {
		from += ", network namespace " + a.netns
	}
	return from
}

// draw writes the files that are asked for.
func (a *app) draw(e *explain.Explainer, answer *explain.Answer, d drawings) error {
	if d.dot != "" {
		if err := a.create(d.dot, func(w io.Writer) error { return e.WriteDot(w, answer) }); err != nil {
			return fmt.Errorf("--dot: %w", err)
		}
	}
	if d.html != "" {
		made := page.Made{By: "viarule " + version, From: d.from, At: time.Now().Format("2006-01-02 15:04:05 MST")}
		if err := a.create(d.html, func(w io.Writer) error { return page.Write(w, answer, made) }); err != nil {
			return fmt.Errorf("--html: %w", err)
		}
	}
	return nil
}

// create writes a file that the user named; - is standard output.
func (a *app) create(name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(a.out)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
