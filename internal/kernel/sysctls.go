package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// waySysctls are the sysctls that decide about a packet's way. A star stands for
// `all`, `default` and every link. None of them is a secret: net/ipv6/conf/*/stable_secret
// and net/ipv4/tcp_fastopen_key must never be here.
var waySysctls = []struct {
	dir  string
	keys []string
}{
	{"net/bridge", []string{"bridge-nf-call-arptables", "bridge-nf-call-ip6tables", "bridge-nf-call-iptables"}},
	{"net/ipv4", []string{
		"fib_multipath_hash_policy", "fib_multipath_use_neigh", "fwmark_reflect", "ip_default_ttl", "ip_forward",
		"tcp_fwmark_accept", "tcp_l3mdev_accept", "udp_l3mdev_accept"}},
	{"net/ipv4/conf/*", []string{
		"accept_local", "accept_source_route", "arp_announce", "arp_filter", "arp_ignore", "disable_policy", "disable_xfrm", "forwarding",
		"ignore_routes_with_linkdown", "log_martians", "proxy_arp", "route_localnet", "rp_filter", "send_redirects", "src_valid_mark"}},
	{"net/ipv4/vs", []string{"conntrack", "snat_reroute"}},
	{"net/ipv6", []string{"fib_multipath_hash_policy", "fwmark_reflect"}},
	{"net/ipv6/conf/*", []string{
		"accept_ra", "accept_source_route", "disable_ipv6", "force_forwarding", "forwarding", "ignore_routes_with_linkdown", "proxy_ndp", "use_tempaddr"}},
}

// Sysctls reads the sysctls that decide about a packet's way, of both families,
// for `all`, `default` and every link: forwarding, rp_filter and what else belongs
// to the source check, ARP, the choice among several next hops, marks, VRFs, bridge
// netfilter and IPVS. They are sorted by key; those that this kernel does not have
// are left out. A link that goes meanwhile has some of its own or none.
func (c *Conn) Sysctls(ctx context.Context) ([]netstate.Sysctl, error) {
	var out []netstate.Sysctl
	err := inNamespace(c.ns, func() (err error) {
		r := sysctlReader{ctx: ctx, words: map[string]string{}}
		for _, s := range waySysctls {
			if parent, links := strings.CutSuffix(s.dir, "/*"); links {
				err = r.links(parent, s.keys)
			} else {
				err = r.read(s.dir, s.keys)
			}
			if err != nil {
				return err
			}
		}
		out = r.out
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the sysctls: %w", err)
	}
	slices.SortFunc(out, func(a, b netstate.Sysctl) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// sysctlReader reads sysctls of the thread's namespace.
type sysctlReader struct {
	ctx   context.Context
	out   []netstate.Sysctl
	words map[string]string // values: nearly all are the same few
	buf   [256]byte
}

// links reads the keys in each folder of parent.
func (r *sysctlReader) links(parent string, keys []string) error {
	list, err := os.ReadDir(sysctlRoot + parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.out = slices.Grow(r.out, len(list)*len(keys))
	for _, e := range list {
		if err := r.read(parent+"/"+e.Name(), keys); err != nil {
			return err
		}
	}
	return nil
}

// read reads the keys of one folder. Opened from it, a file costs a third of what
// its whole path does: there are twenty for each link.
func (r *sysctlReader) read(dir string, keys []string) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	at, err := openat(unix.AT_FDCWD, sysctlRoot+dir, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return sysctlError(dir, err)
	}
	defer unix.Close(at)
	for _, key := range keys {
		value, err := r.value(at, key)
		if err == unix.ENOENT {
			continue // this kernel has none, or the link went meanwhile
		}
		if err != nil {
			return sysctlError(dir+"/"+key, err)
		}
		r.out = append(r.out, netstate.Sysctl{Key: dir + "/" + key, Value: value})
	}
	return nil
}

func (r *sysctlReader) value(at int, key string) (string, error) {
	fd, err := openat(at, key, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, r.buf[:]) })
	if err != nil {
		return "", err
	}
	b := bytes.TrimSuffix(r.buf[:n], []byte("\n"))
	s, ok := r.words[string(b)]
	if !ok {
		s = string(b)
		r.words[s] = s
	}
	return s, nil
}

func openat(at int, path string, flags int) (int, error) {
	return ignoringEINTR(func() (int, error) { return unix.Openat(at, path, flags|unix.O_CLOEXEC, 0) })
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
