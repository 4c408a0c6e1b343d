# onelane: two commands matter, `make dev` and `make test`. Everything else is listed by `make help`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Half as many workers again as there are cores: tests wait for processes, leases and time-outs. On two cores 277 s
# became 220.
ALL    = -n $(shell $(PYTHON) -c 'import os; print(max(2, os.cpu_count() * 3 // 2))') --dist loadgroup
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml

# Where it is set, every process that a test starts compiles our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help dev test check long race kills soak scale mutation conformance bench screenshots lint types clean lock
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: $(VENV)/run.stamp  ## run everything on this machine: no account, no Docker; Ctrl-C stops it
	@exec $(BIN)/onelane dev

test: $(VENV)/dev.stamp  ## what an ordinary change can break, in four minutes; all of a part with ARGS="tests/billing/checkout"
	@$(BIN)/python -m pytest $(if $(ARGS),-n 0 $(ARGS),$(ALL) -m "not long")

check: test long  ## all of it: `make test`, then kills, races, the benches' own tests, every browser test, the contract at length

long: $(VENV)/dev.stamp  ## what `make check` has beyond `make test`
	@FUZZ=long $(BIN)/python -m pytest $(ALL) -m long

bench: $(VENV)/dev.stamp  ## one buyer, 100 requests at once: the usual way and onelane side by side (ARGS=200: a Stripe 200 ms away; ARGS=receiver: how fast deliveries are taken; ARGS=drain: bursts of events through workers)
	@$(BIN)/python -m tests.bench $(ARGS)

race: $(VENV)/dev.stamp  ## look for an interleaving that breaks the checkout protocol, and show every shortcut found out (ARGS: minutes, or a shortcut's name)
	@$(BIN)/python -m tests.races $(ARGS)

kills: $(VENV)/dev.stamp  ## kill and freeze real workers at every step, take Valkey, PostgreSQL and Stripe away (about 15 minutes)
	@KILLS=full $(BIN)/python -m pytest tests/kills $(ARGS)

soak: $(VENV)/dev.stamp  ## 200 events a second for five minutes while workers, Valkey, PostgreSQL and the web are killed in turn (ARGS: minutes, events a second)
	@$(BIN)/python -m tests.kills.soak $(ARGS)

scale: $(VENV)/dev.stamp  ## the drain with one, two and four workers, and with workers killed and replaced in the middle (ARGS: customers)
	@$(BIN)/python -m tests.bench.scale $(ARGS)

conformance: $(VENV)/dev.stamp  ## Stripe's own CLI and SDKs against the sandbox, each answer by Stripe's document (needs node and the package registries)
	@$(BIN)/python -m tests.conformance

mutation: $(VENV)/mutation.stamp  ## does a test notice each small change of the code (hours; ARGS="sample 28 10", names, or "again"; docs/mutation.md)
	@$(BIN)/python -m tests.mutation $(ARGS)

screenshots: $(VENV)/dev.stamp  ## bring eight troubles about, and keep what the console shows for docs/ (needs a Chromium)
	@SCREENSHOTS=1 $(BIN)/python -m pytest tests/browser/test_troubles.py tests/browser/test_console.py -k "test_troubles or operator_logs_in"

lint: $(VENV)/dev.stamp  ## ruff, formatting and import directions
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(VENV)/dev.stamp  ## mypy, strict
	@$(BIN)/mypy

lock:  ## pin the dependencies anew (needs uv; writes hashes, never an index address)
	$(COMPILE) --extra build --upgrade -o requirements.lock
	$(COMPILE) --extra build --extra dev --extra otel --extra sentry --upgrade -c requirements.lock -o requirements-dev.lock
	$(subst pyproject.toml,tests/mutation/requirements.in,$(COMPILE)) --upgrade -c requirements-dev.lock -o tests/mutation/requirements.lock

clean:  ## remove the environment and the local data
	rm -rf $(VENV) var build mutants *.egg-info

# Installs a lock file and names each package as it comes. "failed" stands for pip's exit code, which a pipe does not pass on.
INSTALL = { $(BIN)/python -m pip install --require-hashes -r $(1) || echo failed; } | while read -r word name _; do case $$word in \
	Collecting) echo "  $$name";; Installing) echo "  unpacking them";; failed) exit 1;; esac; done

# A stamp is newer than what it was made from, so a second start installs nothing.
$(VENV)/run.stamp: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing into .venv, a minute or two the first time:"
	@$(call INSTALL,requirements.lock)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "Installing what tests need, a minute or two the first time:"
	@$(call INSTALL,requirements-dev.lock)
	@touch $@

$(VENV)/mutation.stamp: tests/mutation/requirements.lock $(VENV)/dev.stamp
	@echo "Installing what changes the code:"
	@$(call INSTALL,tests/mutation/requirements.lock)
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("onelane needs Python 3.11 or newer. Say where it is: make dev PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
