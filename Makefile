# make demo   a simulated cohort from scans to the first group result
# make test   every test
# make lint types   what else must pass before a change lands
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := build/demo
# The libraries' telemetry stays off.
export NO_ET := 1

.PHONY: demo test lint types benchmark faults install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

# A second call finds everything in the cache and takes seconds.
demo: install
	$(BIN)/alsflow bids_example $(DEMO)/out participant --work-dir $(DEMO)/work \
	  --derivatives lcmodel=bids_example/derivatives/lcmodel
	$(BIN)/alsflow bids_example $(DEMO)/out group --work-dir $(DEMO)/work
	$(BIN)/python -m alsflow.cli_demo bids_example $(DEMO)/out

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The package is the repository root: mypy wants to see it under its own name.
types: install
	rm -rf build/types && mkdir -p build/types && ln -s "$(CURDIR)" build/types/alsflow
	cd build/types && MYPYPATH=. $(CURDIR)/$(BIN)/mypy --config-file "$(CURDIR)/pyproject.toml" \
	  -p alsflow.nodes -p alsflow.workflows -p alsflow.interfaces -m alsflow.cli

# Clusters and containers want the machine for themselves, and come last.
test: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slurm and not container"
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "slurm or container"

benchmark: install
	$(BIN)/python benchmarks/stream.py
	$(BIN)/python benchmarks/memory.py

# Fifty kills at random moments, and fifty times damaged files; about half an hour.
faults: install
	$(BIN)/python benchmarks/fault_campaign.py build/faults --kills 50
	$(BIN)/python benchmarks/damage_campaign.py build/faults --trials 50

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
