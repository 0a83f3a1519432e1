package sbr_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func credentials(id uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
}

const logPath = "/var/log/viarule/sbr.log"

// entries reads the log, in which each line is a JSON object.
func entries(t *testing.T) (list []map[string]any) {
	t.Helper()
	data, err := os.ReadFile(logPath)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

func TestLog(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		c := adding(name, "net1").with(`"logFile": "sbr.log"`)
		c.must(t) // its stdout is a result, and its stderr is empty: see run
		c.as("CHECK").must(t)
		c.as("DEL").must(t)
		c.with(`"gateways": ["x\n\u0007"]`).fails(t, 7, "gateways[0]: ")
		c.with(`"logLevel": "loud"`).fails(t, 7, "logLevel: ")
		list := entries(t)
		want := []struct{ level, command, did, err string }{
			{"info", "ADD", "tables ", ""}, {"info", "CHECK", "all as it was made", ""}, {"info", "DEL", "removed ", ""}, {"error", "ADD", "", "gateways[0]: "}, {"error", "ADD", "", "logLevel: "},
		}
		if len(list) != len(want) {
			t.Fatalf("%d lines, want %d: %v", len(list), len(want), list)
		}
		for i, w := range want {
			e := list[i]
			did, _ := e["did"].(string)
			msg, _ := e["error"].(string)
			if e["level"] != w.level || e["command"] != w.command || !strings.HasPrefix(did, w.did) || !strings.HasPrefix(msg, w.err) || (msg == "") != (w.err == "") {
				t.Errorf("line %d is %v, want %v", i, e, w)
			}
			when, err := time.Parse(time.RFC3339Nano, e["time"].(string))
			if took, _ := e["durationMs"].(float64); err != nil || when.IsZero() || took <= 0 || e["network"] != "n" || e["container"] != "c1" || e["interface"] != "net1" || e["netns"] != podPath {
				t.Errorf("line %d is %v: %v", i, e, err)
			}
		}
		info, err := os.Stat(logPath)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	})
}

func TestLogLevels(t *testing.T) {
	newPod(t)
	for level, want := range map[string]int{`"error"`: 1, `"info"`: 2, `"debug"`: 2} {
		_ = os.Remove(logPath)
		c := adding(names[0], "net1").with(`"logFile": "sbr.log", "logLevel": ` + level)
		c.as("DEL").must(t)
		c.with(`"table": 0`).fails(t, 7, "table: ")
		if list := entries(t); len(list) != want {
			t.Errorf("%s: %v", level, list)
		}
	}
	for _, level := range []string{"info", "debug"} {
		_ = os.Remove(logPath)
		c := adding(names[0], "net1").with(`"logFile": "sbr.log", "logLevel": "` + level + `"`)
		c.must(t)
		c.as("DEL").must(t)
		for _, e := range entries(t) {
			if written := strings.Contains(fmt.Sprint(e["writes"]), "rule 32765 from 10.1.0.5 "); written != (level == "debug") {
				t.Errorf("%s: writes of %s: %q", level, e["command"], e["writes"])
			}
		}
	}
	_ = os.Remove(logPath)
	for _, none := range []string{`"logLevel": "debug"`, `"logFile": ""`, `"logFile": null`, `"logFile": "/etc/x"`, `"logFile": "../x"`} {
		adding(names[0], "net1").with(none).as("DEL").must(t)
	}
	if list, err := os.ReadDir("/var/log/viarule"); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestLogThatCannotBeWritten: the call is a success all the same, and what the name
// leads to is not touched.
func TestLogThatCannotBeWritten(t *testing.T) {
	newPod(t)
	before := world(t)
	const target = "/run/target"
	writeFile(t, target, "as it was")
	if err := os.Mkdir("/var/log/viarule", 0o700); err != nil {
		t.Fatal(err)
	}
	for what, make := range map[string]func() error{
		"a symbolic link":              func() error { return os.Symlink(target, logPath) },
		"a symbolic link into nowhere": func() error { return os.Symlink("/run/nowhere", logPath) },
		"a folder":                     func() error { return os.Mkdir(logPath, 0o700) },
		"a pipe that nobody reads":     func() error { return unix.Mkfifo(logPath, 0o600) },
		"a device":                     func() error { return unix.Mknod(logPath, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))) }, // /dev/full
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		c := adding(names[0], "net1").with(`"logFile": "sbr.log"`)
		c.must(t)
		c.as("DEL").must(t)
		if data, err := os.ReadFile(target); err != nil || string(data) != "as it was" {
			t.Errorf("%s: %q, %v", what, data, err)
		}
		if _, err := os.Stat("/run/nowhere"); err == nil {
			t.Errorf("%s: it made a file elsewhere", what)
		}
		if err := os.Remove(logPath); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove("/var/log/viarule"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "/var/log/viarule", "") // in the place of the folder
	c := adding(names[0], "net1").with(`"logFile": "sbr.log"`)
	c.must(t)
	c.as("DEL").must(t)
	if err := os.Remove("/var/log/viarule"); err != nil {
		t.Fatal(err)
	}
	same(t, "after all", world(t), before)
}
