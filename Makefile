# Every target works on a fresh machine with Python 3.11+ and make. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("error: PyFlare needs Python 3.11 or newer, this is " + sys.version.split()[0] + "\nhint: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# What `pyflare demo` needs: no engine, no test tools.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[cli,storage,collector]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.run

.PHONY: install
install: $(VENV)/.dev ## Install everything for development into .venv

.PHONY: demo
demo: $(VENV)/.run ## The main job: spans over real OTLP into Parquet, and the first answers
	$(BIN)/pyflare demo --format table

.PHONY: test
test: $(VENV)/.dev ## All tests; those that need a service start it themselves
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

.PHONY: check
check: $(VENV)/.dev ## Format, lint, types, import contracts, generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

.PHONY: format
format: $(VENV)/.dev ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(VENV)/.dev ## Write the generated documents again
	$(BIN)/python docs/generate.py

.PHONY: bench
bench: $(VENV)/.dev ## Measure the collector beside its limits
	$(BIN)/python benchmarks/collect.py

.PHONY: crash
crash: $(VENV)/.dev ## Kill the collector 50 times under load and count what it acknowledged
	$(BIN)/python benchmarks/crash.py --kills 50

.PHONY: clean
clean: ## Remove the environment and caches
	find . -path ./$(VENV) -prune -o -name '*.nb[ic]' -exec rm {} +
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
