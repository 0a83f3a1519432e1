package ipam

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	// Not called, but compiled in, so that a change of it is one of these tests too: go test
	// would else say what it said before.
	_ "github.com/viarule/viarule/internal/cni/ipam"
	"github.com/viarule/viarule/internal/netnstest"
)

// The programs: ours, and the reference's.
var ours, hostLocal, static string

func TestMain(m *testing.M) { os.Exit(withPrograms(m)) }

func withPrograms(m *testing.M) int {
	flag.Parse()
	if testing.Short() || os.Geteuid() != 0 {
		return m.Run() // newHost skips
	}
	dir, err := os.MkdirTemp("", "viarule-ipam-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ours = filepath.Join(dir, "ours")
	_, err = goCommand("build", "-o", ours, "./program")
	for tool, path := range map[string]*string{"host-local": &hostLocal, "static": &static} {
		if err == nil {
			*path, err = goCommand("tool", "-n", tool)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func goCommand(args ...string) (string, error) {
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// newHost gives the test its own /run and /var/lib.
func newHost(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs whole programs")
	}
	netnstest.New(t, netnstest.Mounts("/var/lib"))
}

// call is a call of a program, as a runtime makes it.
type call struct {
	program, command, container, ifname, args, stdin string
}

func (c call) exec() *exec.Cmd {
	cmd := exec.Command(c.program)
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+c.command, "CNI_CONTAINERID="+c.container, "CNI_NETNS=/run/netns/none", "CNI_NETNS_OVERRIDE=1",
		"CNI_IFNAME="+c.ifname, "CNI_PATH="+filepath.Dir(c.program), "CNI_ARGS="+c.args)
	return cmd
}

func (c call) as(command string) call {
	c.command = command
	return c
}

// start starts the program; the function that it returns waits for the end. An error
// that the program gives as the specification wants it is a *types.Error.
func (c call) start() (wait func() (string, error)) {
	cmd := c.exec()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Start()
	return func() (string, error) {
		if err == nil {
			err = cmd.Wait()
		}
		if err == nil {
			return stdout.String(), nil
		}
		var e types.Error
		if jerr := json.Unmarshal(stdout.Bytes(), &e); jerr != nil || e.Msg == "" {
			return "", fmt.Errorf("%w, and no error object: %s%s", err, stdout.String(), stderr.String())
		}
		return "", &e
	}
}

func (c call) run() (string, error) { return c.start()() }

func (c call) must(t *testing.T) string {
	t.Helper()
	out, err := c.run()
	if err != nil {
		t.Fatalf("%s %s %s: %v", c.command, c.container, c.ifname, err)
	}
	return out
}

// files are the files of a folder with what they say, but for the lock.
func files(dir string) (list []string) {
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		if n.Name() == "lock" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		list = append(list, fmt.Sprint(n.Name(), " ", fmt.Sprintf("%q", b), err))
	}
	return list
}

// allocations are those of files that are named by an address.
func allocations(dir string) []string {
	return slices.DeleteFunc(files(dir), func(s string) bool { return strings.HasPrefix(s, "last_reserved_ip.") })
}
