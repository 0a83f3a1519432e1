package kerneltest

import (
	"errors"
	"syscall"
)

// isErrno says whether err is that errno. syscall.Errno's own Is would make ENOENT
// of every fs.ErrNotExist.
func isErrno(err error, e syscall.Errno) bool {
	var got syscall.Errno
	if errors.As(err, &got) {
		return got == e
	}
	return errors.Is(err, e)
}
