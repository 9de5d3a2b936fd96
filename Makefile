# Two commands do all the set-up on a fresh machine: make sweep, make test.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STUDY  ?= attention_heads

.PHONY: sweep test test-slow test-all check format bench clean

sweep: $(VENV)/.installed            ## run a study (STUDY=window ...); ends with an HTML report
	$(BIN)/archlab sweep $(STUDY)

# A thread for each of the two workers: with two each they would wait for one another.
test: $(VENV)/.installed-test        ## the default suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/.installed-test   ## what the default suite leaves out, of many alike some
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not exhaustive"

test-all: $(VENV)/.installed-test    ## every test: before a release
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow"

check: $(VENV)/.installed-dev        ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-test       ## speed as ratios within one run
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/latency.py

clean:
	rm -rf $(VENV) runs build dist

# torch first and pinned (constraints.txt): a bare `torch` may fetch gigabytes of GPU libraries.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
