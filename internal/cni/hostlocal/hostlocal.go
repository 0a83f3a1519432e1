// Package hostlocal gives out addresses as the reference IPAM plugin host-local does, and
// from the same files, so that both may be used on one network, even at the same time:
// /var/lib/cni/networks/NETWORK has a file per address, with its name, whose content is
// `<container>\r\n<interface>`; `lock`; and last_reserved_ip.N, the address that the range
// set N gave out last.
//
// It differs from the reference where that one loses or leaks an address, or trusts a
// configuration that a tenant may have written:
//
//   - An address's file comes into being with its content (it is made under another name),
//     so that a killed ADD leaves nothing that no DEL finds.
//   - An ADD that fails releases what it took, not what an earlier ADD of the attachment has.
//   - DEL looks for files without an interface only where the attachment has no other; it
//     needs no range, and makes no folder.
//   - GC removes only files that are named by an address, and wants the list of what is valid.
//   - dataDir must be below /var/lib/cni, and no symbolic link is followed from there on.
//   - resolvConf must be a file below /etc or /run; what does not look like a name server,
//     a domain or an option is left out, so that a tenant cannot read files with it.
//   - What the keys do not know but is one letter away from them is an error.
//
// The reference reads every file of a network for each ADD, DEL and CHECK, to see what the
// attachment has. Here an index in /run says it; see index.
package hostlocal

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/viarule/viarule/internal/cni"
)

// Attachment names an interface of a container.
type Attachment = cni.GCAttachment

// owners is what the file of an attachment's address says. Files of before CNI had several
// interfaces a container have only its id: legacy.
func owners(a Attachment) (now, legacy string, err error) {
	for name, s := range map[string]string{"CNI_CONTAINERID": a.ContainerID, "CNI_IFNAME": a.IfName} {
		if strings.TrimSpace(s) == "" || len(s) > 1024 || strings.ContainsAny(s, "\r\n\x00") {
			return "", "", &cni.Error{Code: cni.CodeEnvironment, Msg: fmt.Sprintf("%s: %.80q cannot be written to a file of host-local", name, s)}
		}
	}
	legacy = strings.TrimSpace(a.ContainerID)
	return legacy + "\r\n" + a.IfName, legacy, nil
}

// Store is where a network's allocations are.
type Store struct {
	base  string   // a folder that is trusted
	below []string // the way from there, without links
	index string   // the folder with the indexes
}

// Add gives the attachment an address of each range set: the one that is asked for, or the
// next free one. It fails where the attachment has one already, as the reference does: a
// runtime must DEL before it can ADD again.
func (c *Config) Add(ctx context.Context, a Attachment) (*cni.Result, error) {
	now, legacy, err := owners(a)
	if err != nil {
		return nil, err
	}
	r := &cni.Result{Routes: c.routes}
	if c.resolvConf != "" {
		if r.DNS, err = readResolvConf(c.resolvConf); err != nil {
			return nil, err
		}
	}
	f, err := c.open(ctx, true)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if r.IPs, err = c.take(f, now, legacy); err != nil {
		for _, ip := range r.IPs {
			_ = f.remove(ip.Address.Addr(), now)
		}
		return nil, err
	}
	return r, nil
}

// take takes the addresses. Those that it gives with an error are to be released.
func (c *Config) take(f *folder, now, legacy string) (ips []cni.IP, err error) {
	held, err := f.find(now)
	if err == nil {
		var old []netip.Addr
		old, err = f.find(legacy)
		held = append(held, old...)
	}
	if err != nil {
		return nil, err
	}
	asked := c.requested
	for i := range c.sets {
		s := &c.sets[i]
		var ip cni.IP
		at := -1
		for j, want := range asked {
			if s.find(want) != nil {
				at = j
				break
			}
		}
		if at >= 0 {
			want := asked[at]
			asked = without(asked, want)
			ip, err = f.takeOne(s, i, want, now)
		} else if has := s.any(held); has.IsValid() {
			err = &cni.Error{Code: cni.CodeEnvironment, Msg: fmt.Sprintf("%s has been allocated to %s, duplicate allocation is not allowed: CNI_CONTAINERID and CNI_IFNAME are in use; DEL first", has, legacy)}
		} else {
			ip, err = f.takeNext(s, i, now)
		}
		if err != nil {
			return ips, cni.Failed(fmt.Sprintf("allocate an address of range set %d (%s)", i, s.key), err)
		}
		ips = append(ips, ip)
	}
	if len(asked) > 0 {
		return ips, cni.Wrong("ips", fmt.Sprintf("failed to allocate all requested IPs: %v is in no range set, or shares one with another request", asked), "")
	}
	return ips, nil
}

func without(list []netip.Addr, a netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, x := range list {
		if x != a {
			out = append(out, x)
		}
	}
	return out
}

// any gives one of some addresses that is in the set; zero: none is.
func (s *set) any(of []netip.Addr) netip.Addr {
	for _, a := range of {
		if s.find(a) != nil {
			return a
		}
	}
	return netip.Addr{}
}

// Del gives back what the attachment has. It is no error that it has nothing.
func (s *Store) Del(ctx context.Context, a Attachment) error {
	now, legacy, err := owners(a)
	if err != nil {
		return err
	}
	f, err := s.open(ctx, false)
	if f == nil {
		return err
	}
	defer f.close()
	for _, owner := range []string{now, legacy} {
		held, err := f.find(owner)
		if err != nil {
			return cni.Failed("look for allocations", err)
		}
		for _, a := range held {
			if failed := f.remove(a, owner); failed != nil && err == nil {
				err = failed
			}
		}
		if err != nil {
			return cni.Failed("release an address", err)
		}
		if len(held) > 0 {
			return nil
		}
	}
	return nil
}

// Check fails where the attachment has no address.
func (s *Store) Check(ctx context.Context, a Attachment) error {
	now, legacy, err := owners(a)
	if err != nil {
		return err
	}
	f, err := s.open(ctx, false)
	if err != nil {
		return err
	}
	if f != nil {
		defer f.close()
		for _, owner := range []string{now, legacy} {
			if held, err := f.find(owner); err != nil || len(held) > 0 {
				return err
			}
		}
	}
	return &cni.Error{Code: cni.CodeDiffers, Msg: fmt.Sprintf("host-local: Failed to find address added by container %s for %s in %s", legacy, a.IfName, s)}
}

// GC gives back what belongs to none of the valid attachments.
func (s *Store) GC(ctx context.Context, valid []Attachment) error {
	keep := make(map[string]bool, 2*len(valid))
	for _, a := range valid {
		id := strings.TrimSpace(a.ContainerID)
		keep[id+"\r\n"+a.IfName] = true
		keep[id] = true // a file of before says no interface
	}
	f, err := s.open(ctx, false)
	if f == nil {
		return err
	}
	defer f.close()
	return f.sweep(func(owner string) bool { return keep[owner] })
}

// Status fails where the network's folder cannot be used. That all addresses are given out
// is no failure: a node would be taken out of use for it.
func (s *Store) Status() error {
	f, err := s.open(context.Background(), false)
	if f != nil {
		f.close()
	}
	return err
}
