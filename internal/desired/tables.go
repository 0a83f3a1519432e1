package desired

import (
	"fmt"
	"maps"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// table is a table that one or more objects name.
type table struct {
	name   string
	id     uint32 // 0: not known yet, or never for an error
	first  part   // where it is named, or the first place that gives the number
	failed bool
	routes bool // an object has routes for it
}

// kernelTables are the names that iproute2 has without any file.
var kernelTables = map[string]uint32{
	"main": netstate.TableMain, "default": netstate.TableDefault, "local": netstate.TableLocal,
}

func kernelTable(id uint32) bool { return netstate.TableDefault <= id && id <= netstate.TableLocal }

// resolveTables gives each table that an object names its number: the one
// written, else the one that the name has on this host, else a free one of the
// pool. Names that have a number keep it against those that ask for it.
func (b *builder) resolveTables() {
	b.tables = make(map[string]*table)
	b.byID = make(map[uint32]*table)
	var order []*table
	for _, o := range b.objs {
		for i := range o.Policy.Tables {
			order = b.nameTable(order, o, i)
		}
	}
	for _, t := range order {
		if id, ok := b.knownName(t.name); ok && t.id == 0 {
			b.claim(t, id)
		}
	}
	for _, t := range order {
		if t.id != 0 && b.byID[t.id] != t {
			b.claimGiven(t)
		}
	}
	var pool *tablePool
	for _, t := range order {
		if t.id != 0 || t.failed {
			continue
		}
		if pool == nil {
			pool = b.newTablePool(order)
		}
		id, ok := pool.take()
		if !ok {
			t.failed = true
			b.fail(t.first, fmt.Sprintf("no number is left for table %s: all of %d-%d are taken", t.name, b.own.Tables.First, b.own.Tables.Last),
				"give the table an id")
			continue
		}
		b.claim(t, id)
	}
	for _, o := range b.objs {
		for i := range o.Policy.Tables {
			st := &o.Policy.Tables[i]
			if t := b.tables[st.Name]; t.id != 0 {
				b.want.Tables = append(b.want.Tables, Table{st.Name, t.id, Origin{o, st.Pos}})
			}
		}
	}
}

func (b *builder) nameTable(order []*table, o *spec.Object, i int) []*table {
	st := &o.Policy.Tables[i]
	at := part{o, st.Pos, fmt.Sprintf("spec.tables[%d].id", i)}
	t := b.tables[st.Name]
	switch {
	case t == nil:
		t = &table{name: st.Name, id: st.ID, first: at}
		b.tables[st.Name] = t
		order = append(order, t)
	case st.ID == 0 || t.failed:
	case t.id == 0:
		t.id, t.first = st.ID, at
	case t.id != st.ID:
		b.fail(at, fmt.Sprintf("table %s has the number %d in %s", t.name, t.id, t.first), "give both the same id, or one of them another name")
	}
	t.routes = t.routes || len(st.Routes) > 0
	return order
}

// knownName is the number that a name has on this host whatever the objects say.
func (b *builder) knownName(name string) (uint32, bool) {
	if id, ok := b.facts.Names[name]; ok && id != 0 {
		return id, true
	}
	id, ok := kernelTables[name]
	return id, ok
}

// claim gives t the number, unless a neighbour or another table has it.
func (b *builder) claim(t *table, id uint32) {
	if other := b.byID[id]; other != nil {
		b.refuse(t, fmt.Sprintf("table %s has the number %d, which is table %s of %s", t.name, id, other.name, other.first), "use one name for the table")
		return
	}
	if t.routes && id == netstate.TableLocal {
		b.refuse(t, fmt.Sprintf("table %s is the kernel's own; viarule puts no routes there", t.name), "use main, or a table of your own")
		return
	}
	if n := b.facts.Neighbours.Table(id); t.routes && len(n) > 0 && !kernelTable(id) {
		b.refuse(t, fmt.Sprintf("table %d belongs to %s, which runs on this host", id, n[0].Neighbour.Name), "use another id, or leave it out to get one that is free")
		return
	}
	if whose := b.facts.Attached[id]; t.routes && whose != "" {
		b.refuse(t, fmt.Sprintf("table %d belongs to %s", id, whose), "use another id, or leave it out to get one that is free")
		return
	}
	t.id = id
	b.byID[id] = t
}

func (b *builder) refuse(t *table, what, do string) {
	t.id, t.failed = 0, true
	b.fail(t.first, what, do)
}

// claimGiven checks a number that an object gives against the names that the
// host has for it.
func (b *builder) claimGiven(t *table) {
	id := t.id
	if known, ok := b.knownName(t.name); ok && known != id && !b.facts.OwnNames[t.name] {
		b.refuse(t, fmt.Sprintf("table %s has the number %d on this host (rt_tables), not %d", t.name, known, id), "leave id out, or use another name")
		return
	}
	if other := b.otherName(id, t.name); other != "" {
		b.refuse(t, fmt.Sprintf("table %d has the name %s on this host (rt_tables)", id, other), fmt.Sprintf("use the name %s, or another id", other))
		return
	}
	b.claim(t, id)
}

// otherName is a name that id has on this host where name is none of its names.
// Names that only viarule gave do not count: an object may rename its table.
func (b *builder) otherName(id uint32, name string) string {
	if known, ok := b.knownName(name); ok && known == id {
		return ""
	}
	return b.hostNames()[id]
}

// hostNames are the names of tables by number, without those that only viarule
// gave; of several the first by alphabet.
func (b *builder) hostNames() map[uint32]string {
	if b.nameByID == nil {
		b.nameByID = make(map[uint32]string, len(b.facts.Names))
		for _, names := range []map[string]uint32{b.facts.Names, kernelTables} {
			for n, id := range names {
				if first, ok := b.nameByID[id]; !b.facts.OwnNames[n] && (!ok || n < first) {
					b.nameByID[id] = n
				}
			}
		}
	}
	return b.nameByID
}

// tablePool gives numbers out, lowest first.
type tablePool struct {
	next, last uint32
	taken      map[uint32]bool
}

func (b *builder) newTablePool(order []*table) *tablePool {
	p := &tablePool{next: b.own.Tables.First, last: b.own.Tables.Last, taken: make(map[uint32]bool)}
	take := func(id uint32) {
		if b.own.Tables.Contains(id) {
			p.taken[id] = true
		}
	}
	for id, used := range b.facts.Used {
		if used {
			take(id)
		}
	}
	for id := range maps.Values(b.facts.Names) {
		take(id)
	}
	for id := range b.facts.Attached {
		take(id)
	}
	for _, t := range order {
		take(t.id)
	}
	for _, o := range b.objs {
		for i := range o.Policy.Tables {
			take(o.Policy.Tables[i].ID)
		}
		for i := range o.Policy.Rules {
			take(o.Policy.Rules[i].Table.ID)
		}
	}
	s := &b.facts.State
	for i := range s.Rules {
		take(s.Rules[i].Table)
	}
	for i := range s.Routes {
		take(s.Routes[i].Table)
	}
	for i := range s.Links {
		take(s.Links[i].VRFTable)
	}
	for id := p.next; id <= p.last; id++ {
		if len(b.facts.Neighbours.Table(id)) > 0 {
			take(id)
		}
	}
	return p
}

func (p *tablePool) take() (uint32, bool) {
	for ; p.next <= p.last; p.next++ {
		if !p.taken[p.next] {
			p.next++
			return p.next - 1, true
		}
	}
	return 0, false
}

// lookupTable is the number of the table that a rule names. known says whether
// there is such a name; the number is 0 where the name is known and its table
// has an error.
func (b *builder) lookupTable(ref spec.TableRef) (id uint32, known bool) {
	if ref.Name == "" {
		return ref.ID, true
	}
	if t := b.tables[ref.Name]; t != nil {
		return t.id, true
	}
	return b.knownName(ref.Name)
}

// tableNames lists the names that a rule could have meant.
func (b *builder) tableNames() string {
	if b.nameList == "" {
		names := slices.Sorted(maps.Keys(b.tables))
		if b.nameList = some(names); len(names) == 0 {
			b.nameList = "main"
		}
	}
	return b.nameList
}

// nameOf is how messages call a table.
func (b *builder) nameOf(id uint32) string {
	if t := b.byID[id]; t != nil {
		return t.name
	}
	if n := b.hostNames()[id]; n != "" {
		return n
	}
	return fmt.Sprint(id)
}
