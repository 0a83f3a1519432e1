package shortlife

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFirst: in a program that imports it the package comes before those that take much
// stack while they are set up.
func TestFirst(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	program := filepath.Join(t.TempDir(), "program")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/viarule-sbr").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := exec.Command(program)
	c.Env = []string{"GODEBUG=inittrace=1"}
	var trace bytes.Buffer
	c.Stderr = &trace
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, trace.Bytes())
	}
	var order []string
	for line := range strings.Lines(trace.String()) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "init" {
			order = append(order, f[1])
		}
	}
	own := slices.Index(order, "github.com/viarule/viarule/internal/shortlife")
	for _, after := range []string{"os", "net/netip", "syscall", "unicode"} {
		if i := slices.Index(order, after); own < 0 || i < own {
			t.Errorf("%s comes before shortlife, or is not there: %v", after, order)
		}
	}
}
