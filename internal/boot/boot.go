// Package boot keeps objects over a reboot: their YAML below
// /etc/viarule/boot.d, and what has `viarule apply --from-boot` run when the
// machine starts and when a link comes back.
//
// Where systemd is PID 1 that is a oneshot unit, and one that a udev rule starts
// for each new link. Link events that udev does not see (a link that goes down
// and up again loses its routes) come from the hooks of ifupdown, NetworkManager
// and networkd-dispatcher, for those of them that are installed. Without systemd
// the hooks are all there is; Report.Say then tells what else must be called.
//
// Everything written says in its first lines that it is viarule's; a file of the
// same name that does not is never overwritten or removed. When the last object
// goes, so does all the rest, and /etc is as before.
//
// What waits for a confirmation is staged in a folder of /run, which a reboot
// empties, and gets to /etc by Commit: an unconfirmed apply never becomes the
// boot's.
package boot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/spec"
)

// Dir is the folder of the objects.
const Dir = "/etc/viarule/boot.d"

// mark is in the first lines of every file that this package writes.
const mark = "Written by `viarule apply --boot`"

// Config says where and for what to write.
type Config struct {
	// Root stands before every path; empty on the host itself.
	Root string
	// Program is the absolute path of viarule; empty: the running program's.
	Program string
}

// Change is what to keep from now on, and what no longer.
type Change struct {
	Put    []spec.Object // new, or in place of those of the same Ref; Text is what is kept
	Remove []spec.Ref    // those that are not kept do not matter
}

// Report is what a call did.
type Report struct {
	Written, Removed []string // paths, without Root; what was there already is not named
	Say              []string // sentences for the user
}

// Files lists the files of the objects that are kept, in the order in which they
// are to be read.
func (c Config) Files() ([]string, error) {
	list, err := os.ReadDir(c.path(Dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the objects of the boot: %w", err)
	}
	var out []string
	for _, e := range list { // sorted by name
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".yaml") && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, c.path(filepath.Join(Dir, e.Name())))
		}
	}
	return out, nil
}

// Has says whether an object is kept, in whatever version.
func (c Config) Has(ref spec.Ref) (bool, error) {
	_, err := os.Lstat(c.path(filepath.Join(Dir, fileName(ref))))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s among the objects of the boot: %w", ref, err)
	}
	return true, nil
}

// Apply makes a change at once. Called again with the same Change it writes
// nothing. Each file is replaced in one step and synced.
func (c Config) Apply(ch Change) (Report, error) {
	files, err := contents(ch)
	if err != nil {
		return Report{}, err
	}
	return c.write(files)
}

// staged is what Stage leaves for Commit: file names with their contents, and
// null for those to remove.
type staged map[string]*string

func contents(ch Change) (staged, error) {
	files := staged{}
	for _, ref := range ch.Remove {
		files[fileName(ref)] = nil
	}
	for i := range ch.Put {
		o := &ch.Put[i]
		if o.Kind == "" || o.Name == "" || len(o.Text) == 0 {
			return nil, fmt.Errorf("keep %s for the boot: it has no kind, no name or no text", o.Ref)
		}
		text := fmt.Sprintf("# %s: %q. Change it there, not here.\n%s", mark, o.Ref, o.Text)
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		files[fileName(o.Ref)] = &text
	}
	return files, nil
}

const stageFile = "boot.json"

// Stage prepares a change in a folder (of /run) that it makes.
func (c Config) Stage(dir string, ch Change) error {
	files, err := contents(ch)
	if err != nil {
		return err
	}
	b, err := json.Marshal(files)
	if err != nil {
		return fmt.Errorf("prepare the boot: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("prepare the boot: %w", err)
	}
	if _, err := replace(filepath.Join(dir, stageFile), b, 0o600); err != nil {
		return fmt.Errorf("prepare the boot: %w", err)
	}
	return nil
}

// Commit makes the change that was staged in dir, and removes dir. Where nothing
// was staged it does nothing. After an error it can be called again.
func (c Config) Commit(dir string) (Report, error) {
	b, err := os.ReadFile(filepath.Join(dir, stageFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Report{}, nil
	}
	if err != nil {
		return Report{}, fmt.Errorf("read what was prepared for the boot: %w", err)
	}
	var files staged
	if err := json.Unmarshal(b, &files); err != nil {
		return Report{}, fmt.Errorf("read what was prepared for the boot: %s: %w", dir, err)
	}
	for name := range files {
		if name != filepath.Base(name) || !strings.HasSuffix(name, ".yaml") || strings.HasPrefix(name, ".") {
			return Report{}, fmt.Errorf("read what was prepared for the boot: %s: %.80q is no name of a file of viarule's", dir, name)
		}
	}
	r, err := c.write(files)
	if err != nil {
		return r, err
	}
	return r, Discard(dir)
}

// Discard forgets what was staged in dir, and removes dir.
func Discard(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("forget what was prepared for the boot: %w", err)
	}
	return nil
}

// write makes the change of the objects, and then has what calls viarule there,
// or gone.
func (c Config) write(files staged) (Report, error) {
	var r Report
	if c.Program == "" {
		p, err := os.Executable()
		if err != nil {
			return r, fmt.Errorf("find the running program: %w", err)
		}
		c.Program = p
	}
	if err := checkProgram(c.Program); err != nil {
		return r, fmt.Errorf("write for the boot: %w", err)
	}
	for _, name := range sortedNames(files) {
		path := filepath.Join(Dir, name)
		var err error
		if text := files[name]; text != nil {
			err = c.put(&r, path, *text, 0o644)
		} else {
			err = c.remove(&r, path)
		}
		if err != nil {
			return r, err
		}
	}
	left, err := c.Files()
	if err != nil {
		return r, err
	}
	if len(left) > 0 {
		return r, c.install(&r)
	}
	return r, c.uninstall(&r)
}

func sortedNames(files staged) []string {
	out := make([]string, 0, len(files))
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// fileName gives every Ref a name of its own that is safe in every folder,
// whatever the name of the object is, and still readable.
func fileName(ref spec.Ref) string {
	sum := sha256.Sum256([]byte(ref.Kind + "\x00" + ref.Name))
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, ref.Kind+"-"+ref.Name)
	plain = strings.TrimLeft(plain, ".-")
	return plain[:min(len(plain), 120)] + "-" + hex.EncodeToString(sum[:4]) + ".yaml"
}
