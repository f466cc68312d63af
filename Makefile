# From a fresh clone with Python 3.11 to a running Darkroom: everything else is installed, pinned, into .venv.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: run test soak bench services services-stop clean help

# The first of these that is there and of a version that setup.cfg permits (a version manager's shim may be neither).
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3 python; do "$$p" -c '$(SUITABLE)' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

run: .venv/can-run  ## fill the demo world the first time, then serve it from cluster.yaml
	$(BIN)/darkroom demo --data darkroom-data --config cluster.yaml
	$(BIN)/darkroom serve --data darkroom-data --config cluster.yaml

test: .venv/can-test  ## ruff, mypy --strict and every test but the soak tests, in two processes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .typing/darkroom tests benchmarks deploy/services
	$(BIN)/pytest -m "not soak" -n 2 --dist loadscope

soak: .venv/can-test  ## the tests that take minutes
	$(BIN)/pytest -m soak

bench: .venv/can-test  ## every row beside its floors and peers (ROWS="append http" for some)
	$(BIN)/python -m benchmarks $(ROWS)

services:  ## fetch and start Cassandra, Neo4j, Kafka and Redis on loopback (docs/services.md)
	$(PYTHON) deploy/services start

services-stop:  ## stop them; their data stays in .services
	$(PYTHON) deploy/services stop

clean:  ## remove what make made; darkroom-data stays, for a log cannot be made again
	rm -rf .venv benchmarks/.peers build dist *.egg-info .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find events projections actors gateway tests benchmarks deploy -name __pycache__ -prune -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' Makefile | expand -t 16

# A virtual environment writes its activate script last, so one that was interrupted is made again.
.venv/bin/activate:
	@test -n "$(PYTHON)" || { echo "Darkroom needs Python 3.11, 3.12 or 3.13: none was found; name one with PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv

# The build is not isolated, so that what builds the package is pinned too.
.venv/can-run: .venv/bin/activate setup.cfg pyproject.toml constraints.txt
	$(PIP_INSTALL) setuptools
	$(PIP_INSTALL) --no-build-isolation -e .
	touch $@

.venv/can-test: .venv/can-run
	$(PIP_INSTALL) --no-build-isolation -e '.[servers,test]'
	touch $@
