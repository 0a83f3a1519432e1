package cni

import (
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/viarule/viarule/internal/jsontext"
)

// maxStdin is far more than any configuration takes, a list of all attachments of a
// large node included.
const maxStdin = 4 << 20

// Commands, as bits.
const (
	forAdd = 1 << iota
	forDel
	forCheck
	forGC
	forStatus

	forPod = forAdd | forDel | forCheck
)

func bit(command string) int {
	switch command {
	case "ADD":
		return forAdd
	case "DEL":
		return forDel
	case "CHECK":
		return forCheck
	case "GC":
		return forGC
	case "STATUS":
		return forStatus
	}
	return 0
}

// environment reads what the runtime says by environment variables.
func environment(getenv func(string) string) (*Call, *Error) {
	c := &Call{Command: getenv("CNI_COMMAND")}
	var missing []string
	if c.Command == "" {
		missing = append(missing, "CNI_COMMAND")
	}
	for _, v := range []struct {
		name  string
		into  *string
		must  int // of which commands
		check func(string) *Error
	}{
		{"CNI_CONTAINERID", &c.ContainerID, forPod, checkContainer},
		{"CNI_NETNS", &c.Netns, forAdd | forCheck, nil},
		{"CNI_IFNAME", &c.IfName, forPod, checkInterface},
		{"CNI_ARGS", &c.Args, 0, nil},
		{"CNI_PATH", &c.Path, forPod | forGC | forStatus, nil},
	} {
		*v.into = getenv(v.name)
		switch must := v.must&bit(c.Command) != 0; {
		case !must:
		case *v.into == "":
			missing = append(missing, v.name)
		case v.check != nil:
			if err := v.check(*v.into); err != nil {
				return nil, err
			}
		}
	}
	if len(missing) > 0 {
		return nil, &Error{Code: CodeEnvironment, Msg: "required env variables [" + strings.Join(missing, ",") + "] missing"}
	}
	override := getenv("CNI_NETNS_OVERRIDE")
	c.OwnNetns = override == "1" || strings.ToUpper(override) == "TRUE"
	return c, nil
}

// validName says that a name of a container or network has no letters but those that
// the specification names.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

func checkContainer(id string) *Error {
	if !validName(id) {
		return &Error{CodeEnvironment, "invalid characters in containerID", clip(id)}
	}
	return nil
}

// maxInterface is IFNAMSIZ without the zero at the end.
const maxInterface = 15

func checkInterface(name string) *Error {
	wrong := func(what, details string) *Error {
		return &Error{CodeEnvironment, "interface name " + what, details}
	}
	switch {
	case len(name) > maxInterface:
		return wrong("is too long", "interface name should be less than "+strconv.Itoa(maxInterface+1)+" characters")
	case name == "." || name == "..":
		return wrong("is . or ..", "")
	}
	for _, r := range name {
		if r == '/' || r == ':' || unicode.IsSpace(r) {
			return wrong("contains / or : or whitespace characters", "")
		}
	}
	return nil
}

// read reads the configuration and the network's name.
func (c *Call) read(stdin io.Reader) *Error {
	data, err := readAll(stdin)
	if err != nil {
		return err
	}
	v, perr := jsontext.Parse(data)
	if perr != nil {
		return unmarshal(perr.Error())
	}
	if k := v.Kind(); k != jsontext.Object && k != jsontext.Null {
		return unmarshal("it is " + k.String() + ", not an object")
	}
	c.Stdin = data
	c.Config, _ = document("", v)
	if err := c.text("name", &c.Network); err != nil {
		return err
	}
	switch {
	case c.Network == "":
		for key := range c.Config {
			if key != "name" && strings.EqualFold(key, "name") {
				return Wrong("name", "it is missing", "write the key in small letters, not as "+key)
			}
		}
		return &Error{Code: CodeConfig, Msg: "missing network name"}
	case !validName(c.Network):
		return &Error{CodeConfig, "invalid characters found in network name", clip(c.Network)}
	}
	return nil
}

// readVersion reads which version of the specification the configuration is of.
func (c *Call) readVersion() *Error {
	if err := c.text("cniVersion", &c.Version); err != nil {
		return err
	}
	if c.Version == "" {
		c.Version = "0.1.0" // what the specification takes where there is none
	}
	return nil
}

func (c *Call) text(key string, into *string) *Error {
	switch v := c.Config[key]; v.Kind() {
	case jsontext.Null:
	case jsontext.String:
		*into = v.Text()
	default:
		return unmarshal(key + ": it is " + short(v) + ", not a string")
	}
	return nil
}

func unmarshal(what string) *Error {
	return &Error{Code: CodeDecoding, Msg: "error unmarshall network config: " + what}
}

// readAll reads all that there is, up to a bound.
func readAll(stdin io.Reader) ([]byte, *Error) {
	b := make([]byte, 0, 4096) // more than most configurations take
	for {
		n, err := stdin.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > maxStdin:
			return nil, Type("stdin", "the configuration has more than "+strconv.Itoa(maxStdin>>20)+" MiB", "")
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, &Error{Code: CodeIO, Msg: "error reading from stdin: " + err.Error()}
		case len(b) == cap(b):
			b = append(make([]byte, 0, 4*cap(b)), b...)
		}
	}
}
