# Needs Python 3.9 or later and make; everything else goes into .venv.
#   make test PYTHON=python3.12     another interpreter (after make clean)
#   make test ARGS="-k retry -x"    arguments for pytest (-n 0: in one process)

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
# Two targets that install into the same .venv at once would break it.
.NOTPARALLEL:

.PHONY: help demo test slow mutation bench bench-scheduler bench-daemon bench-kit bench-peers lint docs clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: .venv/.run  ## run the weather example
	@$(BIN)/python examples/weather/run.py

test: .venv/.test  ## run the tests (minutes: make slow)
	@$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist worksteal $(ARGS)

slow: .venv/.fuzz  ## run the long campaigns: kills, faults, load
	@$(BIN)/python -m pytest -m slow $(ARGS)

mutation: .venv/.mutation  ## change the code and see whether the tests notice (hours; goes on where it was stopped)
	@$(BIN)/python -m tests.mutation planted
	@$(BIN)/python -m tests.mutation random $(ARGS)

bench: .venv/.test  ## measure the engine against bare loops
	@$(BIN)/python -m benchmarks.engine $(ARGS)

bench-scheduler: .venv/.test  ## measure the scheduler: many jobs, lateness, idleness
	@$(BIN)/python -m benchmarks.scheduler $(ARGS)

bench-daemon: .venv/.test  ## measure the daemon's socket against a JSON echo
	@$(BIN)/python -m benchmarks.daemon $(ARGS)

bench-kit: .venv/.test  ## measure the testing kit: pytest's start, many runs, a virtual year
	@$(BIN)/python -m benchmarks.testing_kit $(ARGS)

bench-peers: .venv/.test  ## measure Blaze beside other packages (half an hour)
	@$(BIN)/python -m benchmarks.peers.venvs || echo "what can't be installed has no figures"
	@$(BIN)/python -m benchmarks.peers $(ARGS)

lint: .venv/.lint  ## style, format, types and the floors
	@status=0; \
	for check in "ruff check" "ruff format --check" "mypy --strict blaze pytest_blaze.py" "lint-imports" \
		"pytest -q tests/unit/test_typing.py"; do \
		echo "== $$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

docs: .venv/.docs  ## build the manual into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove .venv and everything that was built
	rm -rf .venv .venv-peers build dist site .coverage .coverage.* .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed is redone when pyproject.toml changes, and only then.

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9) and "Blaze needs Python 3.9 or later, this is " + sys.version.split()[0])'
	@$(PYTHON) -m venv .venv
	@$(PIP) install -qq "pip>=21.3"  # the first that can install a pyproject.toml with -e
	@touch $@

.venv/.run: pyproject.toml .venv/.python
	@$(PIP) install -qq --no-compile -e .
	@touch $@

.venv/.test: pyproject.toml .venv/.python
	@$(PIP) install -qq --no-compile -e ".[test]"
	@touch $@ .venv/.run

.venv/.fuzz: .venv/.test
	@$(PIP) install -qq --no-compile -e ".[test,fuzz]" || echo "atheris can't be installed: its test is skipped"
	@touch $@

.venv/.mutation: .venv/.test
	@$(PIP) install -qq --no-compile -e ".[test,mutation]"
	@touch $@

.venv/.lint: pyproject.toml .venv/.python
	@$(PIP) install -qq --no-compile -e ".[test,lint]"
	@touch $@ .venv/.test .venv/.run

.venv/.docs: pyproject.toml .venv/.python
	@$(PIP) install -qq --no-compile -e ".[docs]"
	@touch $@ .venv/.run
