# The main targets are `make run` and `make test`. `make help` lists all of them.
# The newest Python that starts; a version manager may have shims for versions not installed.
PYTHON ?= $(shell for v in 3.14 3.13 3.12 3.11 3; do \
	python$$v -c "" 2>/dev/null && command -v python$$v && exit; done)
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes
# Each process has its own engines. Files are not split, and start in the order of tests/conftest.py.
PARALLEL = --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
SOURCES = accounts bench channels_app config core faults instances messaging simulators tests scripts manage.py

.DEFAULT_GOAL := help
.PHONY: help run test lint format lock messages bench faults clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name does; do printf '  make %-9s %s\n' "$$name" "$$does"; done

run: .venv/.run ## Run everything on this machine (PORT, DATA_DIR, PUBLIC_URL, DEMO=0)
	@exec .venv/bin/python manage.py up

test: .venv/.dev ## Run all tests (ARGS="-k name" for some)
	@scripts/chromium
	@exec .venv/bin/python -m pytest $(or $(ARGS),$(PARALLEL))

lint: .venv/.dev ## Check style, types and import layers
	@scripts/lint

format: .venv/.dev ## Format Python and templates
	@.venv/bin/ruff check --fix --quiet $(wildcard $(SOURCES)) || true
	@.venv/bin/ruff format $(wildcard $(SOURCES))
	@find . -path ./.venv -prune -o -name '*.html' -print | xargs .venv/bin/djade

lock: .venv/.dev ## Regenerate requirements/*.txt (UPGRADE=1 allows newer releases)
	@scripts/lock $(if $(UPGRADE),--upgrade)

messages: .venv/.dev ## Update the translation catalogs
	@.venv/bin/python scripts/messages.py update

bench: .venv/.dev ## Measure speed and memory on this machine (about 50 minutes; SHORT=1, ARGS="name")
	@exec .venv/bin/python -m bench $(ARGS)

faults: .venv/.dev ## Send (or receive: INBOUND=n, RATE) while processes are killed (COUNT, SEED, EVERY, KILLS)
	@exec .venv/bin/python -m faults

clean: ## Remove the virtual environment and caches; data stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# pip is installed last into a virtual environment: if it exists, the environment is complete.
.venv/bin/pip:
	@scripts/make-venv "$(PYTHON)"

.venv/.run: requirements/run.txt | .venv/bin/pip
	@echo "Installing the requirements; this happens once and may take a minute."
	@$(PIP_INSTALL) -r $<
	@touch $@

.venv/.dev: requirements/dev.txt | .venv/bin/pip
	@echo "Installing the test requirements; this happens once and may take a minute."
	@$(PIP_INSTALL) -r $<
	@touch $@
