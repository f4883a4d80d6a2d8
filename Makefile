# Every command of the project. `make` lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JSON ?=

.PHONY: help install dev demo test test-together test-alone test-engines test-stack lint format calibrate bench bench-client soak dashboards dashboard-pictures lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## make .venv with the enginebench command in .venv/bin

dev: $(VENV)/.installed-dev ## the same, with what tests and lint need

demo: install ## the main job on simulated engines, over HTTP, in one command (JSON=file writes it as JSON too)
	$(BIN)/enginebench demo $(if $(JSON),--json $(JSON))

test: test-together test-alone ## every test that needs only pip: SQLite and a real Postgres it starts itself

# Three on two cores, since they wait for engines and services half the time. ALSO=tests/stack adds those.
test-together: dev ## most of them, three at a time
	$(BIN)/pytest -m "not alone" -n 3 --dist worksteal tests/acceptance $(ALSO) tests/integration tests/unit

test-alone: dev ## its tests that judge the machine, one at a time
	$(BIN)/pytest -m alone tests/integration

test-engines: dev ## the same code against real servers on CPU: mlx-lm, transformers serve, vLLM
	$(BIN)/python tests/engines/install.py
	$(BIN)/pytest tests/engines

test-stack: dev ## what needs Debian packages: a real Prometheus scrapes a real service
	$(BIN)/pytest tests/stack

lint: dev ## ruff, mypy --strict, import contracts, compose schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: dev ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

calibrate: dev ## hold the records against the simulated engine's own truth at rising load
	$(BIN)/python -m tests.calibration.calibrate

bench: bench-client ## bench-client, then answer times over 10,000 stored runs on SQLite and Postgres, and 100,000 on Postgres
	$(BIN)/python -m tests.calibration.bench_service
	$(BIN)/python -m tests.calibration.bench_history

bench-client: dev ## what the client costs and how exact it is, beside plain httpx and aiohttp clients, with a picture
	$(BIN)/python -m tests.calibration.bench_client

soak: dev ## 300 clean runs in a row, none of which may be called wrong: about ten minutes
	$(BIN)/python -m tests.calibration.soak

dashboards: dev ## write Grafana's dashboards anew from dashboards/source
	$(BIN)/python -m dashboards.generate

dashboard-pictures: dev ## draw each dashboard from its own queries while jobs run on simulated engines: six minutes
	$(BIN)/python -m tests.stack.pictures

lock: dev ## write both requirements locks anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --group build -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove what the commands above made
	rm -rf $(VENV) .venv-engines .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

# pip installs from the hash-pinned lock, then the project itself without a further look outside.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "enginebench needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@
