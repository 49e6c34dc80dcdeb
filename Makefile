# `make search` and `make test` set up all they need and skip what is done already.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: search test test-fast test-kills check clean help
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

# Three processes. Two of them start Ray, which is mostly waiting: tests say by `xdist_group` that they share a process.
test: check  ## ruff, mypy and the tests, every kind of kill among them
	$(BIN)/python -m pytest -m 'not repeated' -n 3 --dist loadgroup --no-loadscope-reorder

test-kills: $(READY)  ## every kind of kill by itself, again and again at random moments
	$(BIN)/python -m pytest -m repeated

test-fast: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -m 'not slow'

check: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove the virtual environment and caches (never runs/)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
