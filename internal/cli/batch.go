package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/viarule/viarule/internal/explain"
)

const (
	// maxLine bounds a line of --batch, in bytes.
	maxLine = 64 << 10
	// linesAtOnce is how many lines one worker takes: enough that handing them over
	// costs nothing, few enough that answers to a slow writer come soon.
	linesAtOnce = 64
	// usualAnswer is what an answer without steps takes, in bytes.
	usualAnswer = 512
)

// chunk is some lines of --batch on their way to answers.
type chunk struct {
	first int    // number of the first line
	lines []byte // whole ones
	out   []byte
	err   error
	done  chan struct{}
}

// explainBatch answers line by line, in order. A line that is wrong is told with its
// number, and ends the command: the answers before it have been written.
func (a *app) explainBatch(e *explain.Explainer, file string, opt explain.Options) error {
	r, closer, err := a.open(file)
	if err != nil {
		return err
	}
	defer closer()
	opt.Steps = a.verbose
	workers := runtime.GOMAXPROCS(0)
	work := make(chan *chunk)
	order := make(chan *chunk, 2*workers) // bounds what is under way
	for range workers {
		go func() {
			for c := range work {
				c.answer(e, file, opt)
				close(c.done)
			}
		}()
	}
	stop := make(chan struct{})
	go func() {
		defer close(order)
		defer close(work)
		split(r, file, func(c *chunk) bool {
			select {
			case order <- c:
			case <-stop:
				return false
			}
			if c.err != nil { // nothing to answer
				close(c.done)
				return false
			}
			work <- c
			return true
		})
	}()
	out := bufio.NewWriterSize(a.out, 64<<10)
	defer close(stop)
	for c := range order {
		<-c.done
		if _, err := out.Write(c.out); err != nil {
			return fmt.Errorf("write the answers: %w", err)
		}
		if c.err != nil {
			return errors.Join(out.Flush(), usageError{c.err})
		}
		if len(order) == 0 {
			// Nobody has more: whoever asks and waits for the answer gets it.
			if err := out.Flush(); err != nil {
				return fmt.Errorf("write the answers: %w", err)
			}
		}
	}
	return out.Flush()
}

// split reads lines and hands them on, as many as are there, until next says no.
func split(r io.Reader, file string, next func(*chunk) bool) {
	in := bufio.NewReaderSize(r, maxLine)
	c := &chunk{first: 1, done: make(chan struct{})}
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			err = fmt.Errorf("%s:%d: a line of more than %d bytes", file, n, maxLine)
		}
		if err == nil || errors.Is(err, io.EOF) {
			c.lines = append(c.lines, line...)
		}
		if err == nil && n-c.first+1 < linesAtOnce && in.Buffered() > 0 {
			continue
		}
		if len(c.lines) > 0 && !next(c) || errors.Is(err, io.EOF) {
			return
		}
		c = &chunk{first: n + 1, done: make(chan struct{})}
		if err != nil {
			c.err = err
			next(c)
			return
		}
	}
}

// answer answers the lines of a chunk, up to the first that is wrong.
func (c *chunk) answer(e *explain.Explainer, file string, opt explain.Options) {
	c.out = make([]byte, 0, linesAtOnce*usualAnswer)
	n := c.first
	for line := range bytes.Lines(c.lines) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			answer, err := answerLine(e, line, opt)
			if err != nil {
				c.err = fmt.Errorf("%s:%d: %w", file, n, err)
				return
			}
			c.out = answer.AppendJSON(c.out)
		}
		n++
	}
}

func answerLine(e *explain.Explainer, line []byte, opt explain.Options) (*explain.Answer, error) {
	q, err := explain.ParseQuestion(line)
	if err != nil {
		return nil, err
	}
	p, err := q.Packet()
	if err != nil {
		return nil, err
	}
	return e.Explain(p, opt)
}
