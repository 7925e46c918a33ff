# Two commands do everything on a fresh machine: `make demo` and `make test`. `make check` is for while one works.
PYTHON ?= python3
BIN := .venv/bin
# Compiled modules are kept: without them each worker of pytest rewrites all tests anew, which takes five seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test lint bench clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/.installed            ## draw a cohort with known truth and do the whole way on it
	test -d demo-data || $(BIN)/smalti demo demo-data
	$(BIN)/smalti run demo-data --recipe demo

check: lint                       ## contracts, style, types, tests without training, processes, browser: under a minute
	$(BIN)/pytest -m "not slow and not real"

test: lint                        ## contracts, style, types, all tests, and which took longest
	$(BIN)/pytest --durations=10

lint: .venv/.installed
	$(BIN)/lint-imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed           ## measurements side by side; hours; those that want folders say so and are passed over
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || test $$? -eq 2 || exit 1; done

clean:                            ## forget the environment, the runs and the drawn cohort
	rm -rf .venv runs demo-data
