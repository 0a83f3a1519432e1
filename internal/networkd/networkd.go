// Package networkd tells whether systemd-networkd runs on this host, and whether it
// removes the rules and routes of others when it starts.
package networkd

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Settings is what networkd.conf says; see networkd.conf(5).
type Settings struct {
	ForeignRules    bool // ManageForeignRoutingPolicyRules: yes unless it is set
	ForeignRoutes   bool // ManageForeignRoutes
	ForeignNextHops bool // ManageForeignNextHops (systemd 256)
}

// The folders of configuration, from the one that counts least.
var folders = []string{"/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd"}

// runtime is there while networkd runs.
const runtime = "/run/systemd/netif/links"

// Read reads the settings below root, which is empty on the host itself; nil where
// networkd does not run.
func Read(root string) (*Settings, error) {
	switch _, err := os.Stat(filepath.Join(root, runtime)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for systemd-networkd: %w", err)
	}
	s := &Settings{ForeignRules: true, ForeignRoutes: true, ForeignNextHops: true}
	main := ""
	dropIns := map[string]string{} // of equal names the last folder's counts
	for _, dir := range folders {
		if f := path.Join(dir, "networkd.conf"); exists(filepath.Join(root, f)) {
			main = f
		}
		list, err := filepath.Glob(filepath.Join(root, dir, "networkd.conf.d", "*.conf"))
		if err != nil {
			return nil, fmt.Errorf("list the configuration of systemd-networkd: %w", err)
		}
		for _, f := range list {
			dropIns[filepath.Base(f)] = path.Join(dir, "networkd.conf.d", filepath.Base(f))
		}
	}
	var files []string
	if main != "" {
		files = append(files, main)
	}
	for _, name := range slices.Sorted(maps.Keys(dropIns)) {
		files = append(files, dropIns[name])
	}
	for _, f := range files {
		if err := s.read(filepath.Join(root, f)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func (s *Settings) read(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // a link to nowhere, or to /dev/null, which turns a file off
	}
	if err != nil {
		return fmt.Errorf("read the configuration of systemd-networkd: %w", err)
	}
	defer f.Close() // it is only read
	section := ""
	in := bufio.NewScanner(f)
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "[Network]" {
			continue
		}
		switch strings.TrimSpace(key) {
		case "ManageForeignRoutingPolicyRules":
			s.ForeignRules = yes(value, s.ForeignRules)
		case "ManageForeignRoutes":
			s.ForeignRoutes = yes(value, s.ForeignRoutes)
		case "ManageForeignNextHops":
			s.ForeignNextHops = yes(value, s.ForeignNextHops)
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// yes reads a boolean as systemd does (parse_boolean); what it is not leaves the
// setting as it was.
func yes(value string, before bool) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "1", "yes", "y", "true", "t", "on":
		return true
	case "0", "no", "n", "false", "f", "off":
		return false
	}
	return before
}
