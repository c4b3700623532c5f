# On a fresh machine `make demo` and `make test` do all the set-up. Everything lands in .venv, demo and the tool caches.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PARALLEL ?= 2
# A file stays in one process, which then makes once what its tests share; those that start processes come early.
SPREAD := --dist loadfile --no-loadscope-reorder
# One thread each; and what Python compiles is kept, wherever the environment says otherwise: tests start many processes.
TESTED := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(PARALLEL) $(SPREAD)

.PHONY: demo docs test thorough gpu lint clean

# The constraints keep torch at one version for everybody: the CPU build where only that is offered, CUDA elsewhere.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]" --constraint constraints.txt
	touch $@

demo: $(VENV)/ready  ## refine a real photo with the bundled backbone -> demo/
	$(BIN)/python scripts/demo.py demo
	@echo "look at demo/comparison.png: hole, plain, refined"

docs: $(VENV)/ready  ## the site -> site/index.html; a warning ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

test: lint  ## everything that must pass
	$(TESTED)

thorough: lint  ## also the further variants of tests that start processes: every signal, launcher and way of starting
	$(TESTED) -m ""

# On a bare machine with CUDA where torch and the other packages are there already: `make gpu GPU_PYTHON=python3`.
GPU_PYTHON ?= $(BIN)/python
gpu:  ## all that only a GPU can answer, in 8 minutes -> gpu/gpu.md
	$(GPU_PYTHON) scripts/benchmarks/gpu.py output=gpu

lint: $(VENV)/ready
	$(BIN)/ruff check --output-format=concise .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
