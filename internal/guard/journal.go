package guard

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The files of a guard, below the folder of its namespace's records.
const (
	subdir         = "guard"
	journalFile    = "pending.json" // the apply that waits; gone when it is decided
	outcomeFile    = "undone.json"  // how the last undo went, for people
	checkpointFile = "checkpoint"   // in the guard's own folder: what to go back to
	answerFile     = "answer"       // in the guard's own folder: that it is armed, or why not
	programFile    = "viarule"      // in the guard's own folder: the copy that it runs
)

// State is how far the apply came that a guard watches.
type State string

// The states.
const (
	Armed   State = "armed"   // the apply runs, or was killed
	Applied State = "applied" // it is done and waits for Confirm
)

// journal is what pending.json holds.
type journal struct {
	ID         string        `json:"id"`
	Boot       string        `json:"boot"`
	State      State         `json:"state"`
	Wait       time.Duration `json:"waitNanoseconds"`
	Deadline   time.Duration `json:"deadlineNanoseconds"`  // on CLOCK_BOOTTIME
	Time       time.Time     `json:"time"`                 // of arming, for people
	Netns      string        `json:"netns"`                // path; empty: where the guard is
	Unfinished bool          `json:"unfinished,omitempty"` // records of an earlier change were open
	Starter    Starter       `json:"starter"`
	Library    string        `json:"library,omitempty"` // the folder of the copy, where it is not in the guard's own
	Unit       string        `json:"unit,omitempty"`    // of systemd, without suffix
	Error      string        `json:"error,omitempty"`   // why the last undo failed
}

// Starter is who started an apply with --confirm, for messages.
type Starter struct {
	process
	UID     int    `json:"uid"`
	User    string `json:"user,omitempty"` // behind sudo, where there is one
	TTY     string `json:"tty,omitempty"`
	Program string `json:"program"`
}

// String is, for example, `viarule (pid 412) of alice on /dev/pts/3`.
func (s Starter) String() string {
	out := fmt.Sprintf("%s (pid %d)", s.Program, s.PID)
	if s.User != "" {
		out += " of " + s.User
	}
	if s.TTY != "" {
		out += " on " + s.TTY
	}
	return out
}

func starter() (Starter, error) {
	p, err := self()
	if err != nil {
		return Starter{}, err
	}
	s := Starter{process: p, UID: os.Getuid(), User: os.Getenv("SUDO_USER"), Program: filepath.Base(os.Args[0])}
	if s.User == "" {
		if u, err := user.LookupId(strconv.Itoa(s.UID)); err == nil {
			s.User = u.Username
		}
	}
	for _, fd := range []int{0, 1, 2} {
		if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && (strings.HasPrefix(name, "/dev/pts/") || strings.HasPrefix(name, "/dev/tty")) {
			s.TTY = name
			break
		}
	}
	return s, nil
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return hex.EncodeToString(b[:])
}

func checkID(id string) error {
	if b, err := hex.DecodeString(id); err != nil || len(b) != 8 {
		return fmt.Errorf("%.40q is no id of a guard", id)
	}
	return nil
}

// The checkpoint has a file of its own, so that a look at the journal stays
// cheap where it has a million routes.
func journalDir(nsDir string) string         { return filepath.Join(nsDir, subdir) }
func ownDir(nsDir, id string) string         { return filepath.Join(nsDir, subdir, id) }
func journalPath(nsDir string) string        { return filepath.Join(nsDir, subdir, journalFile) }
func outcomePath(nsDir string) string        { return filepath.Join(nsDir, subdir, outcomeFile) }
func checkpointPath(nsDir, id string) string { return filepath.Join(nsDir, subdir, id, checkpointFile) }
func answerPath(nsDir, id string) string     { return filepath.Join(nsDir, subdir, id, answerFile) }

// readJournal returns nil where nothing waits.
func readJournal(nsDir string) (*journal, error) {
	var j journal
	if err := readJSON(journalPath(nsDir), &j); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("read the journal of an unconfirmed apply: %w", err)
	}
	if err := checkID(j.ID); err != nil {
		return nil, fmt.Errorf("read the journal of an unconfirmed apply: %s: %w", journalPath(nsDir), err)
	}
	return &j, nil
}

func writeJournal(nsDir string, j *journal) error {
	if err := writeJSON(journalPath(nsDir), j); err != nil {
		return fmt.Errorf("write the journal of the apply: %w", err)
	}
	return nil
}

// maxJSON bounds what is read of one file.
const maxJSON = 16 << 20

func readJSON(path string, v any) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() || info.Size() > maxJSON {
		return fmt.Errorf("%s is not a file of viarule's", path)
	}
	if err := json.NewDecoder(f).Decode(v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a file in one step: a reader sees the old or the new one.
// It is not synced, since /run does not outlive the kernel.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writeFile(path, append(b, '\n'))
}

func writeFile(path string, b []byte) error {
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}

// Outcome is how an undo ended.
type Outcome struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Why     string    `json:"why"` // not confirmed within 1m0s; asked for; ...
	Starter Starter   `json:"starter"`
	// Left are the changes that the kernel refused to undo, with its reasons: a
	// route by a link that is gone, for example.
	Left []string `json:"left,omitempty"`
	// Rebooted says that nothing had to be undone, since the machine was started
	// anew.
	Rebooted bool `json:"rebooted,omitempty"`
}

// LastOutcome says how the last undo in a namespace went; nil: there was none
// since the last Arm.
func LastOutcome(nsDir string) (*Outcome, error) {
	var o Outcome
	err := readJSON(outcomePath(nsDir), &o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read how the last undo went: %w", err)
	}
	return &o, nil
}
