# `make help` lists what there is. Only Python 3.11 or newer is needed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CLIENTS := $(VENV)/clients
RUNNABLE := $(VENV)/.runnable
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# the contract of the last release as an image, which `make lint` compares with
RELEASED := protos/released.binpb
# tests of whole processes that no database changes
FREE_OF_DATABASES := bench test_compose.py test_local_model.py test_readme.py test_wheel.py

.DEFAULT_GOAL := help
.PHONY: help run test unit test-postgres lint types gen gen-check docs fmt bench dist release-contract audit lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# what the gateway needs, then this checkout itself; every package by its hash
$(RUNNABLE): pyproject.toml requirements/run.txt requirements/build.txt
	@echo 'installing into $(VENV), once; this takes up to a minute ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(STAMP): $(RUNNABLE) requirements/dev.txt requirements/clients.txt
	@echo 'installing the development tools ...'
	@$(PIP) --require-hashes -r requirements/dev.txt
	@test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/clients.txt
	@touch $@

run: $(RUNNABLE) ## start the gateway with the embedded model
	@exec $(BIN)/polyroute up

test: $(STAMP) lint types gen-check unit ## everything: lint, types, generated code, all tests

# two workers, whose shares tests/conftest.py makes
unit: $(STAMP) ## all tests; `make unit TESTS=tests/unit` for some
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(TESTS)

test-postgres: $(STAMP) ## tests of roles and gateways, on PostgreSQL and Redis
	POLYROUTE_TEST_DATABASE=postgresql $(BIN)/python -m pytest -n 2 --dist loadgroup tests/rpc tests/mesh tests/process \
		$(FREE_OF_DATABASES:%=--ignore=tests/process/%)

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
	third=$$(cd third_party && find * -name '*.proto' | sort) && \
	python -m grpc_tools.protoc -I . -I third_party --python_out=$(CURDIR)/$(1) --mypy_out=quiet:$(CURDIR)/$(1) \
		$$all $$third && \
	python -m grpc_tools.protoc -I . -I third_party --grpc_python_out=$(CURDIR)/$(1) \
		--mypy_grpc_out=quiet,only_async:$(CURDIR)/$(1) $$(grep -lE '^service ' $$all)
	@touch $(1)/polyroute/api/py.typed
endef

lint: $(STAMP) ## style of the code and of the contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/buf format -d --exit-code protos >/dev/null || { echo 'protos/ are not formatted: run make fmt'; exit 1; }
	$(BIN)/buf lint
	@if [ -e $(RELEASED) ]; then \
		$(BIN)/buf build -o $(VENV)/contract.binpb && \
		$(BIN)/buf breaking $(VENV)/contract.binpb --against $(RELEASED); \
	else echo 'buf breaking: no released contract to compare with: make release-contract writes it'; fi

docs: $(STAMP) ## write docs/configuration.md and docs/providers.md from the code
	@$(BIN)/polyroute config reference > $(VENV)/configuration.md
	mv $(VENV)/configuration.md docs/configuration.md
	@$(BIN)/python -m polyroute.providers.page > $(VENV)/providers.md
	mv $(VENV)/providers.md docs/providers.md

fmt: $(STAMP) ## format the code and the contract
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .
	$(BIN)/buf format -w protos

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

bench: $(STAMP) ## measure the path of a call; see docs/performance.md
	$(BIN)/python -m bench

dist: $(STAMP) ## build the wheel into dist/
	@rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

release-contract: $(STAMP) ## keep the contract as it is now as the released one
	$(BIN)/buf build -o $(RELEASED)

audit: $(STAMP) ## known vulnerabilities of the locked dependencies
	$(BIN)/pip-audit --require-hashes --disable-pip -r requirements/dev.txt

lock: ## pin every dependency with hashes
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11 \
		--extra local pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11 \
		--extra local --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11 \
		--group build -o requirements/build.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11 \
		--group clients -o requirements/clients.txt

clean: ## remove what was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
