# viarule: `make demo` shows it, `make test` proves it. Both need a Debian
# machine with Go, and root (namespaces). `make help` lists the rest.

GO      ?= go
TOOL     = $(GO) tool -modfile=tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS  = -s -w -X github.com/viarule/viarule/internal/cli.version=$(VERSION)
FUZZTIME ?= 20s

# What property tests draw there follows from the sources: a failure can be had again,
# and every change draws anew. RAPID_SEED=0 draws at random, as oracle and soak do.
test test-unit test-vm: export RAPID_SEED ?= $(shell find api cmd demo internal test -name '*.go' | LC_ALL=C sort | xargs cat | cksum | cut -d' ' -f1)

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/viarule, and the CNI plugins bin/viarule-sbr and bin/viarule-ptp
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/viarule ./cmd/viarule
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/viarule-sbr ./cmd/viarule-sbr
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/viarule-ptp ./cmd/viarule-ptp

.PHONY: deps
deps: ## the Debian packages that demo and tests use, where they are missing
	@./tools/deps.sh

.PHONY: demo
demo: deps build ## a host with two uplinks in namespaces: before, plan, apply, after
	@PATH="$(CURDIR)/bin:$$PATH" ./demo/run.sh

.PHONY: demo-pods
demo-pods: deps build ## pods on two nodes in namespaces: silence, apply, everyone reaches everyone
	@PATH="$(CURDIR)/bin:$$PATH" ./demo/pods.sh

.PHONY: test
test: deps build ## everything: unit, property, script, namespace, CRD, CNI and VM tests
	$(TOOL) gotestsum --format pkgname-and-test-fails -- -timeout 25m ./...
	cd test/crd && $(GO) test ./...
	cd test/cni && $(GO) test -timeout 25m ./...

.PHONY: test-unit
test-unit: ## the tests that need no root, in seconds
	$(GO) test -short $$($(GO) list ./... | grep -v -e /test/ )

.PHONY: soak
soak: deps build ## every property test with new draws for SOAKTIME (60) seconds
	./tools/soak.sh

.PHONY: test-vm
test-vm: deps ## the namespace tests under Debian's kernel in QEMU; VM_ONLY=test/script,... for some
	$(GO) test -count=1 -timeout 25m -v ./test/vm

.PHONY: oracle
oracle: ## ten million routing questions, answered as the kernel does; log in bin/oracle.log
	@mkdir -p bin
	@bash -o pipefail -c '$(GO) test ./internal/fib -count=1 -run AgainstKernel -v -timeout 4h -rapid.checks=100000 2>&1 | tee bin/oracle.log'

.PHONY: lint
lint: ## gofmt, vet, staticcheck, the import table
	@test -z "$$(gofmt -l api cmd internal test bench 2>/dev/null)" || { echo "not gofmt'ed:"; gofmt -l api cmd internal test bench; exit 1; }
	$(GO) vet ./...
	cd test/cni && $(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) test ./internal/archtest

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME
	@set -e; grep -rlE '^func Fuzz' --include='*_test.go' internal | xargs -n1 dirname | sort -u | while read -r d; do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9]*' $$d/*_test.go | awk '{print $$2}'); do \
	    echo "== ./$$d $$f"; $(GO) test ./$$d -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x; done; done

.PHONY: bench
bench: deps build ## side by side with ip -batch, vishvananda/netlink and the reference CNI plugins; prints ratios
	cd bench && $(GO) run . -viarule $(CURDIR)/bin/viarule -viarule-sbr $(CURDIR)/bin/viarule-sbr -viarule-ptp $(CURDIR)/bin/viarule-ptp

.PHONY: generate
generate: ## deepcopy and custom resource definitions from api/v1alpha1
	./tools/generate.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
