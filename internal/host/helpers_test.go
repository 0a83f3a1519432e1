package host_test

import (
	"testing"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

func parse(t testing.TB, text string) []spec.Object {
	t.Helper()
	objects, problems := specfile.Parse("test.yaml", []byte(text))
	if spec.Failed(problems) {
		t.Fatalf("%v", problems)
	}
	return objects
}

func applyText(t testing.TB, h *host.Host, text string) *host.Result {
	t.Helper()
	r, err := h.Apply(t.Context(), parse(t, text), host.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
