# `make search` and `make test` set up all they need and skip what is done already.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Ray starts a dozen processes. Without cached bytecode each compiles all that it imports, for ten seconds and more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: search test test-all test-fast test-kills test-lowest check docs clean help
.DEFAULT_GOAL := help

help:  ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# uv installs in a third of pip's time; pip is the way out where uv can't be had.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed; say which: make PYTHON=python3.12 ...'; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -m pip install -q --disable-pip-version-check uv 2>/dev/null \
	    && VIRTUAL_ENV=$(CURDIR)/$(VENV) UV_SYSTEM_CERTS=1 $(BIN)/uv pip install -q -r requirements.lock; then :; \
	  else $(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.lock; fi
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

search: $(READY)  ## a whole search on the built-in data set: minutes on two cores, no GPU, no download
	$(BIN)/nas search --run runs/shapes --overwrite

test: $(READY)  ## ruff, mypy and the tests, every kind of kill among them
	@$(MAKE) --no-print-directory --jobs=2 check test-all

# Three processes. Two of them start Ray, which is mostly waiting: tests say by `xdist_group` that they share a process.
test-all: $(READY)
	$(BIN)/python -m pytest -m 'not repeated' -n 3 --dist loadgroup --no-loadscope-reorder

test-kills: $(READY)  ## every kind of kill by itself, again and again at random moments; grids in full
	$(BIN)/python -m pytest -m repeated

test-fast: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -m 'not slow'

# The packages as old as may be, in an environment of their own; the tests' own tools as locked.
LOWEST := build/lowest
test-lowest: $(READY)  ## the fast tests with the oldest versions that pyproject.toml allows
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv venv -q --clear --python $(BIN)/python $(LOWEST)
	VIRTUAL_ENV=$(LOWEST) UV_SYSTEM_CERTS=1 $(BIN)/uv pip install -q --resolution lowest-direct -r pyproject.toml
	grep -E '^(pytest|pytest-timeout|pytest-xdist|hypothesis|jsonschema|setuptools)==' requirements.lock > $(LOWEST)/tools.txt
	VIRTUAL_ENV=$(LOWEST) UV_SYSTEM_CERTS=1 $(BIN)/uv pip install -q -r $(LOWEST)/tools.txt
	PYTHONPATH=$(CURDIR) $(LOWEST)/bin/python -m pytest -m 'not slow' tests/search_spaces tests/trainers tests/launch/cli tests/launch/reports tests/nas/test_builder.py tests/nas/search

check: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site's tools are no part of what a search needs: they come with the first `make docs`.
docs: $(READY) $(VENV)/.docs  ## the documentation as a site in build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

$(VENV)/.docs: requirements-docs.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-docs.lock
	@touch $@

clean:  ## remove the virtual environment and caches (never runs/)
	rm -rf $(VENV) build/site .mypy_cache .ruff_cache .pytest_cache
