# Everything is installed into .venv here, and nothing anywhere else. `make help` lists the targets.
#
#   PYTHON=python3.13   another interpreter for a new .venv (then `make clean` first)
#   WHEEL=FILE          test this wheel in a new .venv, instead of the source here
#   ARGS="-k stream"    more arguments for pytest (quick, test, test-all, coverage, matrix) or for `bowout demo`
#   WORKERS=0           pytest in one process, for a debugger
#   TIME=600 SEED=2     the seconds to fuzz, and the random seed

PYTHON ?= python3
# Processes of pytest: most tests wait for a peer or a deadline, so more processes than cores are faster.
WORKERS ?= $$((3 * $$(getconf _NPROCESSORS_ONLN)))
# Of the quick tests few wait, and each process takes two seconds to collect them.
QUICK_WORKERS ?= $$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2))
TIME ?= 60
SEED ?= 1
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq
PYTEST = $(PY) -m pytest -n $(WORKERS) --dist worksteal
# What runs on the lane in Python, too, where `make test` takes the one in C.
LANE_TESTS := tests/engine tests/test_stream_*.py tests/test_connect.py tests/test_serve*.py tests/test_drain*.py \
    tests/test_asyncio*.py tests/test_conformance.py tests/test_session.py tests/test_lane*.py tests/test_adapters_*.py \
    tests/test_trio.py tests/test_anyio.py tests/test_httpcore.py
SANITIZE_TESTS := tests/test_lane*.py tests/test_fuzz_corpus.py tests/test_stream_[a-su-z]*.py
EXTRAS := [cli,trio,uvloop,metrics,testing,aiohttp,httpx]

# With it, each process of the tests would compile all the modules that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo quick test test-all lane sanitize memcheck lint format coverage gates dist release-check bench costs load scoreboard pictures docs links fuzz fuzz-lane mutation matrix changelog venv clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

demo: $(VENV)/.installed ## both situations, end to end, with their ladders
	@$(VENV)/bin/bowout demo $(ARGS)

quick: $(VENV)/.installed-test ## core, streams and servers on asyncio and TLS 1.3: half a minute on two cores
	@HYPOTHESIS_PROFILE=quick $(PY) -m pytest -n $(QUICK_WORKERS) --dist worksteal -m quick $(ARGS)

test: $(VENV)/.installed-test ## all tests but the nightly ones: a quarter of an hour on two cores
	@$(PYTEST) -m "not nightly" $(ARGS)

test-all: $(VENV)/.installed-test ## all tests, including the combinations that repeat what others show
	@$(PYTEST) $(ARGS)

lane: $(VENV)/.installed-test ## the tests of streams and servers on the lane in Python: three minutes
	@BOWOUT_LANE=python $(PYTEST) -m "not nightly" $(LANE_TESTS) $(ARGS)

sanitize: $(VENV)/.installed-test ## the same on the lane in C under ASan and UBSan, with the gcc that is here
	@scripts/sanitize $(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not nightly" $(SANITIZE_TESTS) $(ARGS)

memcheck: $(VENV)/.installed-test ## test_lane.py and the endings on the lane in C under valgrind: half an hour
	@scripts/memcheck $(PY) -m pytest -p no:xdist -m "not nightly" tests/test_lane.py tests/test_conformance.py \
	    -k "test_lane.py or (asyncio and (whole or data_unread) and 1.3)" $(ARGS)

coverage: $(VENV)/.installed-test ## `make test` under coverage, then the gates
	@$(PY) -m coverage erase
	@$(PYTEST) -m "not nightly" --cov --cov-report= $(ARGS)
	@$(MAKE) --no-print-directory lane ARGS="--cov --cov-report= --cov-append"
	@$(MAKE) --no-print-directory gates

gates: $(VENV)/.installed-test ## check the last coverage: 100 % of the core, 95 % of the rest
	@$(PY) -m coverage report --include='src/bowout/_core/*' --fail-under=100
	@$(PY) -m coverage report --omit='src/bowout/_core/*' --fail-under=95

lint: $(VENV)/.installed-dev ## style, spelling, types inside and out, direction of imports, changelog fragments, workflows and forms
	@$(PY) -m ruff check
	@$(PY) -m codespell_lib *.md docs changelog.d src tests examples scripts bench .ci .github Makefile pyproject.toml mkdocs.yml
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@# pyright checks the environment of the python on PATH.
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PY) -m pyright --verifytypes bowout --ignoreexternal
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(PY) -m check_jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(PY) -m check_jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	@$(PY) -m check_jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	@$(PY) -m check_jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	@$(PY) -m towncrier build --draft --version next > $(VENV)/changelog || { cat $(VENV)/changelog; exit 1; }

format: $(VENV)/.installed-dev ## format the code, and apply ruff's fixes
	@$(PY) -m ruff check --fix-only
	@$(PY) -m ruff format

dist: $(VENV)/.installed-dev ## the source distribution, and the wheel that is built from it
	@rm -rf dist
	@$(PY) -m build --outdir dist . > $(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }

release-check: $(VENV)/.installed-dev ## all that a release needs, but the upload: ten minutes; ARGS=--fast: one Python, no extras
	@$(PY) scripts/release_check.py $(ARGS)

changelog: $(VENV)/.installed-dev ## preview the changelog of the next release
	@$(PY) -m towncrier build --draft --version next

bench: $(VENV)/.installed-dev ## bowout beside other libraries: two minutes; ARGS="--thorough --save": twelve, into docs/evidence/benchmarks.md
	@$(PY) bench/compare.py $(ARGS)

costs: $(VENV)/.installed-dev ## record the cost of operations as the baseline of tests/test_costs.py
	@$(PY) bench/costs.py --update

load: $(VENV)/.installed-dev ## the cost of connections for a server, beside other servers: a minute; docs/evidence/load.md has the results
	@$(PY) bench/load.py --quick $(ARGS)

scoreboard: $(VENV)/.installed-test ## how real servers and clients end TLS: a quarter of an hour, into scoreboard/; docs/evidence/scoreboard.md
	@$(PY) scripts/scoreboard.py $(ARGS)

fuzz: $(VENV)/.installed-fuzz ## fuzz the engine for TIME seconds, or replay ARGS=FILE; docs/evidence/fuzzing.md
	@PYTHONPATH=tests $(PY) -m fuzz.engine --time $(TIME) --seed $(SEED) $(ARGS)

fuzz-lane: $(VENV)/.installed-fuzz ## the same through the lane in C, whose endings must be the engine's
	@PYTHONPATH=tests $(PY) -m fuzz.engine --lane --time $(TIME) --seed $(SEED) $(ARGS)

pictures: $(VENV)/.installed-test ## draw docs/pictures again: the ladders of the demo, and its recording
	@$(PY) scripts/generate_pictures.py
	@$(PY) scripts/record_demo.py

docs: $(VENV)/.installed-docs ## the site of docs/, offline, into build/site, and a trial of it in Chromium; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@$(PY) scripts/check_site.py
	@$(PY) scripts/try_site.py
	@echo 'to read it: python3 -m http.server -d build/site'

links: $(VENV)/.installed-dev ## ask every address that the texts name, with retries; this takes a network
	@$(PY) scripts/check_links.py $(ARGS)

mutation: $(VENV)/.installed-mutation ## mutants of the core, niced: an hour of one core; docs/evidence/mutation.md has the results
	@nice -n 19 $(VENV)/bin/mutmut run --max-children 1 $(ARGS)
	@$(VENV)/bin/mutmut results

matrix: ## the suite on newer CPython and OpenSSL: as root, on Debian
	@scripts/matrix $(ARGS)

venv: $(VENV)/.installed-dev ## .venv with all development tools

clean: ## remove all that was made here, except .matrix
	rm -rf $(VENV) .coverage .coverage.* htmlcov dist build .fuzz mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'error: bowout needs Python 3.11 or newer, and $(PYTHON) is older' >&2; \
	    echo 'hint:  make PYTHON=python3.12 …' >&2; exit 1; }
	@echo 'making $(VENV) …' >&2
	@$(PYTHON) -m venv $(VENV) || { \
	    echo 'error: $(PYTHON) cannot make a virtual environment' >&2; \
	    echo 'hint:  on Debian: apt-get install python3-venv' >&2; exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'  # the first with dependency groups
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.made
	@echo 'installing bowout with its extras into $(VENV) …' >&2
	@$(PIP) install $(if $(WHEEL),'$(WHEEL)$(EXTRAS)',--editable '.$(EXTRAS)')
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo 'installing the dependencies of the tests into $(VENV) …' >&2
	@$(PIP) install --group test --group bench
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	@echo 'installing the development tools into $(VENV) …' >&2
	@$(PIP) install --group dev
	@touch $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	@echo 'installing the fuzzer into $(VENV) …' >&2
	@$(PIP) install --group fuzz
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-test
	@echo 'installing what builds the site into $(VENV) …' >&2
	@$(PIP) install --group docs
	@touch $@

$(VENV)/.installed-mutation: $(VENV)/.installed-dev
	@echo 'installing mutmut into $(VENV) …' >&2
	@$(PIP) install --group mutation
	@touch $@
