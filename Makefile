# Each target creates what it needs on a fresh machine.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: setup demo test check bench clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	touch $(INSTALLED)

# Drawn people, the shipped weights in three INT8 formats, a report: demo/report.html
demo: setup
	$(BIN)/probpose-edge demo --out demo

# One process per core, one thread each; a file's tests stay together, they share what they made.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Ratios measured on this machine; the demo's models if there are none yet.
bench: setup
	test -d demo/models || $(MAKE) demo
	$(BIN)/python scripts/benchmark_import.py
	$(BIN)/python scripts/benchmark_decode.py
	$(BIN)/python scripts/benchmark_evaluation.py
	$(BIN)/probpose-edge benchmark demo/models/*.onnx demo/models/*.tflite

clean:
	rm -rf $(VENV) demo build dist
