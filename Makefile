# make quickstart: see it work on real text.   make test: everything that must hold.   make soak: kills and long trials.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
QUICKSTART_FLAGS ?=

.PHONY: install quickstart test lint types imports unit soak clean

$(VENV)/quickstart.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch -e '.[quickstart]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch -e '.[all,dev]'
	touch $@ $(VENV)/quickstart.stamp

install: $(VENV)/dev.stamp

quickstart: $(VENV)/quickstart.stamp
	$(BIN)/pairstill quickstart --out quickstart $(QUICKSTART_FLAGS)

test: lint types imports unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy
	for script in recipes/*/prepare.py; do $(BIN)/mypy "$$script" || exit 1; done # one at a time: all have the same name

imports: install
	$(BIN)/lint-imports

# One process a core, one thread each: small models gain nothing from more.
unit: install
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -m 'not soak' -n auto --maxprocesses 4 --dist loadfile

soak: install
	$(BIN)/python -m pytest -m soak

clean:
	rm -rf $(VENV) quickstart build dist
