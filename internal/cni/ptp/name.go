package ptp

import (
	"fmt"
	"hash/fnv"
	"strings"
	"unicode/utf8"

	"github.com/viarule/viarule/internal/cni"
)

// Prefix is what the names of the host's ends begin with, and nothing else on a host
// should.
const Prefix = "via"

const (
	aliasPrefix = "viarule:ptp/"
	// maxAlias is what the kernel takes (IFALIASZ, less the zero).
	maxAlias = 255
)

// Attachment names an interface of a container, and the network that it is in.
type Attachment struct{ Network, Container, Interface string }

// Alias is the ifalias of the host's end of an attachment's veth. None of the names may
// have a slash.
func (a Attachment) Alias() string {
	return aliasPrefix + a.Network + "/" + a.Container + "/" + a.Interface
}

// ParseAlias reads an alias.
func ParseAlias(alias string) (a Attachment, ok bool) {
	rest, ok := strings.CutPrefix(alias, aliasPrefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return Attachment{}, false
	}
	return Attachment{parts[0], parts[1], parts[2]}, true
}

// check says whether there can be an interface for it.
func (a Attachment) check() error {
	if !utf8.ValidString(a.Interface) {
		return &cni.Error{Code: cni.CodeEnvironment, Msg: fmt.Sprintf("CNI_IFNAME: %q is no UTF-8, so that no result can name the interface; use another name", a.Interface)}
	}
	if n := len(a.Alias()); n > maxAlias {
		return &cni.Error{Code: cni.CodeEnvironment, Msg: fmt.Sprintf("the names of network, container and interface have %d letters together, which is %d too many", n-len(aliasPrefix)-2, n-maxAlias)}
	}
	return nil
}

// HostName is the name of the host's end of an attachment's veth: 15 letters, of which 12
// are a hash. It does not depend on the network: a container has an interface once.
func (a Attachment) HostName() string {
	return fmt.Sprintf("%s%012x", Prefix, hash("name", a.Container, a.Interface)>>16)
}

// macs are the link-layer addresses of both ends. They are locally administered, and always
// the same for an attachment, so that CHECK can tell them.
func (a Attachment) macs() (host, pod string) {
	mac := func(end string) string {
		h := hash(end, a.Container, a.Interface)
		return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", byte(h>>40)&0xfc|2, byte(h>>32), byte(h>>24), byte(h>>16), byte(h>>8), byte(h))
	}
	return mac("host"), mac("pod")
}

// hash is FNV-1a with the bits mixed, since names of containers often differ in their
// last letters only. Each word ends with a zero, so that ab, c is not a, bc.
func hash(words ...string) uint64 {
	f := fnv.New64a()
	for _, s := range words {
		f.Write([]byte(s))
		f.Write([]byte{0})
	}
	// The finalizer of splitmix64.
	h := f.Sum64()
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
