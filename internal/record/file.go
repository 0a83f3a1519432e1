package record

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Files are opened without package os where a CNI program does it: os asks Go's poller to
// watch each, and the kernel what it is, which takes longer than to read it.

// errNoFile says that something has the place of a file.
var errNoFile = errors.New("it is not a regular file")

// openFile opens a file, not what a link leads to; what is no file does not block.
func openFile(path string, flags int) (fd int, err error) {
	for {
		fd, err = unix.Open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// regular gives the size of a file that was opened for reading, and closes and refuses
// what is no regular file. err is that of opening it.
func regular(path string, fd int, err error) (size int64, _ error) {
	if err != nil {
		return 0, &Error{path, err, ""}
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNoFile
	}
	if err != nil {
		unix.Close(fd)
		return 0, damaged(path, "%w", err)
	}
	return st.Size, nil
}

// readAll reads a file of some size, up to a limit where it has grown meanwhile.
func readAll(fd int, size, limit int64) ([]byte, error) {
	b := make([]byte, 0, size+1) // one more, so that the end shows
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		}
		b = b[:len(b)+n]
		if n == 0 || int64(len(b)) >= limit {
			return b, nil
		}
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(2*int64(cap(b)), limit)+1), b...)
		}
	}
}

// writeFile writes a file that is not there, or that a killed process left.
func writeFile(path string, data []byte) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL
	fd, err := openFile(path, flags)
	if err == unix.EEXIST {
		if err := os.Remove(path); err != nil {
			return cause(err)
		}
		fd, err = openFile(path, flags)
	}
	if err != nil {
		return err
	}
	for len(data) > 0 && err == nil {
		var n int
		if n, err = unix.Write(fd, data); err == unix.EINTR {
			err = nil
		}
		data = data[max(n, 0):]
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		_ = unix.Unlink(path)
	}
	return err
}
