package cni

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Plugin is a CNI program: what it is, and what it does for each command.
type Plugin struct {
	Versions []string // of the specification that it takes, the oldest first
	About    string   // said on standard error where there is no command
	// What is nil is a success, where the version is right. An error that is no *Error
	// is answered with the code 999; Failed gives better ones.
	Add func(*Call) (*Result, error)
	// Lost takes back what an Add has made whose result could not be written: nobody knows
	// of it. nil: it stays until the DEL.
	Lost   func(*Call)
	Del    func(*Call) error
	Check  func(*Call) error
	GC     func(*Call) error
	Status func(*Call) error
}

// Call is what a runtime asks.
type Call struct {
	Command string
	// Of the environment. ADD and CHECK have all but Args; DEL may have no Netns; GC and
	// STATUS have only Path.
	ContainerID string
	Netns       string // path of the namespace
	IfName      string
	Args        string // NAME=VALUE;...
	Path        string // folders with plugins, with colons between them
	// OwnNetns allows Netns to be the plugin's own namespace (CNI_NETNS_OVERRIDE).
	OwnNetns bool

	Stdin   []byte // the configuration
	Config  Document
	Network string // its name
	Version string // its cniVersion; 0.1.0 where it has none
}

// Main answers one call of the runtime, which says by environment and standard input
// what it wants. It returns the exit status.
func (p *Plugin) Main() int {
	return p.Answer(func(name string) string {
		s, _ := unix.Getenv(name)
		return s
	}, file(0), file(1), file(2))
}

// Answer is Main with all that Main takes from the process.
func (p *Plugin) Answer(getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	if getenv("CNI_COMMAND") == "" && p.About != "" {
		_, _ = io.WriteString(stderr, p.About+"\nCNI protocol versions supported: "+strings.Join(p.Versions, ", ")+"\n")
		return 0
	}
	c, err := environment(getenv)
	var answer []byte
	if err == nil {
		answer, err = p.answer(c, stdin)
	}
	if err != nil {
		answer = err.text()
	}
	if _, werr := stdout.Write(answer); werr != nil {
		if err == nil && c.Command == "ADD" && p.Lost != nil {
			p.Lost(c)
		}
		return 2
	}
	if err != nil {
		return 1
	}
	return 0
}

// answer does what a call asks, and gives what standard output shall say.
func (p *Plugin) answer(c *Call, stdin io.Reader) ([]byte, *Error) {
	if c.Command == "VERSION" {
		return p.versions(), nil
	}
	if err := c.read(stdin); err != nil {
		return nil, err
	}
	if bit(c.Command) == 0 {
		return nil, &Error{Code: CodeEnvironment, Msg: "unknown CNI_COMMAND: " + clip(c.Command)}
	}
	if err := c.readVersion(); err != nil {
		return nil, err
	}
	switch c.Command {
	case "ADD":
		return p.add(c)
	case "DEL":
		if err := p.takes(c.Version); err != nil {
			return nil, err
		}
		return nil, call(p.Del, c)
	case "CHECK":
		return nil, p.since(c, "0.4.0", p.Check)
	case "GC":
		return nil, p.since(c, "1.1.0", p.GC)
	default: // STATUS
		return nil, p.since(c, "1.1.0", p.Status)
	}
}

func (p *Plugin) add(c *Call) ([]byte, *Error) {
	if err := p.takes(c.Version); err != nil || p.Add == nil {
		return nil, err
	}
	r, err := p.Add(c)
	if err != nil {
		return nil, asError(err)
	}
	text, err := r.Text(c.Version)
	if err != nil {
		return nil, Wrong("cniVersion", err.Error(), "")
	}
	return text, nil
}

func call(do func(*Call) error, c *Call) *Error {
	if do == nil {
		return nil
	}
	return asError(do(c))
}

// codeInternal is the library's.
const codeInternal = 999

func asError(err error) *Error {
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	}
	return &Error{Code: codeInternal, Msg: err.Error()}
}

// versions answers VERSION.
func (p *Plugin) versions() []byte {
	b := []byte(`{"cniVersion":"` + newest + `","supportedVersions":[`)
	for i, v := range p.Versions {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `"`+v+`"`...)
	}
	return append(b, "]}\n"...)
}

// newest is the newest version of the specification that the front knows.
const newest = "1.1.0"

// takes says that the plugin takes configurations of a version.
func (p *Plugin) takes(version string) *Error {
	for _, v := range p.Versions {
		if v == version {
			return nil
		}
	}
	quoted := make([]string, len(p.Versions))
	for i, v := range p.Versions {
		quoted[i] = strconv.Quote(v)
	}
	return &Error{Code: CodeVersion, Msg: "incompatible CNI versions",
		Details: "config is " + strconv.Quote(clip(version)) + ", plugin supports [" + strings.Join(quoted, " ") + "]"}
}

// since does a command that there is since a version of the specification.
func (p *Plugin) since(c *Call, least string, do func(*Call) error) *Error {
	has, ok := parseVersion(c.Version)
	if !ok {
		return Type("cniVersion", strconv.Quote(clip(c.Version))+" is no version", "write one such as "+newest)
	}
	first, _ := parseVersion(least)
	if has.before(first) {
		return &Error{Code: CodeVersion, Msg: "config version does not allow " + c.Command}
	}
	for _, v := range p.Versions {
		if knows, _ := parseVersion(v); knows.before(has) {
			continue
		}
		if err := p.takes(c.Version); err != nil {
			return err
		}
		return call(do, c)
	}
	return &Error{Code: CodeVersion, Msg: "plugin version does not allow " + c.Command}
}

// version is major, minor and micro.
type version [3]int

// parseVersion reads up to three numbers with dots between them.
func parseVersion(s string) (v version, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) > len(v) {
		return v, false
	}
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

func (v version) before(o version) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}

// file is a file descriptor. Package os would ask the kernel what it is, and watch it.
type file int

func (f file) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(f), b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			if err := f.wait(unix.POLLIN); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write writes all of b, or says why not.
func (f file) Write(b []byte) (done int, err error) {
	for done < len(b) {
		n, err := unix.Write(int(f), b[done:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			if err := f.wait(unix.POLLOUT); err != nil {
				return done, err
			}
		case err != nil:
			return done, err
		default:
			done += n
		}
	}
	return done, nil
}

// wait waits where whoever made the file chose not to block.
func (f file) wait(events int16) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(f), Events: events}}, -1)
	if err == unix.EINTR {
		return nil
	}
	return err
}
