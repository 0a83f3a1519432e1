package sbr

import (
	"fmt"
	"io"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// maxStdin is far more than any configuration takes, a list of all attachments of a
// large node included.
const maxStdin = 4 << 20

// boundStdin takes in what standard input says, so that it has an end for package skel,
// which reads all that there is and looks at it several times.
func boundStdin() *types.Error {
	if c := os.Getenv("CNI_COMMAND"); c == "" || c == "VERSION" {
		return nil // nobody reads it, and it may be a terminal
	}
	fail := func(err error) *types.Error {
		return types.NewError(types.ErrIOFailure, fmt.Sprintf("stdin: read the configuration: %v", err), "")
	}
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return fail(err)
	}
	f := os.NewFile(uintptr(fd), "stdin")
	n, err := io.Copy(f, io.LimitReader(os.Stdin, maxStdin+1))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fail(err)
	}
	if n > maxStdin {
		return types.NewError(types.ErrDecodingFailure, fmt.Sprintf("stdin: the configuration has more than %d MiB", maxStdin>>20), "")
	}
	os.Stdin = f
	return nil
}
