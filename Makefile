# One environment, .venv/, made once: every target that runs something sets it up first, except check.
#   make setup       only the environment: .venv/ with everything that the rest needs
#   make demo        a world of your own in ten minutes: record, curate, train, sample, measure, one report
#   make reproduce   the same from nothing at the full budget of `tiny`, with its quality gates: an hour on two cores
#   make play        the shipped weights in a browser, for several players
#   make test        what CI runs: format, lint, types, imports, tests
#   make check       the same without installing anything first
# PYTHON picks the interpreter (3.11 or 3.12), PIP_ARGS goes to pip, e.g. an index with CPU builds of torch.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
EXTRAS := dev,games,atari,serve,notebooks,benchmarks
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt $(PIP_ARGS)

export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo reproduce play test check types tests-alone benchmarks clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) -e '.[$(EXTRAS)]'
	touch $@

setup: $(VENV)/.installed

demo: $(VENV)/.installed
	$(RUN) -m gamegen_x.walk budget=demo

reproduce: $(VENV)/.installed
	$(RUN) -m gamegen_x.walk budget=full

play: $(VENV)/.installed
	$(RUN) -m gamegen_x.serve

test: $(VENV)/.installed
	$(MAKE) --no-print-directory check

check:
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(MAKE) --no-print-directory --jobs 2 types tests-alone

types:
	$(VENV)/bin/mypy

tests-alone:
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 3 --dist worksteal --nbmake --cov --cov-report=term:skip-covered \
		--cov-fail-under=85 tests notebooks

benchmarks: $(VENV)/.installed
	$(RUN) -m benchmarks

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
