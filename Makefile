# Each target does all of its own set-up in .venv.
PYTHON ?= python3
VENV := .venv
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: demo test quick lint bench-check clean

demo: $(VENV)/.installed ## train on the bundled portraits and sample from prompts (about 5 minutes)
	$(VENV)/bin/noisekiln demo $(DEMO)

test: $(VENV)/.installed-test ## run the test suite in two processes (eight minutes on two fast cores, twice that on slow ones)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

quick: $(VENV)/.installed-test ## run the tests for daily work: all but the slow ones
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(TESTS)

lint: $(VENV)/.installed-test ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench-check: $(VENV)/.installed ## is it still as good and as fast? two minutes of training against records/bounds.json
	$(VENV)/bin/python benchmarks/check.py $(CHECK)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/pip install -q -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(VENV)/bin/pip install -q -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
