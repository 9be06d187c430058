# Every target works on a machine with Python 3.11 or newer and nothing else.
PYTHON ?= python3
RUN = .venv/bin/python -m

.PHONY: demo demo-check test check format clean

demo: .venv/installed       ## Replicate a small shop to a warehouse under Dagster, until Ctrl-C.
	@$(RUN) rosetta_dagster demo $(if $(PORT),--port $(PORT))

demo-check: .venv/installed ## The same without a person: prints figures, exits 0 or 1.
	@$(RUN) rosetta_dagster demo --check

test: .venv/installed       ## Every test, against the real parts.
	@$(RUN) pytest

check: .venv/installed      ## The gate: format, lint, types, import contracts, tests.
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@.venv/bin/python -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	@$(RUN) pytest

format: .venv/installed     ## Format the code, and mend what lint can mend.
	@$(RUN) ruff check --fix-only .
	@$(RUN) ruff format .

clean:                      ## Remove the virtual environment and what the tools left.
	@rm -rf .venv .rosetta .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rosetta needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv …"
	@PIP_CONSTRAINT=constraints.txt $(RUN) pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch .venv/installed
