# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo chat test test-long check format bench clean

help:
	@echo "make demo       build a small chat model from nothing, offline (about 6 minutes)"
	@echo "make chat       talk to the newest model"
	@echo "make test       run the tests"
	@echo "make test-long  run the slow tests too"
	@echo "make check      formatting, lint, types, import ladder"
	@echo "make bench      measure speed on this machine"
	@echo "make clean      remove the environment and the demo"

demo: $(VENV)/.installed
	$(BIN)/tinyllm quickstart

chat: $(VENV)/.installed
	$(BIN)/tinyllm chat

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -m "long or not long"

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf $(VENV) demo

# A stamp is older than the files it was made from when they changed: only then pip runs again.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1"
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --group dev
	touch $@
