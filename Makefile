# Everything runs in .venv; `make install` makes it. PYTHON is any Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test check bench clean

install: $(STAMP)

# torch first: its version is pinned in constraints.txt, and nothing after it may choose another build.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "biomask needs Python >= 3.11; this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[all]"
	touch $(STAMP)

demo: install
	$(BIN)/biomask demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: install
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" -q

bench: install
	$(BIN)/python benchmarks/isbi2012.py
	$(BIN)/python benchmarks/tiling.py
	$(BIN)/python benchmarks/checking.py
	$(BIN)/python benchmarks/step_profile.py
	for set in dsb2018 hela drishti hippocampus mouse; do $(BIN)/python benchmarks/real_data.py $$set; done
	$(BIN)/python benchmarks/border_weights.py
	$(BIN)/python benchmarks/papers.py

clean:
	rm -rf $(VENV) build dist
