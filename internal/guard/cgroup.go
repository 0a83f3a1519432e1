package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// hierarchy is a mounted tree of control groups: the one of version 2 (on a
// hybrid host usually at /sys/fs/cgroup/unified) or one of version 1.
type hierarchy struct {
	mount string
	names []string // the controllers, or name=systemd, of version 1; none for version 2
}

// hierarchies reads /proc/self/mountinfo (proc(5)). A tree that is mounted more
// than once, or only in part (a container's bind mount), is taken once, and the
// one that shows the whole tree first.
func hierarchies(mountinfo io.Reader) ([]hierarchy, error) {
	var whole, part []hierarchy
	sc := bufio.NewScanner(mountinfo)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		h := hierarchy{mount: unescape(l[4])}
		switch r[0] {
		case "cgroup2":
		case "cgroup":
			for _, o := range strings.Split(r[2], ",") {
				if o != "rw" && o != "ro" && !strings.HasPrefix(o, "release_agent=") && o != "clone_children" && o != "xattr" && o != "noprefix" {
					h.names = append(h.names, o)
				}
			}
		default:
			continue
		}
		if l[3] == "/" {
			whole = append(whole, h)
		} else {
			part = append(part, h)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	seen := map[string]bool{}
	var out []hierarchy
	for _, h := range append(whole, part...) {
		key := strings.Join(h.names, ",") // none: version 2
		if !seen[key] {
			seen[key] = true
			out = append(out, h)
		}
	}
	return out, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// leaveCgroups moves process pid to the root of every hierarchy: a control
// group of the session that is killed, frozen or removed then has nothing to do
// with it, and nothing is left behind when the process ends. Where the root
// takes no processes (of a container's tree it may hand controllers down, EBUSY)
// a group of the guard's own beside the session's is made; those are returned,
// with a sentence for each hierarchy that keeps the process where it is.
func leaveCgroups(hs []hierarchy, pid int, name string) (made, warnings []string) {
	id := []byte(strconv.Itoa(pid))
	for _, h := range hs {
		rootErr := join(h.mount, id)
		if rootErr == nil {
			continue
		}
		own := filepath.Join(h.mount, name)
		err := os.Mkdir(own, 0o755)
		if err == nil {
			if err = join(own, id); err == nil {
				made = append(made, own)
				continue
			}
			_ = os.Remove(own)
		}
		warnings = append(warnings, fmt.Sprintf("the guard cannot leave its control group below %s (%v; %v): what kills that group ends the guard too", h.mount, rootErr, err))
	}
	return made, warnings
}

// origins finds, for each group that was made, the one that the process was in
// before, by its /proc/PID/cgroup of then.
func origins(hs []hierarchy, cgroup string, made []string) map[string]string {
	was := map[string]string{}
	for line := range strings.Lines(cgroup) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			was[f[1]] = f[2]
		}
	}
	out := map[string]string{}
	for _, h := range hs {
		for _, m := range made {
			if path, ok := was[strings.Join(h.names, ",")]; ok && filepath.Dir(m) == h.mount {
				out[m] = filepath.Join(h.mount, path)
			}
		}
	}
	return out
}

func join(dir string, pid []byte) error {
	// No O_CREATE: cgroup.procs is the kernel's, and where it is missing this is
	// no control group.
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(pid)
	return errors.Join(err, f.Close())
}

// inRoots says whether the process of a /proc/PID/cgroup file is in the root of
// every hierarchy already, so that there is nothing to leave.
func inRoots(cgroup string) bool {
	for line := range strings.Lines(cgroup) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[2] != "/" {
			return false
		}
	}
	return true
}
