# Two commands do all the set-up on a fresh machine: make sweep, make test.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STUDY  ?= attention_heads

.PHONY: sweep gallery test test-slow test-all check format bench docs trust clean

sweep: $(VENV)/.installed            ## run a study (STUDY=window ...); ends with an HTML report
	$(BIN)/archlab sweep $(STUDY)

gallery: $(VENV)/.installed          ## every study of sweeps/ into reports/, and the pages over them
	for study in $(basename $(notdir $(wildcard sweeps/*.yaml))); do \
	  rm -rf reports/$$study/blocks; \
	  $(BIN)/archlab sweep $$study out=reports/$$study || exit 1; \
	  rm -rf reports/$$study/blocks reports/$$study/report.html reports/$$study/multirun.yaml; \
	done
	$(BIN)/python -m archlab.sweep.family reports/gemma
	mkdir -p reports/explorer && $(BIN)/archlab explore -o reports/explorer/index.html
	$(BIN)/archlab report --all reports

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

docs: $(VENV)/.installed-docs        ## the pages of docs/ and the API reference, as HTML in build/docs/
	$(BIN)/python docs/site/build.py build/docs

trust: $(VENV)/.installed-test       ## docs/trust.md: archlab's numbers beside those that the tests hold them against
	$(BIN)/python tests/golden/trust.py

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

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
