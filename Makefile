# muster: build, test and check. `make help` lists the targets.
GO ?= go
TOOL = $(GO) tool -modfile=tools/go.mod
FUZZTIME ?= 30s
COVERMIN ?= 80
COVERDIR = $(CURDIR)/bin/cover

ifeq ($(RACE),1)
TESTENV = CGO_ENABLED=1 GORACE=halt_on_error=1
TESTFLAGS = -race
else
TESTENV = CGO_ENABLED=0
endif

.PHONY: build demo help test race check fmt cover bench fuzz chaos
build: ## Build bin/muster, without tables for debuggers
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-w -o bin/muster ./cmd/muster

demo: build ## Three agents on this machine: watch a master die
	bin/muster demo

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## Run all tests; RACE=1 with the race detector (needs a C compiler)
	$(TESTENV) $(GO) test $(TESTFLAGS) -timeout 20m ./...

race: ## Run all tests with the race detector
	$(MAKE) test RACE=1

fmt: ## Format the code
	$(TOOL) golangci-lint fmt

check: ## Format, lint, tidy, dead code, other systems, floor plan
	$(TOOL) golangci-lint fmt --diff
	$(TOOL) golangci-lint run --allow-parallel-runners
	$(GO) mod tidy -diff
	@dead=$$($(TOOL) deadcode -test ./...) || exit 1; if [ -n "$$dead" ]; then echo "$$dead"; exit 1; fi
	GOOS=darwin CGO_ENABLED=0 $(GO) build ./...
	GOOS=windows CGO_ENABLED=0 $(GO) build ./...
	CGO_ENABLED=0 $(GO) test -count=1 -run TestHouse .

# -exec sets GOCOVERDIR after go test has set its own, so that processes which
# a test starts are counted, too.
cover: ## Measure coverage, child processes included; fail under COVERMIN percent
	@rm -rf $(COVERDIR) && mkdir -p $(COVERDIR)
	$(TESTENV) $(GO) test $(TESTFLAGS) -count=1 -timeout 20m -cover -covermode=atomic -coverpkg=./... \
	  -exec 'env GOCOVERDIR=$(COVERDIR)' ./... -args -test.gocoverdir=$(COVERDIR)
	$(GO) tool covdata textfmt -i=$(COVERDIR) -o=coverage.out
	@$(GO) tool cover -func=coverage.out > coverage.txt
	@awk -v min=$(COVERMIN) '/^total:/ {have = $$NF + 0; seen = 1} \
	  END {if (!seen) exit 1; printf "coverage %.1f %%, at least %s %%\n", have, min; exit have < min}' coverage.txt

bench: build ## Run the benchmarks and compare with the last run
	@mkdir -p bin
	MUSTER_BIN=$(CURDIR)/bin/muster CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem -count 6 -timeout 60m ./... > bin/bench.new || { cat bin/bench.new; exit 1; }
	@if [ -e bin/bench.txt ]; then $(TOOL) benchstat bin/bench.txt bin/bench.new; else cat bin/bench.new; fi
	@mv bin/bench.new bin/bench.txt

fuzz: ## Run each fuzz target for FUZZTIME
	@set -e; for p in $$($(GO) list ./...); do \
	  list=$$($(TESTENV) $(GO) test -list '^Fuzz' $$p); \
	  for f in $$(echo "$$list" | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(TESTENV) $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
	  done; done

chaos: ## Run the long tests, too (MUSTER_CHAOS=1); RACE=1 as in test
	MUSTER_CHAOS=1 $(TESTENV) $(GO) test $(TESTFLAGS) -v -count=1 -timeout 3h ./...
