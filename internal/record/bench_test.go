package record

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

func manyRoutes(n int) Object {
	o := Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "many"}, Routes: make([]netstate.RouteKey, n)}
	for i := range o.Routes {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		o.Routes[i] = netstate.RouteKey{Family: netstate.IPv4, Table: 5000, To: netip.PrefixFrom(a, 32)}
	}
	return o
}

func manyRules(n int) Object {
	o := Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "rules"}, Rules: make([]netstate.Rule, n)}
	for i := range o.Rules {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		o.Rules[i] = netstate.Rule{Family: netstate.IPv4, Priority: uint32(2200 + i/32), From: netip.PrefixFrom(a, 32),
			Action: netstate.ToTable, Table: 5000, Protocol: netstate.ProtocolObject}
	}
	return o
}

// BenchmarkStage100000Routes has a bar: 20 ms.
func BenchmarkStage100000Routes(b *testing.B) { benchStage(b, manyRoutes(100_000)) }

func BenchmarkStage10000Rules(b *testing.B) { benchStage(b, manyRules(10_000)) }

func benchStage(b *testing.B, o Object) {
	l, err := Store{b.TempDir()}.Namespace(1).Lock("bench")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := l.Stage(Change{Put: []Object{o}}); err != nil {
			b.Fatal(err)
		}
		if err := l.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClaims100000Routes(b *testing.B) {
	n := Store{b.TempDir()}.Namespace(1)
	l, err := n.Lock("bench")
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Stage(Change{Put: []Object{manyRoutes(100_000), manyRules(10_000)}}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := n.Claims(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkManyObjects has 10,000 objects of one rule each.
func BenchmarkManyObjects(b *testing.B) {
	rules := manyRules(10_000).Rules
	objects := make([]Object, len(rules))
	for i := range objects {
		objects[i] = Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: fmt.Sprint("policy-", i)}, File: "policies.yaml",
			Text: []byte("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: x}\nspec: {}\n"), Rules: rules[i : i+1]}
	}
	n := Store{b.TempDir()}.Namespace(1)
	l, err := n.Lock("bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("stage and commit all", func(b *testing.B) {
		for b.Loop() {
			if err := errors.Join(l.Stage(Change{Put: objects}), l.Commit()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stage and commit one", func(b *testing.B) {
		for b.Loop() {
			if err := errors.Join(l.Stage(Change{Put: objects[:1]}), l.Commit()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			if _, err := n.List(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("claims", func(b *testing.B) {
		for b.Loop() {
			if _, err := n.Claims(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
