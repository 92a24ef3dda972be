# `make help` lists the targets. Nothing here needs more than Python (>= 3.10) and make.
PYTHON ?= python3
VENV   ?= .venv
# One exact version: a range would take the newest, on some platforms several gigabytes of GPU libraries.
TORCH  ?= torch==2.13.0
# Reference implementations that the metrics are tested against. They ask for torchvision, which does not install
# everywhere; the tests put a stand-in in its place.
REFERENCES := lpips==0.1.4 DISTS-pytorch==0.1 efficientnet_lite_pytorch==0.1.0 tqdm
EXTRAS ?= dev,train,bench,demo,docs
# Where `make demo` writes; INPUT=my.mp4 replaces the package's clip.
OUT    ?= demo-out
INPUT  ?=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.s2vc-installed

.DEFAULT_GOAL := help
.PHONY: help setup lint types imports test test-all demo docs benchmarks-docs clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install the package with everything the other targets need

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(REFERENCES)
	@touch $@

lint: setup ## Format and style (ruff), types (mypy), directions of imports (import-linter)
	$(BIN)/ruff check src tests examples
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## Lint, then every test that is not slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -q -n auto --maxprocesses 8

test-all: lint ## Lint, then every test
	$(BIN)/python -m pytest -q

demo: setup ## Encode and decode real footage, print figures, write a strip (INPUT=my.mp4 for your own)
	$(BIN)/python -m s2vc demo $(if $(INPUT),'$(INPUT)') --out '$(OUT)'

docs: setup ## Build the documentation's site into site/
	$(BIN)/python -m mkdocs build --strict

benchmarks-docs: setup ## Write docs/benchmarks.md and README's table from benchmarks/results
	$(BIN)/python benchmarks/make_docs.py

clean: ## Remove .venv, caches and the demo's files
	rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build site
