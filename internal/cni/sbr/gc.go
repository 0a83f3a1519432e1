package sbr

import (
	"errors"
	"fmt"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/record"
)

// gc removes the attachments of this network that the runtime does not list.
func (p *plugin) gc(c *config, _ *cni.Call) (did string, err error) {
	valid, err := cni.ValidAttachments(c.document)
	if err != nil {
		return "", err
	}
	keep := map[cni.GCAttachment]bool{}
	for _, v := range valid {
		keep[v] = true
	}
	list, err := p.store.Namespaces()
	if err != nil {
		return "", cni.Failed("collect garbage", err)
	}
	removed := 0
	var failed []error
	for _, n := range list {
		records, err := n.Attachments()
		if err != nil {
			failed = append(failed, err)
			continue
		}
		var keys []record.AttachmentKey
		for i := range records.List {
			k := records.List[i].AttachmentKey
			if k.Plugin == p.name && k.Network == c.network && !keep[cni.GCAttachment{ContainerID: k.Container, IfName: k.Interface}] {
				keys = append(keys, k)
			}
		}
		if len(keys) == 0 {
			continue
		}
		if err := p.release(n, records.Netns, keys); err != nil {
			failed = append(failed, err)
			continue
		}
		removed += len(keys)
	}
	if err := errors.Join(failed...); err != nil {
		return "", cni.Failed("collect garbage", err)
	}
	return fmt.Sprintf("removed %d attachments", removed), nil
}

// sweepAtOnce is how many folders a call looks at: each ADD makes at most one, so that
// all are looked at again and again, and no call becomes slow.
const sweepAtOnce = 4

// sweep forgets the attachments of some namespaces that are gone. Runtimes seldom
// call GC. What fails will be tried again.
func (p *plugin) sweep() {
	list, err := p.store.Namespaces()
	if err != nil {
		return
	}
	start := p.started.Nanosecond()
	for i := range min(sweepAtOnce, len(list)) {
		n := list[(start/1000+i)%len(list)]
		if n.Cookie() == p.entered {
			continue // was there a moment ago
		}
		records, err := n.AttachmentHeads()
		if err != nil || len(records.List) == 0 || !records.Netns.Gone() {
			continue
		}
		lock, err := n.Lock(p.name + " " + p.command)
		if err != nil {
			continue
		}
		// Once more under the lock: a new pod may have its path back.
		if records, err = n.AttachmentHeads(); err == nil && records.Netns.Gone() {
			_ = lock.SaveAttachments(&record.Attachments{})
		}
		_ = lock.Unlock()
	}
}
