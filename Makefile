# muster: build, test and check. `make help` lists the targets.
GO ?= go
TOOL = $(GO) tool -modfile=tools/go.mod
FUZZTIME ?= 30s

ifeq ($(RACE),1)
TESTENV = CGO_ENABLED=1 GORACE=halt_on_error=1
TESTFLAGS = -race
else
TESTENV = CGO_ENABLED=0
endif

.PHONY: build demo help test race check fmt fuzz
build: ## Build bin/muster
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/muster ./cmd/muster

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
	$(TOOL) golangci-lint run
	$(GO) mod tidy -diff
	@dead=$$($(TOOL) deadcode -test ./...); if [ -n "$$dead" ]; then echo "$$dead"; exit 1; fi
	GOOS=darwin CGO_ENABLED=0 $(GO) build ./...
	GOOS=windows CGO_ENABLED=0 $(GO) build ./...
	CGO_ENABLED=0 $(GO) test -count=1 -run TestHouse .

fuzz: ## Run each fuzz target for FUZZTIME
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	  echo "$$p $$f"; $(GO) test -run XXX -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done
