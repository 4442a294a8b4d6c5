# Every target makes what it needs: `make demo` and `make test` work in a fresh clone.
# PYTHON=python3.12 names the interpreter for a new .venv; without it the first that works is taken.

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?=
DURATION ?=
SITES ?=
BROKER ?=
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.complete
UV := uv==0.13.9

# The stamp is written last and holds the directory it was made in: an interrupted install, an interpreter
# that has gone, and a clone that was moved (its scripts would run the old place) all mean a new environment.
GOOD := $(shell $(BIN)/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null)
ifneq ($(GOOD),$(CURDIR))
NEW_ENVIRONMENT := new-environment
endif

.PHONY: help install demo test test-unit test-integration check format schema lock clean new-environment

help: ## Explain every target
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## Make or refresh the environment in .venv
	@echo "ready: $(BIN)/bms-ingest --help"

demo: $(STAMP) ## Run the whole program on made-up sites and watch it: DURATION=30 SITES=20 BROKER=mosquitto|nats
	@$(BIN)/bms-ingest demo $(if $(DURATION),--duration $(DURATION)) $(if $(SITES),--sites $(SITES)) $(if $(BROKER),--broker $(BROKER))

test: $(STAMP) ## Run every test: ARGS="-k batch -x" is handed to pytest
	@$(BIN)/python -m pytest $(ARGS)

test-unit: $(STAMP) ## Run the tests that need neither broker nor database
	@$(BIN)/python -m pytest tests/unit $(ARGS)

test-integration: $(STAMP) ## Run the tests of single rooms against a real broker and database
	@$(BIN)/python -m pytest tests/integration $(ARGS)

check: $(STAMP) ## Lint, format, types, import contracts; changes nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code and repair what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schema: $(STAMP) ## Write sql/schema.sql again after a new migration
	@$(BIN)/python -m tests.integration.db.dump_schema

lock: ## Bring constraints.txt in line with pyproject.toml: ARGS=--upgrade takes the newest versions
	@$(FIND_PYTHON); scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	"$$python" -m venv "$$scratch" && "$$scratch/bin/python" -m pip install --quiet $(UV) && \
	"$$scratch/bin/uv" pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(ARGS) \
		--output-file constraints.txt pyproject.toml

clean: ## Remove the environment, caches and build results
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt $(NEW_ENVIRONMENT)
	@rm -f $(STAMP)
	$(BIN)/python -m pip install --quiet --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@printf '%s\n' "$(CURDIR)" > $(STAMP)

new-environment:
	@$(FIND_PYTHON); echo "making .venv with $$("$$python" --version)" && "$$python" -m venv --clear .venv

# A candidate counts when running it works: version managers put shims on PATH that only fail, and Debian
# ships venv without ensurepip until python3-venv is installed.
define FIND_PYTHON
python= ; bare= ; \
for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	bare=$${bare:-$$candidate}; \
done; \
if [ -z "$$python" ] && [ -n "$$bare" ]; then \
	echo "$$bare cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
fi; \
if [ -z "$$python" ]; then \
	echo "no working Python 3.11 or newer as $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
fi
endef
