# kubectl tele. `make help` lists the targets.

GO ?= go

# The same for every build and test, so that all of them share one build cache.
export GOFLAGS := -trimpath -buildvcs=false

# The tag, or what follows it; without a tag a development version. Always a
# semantic version and an image tag (internal/release computes the same).
VERSION ?= $(or $(shell git describe --tags --match 'v*' 2>/dev/null),$(addprefix v0.1.0-dev.g,$(shell git rev-parse --short=10 HEAD 2>/dev/null)),v0.1.0-dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)

PACKAGE := github.com/kubectl-tele/kubectl-tele
LDFLAGS := -s -w -X $(PACKAGE)/pkg/version.Version=$(VERSION) -X $(PACKAGE)/pkg/version.Commit=$(COMMIT)

# Packages whose tests are run with the race detector: all that have
# connections or goroutines of their own.
RACE := $(addprefix ./pkg/,$(addsuffix /...,agent cluster connect control dns handler intercept portforward session splice tun tunnel)) ./test/netsim/...
RACE := $(foreach p,$(RACE),$(if $(wildcard $(p:/...=)),$(p)))
# Packages whose tests use the cluster; they run last, one after the other.
CLUSTER := ./test/cluster/... ./test/rig/... ./test/e2e/... ./test/demo/...
CLUSTER := $(foreach p,$(CLUSTER),$(if $(wildcard $(p:/...=/*.go) $(p:/...=/*/*.go)),$(p)))

.DEFAULT_GOAL := help
.PHONY: help build demo test unit fuzz h2spec e2e e2e-existing lint fmt image dist bench cluster-up cluster-down version clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/kubectl-tele and bin/tele-agent
	CGO_ENABLED=0 $(GO) build -ldflags "$(LDFLAGS)" -o bin/ ./cmd/kubectl-tele ./cmd/tele-agent

demo: build ## show the main job on a cluster of its own (Linux, root)
	$(GO) run ./test/demo

test: lint unit fuzz e2e ## run all checks and tests (Linux, root)

unit: ## run the tests that need no cluster and no root
	$(GO) test -race -timeout 20m $(RACE)
	$(GO) test -timeout 30m $$($(GO) list ./... | grep -vxF "$$($(GO) list $(RACE) $(CLUSTER))")

# Each fuzzer of what comes from outside, with as many thousand inputs as it tries in about
# a minute on two cores; a quarter of them outside CI. It is no time, since at the end of
# one Go's fuzzer may take its own stop for a failure (go.dev/issue/75804, until Go 1.27).
FUZZERS := tunnel/FuzzPeer:800 tunnel/FuzzFrame:1600 tunnel/FuzzHello:1700 portforward/FuzzConnRead:200 \
	agent/router/FuzzRequest:750 agent/router/FuzzAnswer:850 agent/router/FuzzTap:600 agent/router/h2/FuzzRelay:170
FUZZSHARE ?= $(if $(CI),500,250)
# How many runs of flows over lanes that break at random are tried.
SEEDS ?= 10000

fuzz: ## look for what parsers of the wire formats and orders of events do not stand
	@for f in $(FUZZERS); do name=$${f%:*}; inputs=$$(($${f#*:} * $(FUZZSHARE))); \
		echo "$$name, $$inputs inputs"; $(GO) test -run '^$$' -fuzz "^$${name##*/}$$" -fuzztime $${inputs}x -fuzzminimizetime 10x ./pkg/$${name%/*} || exit 1; done
	TELE_SEEDS=$(SEEDS) $(GO) test -count=1 -run '^TestProperty$$' ./pkg/tunnel

# Its own module, which has no go.mod, so it takes the newest of what it needs.
H2SPEC := github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible

bin/h2spec:
	GOBIN=$(CURDIR)/bin $(GO) install $(H2SPEC)

h2spec: bin/h2spec ## compare what h2spec says of an app with what it says through an agent
	TELE_TEST_H2SPEC=$(CURDIR)/bin/h2spec $(GO) test -tags h2spec -count=1 -run '^TestConformance$$' -v ./pkg/agent

e2e: build ## run the tests on a real cluster, which they boot (Linux, root)
	$(GO) test -count=1 -p 1 -timeout 60m $(CLUSTER)

e2e-existing: build image ## run them as on a cluster elsewhere, which the embedded one then plays
	$(GO) run ./test/apps/pack -o dist/tele-test-apps.tar
	$(GO) run ./test/cluster load dist/tele-agent.tar
	$(GO) run ./test/cluster load dist/tele-test-apps.tar
	TELE_TEST_LAPTOP=embedded TELE_TEST_KUBECONFIG=$$($(GO) run ./test/cluster kubeconfig admin) \
		TELE_TEST_AGENT_IMAGE=ghcr.io/kubectl-tele/tele-agent:$(VERSION) $(GO) test -C test/e2e -count=1 -timeout 60m

lint: bin/golangci-lint ## run golangci-lint, and go vet for Linux, macOS and Windows
	bin/golangci-lint run
	@for os in linux darwin windows; do echo "GOOS=$$os $(GO) vet ./..."; GOOS=$$os CGO_ENABLED=0 $(GO) vet ./... || exit 1; done

fmt: bin/golangci-lint ## format the sources
	bin/golangci-lint fmt

.PHONY: bin/golangci-lint
bin/golangci-lint:
	@$(GO) build -C tools/lint -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

image: ## pack the agent's image into dist/tele-agent.tar (amd64 and arm64)
	$(GO) run ./internal/release image -version "$(VERSION)" -commit "$(COMMIT)"

dist: ## pack the plugin for every platform, with krew's manifest, into dist/
	$(GO) run ./internal/release dist -version "$(VERSION)" -commit "$(COMMIT)"

bench: build ## compare with kubectl port-forward, on the same pod (Linux, root)
	@mkdir -p dist
	$(GO) run ./test/bench -version $(VERSION) -json dist/bench.json

cluster-up: ## boot the embedded cluster, or use the one that is up (Linux, root)
	$(GO) run ./test/cluster up

cluster-down: ## stop the embedded cluster and remove all it made
	$(GO) run ./test/cluster down

version: ## print the version that a build here gets
	@echo "$(VERSION)"

clean: ## remove bin/ and dist/
	rm -rf bin dist
