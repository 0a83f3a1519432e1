package rttables

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ownFile is the name of viarule's file in both folders.
const ownFile = "viarule.conf"

// header starts every file that viarule writes; a file without it is somebody
// else's, whatever its name.
const header = "# Written by viarule; changes are lost. Its own names go away with the objects that use them.\n"

// WriteTables makes rt_tables.d/viarule.conf say exactly names, less those that
// other files already give the same number. With nothing to say the file is
// removed. changed is false, and nothing is written, where the file is right
// already.
//
// A name that ValidName refuses, or that another file gives another number, is
// an error, and then nothing is written: `ip` would show rules under the wrong
// name. Two writers at once must be kept apart by the caller (record.Store.LockHost).
func (d Dir) WriteTables(names map[string]uint32) (changed bool, err error) {
	others, err := d.TablesOfOthers()
	if err != nil {
		return false, err
	}
	var list []entry
	for name, id := range names {
		if err := ValidName(name); err != nil {
			return false, err
		}
		if other, ok := others.ByName[name]; !ok {
			list = append(list, entry{id, name})
		} else if other != id {
			return false, fmt.Errorf("table name %q stands for %d in the files of %s, and cannot be given to table %d",
				name, other, d.Etc, id)
		}
	}
	return d.write(tables().base+".d", list)
}

// WriteProtocols makes rt_protos.d/viarule.conf name viarule's protocol numbers,
// so that `ip` prints "proto viarule". With on false the file is removed.
func (d Dir) WriteProtocols(on bool) (changed bool, err error) {
	var list []entry
	if on {
		list = []entry{{118, "viarule"}, {119, "viarule-cni"}, {120, "viarule-bgp"}}
	}
	return d.write(protos().base+".d", list)
}

// write replaces viarule's file in one folder of Etc.
//
// It works within an os.Root of Etc, refuses to go through a symbolic link for
// the folder or the file, and replaces the file by renaming a new one over it:
// no reader sees half of it, and no name that an object chose becomes a path.
func (d Dir) write(folder string, list []entry) (changed bool, err error) {
	path := filepath.Join(d.Etc, folder, ownFile)
	wrap := func(err error) error { return fmt.Errorf("write %s: %w", path, err) }
	if len(list) == 0 {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
	} else if err := os.MkdirAll(d.Etc, 0o755); err != nil {
		return false, wrap(err)
	}
	root, err := os.OpenRoot(d.Etc)
	if err != nil {
		return false, wrap(err)
	}
	defer root.Close()
	if err := plainFolder(root, folder, len(list) > 0); err != nil {
		return false, wrap(err)
	}
	dir, err := root.OpenRoot(folder)
	if err != nil {
		return false, wrap(err)
	}
	defer dir.Close()

	old, there, err := ownContent(dir)
	if err != nil {
		return false, wrap(err)
	}
	if len(list) == 0 {
		if err := dir.Remove(ownFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, wrap(err)
		}
		return there, nil
	}
	text := render(list)
	if there && bytes.Equal(old, text) {
		return false, nil
	}
	if err := replace(dir, text); err != nil {
		return false, wrap(err)
	}
	return true, nil
}

// plainFolder makes sure that folder is a folder and no symbolic link to one,
// and makes it where it is missing and wanted.
func plainFolder(root *os.Root, folder string, wanted bool) error {
	info, err := root.Lstat(folder)
	if errors.Is(err, fs.ErrNotExist) && wanted {
		if err = root.Mkdir(folder, 0o755); err == nil || errors.Is(err, fs.ErrExist) {
			info, err = root.Lstat(folder)
		}
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder but %s; viarule writes nothing through it", folder, info.Mode().Type())
	}
	return nil
}

// ownContent reads viarule's file, and refuses one that is not viarule's.
func ownContent(dir *os.Root) (data []byte, there bool, err error) {
	info, err := dir.Lstat(ownFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !info.Mode().IsRegular() {
		return nil, false, fmt.Errorf("it is not a file but %s; remove it", info.Mode().Type())
	}
	if info.Size() > maxFile {
		return nil, false, errors.New("it is too large to be viarule's; remove it")
	}
	if data, err = dir.ReadFile(ownFile); err != nil {
		return nil, false, err
	}
	if !bytes.HasPrefix(data, []byte(header)) {
		return nil, false, errors.New("its first line is not viarule's, so somebody else wrote it; move it to another name")
	}
	return data, true, nil
}

// render writes the lines by number, then by name.
func render(list []entry) []byte {
	slices.SortFunc(list, func(a, b entry) int {
		if a.id != b.id {
			if a.id < b.id {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	b := []byte(header)
	for _, e := range list {
		b = fmt.Appendf(b, "%d\t%s\n", e.id, e.name)
	}
	return b
}

// replace puts text in place of viarule's file. The temporary file does not end
// in .conf, so that `ip` never reads it, and a fixed name makes the next run
// clear away what a killed one left. O_EXCL neither follows nor truncates what
// is there under that name.
func replace(dir *os.Root, text []byte) (err error) {
	const temp = ".viarule.conf.new"
	if err := dir.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = dir.Remove(temp)
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask says: ordinary users run `ip` too
	}
	if err == nil {
		// The folder is on a disk: without this a power cut could leave an
		// empty file under the name.
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return dir.Rename(temp, ownFile)
}
