# make demo   a simulated cohort from scans to the first group result
# make test   every test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Telemetry of the libraries stays off, and one process uses one thread unless told otherwise.
export NO_ET := 1

.PHONY: demo test lint types install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The package is the repository root: mypy wants to see it under its own name.
types: install
	rm -rf build/types && mkdir -p build/types && ln -s "$(CURDIR)" build/types/alsflow
	cd build/types && MYPYPATH=. $(CURDIR)/$(BIN)/mypy --config-file "$(CURDIR)/pyproject.toml" \
	  -p alsflow.nodes -p alsflow.workflows -p alsflow.interfaces -m alsflow.cli

test: install
	$(BIN)/pytest -n 2 --dist worksteal

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
