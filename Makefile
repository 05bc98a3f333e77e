# `make up` is the whole tour; `make` alone lists what else there is.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
RIFFLE := $(VENV)/bin/riffle
DATA ?=
BASE ?=
KEY ?=
USERS ?= 50
TIME ?= 60s
SHAPE ?= constant
# Some shells export the name of the machine as HOST: from the environment, only an address counts.
ADDRESS = $(if $(filter command,$(origin HOST))$(filter http%,$(HOST)),$(HOST))
CHECK := $(VENV)/bin/ruff format --check -q . && $(VENV)/bin/ruff check -q . && $(VENV)/bin/mypy

.PHONY: help up down demo-traffic load test check ml-ci bench bench-full lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

up: $(VENV)/.runtime ## from nothing to live recommendations; DATA=path serves your own data
	@$(RIFFLE) up $(if $(DATA),--data "$(DATA)")

down: ## end everything that `make up` started
	@if [ -x $(RIFFLE) ]; then $(RIFFLE) down; else echo "Nothing to end: make up has not run here."; fi

demo-traffic: $(VENV)/.runtime ## simulated users on what is up, to watch for a minute
	@$(VENV)/bin/python -m loadtest.demo_traffic

load: $(VENV)/.dev ## visitors on what is up, judged by an SLO; HOST= USERS= TIME= SHAPE= WORKERS= WEB=1
	@$(VENV)/bin/python -m locust -f loadtest/locustfile.py $(if $(ADDRESS),--host "$(ADDRESS)") -u "$(USERS)" -r "$(USERS)" \
	  -t "$(TIME)" --shape "$(SHAPE)" $(if $(WORKERS),--processes "$(WORKERS)" --master-bind-host 127.0.0.1) \
	  $(if $(WEB),--web-host 127.0.0.1,--headless --only-summary)

test: $(VENV)/.dev $(VENV)/.promtool ## lint, types and all tests, the end-to-end ones included
	@$(VENV)/bin/python -m tests.compiled & compiled=$$!; $(CHECK) || { kill $$compiled; exit 1; }; \
	  wait $$compiled && $(VENV)/bin/python -m tests.both

check: $(VENV)/.dev ## ruff and mypy
	@$(CHECK)

ml-ci: $(VENV)/.dev ## data checks, training, gate, signature; DATA= other data, BASE= a commit to compare with
	@$(VENV)/bin/python deploy/model_ci.py $(if $(DATA),--data "$(DATA)") $(if $(BASE),--base "$(BASE)") \
	  $(if $(KEY),--key "$(KEY)")

bench: $(VENV)/.dev .venv-peers/.done ## ours beside its peers in one run, about eight minutes; needs wrk
	@$(VENV)/bin/python -m loadtest.bench

bench-full: $(VENV)/.dev .venv-peers/.done ## the same, all systems and longer: about an hour
	@$(VENV)/bin/python -m loadtest.bench --full

lock: $(VENV)/.dev ## resolve the dependencies anew, with hashes
	@$(VENV)/bin/python deploy/lock.py

clean: down ## remove the environment and all state
	@rm -rf $(VENV) $(PEERS) .riffle .riffle-ci

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Riffle needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make up PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment; install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	@$(PYTHON) deploy/install.py $(VENV) requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@$(PYTHON) deploy/install.py $(VENV) requirements-dev.lock
	@touch $@

# Not a Python package: where it cannot be had, the tests of the alert rules say so and are skipped.
$(VENV)/.promtool: deploy/promtool.py | $(VENV)/.dev
	@$(VENV)/bin/python deploy/promtool.py $(VENV) && touch $@ || true

# What Riffle is compared with has an environment of its own: BentoML pins versions that differ from ours.
$(PEERS)/.done: requirements-peers.lock pyproject.toml
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PYTHON) deploy/install.py $(PEERS) requirements-peers.lock
	@touch $@
