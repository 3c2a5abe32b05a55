# Florin's commands. Each is `python -m ops <command>`; docs/running.md tells what they do.

.DEFAULT_GOAL := help
.PHONY: help setup run stop test lint bench demo clean

# Tried by running them: a name on the PATH can be a shim that leads nowhere.
ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
endif
no_python = Florin needs Python 3.11 or newer, and found none. Say where it is: make PYTHON=/path/to/python3.11
# exec: a signal to make must reach Python itself, not a shell in between.
ops = exec $(or $(PYTHON),$(error $(no_python))) -m ops

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv and install everything, tools for tests included
	@$(ops) setup

run: ## Start Florin with its own PostgreSQL and Valkey; Ctrl-C stops everything (PORT=8000)
	@$(ops) run

stop: ## Stop the copy that runs in this checkout
	@$(ops) stop

test: ## Run the tests against throw-away servers (ARGS="-k transfers")
	@$(ops) test -- $(ARGS)

lint: ## Check style, types, imports, migrations and the OpenAPI document
	@$(ops) lint

bench: ## Measure throughput (ARGS="--help")
	@$(ops) bench -- $(ARGS)

demo: ## Play a demonstration against the running copy
	@$(ops) demo -- $(ARGS)

clean: ## Remove .venv, .local with all its data, and caches
	@$(ops) clean
