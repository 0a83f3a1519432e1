package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

const (
	attachmentFile = "cni.json"
	// maxAttachments bounds what is read of one; an attachment takes a few KiB.
	maxAttachments = 16 << 20
	attachments    = 1 // the format's version
)

// DropIn is the Plugin of attachments for which viarule-sbr was called by the name of the
// reference plugin.
const DropIn = "sbr"

// AttachmentKey tells the attachments of a namespace apart.
type AttachmentKey struct {
	Plugin    string // by which of its names the program was called
	Network   string // name of the network configuration
	Container string
	Interface string
}

// Attachment is what a CNI plugin did for one interface of a pod.
type Attachment struct {
	AttachmentKey
	Tables []uint32 // that only it fills, or else the VRF's
	VRF    string   // that the interface was made a port of
	Steps  []Step   // in their order

	text []byte // as it stands in the file, where the steps are not read yet
}

// Step is one write to the kernel and the one that undoes it. Both are of the same kind
// of object, and of one that a CNI plugin makes.
type Step struct {
	Do   netstate.Change
	Undo netstate.Change
}

// kindOf tells the kinds of objects apart; 0: none that a step may change.
func kindOf(c *netstate.Change) int {
	return slices.Index([]bool{c.Rule != nil, c.Route != nil, c.Sysctl != nil, c.Link != nil, c.Addr != nil}, true) + 1
}

// Attachments are the records of the CNI plugins of one namespace.
type Attachments struct {
	Netns Netns // where it was when the last one was recorded
	List  []Attachment
}

// Get is the record of an attachment; nil: there is none.
func (a *Attachments) Get(k AttachmentKey) *Attachment {
	if i := slices.IndexFunc(a.List, func(x Attachment) bool { return x.AttachmentKey == k }); i >= 0 {
		return &a.List[i]
	}
	return nil
}

// Put adds the record of an attachment, or puts it in the place of the one that is there.
func (a *Attachments) Put(x Attachment) {
	if old := a.Get(x.AttachmentKey); old != nil {
		*old = x
		return
	}
	a.List = append(a.List, x)
}

// Remove takes the record of an attachment out.
func (a *Attachments) Remove(k AttachmentKey) {
	a.List = slices.DeleteFunc(a.List, func(x Attachment) bool { return x.AttachmentKey == k })
}

// Attachments reads the records of the namespace's attachments; there may be none.
func (n Namespace) Attachments() (*Attachments, error) {
	a, err := n.AttachmentHeads()
	if err == nil {
		err = n.ReadSteps(a)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// AttachmentHeads is Attachments without the steps, which ReadSteps reads: to add one to a
// hundred it needs the others' tables alone. Saved they are as they were.
func (n Namespace) AttachmentHeads() (*Attachments, error) {
	path := n.attachmentFile()
	data, err := n.read(path, maxAttachments)
	switch {
	case err != nil:
		return nil, err
	case data == nil:
		return &Attachments{}, nil
	}
	a, err := decodeAttachments(data)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return a, nil
}

// ReadSteps reads the steps of those of the namespace's attachments that AttachmentHeads
// gave without.
func (n Namespace) ReadSteps(a *Attachments) error {
	for i := range a.List {
		if x := &a.List[i]; x.text != nil {
			if err := x.readSteps(); err != nil {
				return unreadable(n.attachmentFile(), err)
			}
		}
	}
	return nil
}

func (n Namespace) attachmentFile() string { return n.Dir() + "/" + attachmentFile }

// SaveAttachments replaces the records of the namespace's attachments at one instant.
// Without any the file goes.
func (l *Lock) SaveAttachments(a *Attachments) error {
	path := l.ns.attachmentFile()
	if len(a.List) == 0 {
		l.kept = false
		if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
			return &Error{path, err, ""}
		}
		return nil
	}
	err := replace(path, a.encode(), maxAttachments)
	l.kept = l.kept || err == nil
	return err
}

// LockWait is Lock, but waits for another process that has the lock until ctx ends;
// the error is then the *BusyError and that of ctx.
func (n Namespace) LockWait(ctx context.Context, doing string) (*Lock, error) {
	for wait := time.Duration(0); ; {
		l, err := n.Lock(doing)
		var busy *BusyError
		if !errors.As(err, &busy) {
			return l, err
		}
		wait = min(wait+lockStep, 20*lockStep)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

const lockStep = 200 * time.Microsecond

// Gone says that no namespace is at the path by which this one was opened, or that it
// is another one. What other path leads to it, if any, is not known.
func (ns Netns) Gone() bool {
	if ns.Path == "" {
		return false
	}
	dev, ino, err := inode(ns.Path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return dev != ns.Dev || ino != ns.Inode
}

// Usable says why records cannot be written; nil: they can.
func (s Store) Usable() error {
	if err := s.checkDir(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return &Error{s.Dir, cause(err), ""}
	}
	f, err := os.CreateTemp(s.Dir, "usable-")
	if err != nil {
		return &Error{s.Dir, cause(err), ""}
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
