# Thin: what has logic is in config/install/*.py, which also run where make is missing. Written for GNU make 3.81 and newer.

# The first Python that is new enough and really works: some tools install stand-ins for versions that are not there.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import ensurepip, ssl, sqlite3, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$p"; break; }; done)
VENV := .venv
VENV_GPU := .venv-gpu
BIN := $(VENV)/bin
BACKEND ?=
ARGS ?=
INSTALL :=

.DEFAULT_GOAL := help
.PHONY: help install run test test-gpu test-chaos check format lock bench bench-fit soak soak-engine accuracy docker clean distclean

help: ## list what can be made
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  BACKEND=cuda|metal|vulkan|rocm|cpu  what llama.cpp is built for (default: what this machine has)"
	@echo "  PYTHON=python3.12                   the Python that makes the environment"
	@echo "  ARGS='-k name'                      more arguments for serve, pytest, the benchmark or the lock files"

install: ## set everything up in .venv: pinned packages, llama.cpp for this machine, the lilliput command
	@python='$(PYTHON)'; test -n "$$python" || { \
		echo "error: no Python 3.11 or newer with venv, ssl and sqlite3 was found; install one or set PYTHON=..." >&2; exit 1; }; \
	BACKEND='$(BACKEND)' "$$python" config/install/install.py $(INSTALL)

run: install ## install, then serve at http://127.0.0.1:1726
	@exec $(BIN)/lilliput serve $(ARGS)

test test-chaos bench bench-fit soak soak-engine accuracy: INSTALL := --test-models
test: install ## install, then run all tests and print how much of server/ they cover
	$(BIN)/python -m pytest --cov --cov-report=term --cov-fail-under=85 $(ARGS)

test-chaos: install ## opt-in: kill, starve and flood real daemons for some minutes
	$(BIN)/python -m pytest tests/chaos -s --timeout 900 $(ARGS)

test-gpu: ## opt-in: build llama.cpp for Vulkan in .venv-gpu and run tests/gpu on Mesa's software device
	@"$(PYTHON)" config/install/vulkan_headers.py --check
	@"$(PYTHON)" config/install/install.py --backend vulkan --venv $(VENV_GPU) --test-models
	$(VENV_GPU)/bin/python -m pytest tests/gpu $(ARGS)

check: install ## install, then check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## format the code and apply the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: install ## write the lock files again from pyproject.toml (ARGS=--upgrade for newer versions)
	$(BIN)/python config/install/lock.py $(ARGS)

bench: install ## compare with llama-server and the bare loop, judge the promises; builds llama-server once (bench/README.md)
	@status=0; \
	$(BIN)/python -m bench.rates || status=$$?; \
	$(BIN)/python -m bench $(ARGS) || status=$$?; \
	exit $$status

bench-fit: install ## compare predicted with measured speed, and time plans; fails when they are further off than promised
	$(BIN)/python -m tests.bench.fit_plan
	$(BIN)/python -m tests.bench.fit_speed

soak: install ## opt-in: let everything that goes wrong in weeks happen to a daemon for half an hour; ARGS='--minutes 2' for less
	$(BIN)/python -m tests.soak.daemon $(ARGS)

soak-engine: install ## let requests come, leave and fail at random for ten minutes; ARGS='--minutes 1' for less
	$(BIN)/python -m tests.soak.engine $(ARGS)

accuracy: install ## load many variants for real, compare with the plans, write docs/memory-accuracy.md
	$(BIN)/python -m tests.accuracy $(ARGS)

docker: ## build the container image for BACKEND (cpu if not given)
	docker build -f docker/Dockerfile --build-arg BACKEND=$(or $(BACKEND),cpu) -t lilliput:$(or $(BACKEND),cpu) .

clean: ## remove what builds and tools leave behind
	rm -rf build dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find server clients tests config -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the environments too; the next install starts from nothing but the built llama.cpp
	rm -rf $(VENV) $(VENV_GPU)
