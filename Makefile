# Each target does all of its own set-up in .venv.
PYTHON ?= python3
VENV := .venv
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: demo test lint clean

demo: $(VENV)/.installed ## train on the bundled portraits and paint from prompts (about 5 minutes)
	$(VENV)/bin/noisekiln demo $(DEMO)

test: $(VENV)/.installed-test ## run the test suite
	$(VENV)/bin/python -m pytest $(TESTS)

lint: $(VENV)/.installed-test ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

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
