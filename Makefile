# Each target sets up what it needs in .venv; run any of them on a fresh clone.

PYTHON ?= python3
BIN := .venv/bin
IMAGE ?=
PROMPT ?=
OUTPUT ?= demo.png
MINUTES ?= 120

.PHONY: setup demo ui test test-slow browser browser-setup fuzz faults lint bench wheels clean

setup: .venv/ready

# torch first and pinned: an open range, taken later, would bring a newer one. Without an NVIDIA driver the CPU build,
# from wherever pip looks already or from PyTorch's own index, saves gigabytes of CUDA.
TORCH := $(shell grep '^torch==' constraints.txt)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CPU_INDEX := https://download.pytorch.org/whl/cpu

.venv/ready: pyproject.toml packages/diorama/pyproject.toml packages/diorama-mmdit/pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "maquette needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	    $(PIP) $(TORCH)+cpu 2>/dev/null || $(PIP) $(TORCH)+cpu --extra-index-url $(CPU_INDEX) || $(PIP) $(TORCH); \
	else $(PIP) $(TORCH); fi
	$(PIP) -e '.[train,data,ui,detectors,scale,track,dev]' -e packages/diorama -e packages/diorama-mmdit \
	    -c constraints.txt
	touch $@

demo: setup
	$(BIN)/maquette demo $(if $(IMAGE),"$(IMAGE)") $(if $(PROMPT),--prompt "$(PROMPT)") -o "$(OUTPUT)"

# The studio's page, at http://127.0.0.1:7860 until it is stopped.
ui: setup
	$(BIN)/maquette ui

test: lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile -m "not slow"

test-slow: setup
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m slow --ignore tests/faults

# The studio's page in Chromium; without it these tests are skipped. `make test` has the quick ones.
browser: setup
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/pytest tests/page

# Chromium, where Debian's or Ubuntu's packages are.
browser-setup: setup
	command -v chromium >/dev/null || { $(AS_ROOT) apt-get update && $(AS_ROOT) apt-get install --yes chromium; }

AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

# Every write of training, annotation, conversion and generation fails once, in turn (hours; docs/reliability.md).
faults: setup
	HF_HUB_OFFLINE=1 $(BIN)/pytest -s -m slow tests/faults

# Broken files of every kind against what reads them, for two hours; what breaks is kept in runs/fuzz.
fuzz: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.fuzz --minutes $(MINUTES)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/real_size.py
	$(BIN)/python benchmarks/sampling.py

# Three wheels: the code, below 2 MB, and the bundled models' weights, below the package index's limit of 100 MB each.
wheels: setup
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . packages/diorama packages/diorama-mmdit
	test $$(stat -c %s dist/maquette-*.whl) -lt 2000000
	test $$(stat -c %s dist/maquette_diorama-*.whl) -lt 100000000
	test $$(stat -c %s dist/maquette_diorama_mmdit-*.whl) -lt 100000000
	ls -l dist

clean:
	rm -rf .venv
