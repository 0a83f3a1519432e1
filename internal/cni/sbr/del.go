package sbr

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
)

func (p *plugin) del(c *config, call *cni.Call) (did string, err error) {
	key := p.key(c, call)
	// What is wrong with a previous result does not matter here: a pod must not stay
	// for it. Its addresses only help where there is no record.
	_ = c.readPrev(call.IfName)
	if call.Netns != "" {
		err = p.inside(call.Netns, func(s *session) error {
			did, err = s.del(c, key)
			return err
		})
	}
	if call.Netns == "" || errors.Is(err, kernel.ErrNoNamespace) {
		did, err = p.forget(key, call.Netns != "")
	}
	if err != nil {
		return "", cni.Failed(fmt.Sprintf("remove what routes %s by source", call.IfName), err)
	}
	p.sweep()
	return did, nil
}

// del removes an attachment by its record, or what looks like one that never had a
// record.
func (s *session) del(c *config, key record.AttachmentKey) (did string, err error) {
	if a := s.records.Get(key); a != nil {
		if err := s.undo(a); err != nil {
			return "", err
		}
		s.records.Remove(key)
		return fmt.Sprintf("removed %d steps", len(a.Steps)), s.lock.SaveAttachments(s.records)
	}
	if err := s.look(); err != nil {
		return "", err
	}
	addrs, err := s.addresses(c, key.Interface)
	if err != nil {
		return "", err
	}
	rules, err := s.unrecorded(addrs)
	if err != nil {
		return "", err
	}
	var changes []netstate.Change
	for i := range rules {
		changes = append(changes, netstate.Change{Verb: netstate.Delete, Rule: &rules[i]})
	}
	for i, err := range s.each(changes) {
		if !gone(err) {
			return "", fmt.Errorf("%s: %w", changes[i].String(), err)
		}
	}
	return fmt.Sprintf("no record; removed %d rules", len(rules)), nil
}

// addresses are those of the interface now and those that it was given.
func (s *session) addresses(c *config, dev string) (map[netip.Addr]bool, error) {
	all := map[netip.Addr]bool{}
	for _, a := range c.addrs {
		all[a.Prefix.Addr()] = true
	}
	if s.view.Link(dev) == nil {
		return all, nil
	}
	list, err := s.view.Addrs(s.ctx, dev)
	for i := range list {
		all[list[i].Prefix.Addr()] = true
	}
	return all, err
}

// protocolBoot is what the reference plugin's library gives to rules, or nothing.
const protocolBoot = 3

// unrecorded are the rules `from ADDRESS lookup TABLE`, and no other selector, that no
// attachment's record names. As viarule-sbr only those with its mark count.
func (s *session) unrecorded(addrs map[netip.Addr]bool) ([]netstate.Rule, error) {
	if err := s.readSteps(); err != nil {
		return nil, err
	}
	named := map[netstate.Rule]bool{}
	for i := range s.records.List {
		for j := range s.records.List[i].Steps {
			if r := s.records.List[i].Steps[j].Do.Rule; r != nil {
				named[*r] = true
			}
		}
	}
	rules, err := s.view.Those(s.ctx, func(h *kernel.RuleHead) bool {
		ours := h.Protocol == netstate.ProtocolCNI || !s.own && (h.Protocol == 0 || h.Protocol == protocolBoot)
		return ours && h.From.IsSingleIP() && addrs[h.From.Addr()]
	})
	var out []netstate.Rule
	for _, r := range rules {
		plain := netstate.Rule{Family: r.Family, Priority: r.Priority, From: r.From, Action: netstate.ToTable, Table: r.Table, Protocol: r.Protocol}
		if r == plain && !named[r] {
			out = append(out, r)
		}
	}
	return out, err
}

// forget removes an attachment of which the runtime does not say, or no longer knows,
// where it was. gone says that it named a namespace that is not there: then a record
// that cannot be read, of whatever other pod, does not keep this one.
func (p *plugin) forget(key record.AttachmentKey, gone bool) (did string, err error) {
	list, err := p.store.Namespaces()
	if err != nil {
		return "", err
	}
	did = "the namespace is gone"
	var unread []error
	for _, n := range list {
		records, err := n.Attachments()
		if err != nil {
			unread = append(unread, err)
			continue
		}
		if records.Get(key) == nil {
			continue
		}
		if err := p.release(n, records.Netns, []record.AttachmentKey{key}); err != nil {
			return "", err
		}
		did, gone = "removed by its record", true
	}
	if err := errors.Join(unread...); err != nil {
		if !gone {
			return "", err
		}
		did += "; not looked at: " + err.Error()
	}
	return did, nil
}

// release removes attachments of a namespace: what stands of them where it can still be
// reached, and their records.
func (p *plugin) release(n record.Namespace, at record.Netns, keys []record.AttachmentKey) error {
	if at.Path != "" && !at.Gone() {
		here := false
		err := p.inside(at.Path, func(s *session) error {
			// Inodes are used again: only the cookie proves that it is the one.
			if here = s.lock.Namespace().Cookie() == n.Cookie(); !here {
				return nil
			}
			for _, k := range keys {
				if a := s.records.Get(k); a != nil {
					if err := s.undo(a); err != nil {
						return err
					}
					s.records.Remove(k)
				}
			}
			return s.lock.SaveAttachments(s.records)
		})
		if here || err != nil && !errors.Is(err, kernel.ErrNoNamespace) {
			return err
		}
	}
	lock, err := n.LockWait(p.ctx, p.name+" "+p.command)
	if err != nil {
		return err
	}
	records, err := n.AttachmentHeads()
	if err == nil {
		for _, k := range keys {
			records.Remove(k)
		}
		err = lock.SaveAttachments(records)
	}
	return errors.Join(err, lock.Unlock())
}
