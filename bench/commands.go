package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// timed runs a program and gives its wall time in seconds; its output goes
// nowhere.
func timed(name string, args ...string) (float64, error) {
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer nowhere.Close()
	c := exec.Command(name, args...)
	var errs bytes.Buffer
	c.Stdout, c.Stderr = nowhere, &errs
	start := time.Now()
	err = c.Run()
	took := time.Since(start).Seconds()
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.Bytes()[:min(errs.Len(), 2000)])
	}
	return took, nil
}

// applied is what one `viarule apply` says of itself.
type applied struct {
	wall   float64            // seconds, the whole command
	phases map[string]float64 // seconds
	peak   int64              // KiB of memory
}

// core is the time from plan to verified.
func (a *applied) core() float64 {
	sum := 0.0
	for name, s := range a.phases {
		if name != "read" {
			sum += s
		}
	}
	return sum
}

// apply runs `viarule apply` on a file. With phases it has it say how long each
// took; what it prints for that counts in no phase, but in wall.
func (b *bench) apply(file string, phases bool) (*applied, error) {
	args := []string{"apply", "-f", file, "--allow-cut-off"}
	if phases {
		args = append(args, "-v")
	}
	c := exec.Command(b.viarule, args...)
	var out tail
	var errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	start := time.Now()
	err := c.Run()
	a := &applied{wall: time.Since(start).Seconds(), phases: map[string]float64{}}
	if err != nil {
		return nil, fmt.Errorf("viarule apply: %w\n%s", err, errs.Bytes()[:min(errs.Len(), 2000)])
	}
	for line := range strings.Lines(string(out)) {
		var name string
		var ms float64
		if n, _ := fmt.Sscanf(line, "%s %f ms", &name, &ms); n == 2 {
			a.phases[name] += ms / 1000
		}
	}
	if phases && a.core() == 0 {
		return nil, fmt.Errorf("viarule apply -v: printed no phases:\n%s", out)
	}
	a.peak = c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	return a, nil
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if len(*t) > 1<<16 {
		*t = append((*t)[:0], (*t)[len(*t)-1<<12:]...)
	}
	return len(p), nil
}
