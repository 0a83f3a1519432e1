package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// The files beside the objects.
const (
	bootUnit  = "/etc/systemd/system/viarule.service"
	bootWants = "/etc/systemd/system/multi-user.target.wants/viarule.service"
	linkUnit  = "/etc/systemd/system/viarule-link@.service"
	udevRule  = "/etc/udev/rules.d/80-viarule.rules"
	ifupHook  = "/etc/network/if-up.d/viarule"
	networkd  = "/etc/networkd-dispatcher/routable.d/50-viarule"
	nmHook    = "/etc/NetworkManager/dispatcher.d/50-viarule"
	isBooted  = "/run/systemd/system" // exists exactly where systemd is PID 1: sd_booted(3)
	header    = "# " + mark + "; `viarule delete` of the last such object removes it.\n"
)

// hook is a script that some program calls when a link has come up.
type hook struct {
	path string
	// home is the folder that the program's package makes, so that it shows
	// whether it is installed.
	home string
	of   string
	// when leaves the script where the event is of no interest.
	when string
}

var hooks = [...]hook{
	{ifupHook, "/etc/network/if-up.d", "ifupdown", `[ "$IFACE" != lo ] || exit 0`},
	{networkd, "/etc/networkd-dispatcher/routable.d", "networkd-dispatcher", `[ "$IFACE" != lo ] || exit 0`},
	{nmHook, "/etc/NetworkManager/dispatcher.d", "NetworkManager",
		`case "$2" in up|vpn-up|reapply|dhcp4-change|dhcp6-change) ;; *) exit 0 ;; esac`},
}

// script is the text of a hook. It never fails, since some of these programs take
// a failed hook for a failed link.
func (h hook) script(program string) string {
	return "#!/bin/sh\n" + header +
		"# A link that went down took its routes along: they are put back.\n" +
		h.when + "\n" + shellQuote(program) + " apply --from-boot || :\n"
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// unitQuote quotes the program of an ExecStart (systemd.service(5), "Command
// lines"). Variables are not expanded in it.
func unitQuote(s string) string { return `"` + strings.ReplaceAll(s, "%", "%%") + `"` }

// checkProgram refuses what cannot stand in the files; systemd takes no
// executable with a quote, a backslash or a control character.
func checkProgram(p string) error {
	switch {
	case !filepath.IsAbs(p):
		return fmt.Errorf("%s is no absolute path of the program", p)
	case strings.ContainsAny(p, "\"'\\*?") || strings.ContainsFunc(p, unicode.IsControl):
		return fmt.Errorf("the path %q of the program has characters that systemd does not take; install it elsewhere, in /usr/local/sbin for example", p)
	}
	return nil
}

// bootService applies the objects when the machine starts.
//
// network.target comes when the programs that configure links have been started;
// with ifupdown the links are ready then, with NetworkManager and
// systemd-networkd they may still come. What finds no link fails as a whole and
// is tried again, for a minute; later on the link's own event does it. Who waits
// for network-online.target finds the policy in force in the usual case.
func bootService(program string) string {
	return header + `[Unit]
Description=Policy routing (viarule)
Documentation=man:viarule(1)
After=network-pre.target systemd-sysctl.service systemd-modules-load.service
After=networking.service systemd-networkd.service NetworkManager.service network.target
Before=network-online.target
ConditionDirectoryNotEmpty=` + Dir + `
StartLimitIntervalSec=120
StartLimitBurst=30

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + unitQuote(program) + ` apply --from-boot
ExecReload=` + unitQuote(program) + ` apply --from-boot
Restart=on-failure
RestartSec=2s

[Install]
WantedBy=multi-user.target
`
}

// linkService applies them again for a new link; the instance is the link's path
// in /sys, so that no event is lost while the service runs for another link. The
// link gets its addresses some time after the event, hence the repetition.
func linkService(program string) string {
	return header + `[Unit]
Description=Policy routing (viarule) for the new link %I
Documentation=man:viarule(1)
After=viarule.service
ConditionDirectoryNotEmpty=` + Dir + `
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=oneshot
ExecStart=` + unitQuote(program) + ` apply --from-boot
Restart=on-failure
RestartSec=2s
`
}

// linkRule starts linkService for links that appear or get another name. A
// template without an instance gets the device's path (systemd.device(5)).
func linkRule() string {
	return header + `ACTION=="add|move", SUBSYSTEM=="net", KERNEL!="lo", TAG+="systemd", ENV{SYSTEMD_WANTS}+="viarule-link@.service"
`
}

// install has everything there that calls viarule.
func (c Config) install(r *Report) error {
	before := len(r.Written)
	systemd := c.isDir(isBooted)
	if systemd {
		err := errors.Join(
			c.put(r, bootUnit, bootService(c.Program), 0o644),
			c.put(r, linkUnit, linkService(c.Program), 0o644),
			c.put(r, udevRule, linkRule(), 0o644),
			c.enable(r))
		if err != nil {
			return err
		}
		if len(r.Written) > before {
			if err := c.reload(); err != nil {
				return err
			}
		}
	}
	var called []string
	for _, h := range hooks {
		if !c.isDir(h.home) {
			continue
		}
		if err := c.put(r, h.path, h.script(c.Program), 0o755); err != nil {
			return err
		}
		called = append(called, h.of)
	}
	switch {
	case systemd:
		r.Say = append(r.Say, "systemd applies this at boot (viarule.service), and again when a link appears")
	case len(called) > 0:
		r.Say = append(r.Say, "systemd does not run here: "+strings.Join(called, " and ")+" applies this whenever a link has come up; for links that it does not manage, have `"+c.Program+" apply --from-boot` called at boot, after the network is configured")
	default:
		r.Say = append(r.Say, "the objects are kept in "+Dir+", but systemd does not run here: have `"+c.Program+" apply --from-boot` called as root at boot, after the network is configured, and whenever a link has come back")
	}
	if systemd && len(called) == 0 {
		r.Say = append(r.Say, "neither ifupdown, NetworkManager nor networkd-dispatcher is installed: after a link went down and up again, `systemctl reload viarule` puts its routes back")
	}
	return nil
}

// uninstall removes all of that, and the folders that are empty then.
func (c Config) uninstall(r *Report) error {
	before := len(r.Removed)
	if err := errors.Join(c.disable(r), c.remove(r, udevRule), c.remove(r, linkUnit), c.remove(r, bootUnit)); err != nil {
		return err
	}
	if len(r.Removed) > before && c.isDir(isBooted) {
		if err := c.reload(); err != nil {
			return err
		}
	}
	for _, h := range hooks {
		if err := c.remove(r, h.path); err != nil {
			return err
		}
	}
	if err := c.removeDirs(); err != nil {
		return fmt.Errorf("remove from the boot: %w", err)
	}
	return nil
}

// enable does what `systemctl enable` does, which needs a running systemd.
func (c Config) enable(r *Report) error {
	link := c.path(bootWants)
	if to, err := os.Readlink(link); err == nil && to == bootUnit {
		return nil
	}
	if err := c.makeDir(filepath.Dir(bootWants)); err != nil {
		return fmt.Errorf("enable viarule.service: %w", err)
	}
	if err := os.Symlink(bootUnit, link); err != nil {
		return fmt.Errorf("enable viarule.service: %w", err)
	}
	r.Written = append(r.Written, bootWants)
	return nil
}

func (c Config) disable(r *Report) error {
	link := c.path(bootWants)
	to, err := os.Readlink(link)
	if err != nil || to != bootUnit {
		return nil // not there, or not ours
	}
	// A unit of that name that we did not write keeps its link.
	if there, our, err := ours(c.path(bootUnit)); err != nil || there && !our {
		return err
	}
	if err := os.Remove(link); err != nil {
		return fmt.Errorf("disable viarule.service: %w", err)
	}
	r.Removed = append(r.Removed, bootWants)
	return nil
}

func (c Config) isDir(path string) bool {
	info, err := os.Stat(c.path(path))
	return err == nil && info.IsDir()
}
