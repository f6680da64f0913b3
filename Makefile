# The entry points of this checkout. Every target that needs the environment makes it first (scripts/setup.sh,
# which does nothing where nothing has changed).

PYTHON := .venv/bin/python
TESTS ?= tests
PYTEST_ARGS ?=
# Tests of runs wait for intervals and deadlines: one process more than two cores keeps both busy meanwhile.
WORKERS ?= 3
SESSIONS ?= 100000
DISTRIBUTION ?= bookworm

.DEFAULT_GOAL := help
BENCHMARKS := $(filter-out __init__ forwarder harness pooled processes round_cases round_federation serving_load tables wide yardstick,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/*.py)))

.PHONY: help setup demo test compiled check format privileges installcheck fuzz soak faults ledgers watch page pictures flower bench reference lock deb debtest clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup:  ## install what is missing: PostgreSQL, PL/Python, .venv, the extension
	@scripts/setup.sh

demo: setup  ## the quick start on private clusters, from nothing to a prediction
	.venv/bin/heliosdb demo

# What needs Flower has a target of its own.
test: setup  ## all tests, against a real PostgreSQL
	@scripts/setup.sh --clients
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore=tests/flower $(PYTEST_ARGS) $(TESTS)

compiled: setup  ## compile what the proxy does with each read (needs cc) and run all its tests on what came out
	rm -rf build/compiled
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(PYTHON) -m pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation --target build/compiled .
	HELIOSDB_TESTS_COMPILED=1 PYTHONPATH=$(CURDIR)/build/compiled $(PYTHON) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS) \
	    tests/unit/proxy tests/integration/proxy tests/integration/rewriting

soak: setup  ## the proxy's largest messages, 1 GB each way (needs about 4 GB of memory)
	HELIOSDB_MESSAGE_BYTES=1000000000 $(PYTHON) -m pytest $(PYTEST_ARGS) -k one_message tests/integration/proxy/test_proxy_limits.py

faults: setup  ## every kill and stop in every kind of run, 100 rounds of nodes that come and go, 200 of 20 MB (16 GB of disk)
	HELIOSDB_ALL_FAULTS=1 $(PYTHON) -m pytest $(PYTEST_ARGS) tests/faults/test_matrix.py tests/faults/test_scale.py tests/faults/test_memory_flat.py

ledgers: setup  ## SIGKILL between reserve, charge, release and what is sent, and in secure sums, fifty times each, many in a run
	HELIOSDB_LEDGER_KILLS=50 $(PYTHON) -m pytest $(PYTEST_ARGS) tests/faults/test_ledgers.py tests/faults/test_secure_sums_killed.py

watch: setup  ## a browser follows a run of 200 rounds: how far it is behind, whether its memory grows
	@scripts/setup.sh --clients
	HELIOSDB_WATCHED_ROUNDS=200 $(PYTHON) -m pytest -s $(PYTEST_ARGS) -k run_is tests/page/test_page.py

page:  ## bundle web/ into what `heliosdb api` serves (needs Node)
	scripts/page.sh

pictures: setup  ## take the pictures of docs/page.md anew
	@scripts/setup.sh --clients
	HELIOSDB_PICTURES=docs/page $(PYTHON) -m pytest $(PYTEST_ARGS) -k "pictures or run_is" tests/page/test_page.py

flower: setup  ## a training over a federation of Flower's, which has an environment of its own
	scripts/flower-environment.sh
	$(PYTHON) -m pytest $(PYTEST_ARGS) tests/flower

fuzz: setup  ## long fuzz run of the proxy, the scanner and the API: make fuzz SESSIONS=100000 (a fifth with a real server)
	SESSIONS=$(SESSIONS) $(PYTHON) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS) \
	    tests/unit/proxy/test_proxy_fuzz_model.py tests/integration/proxy/test_proxy_fuzz.py \
	    tests/unit/federated_sql/test_language_fallback_scanner.py \
	    tests/integration/api/test_rest_walls.py::test_what_is_sent_stays_what_it_is \
	    tests/integration/api/test_rest_walls.py::test_no_generated_call_ends_in_an_error_of_ours

check: setup  ## style, types, import layers, the SQL scripts, the crate
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict
	.venv/bin/lint-imports
	scripts/pgspot.sh
	scripts/check-crate.sh

format: setup  ## rewrite what `check` would complain about and a tool can mend
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

privileges: setup  ## write down anew which role has which right (read the difference before committing it)
	$(PYTHON) -m tests.support.privilege_matrix

installcheck: setup  ## the pg_regress suite, against the running server of PGHOST, PGPORT, PGUSER
	$(MAKE) --no-print-directory -C extension installcheck

bench: setup  ## make bench NAME=x runs benchmarks/x.py
	@test -e "benchmarks/$(subst -,_,$(NAME)).py" || { echo "say which: make bench NAME=x; there are: $(BENCHMARKS)" >&2; exit 2; }
	$(PYTHON) -m benchmarks.$(subst -,_,$(NAME)) $(ARGS)

reference: setup  ## renew the generated parts of docs/reference.md, compliance.md, reports.md and monitoring.md
	$(PYTHON) -m scripts.reference docs/reference.md docs/compliance.md docs/reports.md docs/monitoring.md

lock:  ## renew the locks from pyproject.toml
	scripts/lock.sh --upgrade

deb: setup  ## Debian packages into dist/: make deb DISTRIBUTION=trixie
	$(PYTHON) -m scripts.deb $(DISTRIBUTION)

debtest: setup  ## install, use, upgrade, remove the packages in a root of Debian's own (root, network): make debtest DISTRIBUTION=trixie
	$(PYTHON) -m scripts.deb $(DISTRIBUTION)
	scripts/test_deb.sh $(DISTRIBUTION)

clean:  ## remove what was built here; the environment stays
	rm -rf build dist web/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src parser tests -name __pycache__ -prune -exec rm -rf {} +
