# `make demo` and `make test` work on a fresh machine with python3 (venv), make and a package index.
# `make test`: ruff, mypy, and every promise, over every registered name where that is cheap and over a few of the others:
#   at most 15 minutes on 2 cores, installing included. `make test-all`: also `make sweeps`, which is what is marked
#   `sweep`: all encoders, timm's families, every export, every architecture compiled. At most 25 minutes.
# `make test-oldest`: the tests of the rooms in OLDEST, sweeps left out, with the lowest versions that pyproject.toml names.
# `make docs`: the site of docs/ into site/, strictly: a broken link, anchor or page is an error.
# `make gpu`: all that wants an accelerator, in at most 8 minutes (docs/performance.md). WHEELS=folder: with PYTHON's own
#   packages and what that folder holds, without network; GPU='--parts eager anytime': some of it.
# Variables: DATA=path to a CamVid folder, OUT=folder for the demo's files, PYTHON, WORKERS (test processes).
PYTHON ?= python3
OUT ?= runs/demo
WORKERS ?= auto
# worksteal: a module's tests stay on one worker, which builds their models once, until another has nothing left to do
# one thread each, as there is one worker a core, and bytecode is kept: the tests start many processes
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 20
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

# Rooms of tests/ that the lowest versions are held to; the template's own test needs the tools of `dev`. Not `training`,
# `cli`, `data`, `exporting` and the others, which were never run with them.
OLDEST := config dynamics evaluation loops losses models ops registry saving surgery
OLDEST_BIN := .venv-oldest/bin
GPU_SITE := runs/gpu-site

.PHONY: demo test test-all test-oldest pytest sweeps lint format docs bench gpu clean

demo: .venv/.demo
ifdef DATA
	$(BIN)/smp-feedback compare --data.name camvid --data.root "$(DATA)" --data.train_count 0 --train_steps 100 --seeds 1 --jobs 2 --out "$(OUT)/camvid"
else
	$(BIN)/smp-feedback compare --config studies/demo.yaml --jobs 2 --out "$(OUT)"
endif

test: .venv/.dev
	@$(MAKE) --no-print-directory -j2 lint pytest

test-all: test
	@$(MAKE) --no-print-directory sweeps

pytest: .venv/.dev
	$(PYTEST) -m "not sweep"

# no doctest is a sweep: modules need not be looked through for them
sweeps: .venv/.dev
	$(PYTEST) -m sweep -o addopts="--strict-markers --strict-config -ra" tests plugins

test-oldest: .venv-oldest/.installed
	OMP_NUM_THREADS=1 $(OLDEST_BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not sweep" $(OLDEST:%=tests/%) \
		--ignore tests/registry/test_template.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.dev
	$(BIN)/python -m tools.docs

bench: .venv/.dev
	$(BIN)/python -m benchmarks.cost
	$(BIN)/python -m benchmarks.places
	$(BIN)/python -m benchmarks.reached
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.gains
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.recipes
	$(BIN)/python -m benchmarks.look_cost
	$(BIN)/python -m benchmarks.refinement_cost
	$(BIN)/python -m benchmarks.restoration_cost

ifdef WHEELS
gpu:
	$(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target $(GPU_SITE) $(WHEELS)/*.whl
	PYTHONPATH="$(CURDIR):$(CURDIR)/$(GPU_SITE)" $(PYTHON) -m benchmarks.gpu $(GPU)
else
gpu: .venv/.dev
	$(BIN)/python -m benchmarks.gpu $(GPU)
endif

# A stamp per set of extras: nothing is installed again until the requirements change.
# --no-compile: Python compiles what is imported, which is little of what is installed.
.venv/.demo: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) --editable ".[train,plot]"
	@touch $@

.venv/.dev: pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml) | $(BIN)/pip
	$(PIP) --editable ".[all]" $(PLUGINS:%=--editable ./%)
	@touch $@ .venv/.demo

# pip comes last: one that was interrupted is made again
%/bin/pip:
	$(PYTHON) -m venv $*

# What runs the tests is of today: its lower bounds are developers', not users'.
.venv-oldest/.installed: pyproject.toml constraints-oldest.txt | $(OLDEST_BIN)/pip
	$(OLDEST_BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints-oldest.txt \
		--editable ".[train,plot,tiles,distances,topology]" $(PLUGINS:%=--editable ./%) hypothesis pytest pytest-timeout pytest-xdist
	@touch $@

clean:
	rm -rf .venv .venv-oldest runs dist build site .mypy_cache .ruff_cache .pytest_cache
