# make demo    own .venv, install, then the whole way on a phantom data set into ./demo
# make test    own .venv, install, lint, types, tests
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.PHONY: demo test lint wheel clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $(READY)

demo: $(READY)
	$(BIN)/flarenet_demo -o demo

lint: $(READY)
	$(BIN)/ruff check flarenet tests benchmarks
	$(BIN)/mypy

test: lint
	# a process that dies ends the run, by the name of its test, in place of tests that nobody runs any more
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0

wheel: $(READY)
	$(BIN)/python -m build

clean:
	rm -rf build dist demo *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
