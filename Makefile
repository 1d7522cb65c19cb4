# Run `make` for the list of targets.
.DEFAULT_GOAL := help
GO ?= go
FUZZTIME ?= 10s

.PHONY: help build test vet race interop fuzz bench lab docker clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the static binary, bin/appliance
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/appliance ./appliance

lab: ## the whole cluster in one process: the failover tests with a verdict each
	$(GO) run ./appliance lab

test: ## all tests that need nothing but Go
	$(GO) test ./...

vet: ## go vet and staticcheck
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

race: ## the concurrent packages under the race detector
	$(GO) test -race ./netstack/... ./sync/... ./appliance/...

interop: build ## real peers and kernel hosts in network namespaces (root, Linux)
	$(GO) test -count=1 -p 1 -tags interop -run Interop -timeout 15m ./...

fuzz: ## every fuzz target for FUZZTIME each (default 10s)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

bench: build ## throughput, packet rate and latency beside the kernel's own NAT (root, Linux)
	$(GO) test -run '^$$' -bench . -benchtime 200ms ./netstack/... ./sync/...
	$(GO) run ./netstack/bench -appliance bin/appliance

docker: ## the container image, tandem:latest
	docker build -t tandem .

clean: ## remove what was built
	rm -rf bin
