package rttables

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	// maxFile bounds what is read of one file; a host with 10,000 named tables
	// needs 300 kB.
	maxFile = 4 << 20
	// lineMax is what `ip` reads of a line at a time (NAME_MAX_LEN of
	// lib/rt_names.c, less the terminator). The rest counts as a new line.
	lineMax = 511
)

// read reads the main file and the folder of one kind. skip names a file of the
// administrator's folder that is left out.
//
// The rules are those of iproute2's lib/rt_names.c: the main file of Etc hides
// that of Usr; a *.conf file of the folder in Etc hides the one of the same name
// in Usr; the distribution's are read before the administrator's. `ip` reads
// the files of one folder in the order in which the file system lists them;
// here they are sorted, so that the answer does not change from one run to the
// next.
func (d Dir) read(k kind, skip string) (Names, error) {
	t := newTable(k.builtin)
	var problems []string
	load := func(path string) error {
		problem, err := load(t, k, path)
		if problem != "" {
			problems = append(problems, problem)
		}
		return err
	}
	err := load(filepath.Join(d.Etc, k.base))
	if errors.Is(err, fs.ErrNotExist) && d.Usr != "" {
		err = load(filepath.Join(d.Usr, k.base))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Names{}, err
	}
	etc, err := confFiles(filepath.Join(d.Etc, k.base+".d"))
	if err != nil {
		return Names{}, err
	}
	var usr []string
	if d.Usr != "" {
		if usr, err = confFiles(filepath.Join(d.Usr, k.base+".d")); err != nil {
			return Names{}, err
		}
	}
	var files []string
	for _, name := range usr {
		if !slices.Contains(etc, name) {
			files = append(files, filepath.Join(d.Usr, k.base+".d", name))
		}
	}
	for _, name := range etc {
		if name != skip {
			files = append(files, filepath.Join(d.Etc, k.base+".d", name))
		}
	}
	for _, path := range files {
		if err := load(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Names{}, err
		}
	}
	n := t.names()
	n.Problems = problems
	return n, nil
}

// confFiles lists, sorted, the files of a folder that `ip` reads. A folder that
// is not there has none.
func confFiles(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the names of tables: %w", err)
	}
	var names []string
	for _, e := range list {
		if n := e.Name(); n[0] != '.' && len(n) > len(".conf") && strings.HasSuffix(n, ".conf") {
			names = append(names, n)
		}
	}
	return names, nil
}

// load adds what a file says. As in `ip`, a line that cannot be read ends the
// file, and what stood before it counts. The problem says so.
func load(t *table, k kind, path string) (problem string, err error) {
	data, problem, err := readRegular(path)
	if err != nil || problem != "" {
		return problem, err
	}
	for number := 1; len(data) > 0; number++ {
		var line []byte
		line, data = nextLine(data)
		id, name, what := parseLine(line, k.max)
		if what != "" {
			return fmt.Sprintf("%s:%d: %s; the rest of the file does not count", path, number, what), nil
		}
		if name != "" {
			t.add(id, name)
		}
	}
	return "", nil
}

// readRegular reads a regular file whole, through symbolic links as `ip` does.
// It does not wait for a pipe that nobody writes to, as `ip` would.
func readRegular(path string) (data []byte, problem string, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("read names: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("read names: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, path + " is not a regular file; it does not count", nil
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, "", fmt.Errorf("read names: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Sprintf("%s is larger than %d MiB; it does not count", path, maxFile>>20), nil
	}
	return data, "", nil
}

// nextLine cuts what one fgets of `ip` gives off data.
func nextLine(data []byte) (line, rest []byte) {
	n := min(len(data), lineMax)
	if i := bytes.IndexByte(data[:n], '\n'); i >= 0 {
		n = i + 1
	}
	return data[:n], data[n:]
}

// parseLine reads "NUMBER NAME" or "NUMBER NAME # comment". Comments and empty
// lines have no name.
func parseLine(line []byte, maxID uint32) (id uint32, name, what string) {
	if i := bytes.IndexByte(line, 0); i >= 0 {
		line = line[:i] // the end of a string in C
	}
	p := bytes.TrimLeft(line, " \t")
	if len(p) == 0 || p[0] == '#' || p[0] == '\n' {
		return 0, "", ""
	}
	v, rest, ok := parseNumber(p)
	if !ok {
		return 0, "", "it does not start with a number"
	}
	f := bytes.Fields(rest)
	if len(f) == 0 {
		return 0, "", "there is no name behind the number"
	}
	if v < 0 || v > int64(maxID) {
		return 0, "", fmt.Sprintf("the number is not in 0 to %d", maxID)
	}
	return uint32(v), string(f[0]), ""
}

// parseNumber reads what sscanf reads for "0x%x", else for "%d": no octal, and
// no more than 32 bits. The value is -1 where it is out of range.
func parseNumber(p []byte) (v int64, rest []byte, ok bool) {
	base, digits := int64(10), "0123456789"
	if len(p) > 2 && p[0] == '0' && p[1] == 'x' && isHex(p[2]) {
		base, digits, p = 16, "0123456789abcdef", p[2:]
	}
	i, overflow := 0, false
	for ; i < len(p); i++ {
		d := strings.IndexByte(digits, p[i]|0x20)
		if p[i] < '0' || d < 0 {
			break
		}
		if v = v*base + int64(d); v > 1<<32-1 {
			v, overflow = 0, true
		}
	}
	if overflow {
		v = -1
	}
	return v, p[i:], i > 0
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}
