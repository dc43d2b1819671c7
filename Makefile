# `make demo` and `make test` do all their own set-up on a machine with python3 >= 3.10, pip and make.
SHELL := /bin/bash
PYTHON ?= python3
SEED ?= 0
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test numerics check lowest docs dist fuzz install format clean

demo: .venv/.demo
	$(BIN)/ratewise compare --tasks digits-mlp,digits-cnn,diabetes-mlp,pydoc-gru \
		--optimizers adamw --schedules greedy,greedy-cosine,cosine,linear,constant \
		--seeds 5 --jobs 2 --out demo

# In their order the short files (doctests) come last, and both processes end at about the same time.
test: check
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m tests.kernels --numprocesses 2 --dist load

# The tests marked `numerics` again, under the kernels that other processors would choose.
numerics: .venv/.dev
	$(BIN)/python -m tests.kernels --numprocesses 2 --dist load

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What needs no framework, on the lowest versions that pyproject.toml admits; with PYTHON=python3.10.
LOWEST := .venv-lowest/bin
lowest:
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --resolution lowest-direct \
		--editable '.[compare,nmf]' 'pytest>=8' 'hypothesis>=6.100'
	$(LOWEST)/python -m pytest -q tests/rules tests/schedulers tests/contracts tests/optimizers

# The site, into site/: a warning is an error.
docs: .venv/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs site

# A wheel and a source distribution, into dist/.
dist: .venv/.dev
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*

fuzz: .venv/.dev
	$(BIN)/python -m tests.fuzz --seconds 3600 --seed $(SEED) --jobs 2 \
		--findings fuzz --counts fuzz/counts.json

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: .venv/.dev

# Stamps: nothing is installed again until what it depends on changes.
# --group, for what users do not need, is pip's from 25.1 on.
.venv/.dev: pyproject.toml constraints.txt .venv/.created
	$(PIP) --upgrade 'pip>=25.1'
	$(PIP) --editable '.[dev]' --group evidence --group docs --group release
	touch .venv/.dev .venv/.demo

.venv/.demo: pyproject.toml constraints.txt .venv/.created
	$(PIP) --editable '.[compare]'
	touch $@

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "ratewise needs Python >= 3.10: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { echo "python3 cannot make a virtual environment: install python3-venv"; exit 1; }
	touch $@

clean:
	rm -rf .venv .venv-lowest demo report fuzz site dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
