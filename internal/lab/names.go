package lab

import (
	"net"
	"regexp"
	"strings"
)

// Names end up in file names below /run and in the kernel, so each has a small
// alphabet. A host has no dash: vlab-a-b-c is then host c of lab a-b and nothing
// else.
var (
	labName     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	hostName    = regexp.MustCompile(`^[a-z][a-z0-9]{0,19}$`)
	linkName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
	fileName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)
	sysctlKey   = regexp.MustCompile(`^net(/[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,63}){1,6}$`)
	sysctlValue = regexp.MustCompile(`^[A-Za-z0-9_.,:-][A-Za-z0-9_.,: \t-]{0,63}$`)
)

// The kernel takes "all" and "default" for the settings of every link.
func validLink(s string) bool {
	return linkName.MatchString(s) && s != loopback && s != "all" && s != "default"
}

// ValidName says whether s can be a lab's name: up to 32 lower case letters,
// digits and inner dashes.
func ValidName(s string) bool { return labName.MatchString(s) }

func validMAC(s string) bool {
	m, err := net.ParseMAC(s)
	return err == nil && len(m) == 6 && m[0]&1 == 0 && s == strings.ToLower(m.String())
}
