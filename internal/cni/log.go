package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/viarule/viarule/internal/jsontext"
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

// Entry is what a line of the log says of a call. What is empty is left out.
type Entry struct {
	Command   string
	Network   string
	Container string
	Interface string
	Netns     string
	Did       string
	Error     string
	Writes    []string // to the kernel, in netstate's text form: at LogDebug
}

// line is the entry as JSON.
func (e *Entry) line(level string, started time.Time) []byte {
	took := float64(time.Since(started).Microseconds()) / 1e3
	b := started.UTC().AppendFormat([]byte(`{"time":"`), time.RFC3339Nano)
	b = append(b, '"')
	for _, f := range [...]struct{ key, value string }{
		{"level", level}, {"command", e.Command}, {"network", e.Network}, {"container", e.Container}, {"interface", e.Interface}, {"netns", e.Netns}, {"did", e.Did}, {"error", e.Error},
	} {
		if f.value != "" {
			b = append(b, `,"`+f.key+`":`...)
			b = jsontext.AppendString(b, f.value)
		}
	}
	b = strconv.AppendFloat(append(b, `,"durationMs":`...), took, 'f', -1, 64)
	for i, w := range e.Writes {
		if i == 0 {
			b = append(b, `,"writes":[`...)
		} else {
			b = append(b, ',')
		}
		b = jsontext.AppendString(b, w)
	}
	if len(e.Writes) > 0 {
		b = append(b, ']')
	}
	return append(b, "}\n"...)
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
	f, err := openLog(l.File)
	if err != nil {
		return
	}
	defer f.Close()
	name := [...]string{LogError: "error", LogInfo: "info", LogDebug: "debug"}[level]
	_, _ = f.Write(e.line(name, started)) // in one piece: others append to it too
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

// LogKeys are the keys of a configuration that say where to log, and how much.
func LogKeys[T any](of func(*T) *Log) []Key[T] {
	return []Key[T]{
		{Name: "logFile", Read: func(c *T, key string, v jsontext.Value) error {
			name, err := Value[string](key, v)
			if err != nil || name == "" {
				return err
			}
			if err := CheckLogFile(key, name); err != nil {
				return err
			}
			of(c).File = name
			return nil
		}},
		{Name: "logLevel", Read: func(c *T, key string, v jsontext.Value) error {
			level, err := Value[string](key, v)
			if err != nil {
				return err
			}
			n, ok := map[string]int{"error": LogError, "info": LogInfo, "debug": LogDebug}[level]
			if !ok {
				return Wrong(key, fmt.Sprintf("%.40q is no level", level), "use error, info or debug")
			}
			of(c).Level = n
			return nil
		}},
	}
}
