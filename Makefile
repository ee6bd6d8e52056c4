# Two commands matter: `make demo` and `make test`. Both make .venv first when it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Another Python than .venv was made with makes it anew: `make test PYTHON=python3.13`.
ASK_VERSION := import sys; print("%d.%d" % sys.version_info[:2])
VERSION := $(shell $(PYTHON) -c '$(ASK_VERSION)')
STAMP := $(VENV)/.installed-$(VERSION)
WORKERS ?= 2

# Hospital networks: nothing phones home; threads are bounded by whoever runs many processes.
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: demo test test-slow install lint types imports check format wheel clean help

help:           ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(STAMP)  ## the whole way on a synthetic cohort: phantom, ingest, train, calibrate, track, report
	$(BIN)/taucal demo

test: $(STAMP)  ## the tests, at most 15 minutes; what cannot run here says what to install
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow"

test-slow: $(STAMP)  ## the slow tests: browsers, killed processes, whole cohorts
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m slow

check: lint types imports  ## what CI checks before the tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell pipeline flows models tests configs data/README.md *.md CITATION.cff Dockerfile

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)  ## rewrite in the house style, and configs/README.md
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tests/helpers/settings_table.py

install: $(STAMP)  ## only make .venv

wheel: $(STAMP)    ## a wheel of this checkout in dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

# Installed beside and marked last: an interrupted installation is begun again, not believed.
$(STAMP): pyproject.toml constraints.txt
	test "$$($(BIN)/python -c '$(ASK_VERSION)' 2>/dev/null)" = "$(VERSION)" && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	    || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:          ## remove data/demo, data/adrenal and the caches of tools
	rm -rf data/demo data/adrenal .pytest_cache .mypy_cache .ruff_cache
