# make demo    own .venv, install, then the whole way on a phantom data set into ./demo
# make test    own .venv, install, lint, types, tests
# make test-full  the same with the long tier: many more random examples, cases and slices
# make lint    what the tests begin with: lint, format, types
# make wheel   the wheel and the source archive, into dist/
# make clean   removes what was built, the caches of the tools and ./demo; not .venv
# make lock    requirements.lock anew: the libraries of a release, every file of theirs by its hash
# make audit   known vulnerabilities among them
# make sbom    sbom.json (CycloneDX) of what is installed from them, with the wheel, into .venv-locked: several GB
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
TOOLS  := $(VENV)/.release
LOCKED := .venv-locked

.PHONY: demo test test-full lint wheel lock audit sbom clean

# not compiled: few of the libraries' 15,000 files are ever imported, and those are compiled then
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[test]"
	touch $(READY)

demo: $(READY)
	$(BIN)/flarenet_demo -o demo

lint: $(READY)
	$(BIN)/ruff check flarenet tests benchmarks
	$(BIN)/ruff format --check flarenet tests benchmarks
	$(BIN)/mypy

test: lint
	# a process that dies ends the run, by the name of its test, in place of tests that nobody runs any more
	# with bytecode, or each of the many processes that tests start compiles all that it imports
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

test-full: export FLARENET_FULL := 1
test-full: test

wheel: $(READY)
	$(BIN)/python -m build

$(TOOLS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[release]"
	touch $(TOOLS)

# one file for every Python from the oldest; only what comes as a wheel, so that installing runs no code of a package
lock: $(TOOLS)
	$(BIN)/uv pip compile pyproject.toml -c constraints.txt --universal --python-version 3.10 --upgrade --generate-hashes \
		--only-binary :all: --no-annotate --custom-compile-command "make lock" --quiet -o requirements.lock

# --strict: a library that nobody could be asked about is not one without vulnerabilities
audit: $(TOOLS)
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements.lock

sbom: $(TOOLS)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOCKED)
	$(BIN)/uv pip install --quiet --python $(LOCKED) --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m build --wheel --outdir $(LOCKED)/wheel
	$(BIN)/uv pip install --quiet --python $(LOCKED) --no-deps --only-binary :all: $(LOCKED)/wheel/*.whl
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible -o sbom.json $(LOCKED)

clean:
	rm -rf sbom.json build dist demo *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
