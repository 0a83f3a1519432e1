package hostlocal

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni"
)

// mostResolv bounds a resolv.conf, in bytes.
const mostResolv = 64 << 10

// readResolvConf reads a resolv.conf file. A tenant may name the file, and sees the result:
// hence only regular files below /etc and /run, where such files are, and only what looks
// like a resolv.conf's values. Links are followed, since /etc/resolv.conf often is one.
func readResolvConf(name string) (dns cni.DNS, err error) {
	const key = "ipam.resolvConf"
	if path.Clean(name) != name || !strings.HasPrefix(name, "/etc/") && !strings.HasPrefix(name, "/run/") || strings.Contains(name, "\x00") {
		return dns, cni.Wrong(key, fmt.Sprintf("%.80q is no file below /etc or /run", name), "write its whole path, without . and ..")
	}
	b, err := readRegular(name)
	if err != nil {
		return dns, cni.Failed(fmt.Sprintf("%s: read %s", key, name), err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if _, err := netip.ParseAddr(f[1]); err == nil {
				dns.Nameservers = append(dns.Nameservers, f[1])
			}
		case "domain":
			if isName(f[1]) {
				dns.Domain = f[1]
			}
		case "search":
			dns.Search = appendIf(dns.Search, f[1:], isName)
		case "options":
			dns.Options = appendIf(dns.Options, f[1:], isOption)
		}
	}
	return dns, nil
}

func appendIf(list, more []string, ok func(string) bool) []string {
	for _, s := range more {
		if ok(s) {
			list = append(list, s)
		}
	}
	return list
}

func isName(s string) bool   { return len(s) <= 253 && only(s, "._-", "") }
func isOption(s string) bool { return len(s) <= 64 && only(s, "_-", ":") }

// only says that s is letters, digits and the given others, and one of the last kind at most.
func only(s, others, once string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(others, c) >= 0:
		case strings.IndexByte(once, c) >= 0:
			once = ""
		default:
			return false
		}
	}
	return true
}

func readRegular(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("it is no regular file")
	}
	b := make([]byte, mostResolv+1)
	n := 0
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return b[:n], nil
		}
		n += m
	}
	return nil, fmt.Errorf("it has more than %d bytes", mostResolv)
}
