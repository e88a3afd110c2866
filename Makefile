# Every target does its own set-up, once, in .venv. Another interpreter: make test PYTHON=python3.13
PYTHON ?= python3
# how many tests run at once, and more arguments for pytest: make test WORKERS=4 ARGS="-k stop"
WORKERS ?= 4
ARGS ?=
BIN := .venv/bin

.NOTPARALLEL:
.PHONY: help demo test lint docs bench install clean

help:
	@echo "make demo     a task outlives the daemon that started it"
	@echo "make test     all tests; as root, Debian packages that they need are installed"
	@echo "make lint     ruff, mypy, import-linter"
	@echo "make docs     the documentation as a site, in build/site"
	@echo "make bench    the figures of doc/performance.md, each beside its reference"
	@echo "make install  an environment in .venv, with the command .venv/bin/task-runner"
	@echo "make clean    remove .venv and everything else that was made here"

demo: .venv/installed
	@$(BIN)/python scripts/demo.py

test: .venv/installed-for-tests
	@scripts/debian-packages tests/debian-packages.txt
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/installed-for-tests
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed-for-docs
	$(BIN)/python -m mkdocs build --strict

install: .venv/installed
	@echo "The command is $(BIN)/task-runner; after '. $(BIN)/activate' it is task-runner."

bench: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[bench]"
	$(BIN)/python -m bench $(ARGS)

.venv/installed: pyproject.toml scripts/venv
	scripts/venv .venv "$(PYTHON)" .
	@touch $@

.venv/installed-for-tests: pyproject.toml scripts/venv
	scripts/venv .venv "$(PYTHON)" ".[test]"
	@touch .venv/installed $@

.venv/installed-for-docs: pyproject.toml scripts/venv
	scripts/venv .venv "$(PYTHON)" ".[docs]"
	@touch .venv/installed $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
