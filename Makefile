# Everything that is done to this project is a target here; `make help` lists them.
SHELL := /usr/bin/env bash -o pipefail
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

# The image that `make deploy` and `make build-installer` install.
IMG ?= ghcr.io/clerk-operator/clerk-operator:v0.1.0
# The cluster that `make install`, `make deploy` and `make run` work on is kubectl's own.
KUBECTL ?= kubectl
# The race detector needs a C compiler; Go says whether it has one.
RACE ?= $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
# How long each fuzz target runs.
FUZZTIME ?= 10s

TOOL := go tool -modfile=go.tools.mod
CONTROLLER_GEN := $(TOOL) controller-gen
KUSTOMIZE := $(TOOL) kustomize
# golangci-lint with kube-api-linter built in.
GOLANGCI_LINT := $(TOOL) golangci-lint-kube-api-linter

##@ Use it

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*##"; printf "Usage: make \033[36m<target>\033[0m\n"} \
	/^[a-zA-Z0-9_-]+:.*?##/ {printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2} \
	/^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)}' $(MAKEFILE_LIST)

.PHONY: demo
demo: controlplane build ## Show the main job on a real API server; needs neither a cluster nor Clerk. KEEP=1 leaves it running.
	@go build -o bin/demo ./hack/demo
	@exec bin/demo $(if $(KEEP),--keep)

.PHONY: install
install: ## Install the CRDs into kubectl's cluster.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) apply --server-side -f -

.PHONY: deploy
deploy: ## Install the operator with the image IMG into kubectl's cluster.
	$(call with-image,config/default) | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: ## Remove the operator from kubectl's cluster, and keep the CRDs, the mirrored objects and the tenants.
	$(KUBECTL) delete --ignore-not-found clusterrolebinding,clusterrole \
		-l app.kubernetes.io/name=clerk-operator,app.kubernetes.io/managed-by=kustomize
	$(KUBECTL) delete --ignore-not-found namespace clerk-operator-system

.PHONY: run
run: build ## Run the manager on this machine against kubectl's cluster.
	bin/manager --metrics-bind-address=0 --require-policies=false

##@ Build

.PHONY: build
build: ## Build bin/manager and bin/kubectl-clerk.
	CGO_ENABLED=0 go build -trimpath -o bin/manager ./cmd
	CGO_ENABLED=0 go build -trimpath -o bin/kubectl-clerk ./cmd/kubectl-clerk

.PHONY: docker-build
docker-build: ## Build the image IMG.
	docker build -t $(IMG) .

.PHONY: build-installer
build-installer: generate ## Write dist/install.yaml, the operator with the image IMG in one file.
	mkdir -p dist
	$(call with-image,config/default) >dist/install.yaml

##@ Change it

.PHONY: generate
generate: ## Generate CRDs, RBAC, deepcopy, apply configurations and the API reference.
	rm -rf api/v1alpha1/applyconfiguration
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt \
		crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	$(CONTROLLER_GEN) rbac:roleName=manager-role paths=./internal/... output:rbac:artifacts:config=config/rbac
	$(TOOL) crd-ref-docs --source-path=api/v1alpha1 --config=hack/api-docs/config.yaml \
		--renderer=markdown --output-path=docs/reference/api.md >/dev/null

.PHONY: lint
lint: ## Run the linters.
	$(GOLANGCI_LINT) run ./...

.PHONY: verify
verify: generate lint ## Check that everything generated is committed and the linters are content.
	go mod tidy -diff
	@git diff --exit-code || { echo "generated files differ: run make generate and commit them" >&2; exit 1; }
	@[ -z "$$(git ls-files --others --exclude-standard)" ] || \
		{ echo "files that git does not know:"; git ls-files --others --exclude-standard; exit 1; } >&2

.PHONY: controlplane
controlplane: ## Put etcd, kube-apiserver, kube-controller-manager and kubectl into bin/controlplane.
	@hack/controlplane/build.sh bin/controlplane

.PHONY: test
test: controlplane ## Run the unit tests and those against a real API server.
	go test $(RACE) -shuffle=on ./...

.PHONY: test-e2e
test-e2e: controlplane build ## Run the built manager, the kustomize output and real deliveries against a real control plane.
	go test $(RACE) -tags=e2e -count=1 -shuffle=on -parallel=4 -timeout=40m ./test/e2e/...

.PHONY: bench
bench: controlplane build ## Measure the operator against a raw client that makes the same writes; the results are docs/benchmarks.md.
	@go build -o bin/bench ./test/bench
	@bin/bench -out docs/benchmarks.md

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME.
	@for package in $$(grep -rlE '^func Fuzz' --include='*_test.go' internal | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$package/*_test.go | cut -d' ' -f2); do \
			echo "== $$package $$target"; \
			go test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=10x ./$$package; \
		done; \
	done

# with-image builds a kustomization with the image IMG in a scratch overlay, so that no file of the checkout changes.
define with-image
overlay=$$(mktemp -d ./.overlay-XXXXXX); trap 'rm -rf "$$overlay"' EXIT; image=$(IMG); \
	printf 'resources: [../$(1)]\nimages: [{name: ghcr.io/clerk-operator/clerk-operator, newName: "%s", newTag: "%s"}]\n' \
		"$${image%:*}" "$${image##*:}" >"$$overlay/kustomization.yaml"; \
	$(KUSTOMIZE) build "$$overlay"
endef
