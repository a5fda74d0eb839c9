# make run       install, fetch the data, run every notebook; pages in site/index.html
# make run NOTEBOOK=01   only the notebooks whose names start with 01
# make check     style, types and the quick tests, for daily work (a minute)
# make test      install the same way and check everything
# make lab       JupyterLab
# make exercises copies of the notebooks without solutions and outputs, in exercises/
# make lint      style and types
# make refresh   execute the notebooks in place, for committing (NOTEBOOK=01 as above)
# make lock      compile requirements.txt from pyproject.toml

NOTEBOOK ?=
# Later notebooks take longer; two at a time end sooner if the long ones start first.
LATER_FIRST = $$(ls -r notebooks/*.ipynb)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
# One stamp per interpreter, so that naming another one installs anew.
INSTALLED := $(VENV)/.installed-$(subst /,-,$(PYTHON))

.PHONY: run check test lab exercises lint refresh lock data install
run: data
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/run.py --only "$(NOTEBOOK)"

check: data lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not browser"

test: data lint
	$(BIN)/python -m pytest -n 2 --dist worksteal
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout 600 \
		-n 2 --dist loadfile --no-loadscope-reorder $(LATER_FIRST)

lab: data
	$(BIN)/jupyter lab --notebook-dir=notebooks

exercises: install
	$(BIN)/python tools/exercises.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

refresh: data
	$(BIN)/python tools/run.py --in-place --only "$(NOTEBOOK)"
	$(BIN)/python tools/readme.py

lock: install
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--no-annotate --no-header --quiet --output-file requirements.txt

data: install
	$(BIN)/python -m cfutils.movielens

install: $(INSTALLED)

$(INSTALLED): requirements.txt pyproject.toml
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "This project needs Python 3.11, 3.12 or 3.13; found:" \
			"$$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)."; \
		echo "Install one of them, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
