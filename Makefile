# `make` lists the targets. Everything installs into .venv; nothing on the host changes but by `make install` and
# `make uninstall`, and by `make test`, which may start a Docker engine of its own (tests/support/engine.py) and
# stops it afterwards.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.installed
SHELL_SCRIPTS := lib/run lib/install $(wildcard scripts/*.sh tests/bats/*.bats tests/bats/*.bash) \
	.ci/run tests/all tests/faults tests/pythons tests/support/entrypoint.sh $(wildcard tests/host/files/*.sh)

# What `make install` is told: docs/install.md.
PREFIX ?= /opt/payment-system/deployment
DESTDIR ?=
BACKUP_USER ?= deployer
CREATE_USER ?= yes
WHEELHOUSE ?= wheelhouse
install uninstall wheelhouse: export PREFIX := $(PREFIX)
install uninstall wheelhouse: export DESTDIR := $(DESTDIR)
install uninstall wheelhouse: export BACKUP_USER := $(BACKUP_USER)
install uninstall wheelhouse: export CREATE_USER := $(CREATE_USER)
install uninstall wheelhouse: export WHEELHOUSE := $(WHEELHOUSE)
install uninstall wheelhouse: export PYTHON := $(PYTHON)

# The interpreter of .venv may be gone, after an upgrade of the host: then all is installed anew.
STALE := $(shell [ -x $(BIN)/python ] || rm -rf $(STAMPS))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup install uninstall wheelhouse demo recording pictures test unit pythons lint format docs bench faults clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMPS)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "pgbackup: there is no '$(PYTHON)'. Hint: sudo apt-get install python3 python3-venv" >&2; exit 69; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "pgbackup: '$(PYTHON)' is older than 3.10. Hint: make PYTHON=python3.12 …" >&2; exit 69; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "pgbackup: '$(PYTHON)' cannot make virtual environments. Hint: sudo apt-get install python3-venv" >&2; exit 69; }
	@echo "preparing $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	@mkdir -p $(STAMPS) && touch $@

# One stamp per dependency group of pyproject.toml.
$(STAMPS)/%: pyproject.toml constraints.txt | $(STAMPS)/pip
	@echo "installing the group '$*' …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group $*
	@touch $@

setup: $(STAMPS)/runtime ## what the scripts need, into .venv
	@echo "ready: scripts/backup-postgres.sh --help"

install: ## the suite at its place on this host, with account and directories; again to upgrade (docs/install.md)
	@lib/install install

uninstall: ## take it away, with its schedule; backups and .env stay
	@lib/install uninstall

wheelhouse: ## what `make install` needs from the network, for a host without
	@lib/install wheelhouse

demo: $(STAMPS)/runtime $(STAMPS)/demo ## two throwaway databases, backed up and verified, without Docker
	@$(BIN)/python demo/demo.py

recording: $(STAMPS)/runtime $(STAMPS)/demo ## docs/demo.svg: the demo as it really runs, for the README
	@$(BIN)/python demo/recording.py docs/demo.svg

pictures: $(STAMPS)/runtime $(STAMPS)/test $(STAMPS)/bench ## docs/status.png and docs/status.svg: a status of made-up data, for the README
	@$(BIN)/python demo/pictures.py docs/status.png docs/status.svg

test: $(STAMPS)/runtime $(STAMPS)/demo $(STAMPS)/test ## all tests, on real PostgreSQL in Docker
	@$(BIN)/python tests/support/engine.py run -- tests/all

unit: $(STAMPS)/runtime $(STAMPS)/demo $(STAMPS)/test ## the tests that need no Docker
	@tests/all tests/unit

pythons: ## `make unit` on each supported Python that is on this machine
	@tests/pythons

lint: $(STAMPS)/runtime $(STAMPS)/test $(STAMPS)/lint ## ruff, mypy, import rules, shellcheck, shfmt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=lib:.:bench $(BIN)/mypy bench
	MYPYPATH=lib:demo $(BIN)/mypy demo
	PYTHONPATH=lib $(BIN)/lint-imports --no-cache
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/shfmt -d $(SHELL_SCRIPTS)

format: $(STAMPS)/lint ## put the sources into their standard form
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .
	$(BIN)/shfmt -w $(SHELL_SCRIPTS)

docs: $(STAMPS)/runtime ## write .env.example and the generated pages of docs/ anew
	$(BIN)/python docs/generate.py

bench: $(STAMPS)/runtime $(STAMPS)/demo $(STAMPS)/test $(STAMPS)/bench ## speed and memory, side by side, with pictures
	@$(BIN)/python tests/support/engine.py run -- $(BIN)/python bench/bench.py

faults: $(STAMPS)/runtime $(STAMPS)/demo $(STAMPS)/test ## the fault tests with their full numbers, and a table
	@$(BIN)/python tests/support/engine.py run -- tests/faults

clean: ## remove .venv and all caches
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
