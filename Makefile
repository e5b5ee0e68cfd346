# Everything happens in .venv here; nothing is installed anywhere else. `make help` lists the targets.
#
#   PYTHON=python3.13   another interpreter for a new .venv (then `make clean` first)
#   ARGS="-k stream"    more arguments for pytest (test, matrix) or for `bowout demo`
#   WORKERS=0           pytest in one process, for a debugger
#   TIME=600 SEED=2     how long to fuzz, in seconds, and from which throw of the dice

PYTHON ?= python3
WORKERS ?= 2
TIME ?= 60
SEED ?= 1
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format coverage bench costs load fuzz mutation matrix changelog venv clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 12

demo: $(VENV)/.installed ## both situations, end to end, with their ladders
	@$(VENV)/bin/bowout demo $(ARGS)

test: $(VENV)/.installed-dev ## the whole suite, under coverage
	@$(PY) -m coverage erase
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report= $(ARGS)

coverage: $(VENV)/.installed-dev ## the gates on what `make test` measured: 100 % of the core, 95 % of the rest
	@$(PY) -m coverage report --include='src/bowout/_core/*' --fail-under=100
	@$(PY) -m coverage report --omit='src/bowout/_core/*' --fail-under=95

lint: $(VENV)/.installed-dev ## style, types inside and out, direction of imports, changelog fragments
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@# It looks into the environment of the python on PATH.
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PY) -m pyright --verifytypes bowout --ignoreexternal
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m towncrier build --draft --version next > $(VENV)/changelog || { cat $(VENV)/changelog; exit 1; }

format: $(VENV)/.installed-dev ## let ruff lay out and repair what it can
	@$(PY) -m ruff check --fix-only
	@$(PY) -m ruff format

changelog: $(VENV)/.installed-dev ## the next release's section as it would be
	@$(PY) -m towncrier build --draft --version next

bench: $(VENV)/.installed-dev ## bowout beside every peer: two minutes; ARGS="--thorough --save": twelve, into docs/benchmarks.md
	@$(PY) bench/compare.py $(ARGS)

costs: $(VENV)/.installed-dev ## count anew what operations cost, as the baseline that tests/test_costs.py guards
	@$(PY) bench/costs.py --update

load: $(VENV)/.installed-dev ## what connections cost a server, beside other servers: a minute; docs/load.md has the results
	@$(PY) bench/load.py --quick $(ARGS)

fuzz: $(VENV)/.installed-fuzz ## fuzz the engine for TIME seconds, or replay ARGS=FILE; docs/fuzzing.md
	@PYTHONPATH=tests $(PY) -m fuzz.engine --time $(TIME) --seed $(SEED) $(ARGS)

mutation: $(VENV)/.installed-mutation ## mutants of the core, niced: an hour of one core; docs/mutation.md has the results
	@nice -n 19 $(VENV)/bin/mutmut run --max-children 1 $(ARGS)
	@$(VENV)/bin/mutmut results

matrix: ## the suite on newer CPython and OpenSSL: as root, on Debian
	@scripts/matrix $(ARGS)

venv: $(VENV)/.installed-dev ## .venv with all that development needs

clean: ## all that was made here, but for .matrix
	rm -rf $(VENV) .coverage .coverage.* htmlcov dist build .fuzz mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'error: bowout needs Python 3.11 or newer, and $(PYTHON) is older' >&2; \
	    echo 'hint:  make PYTHON=python3.12 …' >&2; exit 1; }
	@echo 'making $(VENV) …' >&2
	@$(PYTHON) -m venv $(VENV) || { \
	    echo 'error: $(PYTHON) cannot make a virtual environment' >&2; \
	    echo 'hint:  on Debian: apt-get install python3-venv' >&2; exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'  # the first to know dependency groups
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.made
	@echo 'installing bowout with its extras into $(VENV) …' >&2
	@$(PIP) install --editable '.[cli,trio,uvloop,metrics,testing]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo 'installing the tools of development into $(VENV) …' >&2
	@$(PIP) install --group dev
	@touch $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	@echo 'installing the fuzzer into $(VENV) …' >&2
	@$(PIP) install --group fuzz
	@touch $@

$(VENV)/.installed-mutation: $(VENV)/.installed-dev
	@echo 'installing the mutator into $(VENV) …' >&2
	@$(PIP) install --group mutation
	@touch $@
