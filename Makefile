# `make help` lists what there is. Only Python 3.11 or newer is needed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test gen gen-check fmt lint types unit bench audit lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml requirements/dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## start the gateway with the embedded model
	@exec $(BIN)/polyroute up

test: $(STAMP) lint types gen-check unit ## everything: lint, types, generated code, all tests

unit: $(STAMP) ## all tests
	$(BIN)/python -m pytest

gen: $(STAMP) ## write gen/ from protos/
	$(call protoc,$(VENV)/gen-new)
	rm -rf gen && mv $(VENV)/gen-new gen

gen-check: $(STAMP) ## fail when gen/ is not what protos/ says
	$(call protoc,$(VENV)/gen-new)
	@diff -r -x __pycache__ gen $(VENV)/gen-new || { echo 'gen/ differs from protos/: run make gen and commit it'; exit 1; }

# stubs for every proto, service stubs only where there is a service: an empty module helps nobody
define protoc
	@rm -rf $(1) && mkdir -p $(1)
	@export PATH="$(CURDIR)/$(BIN):$$PATH"; cd protos && all=$$(find polyroute -name '*.proto' | sort) && \
	python -m grpc_tools.protoc -I . -I third_party --python_out=$(CURDIR)/$(1) --mypy_out=quiet:$(CURDIR)/$(1) \
		$$all buf/validate/validate.proto && \
	python -m grpc_tools.protoc -I . -I third_party --grpc_python_out=$(CURDIR)/$(1) \
		--mypy_grpc_out=quiet,only_async:$(CURDIR)/$(1) $$(grep -lE '^service ' $$all)
	@touch $(1)/polyroute/api/py.typed
endef

lint: $(STAMP) ## style of the code and of the contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/buf format -d --exit-code protos >/dev/null || { echo 'protos/ are not formatted: run make fmt'; exit 1; }
	$(BIN)/buf lint
	@if git rev-parse -q --verify 'refs/tags/v*' >/dev/null 2>&1 || [ -n "$$(git tag -l 'v*')" ]; then \
		$(BIN)/buf breaking --against ".git#tag=$$(git describe --tags --abbrev=0 --match 'v*')"; \
	else echo 'buf breaking: no release to compare with yet'; fi

fmt: $(STAMP) ## format the code and the contract
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .
	$(BIN)/buf format -w protos

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

bench: $(STAMP) ## measure the path of a call; see docs/performance.md
	$(BIN)/python -m bench

audit: $(STAMP) ## known vulnerabilities of the locked dependencies
	$(BIN)/pip-audit --require-hashes --disable-pip -r requirements/dev.txt

lock: ## pin every dependency with hashes
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11 \
		--extra local pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11 \
		--extra local --group dev pyproject.toml -o requirements/dev.txt

clean: ## remove what was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
