# Two commands are all that a fresh clone needs: `make demo` and `make test`. Each does its own set-up.

PYTHON ?= python3
VENV ?= .venv
# Processes of `make test`; each computes on one thread.
WORKERS ?= 2
PYTEST_ARGS ?=

BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-runtime
TEST := $(VENV)/.installed-test
# pip tells what it fetches, so that minutes do not pass in silence; not in the log of CI.
PIP := $(BIN)/python -m pip install $(if $(CI),--quiet) --disable-pip-version-check --no-input
# Bytecode is kept whatever the environment says: the suite starts hundreds of processes.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help demo test check format slurm-test browser-test install install-test clean

help:
	@echo "make demo          install, sweep 4 methods x 3 output strides on this machine, print the leaderboard"
	@echo "make test          install the test extra and run the tests"
	@echo "make check         formatting, lints, types, and which package may import which"
	@echo "make slurm-test    the launcher against a real SLURM, brought up in a temporary folder"
	@echo "make browser-test  the dashboard in a real browser"
	@echo "make clean         remove the virtual environment, the demo and all caches"
	@echo "Another Python: make PYTHON=python3.12 demo"

demo: $(RUNTIME)
	$(BIN)/harness sweep --methods none,kd,pixel_kd,ka --strides 8,16,32 --workspace .demo

test: $(TEST)
	$(PYTEST) -p tests.shared_server -n $(WORKERS) --dist worksteal --durations 10 \
		--ignore tests/slurm --ignore tests/browser tests $(PYTEST_ARGS)

check: $(TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Exit code 5 of pytest: there was nothing to run.
slurm-test: $(TEST)
	$(PYTEST) tests/slurm -n 3 --dist loadfile $(PYTEST_ARGS) || [ $$? -eq 5 ]

browser-test: $(TEST)
	$(PYTEST) tests/browser $(PYTEST_ARGS) || [ $$? -eq 5 ]

install: $(RUNTIME)

install-test: $(TEST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is not: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "No virtual environment could be made: apt-get install python3-venv?" >&2; exit 1; }

$(RUNTIME): pyproject.toml | $(BIN)/python
	@echo "Installing torch and the rest into $(VENV): some gigabytes, a few minutes, once."
	@$(PIP) --editable .
	@touch $@

$(TEST): pyproject.toml | $(BIN)/python
	@echo "Installing torch, the rest and the test tools into $(VENV): some gigabytes, a few minutes, once."
	@$(PIP) --editable '.[test]'
	@touch $@ $(RUNTIME)

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
