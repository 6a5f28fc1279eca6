# Commands for a fresh clone. `make quickstart` and `make test` install what they need into .venv first.
#
# There is one environment. `make quickstart` installs the packages as a user would. `make test` and the checks install them editable,
# with the test tools, into the same folder; from then on `make quickstart` runs that installation. Torch is downloaded once.
# pip runs again when a pyproject.toml, requirements-dev.txt or (user installation) a source file has changed.

VENV ?= .venv
PYTHON ?= python3
RUN ?= runs/quickstart
SITE ?= site

BIN := $(VENV)/bin
PROJECTS := pyproject.toml benchmarks/pyproject.toml $(wildcard plugins/*/pyproject.toml)
SOURCES := $(shell find oncoseg_core benchmarks/src plugins/*/src -type f -not -name '*.pyc')
USER := $(VENV)/.user-installation
DEV := $(VENV)/.dev-installation
INSTALLED := $(if $(wildcard $(DEV)),$(DEV),$(USER))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install install-dev quickstart test lint types docs bench clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

quickstart: $(INSTALLED)  ## adapt LiteMedSAM to real tumour scans: 3 minutes on two cores, 34 MB of scans
	@if [ -s "$(RUN)/report.html" ]; then \
		echo "$(RUN)/report.html exists. For another run: make quickstart RUN=runs/another"; \
	else \
		resume=$$(ls "$(RUN)"/checkpoints/step-*.pt > /dev/null 2>&1 && echo --resume); \
		$(BIN)/oncoseg-train quickstart --set output="$(RUN)" $$resume; \
	fi

test: $(DEV)  ## run all tests
	$(BIN)/pytest -n auto --dist loadfile

lint: $(DEV)  ## check style, import rules, unused code and versions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/python tools/versions.py

types: $(DEV)  ## check types with mypy
	$(BIN)/mypy

docs: $(DEV)  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir "$(SITE)"

bench: $(INSTALLED)  ## run the smoke benchmark on the sample scans
	$(BIN)/oncoseg-bench smoke

install: $(INSTALLED)  ## install OncoSeg as a user would
	$(BIN)/pip check

install-dev: $(DEV)  ## install OncoSeg editable, with the test tools
	$(BIN)/pip check

clean:  ## remove the environment, the site and the caches; keep runs/
	rm -rf "$(VENV)" "$(SITE)" build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/pip:
	$(PYTHON) -m venv "$(VENV)"

$(USER): $(PROJECTS) $(SOURCES) | $(BIN)/pip
	$(BIN)/pip install --quiet . ./benchmarks ./plugins/*/
	@touch $@

$(DEV): $(PROJECTS) requirements-dev.txt | $(BIN)/pip
	$(BIN)/pip install --quiet -r requirements-dev.txt
	@touch $@
