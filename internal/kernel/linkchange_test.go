package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

const ownAlias = "viarule:ExternalNetwork/a"

func ownLink() *netstate.Link {
	return &netstate.Link{Name: "own", Kind: "macvlan", Parent: "v0", Alias: ownAlias, Up: true}
}

// meddled is a socket that has something happen before a request.
type meddled struct {
	transport
	sent   int
	before func(n int) error // n counts the requests
}

func (m *meddled) send(b []byte) error {
	m.sent++
	if err := m.before(m.sent - 1); err != nil {
		return err
	}
	return m.transport.send(b)
}

// openLinks makes a namespace with the links v0 and p0, and a way to look at it
// that nothing meddles with.
func openLinks(t *testing.T) (c, aside *Conn) {
	t.Helper()
	netnstest.New(t)
	netnstest.IP(t, "link add v0 type veth peer name p0", "link set v0 up", "link set p0 up")
	conns := [2]*Conn{}
	for i := range conns {
		var err error
		if conns[i], err = Open(""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// linksNow lists links but lo, v0 and p0: their names, kinds and aliases, and
// whether they are up.
func linksNow(t *testing.T, c *Conn) string {
	t.Helper()
	s, err := c.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for i := range s.Links {
		if l := &s.Links[i]; l.Name != "lo" && l.Name != "v0" && l.Name != "p0" {
			list = append(list, fmt.Sprintf("%s %s %q up=%t", l.Name, l.Kind, l.Alias, l.Up))
		}
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

func applyLink(c *Conn, verb netstate.Verb, l *netstate.Link) error {
	_, failed := c.Apply(context.Background(), []netstate.Change{{Verb: verb, Link: l}})
	if len(failed) > 0 {
		return failed[0]
	}
	return nil
}

const (
	ownDone  = `own macvlan "` + ownAlias + `" up=true`
	ownTaken = `own macvlan "" up=false` // somebody else's
)

// Something happens before each request of an Add in turn: the Add ends with the
// link as it shall be, or fails and leaves nothing of its own.
func TestAnAddOfALinkInterrupted(t *testing.T) {
	temporary := temporaryName("own")
	for _, tt := range []struct {
		name   string
		meddle func(aside *Conn) error
		left   string // what may be there after a failure
	}{
		{"the name is taken", func(a *Conn) error {
			return a.CreateLink(context.Background(), LinkSpec{Name: "own", Kind: "macvlan", Parent: "v0"})
		}, ownTaken},
		{"the link goes", func(a *Conn) error { return a.DeleteLink(context.Background(), temporary) }, ""},
		{"the parent goes", func(a *Conn) error { return a.DeleteLink(context.Background(), "v0") }, ""},
		{"the kernel is out of memory", func(*Conn) error { return unix.ENOBUFS }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			failures := 0
			for n := 0; ; n++ {
				reached := false
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					c, aside := openLinks(t)
					happened := false
					c.t = &meddled{transport: c.t, before: func(i int) error {
						if i != n {
							return nil
						}
						reached = true
						err := tt.meddle(aside)
						happened = err == nil || errors.Is(err, unix.ENOBUFS)
						if errors.Is(err, unix.ENOBUFS) {
							return err
						}
						return nil
					}}
					err := applyLink(c, netstate.Add, ownLink())
					got := linksNow(t, aside)
					switch {
					case err == nil && got != ownDone:
						t.Errorf("before request %d (it happened: %t) the Add succeeds and leaves %s", n, happened, got)
					case err != nil && !happened:
						t.Errorf("before request %d nothing happened, and yet: %v", n, err)
					case err != nil && got != tt.left:
						t.Errorf("before request %d: %v\nleft: %s\nwant: %s", n, err, got, tt.left)
					}
					if err != nil {
						failures++
					}
				})
				if !reached {
					break
				}
			}
			if failures < 3 {
				t.Errorf("%d times the Add failed; want it to be interrupted at more places", failures)
			}
		})
	}
}

// A process that is killed before any request leaves no link under the wanted name
// without its alias, and the next Add of another process ends well, as does a Delete.
func TestAnAddOfALinkAfterOneThatWasKilled(t *testing.T) {
	temporary := temporaryName("own")
	leftOver := 0
	for n := 0; ; n++ {
		killed := false
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c, aside := openLinks(t)
			dead := errors.New("killed")
			c.t = &meddled{transport: c.t, before: func(i int) error {
				if killed = killed || i == n/2; killed {
					return dead
				}
				return nil
			}}
			c.dial = func() (transport, error) { return nil, dead }
			err := applyLink(c, netstate.Add, ownLink())
			if killed == (err == nil) {
				t.Fatalf("killed before request %d: %t, and the Add says %v", n/2, killed, err)
			}
			left := linksNow(t, aside)
			switch {
			case strings.HasPrefix(left, temporary):
				leftOver++
			case strings.HasPrefix(left, "own ") && !strings.Contains(left, ownAlias):
				t.Errorf("killed before request %d it leaves %s, which does not say whose it is", n/2, left)
			}
			if n%2 == 1 { // each request is there twice
				err = applyLink(aside, netstate.Delete, ownLink())
				if got := linksNow(t, aside); err != nil && !errors.Is(err, unix.ENODEV) || got != "" {
					t.Errorf("killed before request %d it left %q; the Delete: %v, and there is %s", n/2, left, err, got)
				}
				return
			}
			if strings.HasPrefix(left, "own ") { // the plan then replaces it
				err = applyLink(aside, netstate.Replace, ownLink())
			} else {
				err = applyLink(aside, netstate.Add, ownLink())
			}
			if got := linksNow(t, aside); err != nil || got != ownDone {
				t.Errorf("killed before request %d it left %q; the next one: %v, and there is %s", n/2, left, err, got)
			}
		})
		if !killed {
			break
		}
	}
	if leftOver == 0 {
		t.Error("no link was left under its temporary name, so nothing was cleaned up")
	}
}

func TestALinkThatTheKernelRefusesOnTheWay(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*netstate.Link)
	}{
		{"an alias that is too long", func(l *netstate.Link) { l.Alias = strings.Repeat("a", 300) }},
		{"a name with a blank that only the kernel knows", func(l *netstate.Link) { l.Name = "own\v" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := openLinks(t)
			l := ownLink()
			tt.change(l)
			if err := applyLink(c, netstate.Add, l); err == nil {
				t.Error("it was taken")
			}
			if got := linksNow(t, c); got != "" {
				t.Errorf("it left %s", got)
			}
		})
	}
}

func TestAForeignLinkIsNotDeleted(t *testing.T) {
	c, _ := openLinks(t)
	netnstest.IP(t, "link add own link v0 type macvlan mode bridge")
	for _, alias := range []string{"", "viarule:ExternalNetwork/b", ownAlias + "b", "viarule:ExternalNetwork/"} {
		if alias != "" {
			netnstest.IP(t, "link set own alias "+alias)
		}
		before := linksNow(t, c)
		if err := applyLink(c, netstate.Delete, ownLink()); !errors.Is(err, unix.EPERM) {
			t.Errorf("alias %q: %v, want %v", alias, err, unix.EPERM)
		}
		if got := linksNow(t, c); got != before {
			t.Errorf("alias %q: there was %s and is %s", alias, before, got)
		}
	}
	netnstest.IP(t, "link set own alias "+ownAlias)
	if err := applyLink(c, netstate.Delete, ownLink()); err != nil {
		t.Error(err)
	}
}

// The kernel finds links by other names, too (`ip link property`): such a one is
// not the link that is meant.
func TestAnotherNameOfAForeignLink(t *testing.T) {
	c, _ := openLinks(t)
	netnstest.IP(t, "link property add dev p0 altname own")
	if err := applyLink(c, netstate.Add, ownLink()); !errors.Is(err, unix.EEXIST) {
		t.Errorf("add: %v, want %v", err, unix.EEXIST)
	}
	if err := applyLink(c, netstate.Delete, ownLink()); !errors.Is(err, unix.EPERM) {
		t.Errorf("delete: %v, want %v", err, unix.EPERM)
	}
	if got := linksNow(t, c); got != "" {
		t.Errorf("it left %s", got)
	}
}
