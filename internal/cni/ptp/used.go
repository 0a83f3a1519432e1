package ptp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// usedFile has a byte for each address that a pod may have had since the host was started,
// by a hash: to look for connections of an address takes the kernel a walk through all of
// its table, and of the first pod that has an address there can be none. Two addresses
// may share a byte; then it is looked for in vain.
const (
	runDir    = "/run/viarule"
	usedFile  = "ptp-used"
	usedBytes = 1 << 16
)

// usedBefore says whether a pod may have had an address before, and notes that one has it
// now. Others that do this at the same time write nothing but ones.
func usedBefore(a netip.Addr) (bool, error) {
	used, err := used(a, runDir)
	if err != nil {
		return false, fmt.Errorf("%s/%s: %w", runDir, usedFile, err)
	}
	return used, nil
}

func used(a netip.Addr, dir string) (bool, error) {
	fd, err := openUsed(dir)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	at, one := int64(hash(string(a.AsSlice()))%usedBytes), []byte{0}
	if n, err := unix.Pread(fd, one, at); err != nil || n == 1 && one[0] != 0 {
		return true, err
	}
	one[0] = 1
	_, err = unix.Pwrite(fd, one, at)
	return false, err
}

func openUsed(dir string) (int, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Open(dir+"/"+usedFile, flags, 0o600)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			fd, err = unix.Open(dir+"/"+usedFile, flags, 0o600)
		}
	}
	return fd, err
}

// alone does something that no other call of the plugin does at the same time.
func (p *plugin) alone(do func() error) error {
	fd, err := openUsed(runDir)
	if err != nil {
		return fmt.Errorf("%s/%s: %w", runDir, usedFile, err)
	}
	defer unix.Close(fd) // with which the lock goes
	for {
		switch err := unix.Flock(fd, unix.LOCK_EX); err {
		case nil:
			return do()
		case unix.EINTR:
		default:
			return fmt.Errorf("lock %s/%s: %w", runDir, usedFile, err)
		}
	}
}
