# Two commands on a fresh machine: `make demo` and `make test`. Each sets up .venv by itself, once.
# PYTHON: an interpreter of version 3.11 or later.  VENV: where the environment goes.
# TORCH_INDEX: a further package index with torch's CPU build, where the default one only has CUDA builds, e.g.
#   make test TORCH_INDEX=https://download.pytorch.org/whl/cpu      (2.13.0+cpu goes before 2.13.0)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
TORCH_INDEX ?=
SHARED_DATA := $(abspath ../shared/data)

# The real data sets: tests that need them skip without this folder, and fail when it is named but wrong.
ifeq ($(RECSYS_ZOO_DATA),)
ifneq ($(wildcard $(SHARED_DATA)),)
export RECSYS_ZOO_DATA := $(SHARED_DATA)
endif
endif

# Several processes with two threads each slow each other down many times; one thread a process.
TESTS := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal

.PHONY: demo test test-all lint clean

demo: $(VENV)/.installed
	$(VENV)/bin/recsys-zoo demo --out runs/demo

test: $(VENV)/.installed-dev
	$(TESTS) -m "not slow and not gpu"

test-all: $(VENV)/.installed-dev
	$(VENV)/bin/python tests/run_all.py --out benchmarks/results/test-all.json

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch numpy
	$(VENV)/bin/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
