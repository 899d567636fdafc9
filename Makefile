# `make demo` and `make test` do all set-up, on a fresh machine too.

PYTHON ?= python3
# An active virtual or conda environment is used as it is.
ENV := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX),$(CURDIR)/.venv)
ifneq ($(words $(ENV)),1)
$(error The path of the environment, '$(ENV)', has a space, which make \
	cannot cope with: move the checkout, or activate another environment)
endif
BIN := $(ENV)/bin
STAMP := $(ENV)/.reducenet_mm-installed
LINT_STAMP := $(ENV)/.reducenet_mm-lint-installed
# Full mmcv for detectors and segmentors: a version, or a wheel's path.
MMCV ?= mmcv==2.1.0
DENSE := $(ENV)/dense
DENSE_STAMP := $(DENSE)/.installed-$(notdir $(MMCV))
REQUIREMENTS := setup.py pyproject.toml $(wildcard requirements/*.txt)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-dense kills lint format

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

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

# A folder of its own, put first on the path: the environment keeps whichever
# mmcv it has. Without a wheel, mmcv's ops are compiled, for half an hour.
# MMSegmentation's wheel brings a package `tests`, which would hide ours.
$(DENSE_STAMP): requirements/dense.txt $(STAMP)
	rm -rf $(DENSE)
	$(BIN)/python -m pip install --no-deps --no-build-isolation \
		--target $(DENSE) $(MMCV)
	$(BIN)/python -m pip install --no-deps --target $(DENSE) \
		-r requirements/dense.txt
	rm -rf $(DENSE)/tests
	@touch $@

install: $(STAMP)  ## Install the package and its requirements.

demo: $(STAMP)  ## Teacher, student, controls and report on real digits.
	$(BIN)/python tools/reduce.py configs/pipelines/digits.py

# Processes of one thread, as the networks are tiny; one more than cores, since
# many tests wait for processes of their own.
test: $(STAMP)  ## Run all tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --dist loadfile \
		--numprocesses $$($(BIN)/python -c \
		'import os; print(min(os.cpu_count(), 4) + 1)')

test-dense: $(DENSE_STAMP)  ## Run the tests of detectors and segmentors.
	OMP_NUM_THREADS=1 PYTHONPATH=$(DENSE) $(BIN)/python -m pytest \
		tests/test_dense

# Goes on where it was interrupted, unless the code has changed meanwhile.
kills: $(STAMP)  ## Kill and resume trainings in every mode, for docs/results.
	$(BIN)/python tools/analysis_tools/record_kills.py

lint: $(LINT_STAMP)  ## Check style, spelling and types.
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m codespell_lib
	$(BIN)/python -m mypy reducenet_mm tools

format: $(LINT_STAMP)  ## Let ruff repair and format.
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .
