package lab

import (
	"errors"
	"fmt"
	"strings"

	"github.com/viarule/viarule/internal/spec"
)

// InputError says what is wrong in a lab file. It holds at least one problem.
type InputError struct{ Problems []spec.Problem }

// Error gives the problems, one a line.
func (e *InputError) Error() string {
	lines := make([]string, len(e.Problems))
	for i := range e.Problems {
		lines[i] = e.Problems[i].String()
	}
	return strings.Join(lines, "\n")
}

// ChecksError says that the checks were made and that some did not pass.
type ChecksError struct{ Failed, Of int }

// Error counts.
func (e *ChecksError) Error() string {
	return fmt.Sprintf("%d of %d checks failed", e.Failed, e.Of)
}

// What can be wrong with the state of a lab; test with errors.Is.
var (
	ErrUp    = errors.New("it is up already")
	ErrNotUp = errors.New("it is not up")
	ErrHalf  = errors.New("an earlier up of it did not come to its end")
	ErrBusy  = errors.New("another viarule works on it now")
)

// stateError is one of the above with the lab's name and what to do.
func (l *Lab) stateError(err error, do string) error {
	if do == "" {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	return fmt.Errorf("lab %s: %w; %s", l.Name, err, do)
}
