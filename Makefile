# `make demo` and `make test` do all set-up, on a fresh machine too.

PYTHON ?= python3
# An active virtual or conda environment is used as it is.
ENV := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX),$(CURDIR)/.venv)
BIN := $(ENV)/bin
STAMP := $(ENV)/.reducenet_mm-installed
LINT_STAMP := $(ENV)/.reducenet_mm-lint-installed
REQUIREMENTS := setup.py pyproject.toml $(wildcard requirements/*.txt)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format

help:  ## Show this list.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

$(BIN)/python:
	$(PYTHON) -m venv $(ENV)

# Whichever mmcv is there already stays; mmcv-lite comes only where none is.
$(STAMP): $(REQUIREMENTS) | $(BIN)/python
	@if $(BIN)/python -c 'import importlib.util as u, sys; \
		sys.exit(u.find_spec("mmcv") is None)'; \
	then extras=tests; else extras=lite,tests; fi; \
	set -x; $(BIN)/python -m pip install -e ".[$$extras]"
	@touch $@

$(LINT_STAMP): requirements/lint.txt $(STAMP)
	$(BIN)/python -m pip install -r requirements/lint.txt
	@touch $@

install: $(STAMP)  ## Install the package and its requirements.

demo: $(STAMP)  ## Teacher, student, controls and report on real digits.
	$(BIN)/python tools/reduce.py configs/pipelines/digits.py

# A process per core, each with one thread: the networks are tiny.
test: $(STAMP)  ## Run all tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests \
		--numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(LINT_STAMP)  ## Check style, spelling and types.
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m codespell_lib
	$(BIN)/python -m mypy reducenet_mm

format: $(LINT_STAMP)  ## Let ruff repair and format.
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .
