PYTHON ?= python3
BIN := .venv/bin
# Wheels are built for these versions; constraints.txt pins all of them.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# Modules are compiled when they are first imported, not all 20,000 beforehand; so they must be kept then.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install rank test fast docs prove bench clean

help: ## what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/installed ## formats in .venv

rank: .venv/installed ## rank 498 formats on the bundled ResNet-18
	$(BIN)/formats rank --model resnet18 --output ranking.csv --force

test: .venv/installed-dev ## everything that continuous integration checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy || MYPY_NUM_WORKERS=0 $(BIN)/mypy  # its workers give up after 3 s on a busy machine
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal  # two processes with two threads each wait for each other

fast: .venv/installed-dev ## the same checks, but the tests marked slow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy || MYPY_NUM_WORKERS=0 $(BIN)/mypy  # its workers give up after 3 s on a busy machine
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal -m 'not slow'

# Needs no network once installed.
docs: .venv/installed-docs ## the documentation as a site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet  # the theme's advertisement is no warning

# About 8 minutes on 2 cores.
prove: .venv/installed-dev ## rounding right for all 2^32 float32 inputs, format by format
	$(BIN)/python -m tests.formats.prove

bench: .venv/installed-bench ## the emulator and gradients timed, beside other libraries
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/formats bench emulator  # qtorch compiles itself with ninja when imported
	$(BIN)/formats bench gradient

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --editable .
	touch $@

.venv/installed-%: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --editable '.[$*]'
	touch .venv/installed $@

clean: ## remove the virtual environment and what was built
	rm -rf .venv build *.egg-info
