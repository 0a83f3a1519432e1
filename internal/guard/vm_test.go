package guard

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnderSystemd runs the guard where a real systemd is PID 1. What systemd
// makes of its arguments, a fake cannot tell.
func TestUnderSystemd(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: boots a machine; not with -short")
	}
	for _, program := range []string{"qemu-system-x86_64", "busybox", "cpio", "systemd-run", "/lib/systemd/systemd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("skipped: %v", err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	// Where test/vm/boot.sh unpacks it.
	kernels, err := filepath.Glob(filepath.Join(cache, "viarule-vm/kernel/boot/vmlinuz-*"))
	if err != nil || len(kernels) == 0 {
		t.Skip("skipped: no kernel for the machine; `make test-vm` fetches one")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "guard.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program for the machine: %v\n%s", err, out)
	}
	out, err := exec.Command("bash", "testdata/systemd-vm.sh", kernels[len(kernels)-1], filepath.Join(dir, "vm"), program, "testdata/probe.sh").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "VM-END 0") {
		t.Fatalf("the machine did not come to its end: %v\n%s", err, out)
	}
	const checks = 14
	ok := 0
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "ok ") {
			ok++
		}
	}
	if strings.Contains(string(out), "\nbad ") || ok != checks {
		t.Errorf("%d of %d checks passed:\n%s", ok, checks, out)
	}
}
