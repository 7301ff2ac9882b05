# Two commands do everything on a machine with Python 3.11 to 3.13, git and make: `make repro` and `make test`.
PYTHON ?= $(firstword $(foreach name,python3 python3.12 python3.11 python3.13,$(shell $(name) -c 'import sys; 3 <= sys.version_info[0] and (3, 11) <= sys.version_info[:2] < (3, 14) and print("$(name)")' 2>/dev/null)))
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

.PHONY: help repro test lint bench chaos ui schema

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

repro: $(INSTALLED)  ## run what has changed of download, preprocess, train, evaluate, report; open reports/index.html afterwards
	@python -m pipeline.config check
	dvc repro
	@echo "The report: reports/index.html. The runs: make ui."

test: $(INSTALLED)  ## run the tests
	pytest -n 2

lint: $(INSTALLED)  ## check style and types
	ruff check .
	ruff format --check .
	mypy

bench: $(INSTALLED)  ## measure speed against the usual ways of doing the same work
	python -m benchmarks

chaos: $(INSTALLED)  ## kill the processes of a study 200 times and see that nothing is lost
	STUDYLINE_KILLS=200 pytest -s tests/integration/test_chaos.py

ui: $(INSTALLED)  ## browse runs and studies in MLflow and the Optuna dashboard
	study ui

schema: $(INSTALLED)  ## write params.schema.json anew after a change of pipeline/config
	python -m pipeline.config schema > params.schema.json

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "studyline needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint requirements.lock --editable '.[dev,ray,postgresql]'
	touch $@
