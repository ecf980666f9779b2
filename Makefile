# streamflow: every target sets itself up first. `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
MONTH ?=
DATA_DIR ?=
AS_OF ?=
PORT ?= 8080
# More arguments for the command, like make dbt ARGS="build --select gate+"
ARGS ?=
OPTIONS = $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(if $(AS_OF),--as-of "$(AS_OF)")

.PHONY: help setup tools ingest check status test test-long lint format bench docs docs-static docs-reference docs-pictures docs-site psql dbt seeds clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/installed ## Make .venv and install what a month needs

tools: $(VENV)/tools # also what tests and lint need

SOURCES := pyproject.toml setup.py constraints.txt dbt_project/packages.yml
SOURCES += $(wildcard dbt_project/stand_in/dbt_expectations/macros/*.sql)

$(VENV)/installed: $(SOURCES)
	$(call install,.)

$(VENV)/tools: $(SOURCES)
	$(call install,'.[dev]')

define install
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { \
	  echo "streamflow needs Python 3.10 to 3.13; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another one: make setup PYTHON=python3.12" >&2; exit 2; }
	@.ci/install $(VENV) $(PYTHON) $(1)
	@$(BIN)/streamflow setup >&2
	@touch $(VENV)/installed $@
endef

ingest: setup ## Ingest a month, or without MONTH name the available ones: make ingest MONTH=001 [DATA_DIR=folder] [AS_OF=2024-02-29]
	@$(BIN)/streamflow ingest $(if $(MONTH),"$(MONTH)") $(OPTIONS) $(ARGS)

check: setup ## Land and audit a month, publish nothing: make check MONTH=001 [DATA_DIR=folder]
	@$(BIN)/streamflow check $(if $(MONTH),"$(MONTH)") $(OPTIONS) $(ARGS)

status: setup ## Show what is left to do, and the months with their states
	@$(BIN)/streamflow status $(ARGS)

# In a folder of its own: another run of pytest closes the one that they share to the account that runs the servers
IN_A_FOLDER = folder=$$(mktemp -d /tmp/sf-XXXXXX) && trap 'rm -rf "$$folder"' EXIT && trap 'exit 130' INT TERM &&
PYTEST = $(BIN)/pytest -n auto --dist worksteal --basetemp="$$folder/t" $(ARGS)

test: tools ## Run the short tests, each on PostgreSQL 16 or 18
	@$(IN_A_FOLDER) $(PYTEST)

test-long: tools ## Run all tests on both, with many kills and long fuzzing
	@.ci/install $(VENV) $(PYTHON) '.[dev,tutorial]'
	@$(IN_A_FOLDER) STREAMFLOW_TEST_LONG=1 $(PYTEST)

lint: tools ## Check style and types of Python and SQL, the Dockerfile, docker-compose.yml and the workflow
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/sqlfluff lint --disable-progress-bar dbt_project/models dbt_project/streamflow/models dbt_project/streamflow/tests
	@$(BIN)/streamflow models --check
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/shellcheck .ci/install .ci/run
	@$(BIN)/jactionlint --shellcheck=$(BIN)/shellcheck --no-hints --ignore unpinned-uses --ignore unpinned-images
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml

format: tools ## Fix the style of the Python files
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: tools ## Compare streamflow with other tools, and write docs/performance.md: an hour [ARGS="--only small"]
	@.ci/install $(VENV) $(PYTHON) '.[dev,bench]'
	@$(BIN)/python -m tests.bench $(ARGS)

docs: setup ## Serve the dbt docs with lineage on http://localhost:8080 [PORT=...]
	@$(BIN)/streamflow init
	@$(BIN)/streamflow dbt docs generate --quiet
	@$(BIN)/streamflow dbt docs serve --host 127.0.0.1 --port $(PORT)

docs-static: setup ## Write the dbt docs as one HTML file: docs/static/index.html
	@$(BIN)/streamflow init
	@$(BIN)/streamflow dbt docs generate --static --quiet
	@mkdir -p docs/static && cat dbt_project/target/static_index.html > docs/static/index.html
	@echo docs/static/index.html

docs-reference: tools ## Write the pages in docs/ that are generated: commands, settings, the example's tables
	@$(BIN)/python -m tests.cli_reference
	@$(BIN)/python -m tests.reference

docs-pictures: tools ## Draw the pictures in docs/pictures again: two minutes, needs Chromium
	@$(BIN)/python -m tests.pictures

docs-site: setup ## Build the pages in docs/ as a site with search: build/site/index.html
	@.ci/install $(VENV) $(PYTHON) '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site
	@echo build/site/index.html

psql: setup ## Open psql on the database
	@$(BIN)/streamflow db psql $(ARGS)

dbt: setup ## Run dbt with this project, profile and database: make dbt ARGS="build"
	@$(BIN)/streamflow dbt $(ARGS)

seeds: tools ## Generate the two made-up months again
	@$(BIN)/python seeds_data/generate.py --out seeds_data

clean: ## Delete what was built; the database in .streamflow stays
	@rm -rf dbt_project/target dbt_project/logs logs docs/static build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
