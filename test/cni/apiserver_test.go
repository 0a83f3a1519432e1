package cni

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// An apiServer is as much of Kubernetes as Multus needs: one pod in the namespace
// default, and the NetworkAttachmentDefinitions that its annotation may name.
type apiServer struct {
	*httptest.Server
	t        *testing.T
	networks map[string]string // configurations by name

	mu     sync.Mutex
	chosen string // the annotation k8s.v1.cni.cncf.io/networks
	status string // the one that Multus writes
}

// newAPIServer listens on lo of the current namespace.
func newAPIServer(t *testing.T, networks map[string]string) *apiServer {
	t.Helper()
	s := &apiServer{t: t, networks: networks}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/default/pods/pod", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.pod()) })
	mux.HandleFunc("PUT /api/v1/namespaces/default/pods/pod/status", s.putStatus)
	mux.HandleFunc("GET /apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/{name}", s.getNetwork)
	mux.HandleFunc("POST /api/v1/namespaces/default/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("Multus asks for what the test has not: %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// choose sets the pod's annotation.
func (s *apiServer) choose(networks string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chosen = networks
}

// wrote is the status that Multus wrote into the pod's annotation.
func (s *apiServer) wrote() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *apiServer) pod() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{"kind": "Pod", "apiVersion": "v1", "metadata": map[string]any{
		"name": "pod", "namespace": "default", "uid": "uid-1", "annotations": map[string]string{"k8s.v1.cni.cncf.io/networks": s.chosen},
	}}
}

func (s *apiServer) putStatus(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.status = string(body)
	s.mu.Unlock()
	s.answer(w, s.pod())
}

func (s *apiServer) getNetwork(w http.ResponseWriter, r *http.Request) {
	config, ok := s.networks[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	s.answer(w, map[string]any{"kind": "NetworkAttachmentDefinition", "apiVersion": "k8s.cni.cncf.io/v1",
		"metadata": map[string]any{"name": r.PathValue("name"), "namespace": "default"}, "spec": map[string]any{"config": config}})
}

func (s *apiServer) answer(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(object); err != nil {
		s.t.Error(err)
	}
}

// kubeconfig writes a file that leads to the server, without TLS.
func (s *apiServer) kubeconfig() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "it", "users": [{"name": "it", "user": {}}],
		"clusters": [{"name": "it", "cluster": {"server": %q}}], "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}]}`, s.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// oneLine makes JSON that is written over several lines fit into a JSON string.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
