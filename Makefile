# Every target makes .venv and installs the project when that is still to be done (tools/setup.sh).
# A command that stops with an exit status of its own makes `make` say "Error N" and stop with status 2.

EXPERIMENT ?= report
PORT ?= 5000
ARGS ?=
PYTHON ?=

export PYTHON
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

python := .venv/bin/python
# Of the tests: as many as there are cores, since each takes half a GiB, and what it starts as much again.
workers = $(shell getconf _NPROCESSORS_ONLN)
pytest = PYTEST_XDIST_AUTO_NUM_WORKERS=$(workers) $(python) -m pytest -n auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup sweep-grid sweep-dropout plan report ui data bench bench-quick bench-gpu test test-all test-faults test-fuzz check audit constraints clean _runtime _dev _test-all

help: ## list the targets
	@echo "usage: make TARGET [EXPERIMENT=report] [ARGS=\"...\"] [PORT=5000] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | \
		while IFS='|' read -r name what; do printf '  %-15s%s\n' "$$name" "$$what"; done

setup: ## make .venv and install what a sweep needs; look again for a GPU
	@tools/setup.sh gpu
	@echo "Ready: .venv with $$($(python) --version). Next: make sweep-grid"

sweep-grid: _runtime ## stage 1 of EXPERIMENT: every setting of the grid
	@echo "Stage grid of $(EXPERIMENT). 'make plan EXPERIMENT=$(EXPERIMENT)' tells how long; after Ctrl-C the same command goes on." >&2
	@$(python) -m sweep run $(EXPERIMENT) --stage grid $(ARGS)

sweep-dropout: _runtime ## stage 2: dropout drawn at random around the winner of stage 1
	@echo "Stage dropout of $(EXPERIMENT). 'make plan EXPERIMENT=$(EXPERIMENT)' tells how long; after Ctrl-C the same command goes on." >&2
	@$(python) -m sweep run $(EXPERIMENT) --stage dropout $(ARGS)

plan: _runtime ## what a sweep would train, with its memory and time; trains nothing (seconds)
	@$(python) -m sweep plan $(EXPERIMENT) $(ARGS)

report: _runtime ## a page on all that EXPERIMENT has found, into reports/; prints its path (seconds)
	@$(python) -m sweep report $(EXPERIMENT) $(ARGS)

ui: _runtime ## MLflow's page of all runs, at PORT of this machine; Ctrl-C ends it
	@echo "Starting MLflow's page takes about 10 seconds." >&2
	@$(python) -m sweep ui --port $(PORT) $(ARGS)

data: _runtime ## fetch CIFAR-10 into data/ (163 MB, a minute or two)
	@$(python) -m core.cifar10 $(ARGS)

bench: _runtime ## the CPU against PyTorch, where that is installed (seven minutes); writes bench/results/cpu.json, cpu.png
	@$(python) -m bench.cpu $(ARGS)

bench-quick: _runtime ## its three essential rows, in less than a minute; the last line is JSON
	@$(python) -m bench.cpu --quick $(ARGS)

bench-gpu: _runtime ## the GPU against PyTorch on it, where that is installed; writes bench/results/gpu.json
	@$(python) -m bench.gpu $(ARGS)

test: _dev ## run the quick tests: about eight minutes on two cores; no GPU, network or data set needed
	@echo "Running the quick tests: about eight minutes." >&2
	@$(pytest) -m "not slow" $(ARGS)

test-all: _test-all ## run all tests; installs first what single ones need: PyTorch's CPU build, Playwright, psycopg
	@echo "Running all tests, slow ones too." >&2
	@$(pytest) $(ARGS)

test-faults: _dev ## kill, starve and damage sweeps in every way and count what survives (more than an hour; a sample is in test-all)
	@$(python) -m tests.faults $(ARGS)

test-fuzz: _dev ## 100,000 damaged and hostile files for each parser (about 20 minutes; a sample is in test)
	@FUZZ_EXAMPLES=100000 $(python) -m pytest -n auto --maxprocesses 4 -o faulthandler_timeout=0 tests/project/test_fuzz.py $(ARGS)

check: _dev ## ruff and mypy
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy

audit: _dev ## known vulnerabilities of the dependencies, as PyPI tells them (needs the network)
	@$(python) -m pip install -qq -c constraints.txt pip-audit
	@$(python) -m pip_audit -r constraints.txt --no-deps --disable-pip --progress-spinner off

constraints: ## write constraints.txt anew from pyproject.toml; PYTHON must be 3.11, the oldest supported
	$(or $(PYTHON),python3.11) tools/constraints.py

clean: ## remove .venv and caches; never runs, mlflow.db or data
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis */__pycache__ core/*/__pycache__

_runtime _dev _test-all:
	@tools/setup.sh $(@:_%=%)
