package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func (c Config) path(p string) string { return filepath.Join(c.Root, p) }

// ForeignError says that a file is in the way that viarule has not written.
type ForeignError struct{ Path string }

// Error names the file and what to do.
func (e *ForeignError) Error() string {
	return e.Path + " is not viarule's: move it away, then try again"
}

// ours says whether a file is there and was written by this package.
func ours(path string) (there, our bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if !info.Mode().IsRegular() {
		return true, false, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return true, false, err
	}
	head := strings.SplitN(string(b), "\n", 4)
	return true, slices.ContainsFunc(head[:min(3, len(head))], func(s string) bool { return strings.Contains(s, mark) }), nil
}

// put writes a file, unless its content is there already.
func (c Config) put(r *Report, path, text string, mode fs.FileMode) error {
	full := c.path(path)
	there, our, err := ours(full)
	if err != nil {
		return fmt.Errorf("write for the boot: %w", err)
	}
	if there && !our {
		return fmt.Errorf("write for the boot: %w", &ForeignError{path})
	}
	if err := c.makeDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write for the boot: %w", err)
	}
	changed, err := replace(full, []byte(text), mode)
	if err != nil {
		return fmt.Errorf("write for the boot: %w", err)
	}
	if changed {
		r.Written = append(r.Written, path)
	}
	return nil
}

// madeFile lists, a line each, the folders that makeDir made.
const madeFile = Dir + "/.made"

// makeDir makes a folder and those above it, and notes which were missing, so
// that just these go with the last object.
func (c Config) makeDir(dir string) error {
	var missing []string
	for d := dir; !c.isDir(d) && d != "/" && d != "."; d = filepath.Dir(d) {
		missing = append(missing, d)
	}
	if len(missing) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.path(dir), 0o755); err != nil {
		return err
	}
	made, err := c.made()
	if err != nil {
		return err
	}
	// Dir itself is made first of all, by the first object.
	text := strings.Join(append(made, missing...), "\n") + "\n"
	_, err = replace(c.path(madeFile), []byte(text), 0o644)
	return err
}

func (c Config) made() ([]string, error) {
	b, err := os.ReadFile(c.path(madeFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return strings.Fields(string(b)), nil
}

// removeDirs removes the folders that makeDir made, unless somebody else uses
// them by now.
func (c Config) removeDirs() error {
	made, err := c.made()
	if err != nil {
		return err
	}
	if err := os.Remove(c.path(madeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	slices.SortFunc(made, func(a, b string) int { return len(b) - len(a) }) // the inner ones first
	for _, d := range made {
		if d == filepath.Clean(d) && strings.HasPrefix(d, "/etc/") {
			_ = os.Remove(c.path(d)) // fails where it is not empty, as it should
		}
	}
	return nil
}

// remove removes a file of ours.
func (c Config) remove(r *Report, path string) error {
	full := c.path(path)
	_, our, err := ours(full)
	if err == nil && our {
		if err = os.Remove(full); err == nil {
			r.Removed = append(r.Removed, path)
		}
	}
	if err != nil {
		return fmt.Errorf("remove from the boot: %w", err)
	}
	return nil
}

// replace gives a file its content in one step, and has it on the disk before it
// has its name; an equal file is left as it is.
func replace(path string, b []byte, mode fs.FileMode) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(b) {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm() == mode {
			return false, nil
		}
	}
	// The dot keeps run-parts, udev, systemd and Files from reading it.
	f, err := os.CreateTemp(filepath.Dir(path), ".viarule-*")
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return false, err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return false, err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return true, err
	}
	err = d.Sync()
	return true, errors.Join(err, d.Close())
}

// reload has systemd read its units anew, where this is the running system.
func (c Config) reload() error {
	if c.Root != "" {
		return nil
	}
	out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl daemon-reload: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
