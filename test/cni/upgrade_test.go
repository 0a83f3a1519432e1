package cni

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestUpgrade: what the reference plugin made has no mark and no record. As sbr our CHECK
// takes it, and our DEL takes its rules away; viarule-sbr leaves it alone.
func TestUpgrade(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			newHost(t)
			pod := newPod(t)
			ipBatch(t, "pod", nthLink(1).batch()+nthLink(2).batch())
			theirs := nthLink(1).call(dropIn, "c1", pod)
			theirs.program = filepath.Join(reference, dropIn)
			theirs.must(t)
			// Another attachment, which is ours, beside it.
			beside := nthLink(2).call(name, "c1", pod)
			beside.must(t)
			made := routing(t, "pod")
			c := nthLink(1).call(name, "c1", pod)
			_, err := c.as("CHECK").run(t)
			if name == own {
				if err == nil {
					t.Error("CHECK takes what it has no record of")
				}
				c.as("DEL").must(t)
				if now := routing(t, "pod"); now != made {
					t.Errorf("after DEL:\n%s\nbefore:\n%s", now, made)
				}
				return
			}
			if err != nil {
				t.Errorf("CHECK: %v", err)
			}
			for range 2 {
				c.as("DEL").must(t)
				for line := range strings.Lines(routing(t, "pod")) {
					if strings.Contains(line, "from "+nthLink(1).ip4+" ") || strings.Contains(line, "from "+nthLink(1).ip6+" ") {
						t.Errorf("after DEL there is %s", line)
					}
				}
			}
			if _, err := c.as("CHECK").run(t); err == nil {
				t.Error("CHECK of nothing is a success")
			}
			beside.as("CHECK").must(t)
			beside.as("DEL").must(t)
			nothingLeft(t, "pod")
		})
	}
}
