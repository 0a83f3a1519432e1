// Package specfile reads objects of viarule.io/v1alpha1 from YAML files and
// writes them.
//
// Reading is strict, so that a file says one thing to every reader: each key is
// known and written once, each value has the type that the custom resource
// definition gives it, and what YAML readers disagree about (yes, on, 010, tags,
// anchors, merge keys) is refused. Every fault becomes a spec.Problem with the
// line that has it; the first MaxProblems are kept and the rest is counted.
//
// Nothing that a file contains makes the package panic or use more than a
// bounded amount of memory: aliases are never expanded, the size of a file and
// of what goes through the YAML library are limited.
//
// # Speed
//
// The YAML library needs about 35 bytes of memory for each byte of a file of
// routes, and half a second for 100,000 of them. Long lists of elements like
//
//   - {to: 11.0.0.1, via: 10.99.0.2, dev: out}
//   - to: 11.0.0.2
//     via: 10.99.0.2
//
// are therefore cut out before the library sees the document and read one by
// one (run.go), into the same nodes, by the same decoder: a tenth of the time,
// and of the memory. Where anything looks unusual the whole document goes
// through the library; a fuzz test holds the two ways against each other.
package specfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/viarule/viarule/internal/spec"
)

// APIVersion is the one API version that this package reads and writes.
const APIVersion = "viarule.io/v1alpha1"

// Limits on input.
const (
	// MaxFile bounds a file, in bytes: room for a million routes and more.
	MaxFile = 128 << 20
	// MaxTree bounds what of one document goes through the YAML library, in
	// bytes: at the worst that takes a hundred times as much memory.
	MaxTree = 8 << 20
	// MaxObjects bounds the objects of a file.
	MaxObjects = 10_000
	// MaxProblems is how many problems of a file are told one by one.
	MaxProblems = 50
)

// Load reads the objects of the named files, in order; "-" is stdin. It gives
// the objects without a fault, and what is wrong with the others. Where there
// are problems of severity spec.Error, the objects are not the whole set, and
// validating them would mislead. The error is for files that cannot be read.
func Load(ctx context.Context, names []string, stdin io.Reader) ([]spec.Object, []spec.Problem, error) {
	var objs []spec.Object
	var problems []spec.Problem
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if seen[name] {
			return nil, nil, fmt.Errorf("read %s: it is named twice", show(name))
		}
		seen[name] = true
		data, err := readAll(name, stdin)
		if err != nil {
			return nil, nil, err
		}
		o, p := Parse(name, data)
		objs, problems = append(objs, o...), append(problems, p...)
	}
	return objs, problems, nil
}

func show(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

func readAll(name string, stdin io.Reader) ([]byte, error) {
	r, size := stdin, int64(0)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, cause(err))
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, cause(err))
		}
		if st.IsDir() {
			return nil, fmt.Errorf("read %s: it is a directory; name the files in it", name)
		}
		r, size = f, st.Size()
	}
	if r == nil {
		return nil, errors.New("read standard input: there is none")
	}
	// One allocation for a file of the size that the kernel says: growing by
	// doubling would leave three times the file as garbage.
	buf := make([]byte, 0, min(size, MaxFile)+512)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > MaxFile {
			return nil, fmt.Errorf("read %s: it is larger than %d MiB; split it", show(name), MaxFile>>20)
		}
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", show(name), cause(err))
		}
	}
}

// cause drops the operation and path of an fs.PathError, which the message has
// already.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
