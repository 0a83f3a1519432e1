package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/spec"
)

const (
	indexFile = "index.json"
	dataName  = "o-"
	// formatVersion is raised when an older viarule could misread the files. In
	// version 1 no object had links or a part in a table of nftables, of which
	// its viarule would lose track; it reads as it is.
	formatVersion = 2
	oldestVersion = 1
	// maxIndex bounds what is read of an index; an object takes about 200 bytes.
	maxIndex = 64 << 20
)

// index is what index.json holds.
type index struct {
	Version int   `json:"version"`
	Netns   Netns `json:"netns"`
	// Next is the number of the next data file.
	Next uint64 `json:"next"`
	// Now is what is wanted. Before is what was, while a change is staged.
	Now    set  `json:"now"`
	Before *set `json:"before,omitempty"`
	// Claimed are objects of changes that came to no end: nobody wants them, but
	// the kernel may hold what stood for them.
	Claimed []entry `json:"claimed,omitempty"`
}

// set is the objects and sysctls of one moment.
type set struct {
	Objects []entry  `json:"objects,omitempty"`
	Sysctls []Sysctl `json:"sysctls,omitempty"`
}

// entry is an object in an index. The rest of it is in the file that Data names,
// from byte At on: Text bytes of YAML, then Size bytes of what stands for it.
type entry struct {
	Kind    string              `json:"kind"`
	Name    string              `json:"name"`
	File    string              `json:"file,omitempty"`
	Line    int32               `json:"line,omitempty"`
	Policy  spec.DeletionPolicy `json:"deletionPolicy,omitempty"`
	Tables  map[string]uint32   `json:"tables,omitempty"`
	Sysctls map[string]string   `json:"sysctls,omitempty"`
	Links   []string            `json:"links,omitempty"`
	// LinkSysctls are keys of sysctls of Links.
	LinkSysctls []string `json:"linkSysctls,omitempty"`
	Nft         bool     `json:"nft,omitempty"`
	Data        string   `json:"data"`
	At          int64    `json:"at,omitempty"`
	Text        int64    `json:"text"`
	Size        int64    `json:"size"`
	Rules       int      `json:"rules,omitempty"`
	Routes      int      `json:"routes,omitempty"`
}

// place tells entries apart.
type place struct {
	data string
	at   int64
}

func (e *entry) place() place { return place{e.Data, e.At} }

func (e *entry) ref() spec.Ref { return spec.Ref{Kind: e.Kind, Name: e.Name} }

func (s *set) find(ref spec.Ref) *entry {
	for i := range s.Objects {
		if s.Objects[i].Kind == ref.Kind && s.Objects[i].Name == ref.Name {
			return &s.Objects[i]
		}
	}
	return nil
}

// all lists every entry once.
func (x *index) all() []*entry {
	out := make([]*entry, 0, len(x.Now.Objects))
	seen := make(map[place]bool, len(x.Now.Objects))
	add := func(list []entry) {
		for i := range list {
			if e := &list[i]; !seen[e.place()] {
				seen[e.place()] = true
				out = append(out, e)
			}
		}
	}
	add(x.Now.Objects)
	if x.Before != nil {
		add(x.Before.Objects)
	}
	add(x.Claimed)
	return out
}

// empty says that nothing is recorded.
func (x *index) empty() bool {
	return len(x.Now.Objects) == 0 && len(x.Now.Sysctls) == 0 && x.Before == nil && len(x.Claimed) == 0
}

// Error is a record that cannot be read or written. It names the file and says
// what to do, since a damaged record keeps viarule from telling its own objects
// apart.
type Error struct {
	Path string
	Err  error
	Do   string // what to do; may be empty
}

// Error gives the path, the cause, and what to do.
func (e *Error) Error() string {
	s := "record " + e.Path + ": " + e.Err.Error()
	switch {
	case e.Do != "":
		s += "; " + e.Do
	case errors.Is(e.Err, fs.ErrPermission):
		s += "; run viarule as root"
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// damaged is the error for a record that makes no sense.
func damaged(path, format string, args ...any) error {
	return &Error{path, fmt.Errorf(format, args...),
		"remove the folder " + filepath.Dir(path) + ", then apply all objects again with --prune"}
}

// checkDir refuses a folder that others could have written to: records decide
// what is deleted from the kernel. A missing one is fine.
func (s Store) checkDir() error {
	var st unix.Stat_t
	switch err := unix.Lstat(s.Dir, &st); {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return &Error{s.Dir, err, ""}
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &Error{s.Dir, errors.New("it is not a folder"), "remove it"}
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return &Error{s.Dir, fmt.Errorf("it belongs to user %d", st.Uid), "remove it"}
	case st.Mode&0o022 != 0:
		return &Error{s.Dir, fmt.Errorf("others may write to it (mode %04o)", st.Mode&0o777), "chmod 0700 it when its content is right, else remove it"}
	}
	return nil
}

// openRegular opens a file for reading, and refuses what is no regular file.
func openRegular(path string) (*os.File, int64, error) {
	fd, err := openFile(path, unix.O_RDONLY)
	size, err := regular(path, fd, err)
	if err != nil {
		return nil, 0, err
	}
	return os.NewFile(uintptr(fd), path), size, nil
}

// load reads the index. No folder or no index is an empty one.
func (n Namespace) load() (*index, error) {
	path := filepath.Join(n.Dir(), indexFile)
	data, err := n.read(path, maxIndex)
	switch {
	case err != nil:
		return nil, err
	case data == nil:
		return &index{Version: formatVersion}, nil
	}
	x, err := decodeIndex(data)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return x, nil
}

// read reads a file of the namespace's, of limit bytes at most; nil: there is none.
func (n Namespace) read(path string, limit int64) ([]byte, error) {
	if err := n.store.checkDir(); err != nil {
		return nil, err
	}
	fd, err := openFile(path, unix.O_RDONLY)
	if err == unix.ENOENT {
		return nil, nil
	}
	size, err := regular(path, fd, err)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if size > limit {
		return nil, damaged(path, "it has %d bytes, more than %d", size, limit)
	}
	data, err := readAll(fd, size, limit)
	if err != nil {
		return nil, &Error{path, err, ""}
	}
	return data, nil
}

// unreadable says what is to be done about a file whose content was refused.
func unreadable(path string, err error) error {
	if errors.Is(err, errVersion) {
		return &Error{path, err, "use the viarule that wrote it"}
	}
	return damaged(path, "%w", err)
}

var errVersion = errors.New("its format is not known")

// decodeIndex reads and checks an index.
func decodeIndex(data []byte) (*index, error) {
	var x index
	if err := json.Unmarshal(data, &x); err != nil {
		return nil, err
	}
	if x.Version < oldestVersion || x.Version > formatVersion {
		return nil, fmt.Errorf("%w: it is %d, and this viarule knows %d to %d", errVersion, x.Version, oldestVersion, formatVersion)
	}
	for _, e := range x.all() {
		switch number, ok := strings.CutPrefix(e.Data, dataName); {
		case !ok, number != cleanNumber(number):
			return nil, fmt.Errorf("%q is no name of a data file", e.Data)
		case e.Kind == "" || e.Name == "":
			return nil, fmt.Errorf("%s has no kind or no name", e.Data)
		case e.Text < 0 || e.Text > maxText || e.Rules < 0 || e.Rules > maxStands || e.Routes < 0 || e.Routes > maxStands,
			e.At < 0 || e.At > maxData || e.Size < 0 || e.Size > maxData:
			return nil, fmt.Errorf("%s has impossible sizes", e.Data)
		}
	}
	return &x, nil
}

// cleanNumber gives s back if it is a decimal number in its usual form.
func cleanNumber(s string) string {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// retry runs read on the index, and again on a newer one where a writer took
// away a data file in between.
func (n Namespace) retry(read func(*index, *dataReader) error) error {
	var before []byte
	for {
		x, err := n.load()
		if err != nil {
			return err
		}
		d := dataReader{ns: n}
		err = read(x, &d)
		d.Close()
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		now, jerr := json.Marshal(x)
		if jerr != nil || bytes.Equal(before, now) {
			var e *Error
			if errors.As(err, &e) {
				return damaged(e.Path, "%w", e.Err)
			}
			return err
		}
		before = now
	}
}

// save replaces the index by rename. The temporary file has a fixed name: the
// caller holds the lock, and one that a killed process left is overwritten.
func (n Namespace) save(x *index) error {
	return replaceJSON(filepath.Join(n.Dir(), indexFile), x, maxIndex)
}

// replaceJSON puts a value into a file at one instant; it may take limit bytes.
func replaceJSON(path string, v any, limit int) error {
	data, err := json.Marshal(v)
	if err != nil {
		return &Error{path, err, ""}
	}
	return replace(path, data, limit)
}

// replace puts data into a file at one instant.
func replace(path string, data []byte, limit int) error {
	if len(data) > limit {
		return &Error{path, fmt.Errorf("what is to be recorded of this namespace would take more than %d MiB", limit>>20), ""}
	}
	temp := path + newSuffix
	if err := writeFile(temp, data); err != nil {
		return &Error{temp, err, ""}
	}
	if err := unix.Rename(temp, path); err != nil {
		return &Error{path, err, ""}
	}
	return nil
}

// newSuffix is behind the names of files that are about to replace others.
const newSuffix = ".new"

// writeNew writes a file that is not there, or that a killed process left.
func writeNew(path string, write func(*os.File) error) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &Error{path, err, ""}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = write(f)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		_ = os.Remove(path)
		return &Error{path, err, ""}
	}
	return nil
}
