package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// LogDir is where log files are.
const LogDir = "/var/log/viarule"

// Levels of what is logged.
const (
	LogError = iota + 1
	LogInfo
	LogDebug
)

// Log appends JSON lines to a file below LogDir. The zero Log writes nothing. Nothing
// ever goes to standard output, which is the runtime's.
type Log struct {
	File  string // a bare name, as CheckLogFile lets it pass
	Level int
}

// Entry is a line of the log.
type Entry struct {
	Time      string  `json:"time"`
	Level     string  `json:"level"`
	Command   string  `json:"command"`
	Network   string  `json:"network"`
	Container string  `json:"container,omitempty"`
	Interface string  `json:"interface,omitempty"`
	Netns     string  `json:"netns,omitempty"`
	Duration  float64 `json:"durationMs"`
	Did       string  `json:"did,omitempty"`
	Error     string  `json:"error,omitempty"`
	// Writes are those to the kernel, in netstate's text form: at LogDebug.
	Writes []string `json:"writes,omitempty"`
}

// CheckLogFile says what is wrong with a log file's name: a configuration may come from
// a tenant, so it must not lead out of the folder.
func CheckLogFile(key, name string) error {
	ok := name != "" && len(name) <= 64 && name[0] != '.'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return Wrong(key, fmt.Sprintf("%.80q is no name for a log file", name), "write a bare name of letters, digits, '.', '_' and '-', such as sbr.log; it will be in "+LogDir)
	}
	return nil
}

// Write appends an entry, if its level is wanted. What cannot be written is lost: a pod
// must not fail for it.
func (l Log) Write(level int, started time.Time, e Entry) {
	if l.File == "" || level > l.Level {
		return
	}
	e.Time = started.UTC().Format(time.RFC3339Nano)
	e.Level = [...]string{LogError: "error", LogInfo: "info", LogDebug: "debug"}[level]
	e.Duration = float64(time.Since(started).Microseconds()) / 1e3
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	f, err := openLog(l.File)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.Write(append(line, '\n')) // in one piece: others append to it too
}

func openLog(name string) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_CLOEXEC
	f, err := os.OpenFile(filepath.Join(LogDir, name), flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(LogDir, 0o700); err == nil {
			f, err = os.OpenFile(filepath.Join(LogDir, name), flags, 0o600)
		}
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", name))
	}
	return f, nil
}
