package sbr

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
)

// session is a namespace in which a call works, under its locks.
type session struct {
	*plugin
	conn    *kernel.Conn
	view    *kernel.View
	lock    *record.Lock
	records *record.Attachments
}

// inside enters a namespace, takes its locks, and works there. Two locks, since two
// kinds of neighbours choose tables: the reference plugin, and viarule itself.
func (p *plugin) inside(path string, work func(*session) error) (err error) {
	// A bare name is a path, too: of Enter's it would be another one's, and the record
	// has to lead there from every folder.
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	how := p.enter
	if p.ownNetns {
		how |= kernel.OwnToo
	}
	ns, err := kernel.Enter(path, how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Leave()) }()
	if err := ns.Lock(p.ctx); err != nil {
		return err
	}
	s := &session{plugin: p}
	if s.conn, err = ns.Open(); err != nil {
		return err
	}
	defer s.conn.Close()
	cookie, err := s.conn.Cookie()
	if err != nil {
		return err
	}
	p.entered = cookie
	if s.lock, err = p.store.Namespace(cookie).LockWait(p.ctx, p.name+" "+p.command); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.lock.Unlock()) }()
	if s.records, err = s.lock.Namespace().AttachmentHeads(); err != nil {
		return err
	}
	s.records.Netns.Path = path
	if s.records.Netns.Dev, s.records.Netns.Inode, err = ns.Identity(); err != nil {
		return err
	}
	return work(s)
}

// readSteps reads what of the records an ADD can do without.
func (s *session) readSteps() error { return s.lock.Namespace().ReadSteps(s.records) }

// mending is how long it may take to undo what was done when the time was up.
const mending = 10 * time.Second

// moreTime is for undoing: the call may have failed since its time is up, most of which
// it may have waited for its locks. The function that it returns is to be called at the
// end.
func (s *session) moreTime() func() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), mending)
	s.ctx = ctx
	return cancel
}

// write is the kernel's Apply, behind look.
func (s *session) write(changes []netstate.Change) (attempted int, failed []*netstate.ChangeError) {
	attempted, failed = s.view.Apply(s.ctx, changes)
	for i := 0; s.debug && i < attempted; i++ {
		s.writes = append(s.writes, changes[i].String())
	}
	return attempted, failed
}

// look reads the links anew.
func (s *session) look() (err error) {
	if s.view, err = s.conn.View(s.ctx); err != nil {
		return fmt.Errorf("read the links: %w", err)
	}
	return nil
}
